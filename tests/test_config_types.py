"""Types of a config as names and as classes, and keys that do not exist."""
import copy
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch import nn

from distpro.checks import check_arguments
from distpro.errors import ArgumentError
from distpro_mm.config_types import checked, class_of, is_a, name_of
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.hooks import LossScheduleHook, ProcessReplayHook
from distpro_mm.engine.launch import build_model, build_trainer, replay_hooks
from distpro_mm.engine.provenance import origin
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student
from distpro_mm.models import DistPro, HCLLoss, PointwiseTransform, TapDistill

LAZY = '''
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR
from mmrazor.models.losses import KLDivergence
from torch.optim import SGD

from distpro_mm.datasets import SklearnDigits
from distpro_mm.engine.hooks import ProcessReplayHook
from distpro_mm.engine.loops import ReproducibleTrainLoop
from distpro_mm.models import DistPro, DistProDistiller, PointwiseTransform

default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[0.], std=[255.], num_classes=10)
train_dataloader = dict(
    batch_size=10, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=SklearnDigits, split='train', images_per_class=2, pipeline=[dict(type=PackInputs)]))
test_dataloader = train_dataloader
test_cfg = dict()
test_evaluator = dict(type=Accuracy)
optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.05))
train_cfg = dict(type=ReproducibleTrainLoop, max_epochs=1)
custom_hooks = [dict(type=ProcessReplayHook, process=dict(progress=[0, 1], weights=[3, 1]), skip_below=2)]
network = dict(
    type=ImageClassifier, backbone=dict(type=ResNet_CIFAR, depth=18, in_channels=1, base_channels=4, stem_channels=4),
    neck=dict(type=GlobalAveragePooling), head=dict(type=LinearClsHead, num_classes=10, in_channels=32))
model = dict(
    type=DistPro, architecture=network, teacher=network, input_shape=(1, 16, 16),
    distiller=dict(type=DistProDistiller, connections='nearest_depth', transforms=[dict(type=PointwiseTransform)],
                   logits=[dict(type=KLDivergence, tau=4)], weighting=dict(type='exponential')))
'''


@pytest.fixture
def lazy(tmp_path):
    (tmp_path / 'lazy.py').write_text(LAZY)
    return load_config(str(tmp_path / 'lazy.py'), dict(work_dir=str(tmp_path / 'work'), log_level='ERROR'))


def test_a_pure_python_config_trains_and_its_student_is_read_by_the_stock_toolbox(lazy, tmp_path):
    runner = build_trainer(lazy)
    model = runner.train()
    assert isinstance(model.distiller.grid.distances['pointwise'], HCLLoss)
    assert origin(runner)['dataset'] == 'SklearnDigits' and origin(runner)['student'].startswith('ResNet_CIFAR(depth=18')
    paths = export_student(lazy, str(tmp_path / 'work' / 'epoch_1.pth'), str(tmp_path / 'student'))
    exported = Config.fromfile(paths['config'])
    assert exported.model.type == 'ImageClassifier' and exported.model.backbone.type == 'ResNet_CIFAR'
    assert exported.test_dataloader.dataset.type == 'CustomDataset'
    assert exported.test_dataloader.dataset.pipeline[0].type == 'PackInputs'
    stock = build_model(exported)
    stock.load_state_dict(torch.load(paths['checkpoint'])['state_dict'])
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(stock.eval()(images), model.student.cpu().eval()(images))


def test_of_a_pure_python_config_compiling_is_refused_and_a_replay_is_seen(lazy):
    assert len(replay_hooks(lazy)) == 1
    lazy.compile = True
    with pytest.raises(ConfigError, match='compile=True: it compiles the entire training step'):
        build_trainer(lazy)


class OwnReplayHook(ProcessReplayHook):
    """A user's."""


def test_hooks_that_replay_are_known_by_their_class():
    kinds = [OwnReplayHook, 'mmrazor.ProcessReplayHook', 'distpro_mm.engine.hooks.ProcessReplayHook', ProcessReplayHook]
    others = ['mmrazor.LossScheduleHook', LossScheduleHook, 'EMAHook', 'no.such.Hook']
    cfg = Config(dict(custom_hooks=[dict(type=kind) for kind in kinds + others]))
    assert [hook['type'] for hook in replay_hooks(cfg)] == kinds


def test_amp_takes_the_plain_wrapper_as_a_class_too(make_config):
    cfg = make_config('student')
    cfg.optim_wrapper.type = OptimWrapper
    assert build_trainer(cfg, amp=True)


@pytest.mark.parametrize('kind, name, found', [
    (DistPro, 'DistPro', DistPro), ('DistPro', 'DistPro', DistPro), ('mmrazor.DistPro', 'DistPro', DistPro),
    ('distpro_mm.models.DistPro', 'DistPro', DistPro), ('no.such.DistPro', 'DistPro', None), ('DistBro', 'DistBro', None)])
def test_a_type_is_a_class_a_name_or_a_path(kind, name, found):
    assert class_of(kind) is found and name_of(kind) == name and is_a(kind, TapDistill) == (found is not None)


# ---- keys that do not exist


