"""Training options of mmengine and mmpretrain work in a search, a distillation and a baseline, or are refused."""
import pytest
import torch
from mmengine.hooks import EarlyStoppingHook
from mmengine.optim import DefaultOptimWrapperConstructor, ExponentialLR, LinearLR, ReduceOnPlateauLR
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.engine.hooks import SwitchRecipeHook
from runs import Watch
from toys import MIXUP

from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, build_trainer
from distpro_mm.engine.loops import DistProSearchLoop
from distpro_mm.engine.optimizers import DistProOptimWrapperConstructor
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student

KINDS = ('whole_run', 'search', 'distill', 'kd', 'student')


def config(make_config, kind, name=None, **options):
    """A small config. A distillation replays constant weights."""
    cfg = make_config(kind, name or kind, **options)
    if kind == 'distill':
        cfg.custom_hooks[0].process = dict(progress=[0, 1], weights=[1, 1])
    return cfg


def recipe(**what):
    return [dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, **what)])]


REFUSED = [
    ('kd', dict(optim_wrapper=dict(constructor='LearningRateDecayOptimWrapperConstructor')),
     "optim_wrapper.constructor='LearningRateDecay.*needs get_layer_depth of the model.*custom_keys"),
    ('whole_run', dict(optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=0.5))),
     'optim_wrapper.paramwise_cfg.layer_decay_rate: there is no such setting; valid are custom_keys'),
    ('student', dict(optim_wrapper=dict(paramwise_cfg=dict(norm_decay=0.0))), 'paramwise_cfg.norm_decay: there is no such'),
    ('kd', dict(custom_hooks=recipe(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))),
     'custom_hooks.0: SwitchRecipeHook.schedule.loss: .*model.architecture: remove it'),
    ('kd', dict(custom_hooks=[dict(type='SetAdaptiveMarginsHook')]), 'SetAdaptiveMarginsHook: .*architecture.head.margins'),
    ('kd', dict(custom_hooks=[dict(type='WarmupParamHook', param_name='p', module_name='head.loss', warmup_epochs=1)]),
     "module_name='head.loss': the student .* write 'architecture.head.loss'"),
    ('kd', dict(custom_hooks=[dict(type='ClassNumCheckHook')]), 'ClassNumCheckHook: it needs num_classes of every module'),
    ('kd', dict(custom_hooks=[dict(type='SwAVHook')]), 'SwAVHook: it is for a self-supervised or retrieval model'),
    ('search', dict(activation_checkpointing=['architecture.backbone.layer1']), 'activation_checkpointing: a search cannot'),
    ('whole_run', dict(train_dataloader=dict(num_batch_per_epoch=2)), 'train_dataloader.num_batch_per_epoch: a search uses'),
    ('whole_run', dict(param_scheduler=dict(_delete_=True, type='ReduceOnPlateauLR', monitor='accuracy/top1')),
     "param_scheduler.type='ReduceOnPlateauLR': it needs a validation metric"),
    ('kd', dict(efficient_conv_bn_eval=['architecture.backbone']), 'efficient_conv_bn_eval: it merges layers'),
    ('whole_run', dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='accuracy/top1')]),
     'custom_hooks.0: EarlyStoppingHook: a search in rounds validates after the last round only'),
    ('whole_run', dict(custom_hooks=recipe(batch_augments=MIXUP)), 'SwitchRecipeHook: it acts at epochs of the search'),
    ('whole_run', dict(custom_hooks=[dict(type='mmrazor.LossScheduleHook', warm_up_epochs=1)]),
     'LossScheduleHook: it acts at epochs of the search, but every round is a training from epoch 1'),
    ('kd', dict(runner_type='FlexibleRunner'), "runner_type='FlexibleRunner': trainings run in the Runner of mmengine"),
    ('equal', dict(compile=True), 'compile=True: it compiles the entire .* set model.distiller.compile_transforms=True'),
    ('crd', dict(compile=True), 'compile=True: it compiles the entire training step, .* remove it$'),
]


@pytest.mark.parametrize('kind, options, message', REFUSED)
def test_what_cannot_act_is_refused(make_config, kind, options, message):
    cfg = make_config(kind)
    cfg.merge_from_dict(options)
    with pytest.raises(ConfigError, match=message):
        build_trainer(cfg)


class Stop(EarlyStoppingHook):
    """A hook of a user, given as a class."""


class Switch(SwitchRecipeHook):
    """Another hook of a user, given as a class."""


class Plateau(ReduceOnPlateauLR):
    """A schedule of a user."""


class OwnSearchLoop(DistProSearchLoop):
    """A search of a user."""


