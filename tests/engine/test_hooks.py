import collections
import functools
import os
import re

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from resuming import NAMES
from runs import Watch, trained

from distpro.process import DistillationProcess, ablation, load_process, map_process
from distpro.weighting import Weighting
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError


@pytest.fixture
def process_file(tmp_path):
    """A process of 5 knots with its pathways in a different order from the model's."""
    generator = np.random.RandomState(0)
    process = DistillationProcess(NAMES[::-1], Weighting('exponential'), np.linspace(0, 1, 5), generator.randn(5, 4))
    path = str(tmp_path / 'process.json')
    process.save(path)
    return path


def weights_and_live(runner):
    grid = runner.model.distiller.grid
    return grid.weights().cpu(), list(grid.active)


def distil(make_config, process_file, prepare=None, name='distill', **hook):
    cfg = make_config('distill', name, custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=process_file, **hook)])
    grids = Watch(after=weights_and_live)
    runner = trained(cfg, grids, prepare=prepare)
    weights, active = zip(*grids.seen)
    return runner, torch.stack(weights).double().numpy(), list(active)


def expected(process_file, form='process', iterations=10, seed=0):
    process = DistillationProcess.load(process_file)
    return ablation(process, form, np.arange(iterations) / (iterations - 1), seed)[:, ::-1]  # in the model's order


@pytest.mark.parametrize('form', ['process', 'uniform', 'last', 'mean', 'mean_over_pathways', 'shuffled'])
def test_every_iteration_gets_the_interpolated_weights(make_config, process_file, form):
    _, weights, active = distil(make_config, process_file, ablation=form, seed=3)
    assert weights.shape == (10, 4)
    assert np.allclose(weights, expected(process_file, form, seed=3), rtol=1e-6)
    assert active == [[0, 1, 2, 3]] * 10


def test_a_process_is_made_by_hand(make_config):
    made = dict(progress=[0, 1], weights=[1, 10])
    _, weights, _ = distil(make_config, made)
    assert np.allclose(weights, np.linspace(1, 10, 10)[:, None] * np.ones(4))
    with pytest.raises(ConfigError, match='ProcessReplayHook.transfer is for process files'):
        distil(make_config, made, transfer='by_depth')


def test_light_pathways_are_not_computed(make_config, process_file):
    threshold = float(np.median(expected(process_file)))
    computed = []

    def count(runner):
        for name, transform in runner.model.distiller.grid.transforms.items():
            transform.register_forward_hook(lambda *_, name=name: computed.append(name))

    _, weights, active = distil(make_config, process_file, count, skip_below=threshold)
    wanted = [np.flatnonzero(row >= threshold).tolist() for row in expected(process_file)]
    assert active == wanted and 0 < sum(map(len, active)) < 40
    assert computed == [NAMES[index] for row in wanted for index in row]


def test_a_run_without_live_pathways_needs_no_teacher(make_config, process_file):
    runner, _, active = distil(make_config, process_file, skip_below=1e9)
    assert active == [[]] * 10 and runner.model.passes == dict(student=10)


def test_all_training_images_are_used(make_config, process_file):
    runner, _, _ = distil(make_config, process_file)
    assert len(runner.train_dataloader.dataset) == 100


class StopAfter(Hook):
    """Ends a run after some epochs, as if it was killed."""

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epochs:
            runner.train_loop.stop_training = True


def test_a_resumed_run_continues_at_its_iteration(make_config, process_file):
    hooks = [dict(type='mmrazor.ProcessReplayHook', process=process_file)]
    trained(make_config('distill', train_cfg__max_epochs=4, custom_hooks=hooks), StopAfter(2))
    resumed = Watch(after=lambda runner: weights_and_live(runner)[0])
    trained(make_config('distill', resume=True, train_cfg__max_epochs=4, custom_hooks=hooks), resumed)
    assert np.allclose(torch.stack(resumed.seen), expected(process_file, iterations=20)[10:], rtol=1e-6)


def test_the_process_of_a_search_replays(make_config):
    search = trained(make_config('search'))
    path = os.path.join(search.work_dir, 'process.json')
    _, weights, _ = distil(make_config, path)
    assert np.allclose(weights[0], DistillationProcess.load(path).weights[0], rtol=1e-6)
    assert np.allclose(weights[-1], DistillationProcess.load(path).weights[-1], rtol=1e-6)


def test_an_incomplete_search_is_reported(make_config, process_file):
    process = DistillationProcess.load(process_file)
    process = DistillationProcess(process.names, process.weighting, [0, 0.3], process.alpha[:2], dict(complete=False))
    process.save(process_file)
    cfg = make_config('distill', log_level='WARNING',
                      custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=process_file)])
    runner, said = Runner.from_cfg(cfg), []
    runner.logger.warning = lambda message, *_: said.append(message)
    runner.train()
    assert any('ends at 30% of its search' in message for message in said)