@pytest.mark.parametrize('options, message', [
    ({'model.distiller.connection': 'all'}, r"^model.distiller has no argument 'connection' \(nearest: connections\)"),
    ({'model.distiller.distance': dict(type='HCLLoss', level=[2])}, r"distance has no argument 'level' \(nearest: levels"),
    ({'model.distiller.distance': dict(type='HCLoss')}, r"distance.type='HCLoss' is not registered \(nearest: HCLLoss\)"),
    ({'model.distiller.distance': 'HCLLoss'}, "distance='HCLLoss' must be a dict with the key type"),
    ({'model.distiller.transforms': [dict(type='MLPTransform', hidden=3)]}, "has no argument 'hidden' .nearest: hidden_ch"),
    ({'model.distiller.transforms': [dict(name='mlp')]}, "transforms: {'name': 'mlp'} must be a dict with the key type"),
    ({'model.distiller.logits': [dict(type='KLDivergence', t=4)]}, "logits has no argument 't'.*KLDivergence has tau"),
    ({'model.teacher_chkpt': 'a.pth'}, r"model has no argument 'teacher_chkpt' \(nearest: teacher_ckpt\)"),
    ({'model.architecture.head.num_classes': 9}, 'head.num_classes=9 is less than the 10 classes.*set it to 10'),
    ({'model.teacher.backbone.in_channels': 3, 'model.input_shape': None}, 'model.teacher takes images with 3 channels'),
    ({'model.teacher.backbone.in_channels': 3}, 'teacher takes images with 3 channels but gets 1: both networks'),
])
def test_what_does_not_exist_or_fit_is_one_message(make_config, options, message):
    cfg = make_config('equal')
    cfg.model.teacher = copy.deepcopy(cfg.model.teacher)  # else it is the student's very dict
    cfg.merge_from_dict(options)
    with pytest.raises(ConfigError) as error:
        build_trainer(cfg).train()
    assert re.search(message, re.sub(r'^(class `\w+` in [\w./]+: )+', '', str(error.value)))


def test_a_pair_distillers_parts_are_checked_too(make_config):
    for part, wrong, message in (('loss', dict(type='ATLoss', weight=1), "loss has no argument 'weight'"),
                                 ('student_connector', dict(type='VIDLoss'), 'student_connector lacks channels')):
        cfg = make_config('at')
        cfg.model.distiller[part] = wrong
        with pytest.raises(ConfigError, match=message):
            build_trainer(cfg)


def test_a_class_that_takes_anything_is_given_anything():
    class Anything(nn.Module):

        def __init__(self, **options):
            super().__init__()

    class Narrow(BaseModule):

        def __init__(self, width, **options):
            super().__init__(**options)

    check_arguments(Anything, ['a', 'b'], 'key')
    check_arguments(Narrow, ['width', 'init_cfg'], 'key')
    with pytest.raises(ConfigError, match="key has no argument 'with'"):
        check_arguments(Narrow, ['width', 'with'], 'key', ConfigError)
    with pytest.raises(ConfigError, match='key lacks width, required by Narrow'):
        check_arguments(Narrow, [], 'key', ConfigError)


def test_parts_are_looked_up_in_mmrazors_scope_unless_they_say_another():
    assert checked(dict(type='HCLLoss'), 'key') == dict(_scope_='mmrazor', type='HCLLoss')
    assert checked(dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2, in_channels=3), 'key')
    assert checked(dict(type=PointwiseTransform), 'key', ('in_channels', 'out_channels'))


# ---- parameters of transforms have no name of a layer


@pytest.mark.parametrize('method', ['equal', 'at', 'fitnet', 'ofd', 'vid', 'l2tww'])
def test_custom_keys_of_a_layer_leave_what_compares_it_alone(make_config, method):
    cfg = make_config(method)
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={
        name: dict(lr_mult=0) for name in ('stem', 'layer1', 'layer2', 'layer3', 'backbone')})
    runner = Runner.from_cfg(cfg)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    student = wrapper['student'] if isinstance(wrapper, OptimWrapperDict) else wrapper
    rates = {id(p): group['lr'] for group in student.param_groups for p in group['params']}
    frozen = [name for name, p in runner.model.named_parameters() if rates.get(id(p), 1) == 0 and 'teacher' not in name]
    assert frozen and all(name.startswith('architecture.backbone.') for name in frozen)


def test_transforms_are_not_loaded_into_those_of_other_layers():
    def distiller(connections):
        network = dict(_scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
                       backbone=dict(type='CIFARResNet', depth=8, in_channels=1, stem_channels=4, channels=(4, 4, 4)),
                       head=dict(type='LinearClsHead', num_classes=10, in_channels=4))
        return MODELS.build(dict(
            _scope_='mmrazor', type='DistPro', architecture=network, teacher=network, input_shape=(1, 8, 8),
            distiller=dict(type='DistProDistiller', connections=connections))).distiller

    pairs = [('layer1', 'layer1'), ('layer2', 'layer3')]
    one, other = distiller(pairs), distiller(pairs[::-1])
    with pytest.raises(ArgumentError, match="the checkpoint has 2 pathways or pairs .'layer1>layer1:conv_attention'"):
        other.load_state_dict(one.state_dict())
    other = distiller(pairs)
    other.load_state_dict(one.state_dict())
    for name, transform in one.grid.transforms.items():
        for a, b in zip(transform.parameters(), other.grid.transforms[name].parameters()):
            assert torch.equal(a, b)


def test_a_head_that_lacks_classes_is_named_where_the_data_set_names_none(make_config, tmp_path):
    (tmp_path / 'train.txt').write_text(''.join(f'{index}.png {index % 3}\n' for index in range(6)))
    for index in range(6):
        (tmp_path / f'{index}.png').touch()
    cfg = make_config('equal')
    cfg.model.architecture.head.num_classes = 2
    cfg.model.distiller.logits = []
    cfg.train_dataloader.dataset = dict(type='CustomDataset', data_root=str(tmp_path), ann_file='train.txt', pipeline=[])
    cfg.train_dataloader.collate_fn, cfg.train_dataloader.batch_size = dict(type='pseudo_collate'), 2
    with pytest.raises(ConfigError, match='head.num_classes=2, and the training set has the label 2: set it to 3'):
        build_trainer(cfg).train()
