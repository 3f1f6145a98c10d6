"""A process of other networks starts again with lower weights, on the user's route: a config with the hook."""
import os

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from runs import Watch, trained

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.errors import TrainingError

EPOCHS = 24  # of 5 iterations
WEIGHT = 1e3  # the toy student diverges with it


def process_file(folder, progress, weights):
    """A process file of other networks with the same weight of both pathways."""
    names, path = ['a>x:pointwise', 'b>y:pointwise'], str(folder / f'{weights[0]:g}.json')
    DistillationProcess(names, Weighting('absolute', unit='variance'), progress, [[w] * 2 for w in weights]).save(path)
    return path


def rises_at(share, folder):
    """A process of other networks with which a training diverges within some steps after a share of it."""
    return process_file(folder, [0, share, share + 0.01, 1], [0.01, 0.01, 100 * WEIGHT, 100 * WEIGHT])


@pytest.fixture
def too_high(tmp_path):
    """A process of other networks with which a training diverges within some steps."""
    return process_file(tmp_path, [0, 1], [WEIGHT, WEIGHT])


def config(make_config, process, name='level', **hook):
    return make_config('distill', name, train_cfg__max_epochs=EPOCHS, log_level='WARNING', custom_hooks=[
        dict(type='mmrazor.ProcessReplayHook', process=process, transfer='by_depth', **hook),
        dict(type='mmrazor.TrainingWatchHook', must_learn=False)])


def seen(runner):
    return runner.model.distiller.grid.weights().sum().item()


def student(runner):
    return {name: value.clone() for name, value in runner.model.student.state_dict().items()}


def distilled(cfg):
    """The runner, the total weight of each iteration, the student before each, and the warnings of new starts."""
    said, totals, students = [], Watch(after=seen), Watch(before=student)

    def prepare(runner):
        runner.logger.warning = lambda message, *_: said.append(message)

    runner = trained(cfg, totals, students, prepare=prepare)
    return runner, np.array(totals.seen), students.seen, [message for message in said if 'starts again' in message]


def test_a_student_that_does_not_learn_starts_again(make_config, too_high):
    runner, totals, students, said = distilled(config(make_config, too_high))
    changes = np.flatnonzero(np.diff(totals)) + 1
    assert len(said) == len(changes) > 0 and 'multiplied by 0.25 from here on' in said[0]
    assert np.allclose(totals[changes] * 4, totals[changes - 1])
    for change in changes:
        assert all(torch.equal(value, students[0][name]) for name, value in students[change].items())
    assert runner.iter == 5 * EPOCHS


def test_a_new_start_in_the_middle_of_accumulated_gradients_forgets_them(make_config, tmp_path):
    cfg = config(make_config, process_file(tmp_path, [0, 1], [10 * WEIGHT] * 2))
    cfg.optim_wrapper.accumulative_counts = 2
    runner, _, students, said = distilled(cfg)
    assert said and runner.iter == 5 * EPOCHS
    assert all(value.isfinite().all() for value in runner.model.student.state_dict().values())


@pytest.mark.parametrize('judged', [True, False])
def test_a_student_that_no_labels_train_is_not_judged_by_them(make_config, tmp_path, judged):
    """With so low a weight it learns nothing, and with labels it would, were its learning rate not that low."""
    cfg = config(make_config, process_file(tmp_path, [0, 1], [1e-6, 1e-6]))
    cfg.model.calculate_student_loss = judged
    cfg.optim_wrapper.optimizer.lr = 1e-9
    assert bool(distilled(cfg)[3]) == judged


def test_a_training_that_fails_in_its_middle_starts_again(make_config, tmp_path):
    runner, totals, students, said = distilled(config(make_config, rises_at(0.35, tmp_path)))
    change = np.flatnonzero(np.diff(totals) < 0)[0] + 1
    assert said and 0.35 < change / len(totals) < 0.6
    assert all(torch.equal(value, students[0][name]) for name, value in students[change].items())
    assert runner.iter == 5 * EPOCHS


def test_a_training_that_diverges_late_says_how_to_find_the_level(make_config, tmp_path):
    process = rises_at(0.7, tmp_path)
    with pytest.raises(TrainingError, match='search for the level of the weights, which are those of other networks: '
                       f"configs/distpro/search.py with train_cfg.initial='{process}' and train_cfg.rounds=0"):
        distilled(config(make_config, process))


@pytest.mark.long
def test_a_training_that_learns_is_not_changed_in_any_bit(make_config):
    found = [distilled(config(make_config, 'general', f'control_{control}', control_level=control))
             for control in (True, False)]
    assert not found[0][-1]
    for (name, value), other in zip(student(found[0][0]).items(), student(found[1][0]).values()):
        assert torch.equal(value, other), name


def test_without_the_control_it_diverges(make_config, too_high):
    with pytest.raises(TrainingError, match='the training loss is not finite'):
        distilled(config(make_config, too_high, control_level=False))


def test_a_process_that_was_not_mapped_is_left_alone(make_config):
    cfg = config(make_config, dict(unit='variance', progress=[0, 1], weights=[WEIGHT, WEIGHT]))
    cfg.custom_hooks[0].pop('transfer')
    with pytest.raises(TrainingError, match='the training loss is not finite'):
        distilled(cfg)


@pytest.mark.long
def test_averaged_weights_start_again_too(make_config, too_high):
    cfg = config(make_config, too_high)
    cfg.custom_hooks.insert(0, dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1))
    runner, *_, said = distilled(cfg)
    average, = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    assert said and all(value.isfinite().all() for value in average.state_dict().values())


@pytest.mark.long
@pytest.mark.parametrize('stop', [2, 8])
def test_a_killed_training_resumes_to_the_same_student(make_config, too_high, stop):
    whole, *_ = distilled(config(make_config, too_high, 'whole'))
    cfg = config(make_config, too_high, 'killed')
    cfg.default_hooks.checkpoint.interval = 1
    runner = Runner.from_cfg(cfg)

    class Kill(Exception):
        pass

    def kill(at):
        if at.epoch + 1 == stop + 1:
            raise Kill

    runner.register_hook(Watch(after=kill))
    with pytest.raises(Kill):
        runner.train()
    assert os.path.exists(os.path.join(cfg.work_dir, f'epoch_{stop}.pth'))
    cfg = config(make_config, too_high, 'killed')
    cfg.resume = True
    resumed = trained(cfg)
    for (name, value), other in zip(whole.model.student.state_dict().items(), resumed.model.student.state_dict().values()):
        assert torch.equal(value, other), name
