"""A training that diverges or learns nothing raises an error in every train loop. The last good checkpoint stays."""
import copy
import os

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from distpro_mm.comparison import Job
from distpro_mm.comparison.training import read_result, train_job
from distpro_mm.engine.hooks import TrainingWatchHook
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError, NotLearnedError, TrainingError
from distpro_mm.models.guessing import GuessingBaseline, single_label_loss

EPOCHS = dict(by_epoch=True, max_epochs=2, val_interval=100)
ITERATIONS = dict(by_epoch=False, max_iters=10, val_interval=100)
OURS = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=2, val_interval=100)
MADE = [dict(type='mmrazor.ProcessReplayHook', process=dict(progress=[0, 1], weights=[1, 2]))]


def diverging(make_config, kind, train_cfg, at, factor=1e30, **options):
    """A config whose learning rate jumps after `at` of 10 iterations. mmengine's own hook stores one checkpoint."""
    cfg = make_config(kind, **(dict(custom_hooks=copy.deepcopy(MADE)) if kind == 'distill' else {}), **options)
    cfg.train_cfg = copy.deepcopy(train_cfg)
    cfg.param_scheduler = dict(type='MultiStepLR', milestones=[at], gamma=factor, by_epoch=False)
    by_epoch = train_cfg.get('by_epoch', True)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else 5, max_keep_ckpts=1,
                                        by_epoch=by_epoch)
    return cfg


def check_the_checkpoint_before(cfg):
    kept = [name for name in os.listdir(cfg.work_dir) if name.endswith('.pth')]
    assert kept == ['iter_5.pth' if cfg.train_cfg.get('by_epoch') is False else 'epoch_1.pth']
    weights = torch.load(os.path.join(cfg.work_dir, kept[0]), weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize('kind, train_cfg', [
    ('student', EPOCHS), ('student', ITERATIONS), ('kd', EPOCHS), ('equal', ITERATIONS), ('distill', EPOCHS),
    ('distill', OURS)
])
def test_a_loss_that_is_not_finite_stops_every_loop(make_config, kind, train_cfg):
    cfg = diverging(make_config, kind, train_cfg, at=6)
    advice = {'student': 'lower optim_wrapper.optimizer.lr. ', 'kd': 'lr or the loss_weight of the losses in model.dist',
              'equal': r'lr or model.distiller.weighting.kd_weight=1\.', 'distill': 'lr or the weights of ProcessReplayHook'}
    with pytest.raises(TrainingError, match=r'stopped at iteration [89] of 10: the training loss is not finite \(.*'
                       f'loss=.*{advice[kind]}.*The last checkpoint is .*_[15].pth') as error:
        build_trainer(cfg).train()
    assert '\n' not in str(error.value)
    check_the_checkpoint_before(cfg)


@pytest.mark.parametrize('train_cfg', [EPOCHS, ITERATIONS, OURS])
def test_bad_weights_are_found_before_a_checkpoint_replaces_a_good_one(make_config, train_cfg):
    # The last loss is finite, but the step after it overflows float32.
    cfg = diverging(make_config, 'equal', train_cfg, 9, 1e46, model__distiller__weighting__kd_weight=1e5,
                    optim_wrapper__optimizer__lr=1e-8)
    with pytest.raises(TrainingError, match='before a checkpoint: weights of the model are not finite; lower optim_wrapper'):
        build_trainer(cfg).train()
    check_the_checkpoint_before(cfg)


def test_our_loop_is_watched_without_the_tools(make_config):
    runner = Runner.from_cfg(make_config('equal', optim_wrapper__optimizer__lr=1e30))
    with pytest.raises(TrainingError, match='the training loss is not finite'):
        runner.train()
    runner = build_trainer(make_config('equal', 'own', custom_hooks=[dict(type='mmrazor.TrainingWatchHook', interval=7)]))
    runner.train()
    hooks = [hook for hook in runner.hooks if isinstance(hook, TrainingWatchHook)]
    assert [hook.interval for hook in hooks] == [7]


def warnings_of(runner):
    said = []
    runner.logger.warning = lambda message, *_: said.append(str(message))
    return said


def long_enough(make_config, kind, **options):
    """A training of 100 iterations: quick, but long enough for the check of its accuracy."""
    cfg = make_config(kind, train_dataloader__batch_size=10, train_cfg__max_epochs=10,
                      default_hooks__checkpoint__interval=10, **options)
    cfg.param_scheduler = None
    return cfg


HOPELESS = dict(optim_wrapper__optimizer__lr=1e-9)


def test_a_student_that_learns_nothing_fails_when_all_is_written(make_config):
    cfg = long_enough(make_config, 'equal', model__distiller__weighting__kd_weight=1e5, **HOPELESS)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=10)
    runner = build_trainer(cfg)
    said = warnings_of(runner)
    with pytest.raises(NotLearnedError, match='ended with a student no better than guessing: over the last 20 batches its '
                       r'cross-entropy is .*; guessing .* has 2\.\d+; lower model.distiller.weighting.kd_weight=100000 '
                       'or try another optim_wrapper.optimizer.lr. The last checkpoint is .*epoch_10.pth'):
        runner.train()
    assert os.path.exists(os.path.join(cfg.work_dir, 'epoch_10.pth'))
    assert 'val/accuracy/top1' in runner.message_hub.log_scalars
    assert [line.split(' of the training')[0] for line in said if 'no better than guessing' in line] == ['25%', '50%']
    assert sum("times the student's own loss" in line for line in said) == 1