@pytest.mark.parametrize('change, message', [
    (dict(process='nowhere.json'), "there is no process file 'nowhere.json': run the search first"),
    (dict(ablation='best'), "ablation='best' is not one of process, uniform, last, shuffled, mean"),
    (dict(skip_below=-1), 'skip_below=-1'),
    (dict(transfer='by_name'), "transfer='by_name' is not one of None, by_depth"),
])
def test_bad_arguments_name_the_hook(make_config, process_file, change, message):
    with pytest.raises(ConfigError, match=message):
        distil(make_config, **{'process_file': process_file, **{k: v for k, v in change.items() if k != 'process'}}
               if 'process' not in change else dict(process_file=change['process']))


def test_a_process_of_other_pathways_is_refused(make_config, process_file):
    process = DistillationProcess.load(process_file)
    DistillationProcess([*NAMES[:3], 'layer9>layer3:pointwise'], process.weighting, process.progress,
                        process.alpha).save(process_file)
    with pytest.raises(ConfigError, match='ProcessReplayHook.process: .*lacks layer3>layer3:pointwise and has layer9>.*'
                       "searched with, or set transfer='by_depth' to map it to other layers$"):
        distil(make_config, process_file)


def test_a_process_of_another_pair_is_transferred(make_config, process_file):
    """Searched on three layers of each network, replayed on two of four."""
    searched = np.random.RandomState(1).uniform(0.2, 2, (5, 3))
    names = ['a>x:wide', 'b>y:wide', 'c>z:wide']
    process = DistillationProcess(names, Weighting('absolute'), np.linspace(0, 1, 5), searched)
    process.save(process_file)
    make_config = functools.partial(make_config, model__distiller__connections=[('layer2', 'layer2'), ('stem', 'stem')])
    _, weights, active = distil(make_config, process_file, transfer='by_depth')
    wanted = np.stack([np.interp([2 / 3, 0], [0, 0.5, 1], row) for row in searched])
    wanted *= searched.sum(axis=1, keepdims=True) / wanted.sum(axis=1, keepdims=True)
    wanted = np.stack([np.interp(np.arange(10) / 9, np.linspace(0, 1, 5), column) for column in wanted.T], axis=1)
    assert active == [[0, 1]] * 10
    assert np.allclose(weights, wanted, rtol=1e-6)


@pytest.mark.parametrize('logits', [(), (dict(type='KLDivergence', tau=4, name='kl'), )])
def test_the_log_says_that_the_logits_of_a_process_are_not_used(make_config, logits):
    runner = Runner.from_cfg(make_config('distill', model__distiller__logits=logits, custom_hooks=[
        dict(type='mmrazor.ProcessReplayHook', process='general')]))
    said: list[str] = []
    runner.logger.info = lambda message, *_: said.append(str(message))
    runner.train()
    line, = (message for message in said if message.startswith("Mapped 'general' by depth"))
    assert ('its logits are not used' in line) == (not logits)


def test_a_process_of_the_library_needs_its_name_alone(make_config):
    runner, weights, _ = distil(make_config, 'general')
    grid = runner.model.distiller.grid
    mapped = map_process(load_process('general'), grid.names, grid.layer_names)
    assert np.allclose(weights, mapped.weights_at(np.linspace(0, 1, 10).tolist()), rtol=1e-6)


def test_a_search_of_some_layers_is_transferred_by_their_place_among_all(make_config):
    """Known at depths (1/3, 0) and (1, 1); the new pathways, on the diagonal, take the nearest point between the two."""
    cfg = make_config('search', train_cfg__max_epochs=1)
    cfg.model.distiller.connections = [('layer3', 'layer3'), ('layer1', 'stem')]
    trained(cfg)
    path, layers = os.path.join(cfg.work_dir, 'process.json'), ['stem', 'layer1', 'layer2', 'layer3']
    process = DistillationProcess.load(path)
    assert process.layers == dict(transmitters=layers, receivers=layers)
    _, weights, _ = distil(make_config, path, transfer='by_depth')
    deep, shallow = process.weights[-1]
    wanted = np.array([shallow + (deep - shallow) * share for share in (0, 3 / 13, 8 / 13, 1)])
    assert abs(deep - shallow) > 0.01
    assert np.allclose(weights[-1], wanted * (deep + shallow) / wanted.sum(), rtol=1e-6)


