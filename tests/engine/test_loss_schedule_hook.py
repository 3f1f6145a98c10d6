import math
import os

import pytest
from mmengine.runner import Runner
from runs import Watch, trained

from distpro_mm.errors import ConfigError

EPOCHS, ITERATIONS = 4, 5  # an epoch has five iterations of 20 of the 100 images
KD = 0.9


def schedule(**options):
    return dict(type='mmrazor.LossScheduleHook', **options)


def seen(cfg, of=lambda model: model.distiller.distill_losses['loss_kl'].loss_weight):
    watch = Watch(lambda runner: of(runner.model))
    trained(cfg, watch)
    return watch.seen


def expected(warm_up, decay, shape=lambda share: share, first=0, count=EPOCHS * ITERATIONS):
    """By hand: iteration i is at progress (i + 1/2) / count."""
    factors = []
    for i in range(first, count):
        progress = (i + 0.5) / count
        growth = shape(progress / warm_up) if progress < warm_up else 1
        fall = shape((1 - progress) / decay) if 1 - progress < decay else 1
        factors.append(growth * fall)
    return factors


@pytest.mark.parametrize('warm_up, decay, shape', [
    (0.3, 0.5, 'linear'), (0.0, 0.375, 'cosine'), (1.0, 0.0, 'linear'), (0.8, 0.8, 'cosine')])
def test_the_weight_follows_the_schedule_in_every_iteration(make_config, warm_up, decay, shape):
    hooks = [schedule(warm_up=warm_up, decay=decay, shape=shape)]
    weights = seen(make_config('kd', train_cfg__max_epochs=EPOCHS, custom_hooks=hooks))
    form = dict(linear=lambda share: share, cosine=lambda share: 0.5 - 0.5 * math.cos(share * math.pi))[shape]
    assert weights == pytest.approx([KD * factor for factor in expected(warm_up, decay, form)])
    assert len(weights) == EPOCHS * ITERATIONS and min(weights) > 0


def test_the_decay_is_that_of_wkds_release(make_config):
    """Half a cosine over the last 90 of 240 epochs."""
    weights = seen(make_config('kd', train_cfg__max_epochs=EPOCHS, custom_hooks=[schedule(decay=90 / 240, shape='cosine')]))
    for i, weight in enumerate(weights):
        epoch = 240 * (i + 0.5) / len(weights)
        release = 0.5 * KD * (1 + math.cos((epoch - 150) / (240 - 150) * math.pi)) if epoch > 150 else KD
        assert weight == pytest.approx(release)


def test_the_weight_of_the_students_cross_entropy_has_its_own_schedule(make_config):
    hooks = [schedule(warm_up=0.5), schedule(of='student', decay=0.5)]
    cfg = make_config('kd', train_cfg__max_epochs=EPOCHS, custom_hooks=hooks)
    pairs = seen(cfg, lambda model: (model.distiller.distill_losses['loss_kl'].loss_weight,
                                     model.student.head.loss_module.loss_weight))
    assert [kd for kd, _ in pairs] == pytest.approx([KD * factor for factor in expected(0.5, 0)])
    assert [ce for _, ce in pairs] == pytest.approx(expected(0, 0.5))


def test_a_resumed_run_continues_its_schedule(make_config):
    hooks = [schedule(warm_up=0.3, decay=0.5)]
    cfg = make_config('kd', train_cfg__max_epochs=EPOCHS, custom_hooks=hooks, default_hooks__checkpoint__max_keep_ckpts=-1)
    trained(cfg)
    again = make_config('kd', train_cfg__max_epochs=EPOCHS, custom_hooks=hooks)
    again.load_from, again.resume = os.path.join(cfg.work_dir, 'epoch_2.pth'), True
    assert seen(again) == pytest.approx([KD * factor for factor in expected(0.3, 0.5, first=2 * ITERATIONS)])


def test_a_warm_up_in_epochs_rises_epoch_by_epoch_to_the_configs_weight(make_config):
    """To the last bit, because the results of DKD and ReviewKD depend on it; a decay is an additional factor."""
    epochs = [epoch for epoch in range(1, 7) for _ in range(ITERATIONS)]
    weights = seen(make_config('kd', train_cfg__max_epochs=6, custom_hooks=[schedule(warm_up_epochs=4)]))
    assert weights == [KD * min(epoch / 4, 1) for epoch in epochs]
    cosine = seen(make_config('kd', train_cfg__max_epochs=6, custom_hooks=[
        schedule(warm_up_epochs=3, decay=0.5, shape='cosine')]))
    falls = expected(0, 0.5, lambda share: 0.5 - 0.5 * math.cos(share * math.pi), count=6 * ITERATIONS)
    growths = [0.5 - 0.5 * math.cos(min(epoch / 3, 1) * math.pi) for epoch in epochs]
    assert cosine == pytest.approx([KD * growth * fall for growth, fall in zip(growths, falls)])