def test_a_run_may_end_at_guessing_if_the_config_allows_it(make_config):
    runner = build_trainer(long_enough(make_config, 'student', **HOPELESS,
                                       custom_hooks=[dict(type='mmrazor.TrainingWatchHook', must_learn=False)]))
    said = warnings_of(runner)
    runner.train()
    assert said[-1].startswith('The training has ended with a student no better than guessing')


def test_a_comparison_lists_a_run_that_ends_at_guessing(make_config):
    cfg = long_enough(make_config, 'student', train_cfg__val_interval=10, **HOPELESS)
    result = train_job(Job('student', 0, cfg, key='of this config'))
    assert 0 < result['accuracy'] < 30 and read_result(Job('student', 0, cfg, key='of this config')) == result
    with open(os.path.join(cfg.work_dir, 'run.log')) as log:
        assert 'warning: the training has ended with a student no better than guessing' in log.read()


def test_a_student_that_learns_is_left_alone(make_config):
    runner = build_trainer(long_enough(make_config, 'kd', optim_wrapper__optimizer__lr=0.02))
    said = warnings_of(runner)
    runner.train()
    assert not [line for line in said if 'no better' in line or 'times the student' in line]


def test_what_is_not_trained_on_labels_is_not_judged(make_config):
    build_trainer(long_enough(make_config, 'kd', model__calculate_student_loss=False, **HOPELESS)).train()


HEAD = dict(num_classes=4, in_channels=3)




@pytest.mark.parametrize('head, expected', [
    (dict(type='LinearClsHead', **HEAD), True),
    (dict(type='LinearClsHead', loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1), **HEAD), True),
    (dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss', use_soft=True), **HEAD), True),
    (dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss', use_sigmoid=True), **HEAD), False),
    (dict(type='LinearClsHead', loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='multi_label'), **HEAD), False),
    (dict(type='LinearClsHead', loss=dict(type='SeesawLoss', num_classes=4), **HEAD), False),
    (dict(type='MultiLabelLinearClsHead', **HEAD), False),
    (dict(type='ArcFaceClsHead', **HEAD), False),
])
def test_heads_of_one_label_an_image_are_judged(head, expected):
    class Classifier(torch.nn.Module):

        def __init__(self):
            super().__init__()
            self.head = MODELS.build(head)

    assert (single_label_loss(Classifier()) is not None) == expected
    assert single_label_loss(torch.nn.Linear(1, 1)) is None