@pytest.mark.parametrize('kind, options, message', [
    ('whole_run', dict(custom_hooks=[dict(type=Stop, monitor='accuracy/top1')]), 'Stop: a search in rounds validates after'),
    ('whole_run', dict(custom_hooks=[dict(type=Switch, schedule=[])]), 'Switch: it acts at epochs of the search'),
    ('kd', dict(custom_hooks=[dict(type=Switch, schedule=[dict(action_epoch=2, loss=None)])]), 'Switch.schedule.loss: '),
    ('whole_run', dict(param_scheduler=dict(_delete_=True, type=Plateau, monitor='accuracy/top1')),
     "param_scheduler.type='Plateau': it needs a validation metric"),
    ('whole_run', dict(train_cfg=dict(type=OwnSearchLoop), activation_checkpointing=['architecture.backbone.layer1']),
     'activation_checkpointing: a search cannot'),
    ('whole_run', dict(train_cfg=dict(type=OwnSearchLoop), custom_hooks=[dict(type=Stop, monitor='accuracy/top1')]),
     'Stop: a search in rounds validates after')])
def test_classes_derived_from_what_cannot_act_are_refused_too(make_config, kind, options, message):
    cfg = make_config(kind)
    cfg.merge_from_dict(options)
    with pytest.raises(ConfigError, match=message):
        build_trainer(cfg)


class Halving(ExponentialLR):
    """A schedule of a user whose name does not say what it is."""


class ExponentialWarmUp(LinearLR):
    """A schedule of a user with the name of another one; it has no gamma."""


def test_schedules_are_scaled_to_a_round_by_what_they_are(make_config):
    cfg = make_config('whole_run', train_cfg__max_epochs=8, train_cfg__round_share=0.25)
    cfg.param_scheduler = [dict(type=Halving, gamma=0.5), dict(type=ExponentialWarmUp, start_factor=0.5, end=8)]
    runner = build_trainer(cfg)
    loop = runner.build_train_loop(runner._train_loop)
    halving, warm_up = runner.param_schedulers
    assert loop.epochs == warm_up['end'] == 2
    assert halving['gamma'] == 0.5**4, 'the rate at the end of a round is that at the end of the training'


class Learner(DistProOptimWrapperConstructor):
    """An optimiser of weights and alpha of a user."""


class DistProStyle(DefaultOptimWrapperConstructor):
    """An ordinary constructor of a user, named for the project that it is for."""


def test_a_constructor_with_an_optimiser_of_alpha_is_refused_by_what_it_is(make_config):
    from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS
    for kind in (Learner, DistProStyle):
        OPTIM_WRAPPER_CONSTRUCTORS.register_module(module=kind, force=True)
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__max_epochs=1)
    cfg.optim_wrapper.constructor = 'Learner'
    with pytest.raises(ConfigError, match='optim_wrapper.constructor: DistProSearchLoop updates alpha itself'):
        runner = build_trainer(cfg)
        runner.build_train_loop(runner._train_loop)
    cfg = make_config('whole_run', 'plain', train_cfg__rounds=1, train_cfg__max_epochs=1)
    cfg.optim_wrapper.constructor = 'DistProStyle'
    build_trainer(cfg).train()


class Seen(PackInputs):
    """Counts the images that it packs."""
    count = 0

    def transform(self, results):
        Seen.count += 1
        return super().transform(results)


@pytest.mark.parametrize('kind', ['distill', 'search', 'student'])
def test_a_pipeline_is_switched(make_config, kind):
    from mmpretrain.registry import TRANSFORMS
    TRANSFORMS.register_module(module=Seen, force=True)
    cfg = config(make_config, kind)
    Seen.count = 0
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *recipe(train_pipeline=[dict(type='Seen')])]
    runner = build_trainer(cfg)
    runner.train()
    assert Seen.count == (100 if kind != 'search' else 80)


def test_a_pipeline_that_ran_before_the_training_is_not_switched(make_config):
    cfg = load_config('configs/baselines/kd.py', pair='resnet20_resnet8-half_digits')
    cfg.custom_hooks = recipe(train_pipeline=[dict(type='PackInputs')])
    with pytest.raises(ConfigError, match='InMemoryDataset runs its pipeline before the training'):
        build_trainer(cfg)


@pytest.mark.parametrize('kind', KINDS)
def test_what_acts_beside_a_training_acts(make_config, kind):
    """Averaged weights, early stopping, precise batch norm, clipping or accumulation, and layer-wise rates together."""
    cfg = config(make_config, kind, train_cfg__max_epochs=3)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='EMAHook', momentum=0.5),
                        dict(type='PreciseBNHook', num_samples=40, priority='ABOVE_NORMAL')]
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={'backbone.conv1': dict(lr_mult=0.1)}, norm_decay_mult=0.)
    if kind == 'whole_run':
        cfg.train_cfg.update(rounds=1)
    else:
        cfg.train_cfg.val_interval = 1
        cfg.custom_hooks.append(dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=1, min_delta=101))
    if kind in ('distill', 'kd', 'student'):
        cfg.optim_wrapper.update(clip_grad=dict(max_norm=1e-9), accumulative_counts=2)
    runner = build_trainer(cfg)
    if kind == 'whole_run':
        runner.train()
        wrapper = runner.optim_wrapper
    else:
        watch = Watch(lambda runner: runner.model.state_dict())
        runner.register_hook(watch)
        runner.train()
        first = watch.seen
        assert runner.epoch == 2, 'it was not stopped'
        wrapper = runner.optim_wrapper['student'] if kind == 'search' else runner.optim_wrapper
        if kind in ('distill', 'kd', 'student'):
            name = ('' if kind == 'student' else 'architecture.') + 'backbone.layer2.0.conv1.weight'
            torch.testing.assert_close(first[2][name], first[0][name], rtol=0, atol=1e-3)
            assert torch.equal(first[1][name], first[0][name])  # the second batch steps
            batches = runner.model.state_dict()[name.replace('layer2.0.conv1.weight', 'bn1.num_batches_tracked')]
            assert batches == 2 * (5 + 2), 'batch norm has not seen two batches more after each epoch'
    rates = {round(group['lr'] / max(g['lr'] for g in wrapper.param_groups), 3) for group in wrapper.param_groups}
    assert {0.1, 1.0} == rates and {group['weight_decay'] for group in wrapper.param_groups} == {0., 5e-4}


