import os

import pytest
import torch
from runs import Watch, trained

from distpro_mm.errors import ConfigError


def train(cfg):
    """The runner, and meta networks and student after every iteration."""
    watch = Watch(after=lambda runner: (
        [p.detach() for p in runner.model.distiller.meta_parameters()], runner.model.student.state_dict()))
    return trained(cfg, watch), watch.seen


def test_every_iteration_updates_student_and_meta_networks(make_config):
    runner, seen = train(make_config('l2tww'))
    assert len(seen) == runner.max_iters == 10
    for before, after in zip(seen, seen[1:]):
        assert any(not torch.equal(a, b) for a, b in zip(before[0], after[0]))
        assert any(not torch.equal(before[1][key], after[1][key]) for key in before[1])
    assert runner.model.passes == dict(teacher=10, student=10), 'the inner steps run the student otherwise'
    assert runner.optim_wrapper['meta'].optimizer.param_groups[0]['lr'] == 1e-4, 'the schedule is the student\'s alone'
    assert runner.optim_wrapper['student'].param_groups[0]['lr'] < 0.05


def test_the_students_step_is_the_one_that_is_taken_without_meta_networks(make_config):
    """The meta networks take their first step after the student's, which is therefore the same as without them."""
    _, with_meta = train(make_config('l2tww'))
    cfg = make_config('l2tww', 'without', model__type='TapDistill')
    cfg.optim_wrapper = dict(optimizer=cfg.optim_wrapper.optimizer)
    cfg.train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=1, val_interval=100)
    _, without = train(cfg)
    assert all(torch.equal(with_meta[0][1][key], value) for key, value in without[0][1].items())
    assert any(not torch.equal(with_meta[9][1][key], value) for key, value in without[-1][1].items())


def test_a_resumed_run_ends_like_one_that_was_not(make_config):
    _, whole = train(make_config('l2tww', 'whole', param_scheduler=None))
    cfg = make_config('l2tww', 'cut', param_scheduler=None)
    cfg.train_cfg.max_epochs = 1
    trained(cfg)
    again = make_config('l2tww', 'cut', param_scheduler=None)
    again.load_from, again.resume = os.path.join(cfg.work_dir, 'epoch_1.pth'), True
    _, rest = train(again)
    assert all(torch.equal(a, b) for a, b in zip(whole[-1][0], rest[-1][0]))
    assert all(torch.equal(value, rest[-1][1][key]) for key, value in whole[-1][1].items())


@pytest.mark.parametrize('options, message', [
    (dict(train_cfg__inner_steps=0), 'train_cfg.inner_steps=0 must be a whole number from 1'),
    (dict(model__type='TapDistill'), 'train_cfg.type=L2TTrainLoop needs model.type=L2T in one process, got TapDistill'),
    (dict(optim_wrapper__constructor='DefaultOptimWrapperConstructor', optim_wrapper__meta=None),
     "optim_wrapper.constructor='DefaultOptimWrapperConstructor': L2TTrainLoop needs 'mmrazor.L2TOptimWrapperConstructor'"),
    (dict(optim_wrapper__meta=dict(lr=0.1)), r"optim_wrapper.meta must have the key optimizer only, got \['lr'"),
])
def test_what_does_not_do_is_refused_with_its_key(make_config, options, message):
    cfg = make_config('l2tww', **options)
    if cfg.optim_wrapper.meta is None:
        cfg.optim_wrapper.pop('meta')
    with pytest.raises(ConfigError, match=message):
        trained(cfg)


def test_the_constructor_needs_meta_networks(make_config):
    cfg = make_config('kd', optim_wrapper__constructor='mmrazor.L2TOptimWrapperConstructor')
    with pytest.raises(ConfigError, match='L2TOptimWrapperConstructor needs a model of type L2T'):
        trained(cfg)