def entropy(predicted, targets, weights=None):
    """Mean cross-entropy of one prediction [C] for targets [B, C]."""
    weights = torch.ones_like(predicted) if weights is None else torch.tensor(weights)
    return -(targets * weights * predicted.log()).sum(1).mean()


@pytest.mark.parametrize('loss', [
    dict(type='CrossEntropyLoss', loss_weight=0.5), dict(type='CrossEntropyLoss', class_weight=[1., 2., 3.]),
    dict(type='LabelSmoothLoss', label_smooth_val=0.3), dict(type='CrossEntropyLoss', use_soft=True)
])
@pytest.mark.parametrize('keyword', [False, True])
def test_guessing_is_rated_by_the_loss_itself(loss, keyword):
    torch.manual_seed(0)
    module = MODELS.build(loss)
    baseline = GuessingBaseline(module, window=2)
    labels = torch.tensor([[0, 0, 1, 0], [2, 0, 0, 0], [0, 1, 0, 0]])
    counts, own, guesses = torch.ones(3), [], []
    for batch in labels:
        hard = torch.eye(3)[batch]
        shares = 0.7 * hard + 0.1 if 'Smooth' in loss['type'] else hard
        scores = torch.randn(4, 3, requires_grad=True)
        target = hard if loss.get('use_soft') else batch
        given = dict(label=target) if keyword else {}
        output = module(scores, *(() if keyword else (target, )), avg_factor=4, **given)
        own.append(output.item())
        guesses.append([loss.get('loss_weight', 1) * entropy(guess / guess.sum(), shares, loss.get('class_weight')).item()
                        for guess in (counts, torch.ones(3))])
        counts += hard.sum(0)
    assert len(baseline) == 2
    torch.testing.assert_close(baseline.means(), torch.tensor([sum(own[1:]) / 2, min(map(sum, zip(*guesses[1:]))) / 2]))
    baseline.close()
    module(torch.randn(4, 3), target)
    torch.testing.assert_close(baseline.means()[0].item(), sum(own[1:]) / 2)


def test_guessing_knows_that_a_class_is_frequent():
    module = MODELS.build(dict(type='CrossEntropyLoss'))
    baseline = GuessingBaseline(module, window=20)
    for _ in range(50):  # nine of ten images have one class, and the network predicts only that
        module(torch.tensor([2.1972, 0.]).expand(10, 2), torch.tensor([0] * 9 + [1]))
    own, guess = baseline.means().tolist()
    assert own == pytest.approx(0.3251, abs=1e-4) and own >= 0.99 * guess and guess < 0.5


@pytest.mark.parametrize('arguments', [dict(interval=0), dict(interval='50'), dict(interval=True), dict(must_learn='no')])
def test_bad_arguments_name_the_hook(arguments):
    with pytest.raises(ConfigError, match=f'custom_hooks: TrainingWatchHook.{next(iter(arguments))}='):
        TrainingWatchHook(**arguments)


class Explode(Hook):
    """Makes the student confident of wrong predictions: its losses are high, but finite."""

    def before_train(self, runner):
        with torch.no_grad():
            runner.model.head.fc.weight *= 1e5


@pytest.mark.parametrize('train_cfg', [dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=4, val_interval=4),
                                       dict(by_epoch=True, max_epochs=4, val_interval=4)])
def test_a_short_training_whose_loss_explodes_is_an_error_too(make_config, train_cfg):
    cfg = make_config('student', optim_wrapper__optimizer__lr=0.0)
    cfg.train_cfg = train_cfg
    runner = build_trainer(cfg)
    runner.register_hook(Explode())
    with pytest.raises(NotLearnedError, match='no better than guessing'):
        runner.train()
    assert runner.iter == 20