def test_an_iteration_based_loop_of_mmengine_distils(make_config):
    cfg = config(make_config, 'distill', train_cfg=dict(type='IterBasedTrainLoop', max_iters=3))
    cfg.train_cfg.pop('max_epochs')
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.param_scheduler.update(by_epoch=False, convert_to_iter_based=False)

    cfg.custom_hooks[0].process = dict(progress=[0, 1], weights=[1, 3])
    weights = Watch(after=lambda runner: runner.model.distiller.grid.weights()[0].item())
    runner = build_trainer(cfg)
    runner.register_hook(weights)
    runner.train()
    assert weights.seen == pytest.approx([1, 2, 3], rel=1e-4)


def test_checkpoints_of_a_student_initialise_it(make_config, tmp_path):
    cfg = make_config('student')
    model = build_model(cfg)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'student.pth')
    export_student(cfg, str(tmp_path / 'student.pth'), str(tmp_path / 'out'))
    for path in (tmp_path / 'student.pth', tmp_path / 'out' / 'student.pth'):
        cfg = make_config('equal')
        cfg.model.architecture.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
        runner = build_trainer(cfg)
        runner.model.init_weights()
        for name, value in model.backbone.state_dict().items():
            assert torch.equal(runner.model.student.backbone.state_dict()[name].cpu(), value)


@pytest.mark.parametrize('kind', ['whole_run', 'distill'])
def test_momentum_and_weight_decay_follow_their_schedules_too(make_config, kind):
    cfg = config(make_config, kind, train_cfg__max_epochs=1)
    end = 4 if kind == 'whole_run' else 3  # a search trains on four fifths of the images, in schedules that fit
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=end),
                           dict(type='LinearMomentum', start_factor=0.5, by_epoch=False, end=end),
                           dict(type='CosineAnnealingWeightDecay', eta_min=1e-6, by_epoch=False)]
    if kind == 'whole_run':
        cfg.train_cfg.rounds = 2
    else:
        cfg.auto_scale_lr = dict(enable=True, base_batch_size=40)  # twice the loader's
    watch = Watch(lambda runner: [runner.optim_wrapper.param_groups[0][key] for key in ('lr', 'momentum', 'weight_decay')])
    runner = build_trainer(cfg)
    runner.register_hook(watch)
    runner.train()
    seen = watch.seen
    scale = 0.5 if kind == 'distill' else 1
    assert [values[0] for values in seen[:4]] == pytest.approx([0.025 * scale, 0.0375 * scale, 0.05 * scale, 0.05 * scale])
    assert [values[1] for values in seen[:4]] == pytest.approx([0.45, 0.675, 0.9, 0.9])
    assert seen[0][2] == 5e-4 > seen[1][2] > seen[3][2] > 1e-6
    if kind == 'whole_run':
        assert seen[4:] == seen[:4]  # the second round


WRAPPERS = dict(
    RepeatDataset=dict(times=2), ClassBalancedDataset=dict(oversample_thr=1e-3), KFoldDataset=dict(num_splits=5))


@pytest.mark.parametrize('kind', ['whole_run', 'kd'])
def test_wrappers_of_data_sets_and_samplers_are_taken(make_config, kind):
    cfg = make_config(kind)
    images = cfg.train_dataloader.dataset
    datasets = [images, dict(type='ConcatDataset', datasets=[images, images]), *(
        dict(type=name, dataset=images, **options) for name, options in WRAPPERS.items())]
    for place, dataset in enumerate(datasets):
        cfg = make_config(kind, f'data_{place}', train_dataloader__batch_size=8)
        cfg.train_dataloader.dataset = dataset
        cfg.train_dataloader.sampler = (dict(type='RepeatAugSampler'), dict(type='SequentialSampler'),
                                        dict(type='DefaultSampler', shuffle=True))[place % 3]
        runner = build_trainer(cfg)
        loop = runner.build_train_loop(runner._train_loop)
        assert len(next(iter(loop.dataloader))['inputs']) == 8