def test_a_resumed_run_continues_its_warm_up_in_epochs(make_config):
    hooks = [schedule(warm_up_epochs=4)]
    cfg = make_config('kd', train_cfg__max_epochs=2, custom_hooks=hooks)
    trained(cfg)
    more = make_config('kd', train_cfg__max_epochs=3, custom_hooks=hooks)
    more.load_from, more.resume = os.path.join(cfg.work_dir, 'epoch_2.pth'), True
    assert seen(more) == [KD * 0.75] * ITERATIONS


def test_other_numbers_and_single_losses_can_be_named(make_config):
    hooks = [schedule(attribute='tau', losses=['loss_kl'], warm_up=1.0)]
    taus = seen(make_config('kd', custom_hooks=hooks), lambda model: model.distiller.distill_losses['loss_kl'].tau)
    assert taus == pytest.approx([4 * factor for factor in expected(1.0, 0, count=2 * ITERATIONS)])


@pytest.mark.parametrize('options, message', [
    (dict(warm_up=-0.1), 'LossScheduleHook.warm_up=-0.1 must be a number'),
    (dict(decay=1.5), 'LossScheduleHook.decay=1.5 must be a number'),
    (dict(warm_up_epochs=0), 'LossScheduleHook.warm_up_epochs=0 must be a number at least 1'),
    (dict(warm_up=0.1, warm_up_epochs=2), 'LossScheduleHook.warm_up=0.1 and warm_up_epochs=2 are both given'),
    (dict(shape='step'), "LossScheduleHook.shape='step' is not one of linear, cosine"),
    (dict(of='teacher'), "LossScheduleHook.of='teacher' is not one of distiller, student")])
def test_an_argument_out_of_range_is_refused(make_config, options, message):
    with pytest.raises(ConfigError, match=f'custom_hooks: {message}'):
        Runner.from_cfg(make_config('kd', custom_hooks=[schedule(**options)]))


@pytest.mark.parametrize('kind, hooks, message', [
    ('kd', [schedule(attribute='loss_wieght')], "finds no loss with 'loss_wieght' in model.distiller"),
    ('student', [schedule()], "finds no loss with 'loss_weight' in model.distiller"),
    ('kd', [schedule(losses=['loss_kd'])], "LossScheduleHook.losses has 'loss_kd', and .* has .*loss_kl"),
    ('kd', [schedule(), schedule(decay=0.5)], "two of LossScheduleHook change 'loss_weight'"),
    ('kd', [schedule(warm_up_epochs=2), schedule()], "two of .* 'loss_weight' of the losses in model.distiller: give one")])
def test_what_has_no_such_number_or_two_schedules_is_refused(make_config, kind, hooks, message):
    with pytest.raises(ConfigError, match=message):
        trained(make_config(kind, custom_hooks=hooks))


def test_epochs_are_counted_in_a_loop_by_iterations(make_config):
    cfg = make_config('kd', custom_hooks=[schedule(warm_up_epochs=3)])
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=EPOCHS * ITERATIONS, val_interval=100)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint = dict(type='mmrazor.AtomicCheckpointHook', by_epoch=False, interval=100)
    assert seen(cfg) == pytest.approx([KD * min(1, (i // ITERATIONS + 1) / 3) for i in range(EPOCHS * ITERATIONS)])


def test_a_loss_that_consists_of_others_is_scaled_once(make_config):
    cfg = make_config('kd', train_cfg__max_epochs=1, custom_hooks=[schedule(of='student', warm_up=1.0)])
    cfg.model.architecture.head.loss = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, loss_weight=2.0)
    weights = seen(cfg, lambda model: (model.architecture.head.loss_module.loss_weight,
                                       model.architecture.head.loss_module.ce.loss_weight))
    assert [outer for outer, _ in weights] == pytest.approx([2 * factor for factor in expected(1.0, 0.0, count=ITERATIONS)])
    assert {inner for _, inner in weights} == {1.0}