def test_a_failed_transfer_names_the_hook_and_the_key(make_config, process_file):
    names = ['a>x:wide', 'b>y:narrow']
    DistillationProcess(names, Weighting('absolute'), [0], [[1, 1]]).save(process_file)
    with pytest.raises(ConfigError, match='^custom_hooks: ProcessReplayHook.process: the process has the transforms wide, '
                       'narrow and the new pair has pointwise: give both the same'):
        distil(make_config, process_file, transfer='by_depth')


def test_two_replays_and_replays_without_pathways_are_refused(make_config, process_file):
    hook = dict(type='mmrazor.ProcessReplayHook', process=process_file)
    with pytest.raises(ConfigError, match='has more than one ProcessReplayHook'):
        trained(make_config('distill', custom_hooks=[hook, hook]))
    with pytest.raises(ConfigError, match='needs model.type=DistPro'):
        trained(make_config('kd', custom_hooks=[hook]))
    with pytest.raises(ConfigError, match='ProcessRecordHook records a search'):
        trained(make_config('equal', custom_hooks=[dict(type='mmrazor.ProcessRecordHook')]))


@pytest.mark.parametrize('kind, options, said', [
    ('search', {}, '1.00 teacher forwards, 2.00 student forwards with backward, 1.00 dual forwards, 0.00 plain forwards'),
    ('search', dict(train_cfg__method='differences'), '2.00 student forwards with backward, 0.00 dual forwards, 2.00 plain'),
    ('search', dict(train_cfg__alpha_interval=4), '1.25 student forwards with backward, 0.25 dual forwards, 0.00 plain'),
    # The first step is differentiated at once, to see whether it can be.
    ('whole_run', dict(train_cfg__rounds=2), '1.00 teacher forwards, 1.00 student forwards with backward, 0.00 steps diff'),
    ('equal', {}, '1.00 teacher forwards, 1.00 student forwards with backward; '),
    ('student', {}, 'A step of the last 4: <seconds> s'),
])
def test_a_profile_counts_the_passes_of_a_step(make_config, kind, options, said):
    cfg = make_config(kind, **options)
    cfg.custom_hooks = [dict(type='mmrazor.ProfileHook', interval=4)]
    runner = Runner.from_cfg(cfg)
    lines, calls = [], collections.Counter()
    runner.logger.info = lines.append
    if kind == 'search':  # counted a second time by hooks of the networks
        for name in ('teacher', 'student'):
            getattr(runner.model, name).backbone.layer1.register_forward_pre_hook(
                lambda module, _, name=name: calls.update([name] * (name == 'teacher' or module.training)))
    runner.train()
    if kind == 'search':
        alpha_steps = 2 if options.get('train_cfg__alpha_interval') else 8
        extra = 3 if options.get('train_cfg__method') == 'differences' else 2
        # The costs are measured with one forward of a copy, which has the hooks too. Two forwards compare the fast teacher.
        # TeacherCheckHook lets the teacher classify the first ten batches, here all eight.
        assert calls == dict(teacher=8 + 2 + 8, student=8 + extra * alpha_steps + 1)
    steps = [line for line in lines if line.startswith('A step of the last')]
    assert len(steps) == -(-runner.max_iters // 4)
    assert said in re.sub(r'\d+\.\d{3} s', '<seconds> s', steps[0])
    assert re.search(r' \d+\.\d{3} s, \d+\.\d{3} s of it waiting for data; peak memory [1-9]\d+ MB$', steps[0])
    costs = [line for line in lines if line.startswith('Cost of the pathways')]
    if kind == 'whole_run':
        assert '1.00 student forwards with backward, 2.00 steps differentiated' in steps[2]  # the eight of the first round
    assert len(costs) == (kind != 'student') and all('layer3>layer3:pointwise' in line for line in costs)


def test_channels_last_changes_the_format_and_the_numbers_by_rounding_alone(make_config):
    losses, runners = [], []
    for hooks in ([], [dict(type='mmrazor.ChannelsLastHook')]):
        cfg = make_config('search', f'hooks_{len(hooks)}', train_cfg__max_epochs=1)
        cfg.custom_hooks = hooks
        watch = Watch(after=lambda runner: runner.message_hub.get_scalar('train/loss').current())
        runners.append(trained(cfg, watch))
        losses.append(watch.seen)
    weight = runners[1].model.student.backbone.layer3[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert losses[0] != losses[1] and np.allclose(*losses, rtol=1e-3)


def test_compiling_the_whole_step_is_refused(make_config):
    cfg = make_config('equal')
    cfg.compile = True
    with pytest.raises(ConfigError, match='compile=True: .*model.distiller.compile_transforms=True'):
        build_trainer(cfg)
