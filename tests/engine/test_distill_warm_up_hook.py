import os

import pytest
from mmengine.runner import Runner
from runs import Watch, trained

from distpro_mm.errors import ConfigError

WARM_UP = dict(type='mmrazor.DistillWarmUpHook', epochs=4)


def weights(cfg):
    watch = Watch(lambda runner: (runner.epoch, runner.model.distiller.distill_losses['loss_kl'].loss_weight))
    trained(cfg, watch)
    return sorted(set(watch.seen))


def test_the_weight_rises_epoch_by_epoch_to_the_configs(make_config):
    cfg = make_config('kd', train_cfg__max_epochs=6, custom_hooks=[WARM_UP])
    expected = [(epoch, 0.9 * share) for epoch, share in enumerate([0.25, 0.5, 0.75, 1, 1, 1])]
    assert weights(cfg) == [(epoch, pytest.approx(weight)) for epoch, weight in expected]


def test_a_resumed_run_continues_at_its_iteration(make_config):
    cfg = make_config('kd', train_cfg__max_epochs=2, custom_hooks=[WARM_UP])
    trained(cfg)
    more = make_config('kd', train_cfg__max_epochs=3, custom_hooks=[WARM_UP])
    more.load_from, more.resume = os.path.join(cfg.work_dir, 'epoch_2.pth'), True
    assert weights(more) == [(2, pytest.approx(0.9 * 0.75))]


def test_what_cannot_be_warmed_up_is_refused(make_config):
    with pytest.raises(ConfigError, match='custom_hooks: DistillWarmUpHook.epochs=0 must be a number at least 1'):
        Runner.from_cfg(make_config('kd', custom_hooks=[dict(WARM_UP, epochs=0)]))
    with pytest.raises(ConfigError, match='custom_hooks: DistillWarmUpHook finds no loss with a loss_weight'):
        trained(make_config('student', custom_hooks=[WARM_UP]))
