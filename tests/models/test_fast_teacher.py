"""The fast teacher of OpenMMLab's configs."""
import pathlib

import pytest
import torch
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from distpro.tracing import fast_forward, probe_input
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def bfloat16(monkeypatch):
    """A machine that has units for bfloat16."""
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: True)


def losses(model):
    torch.manual_seed(0)
    model.train()
    return model(torch.randn(8, 1, 8, 8), [DataSample().set_gt_label(i) for i in range(8)], mode='loss')


@pytest.mark.parametrize('method', ['kd', 'dist', 'reviewkd', 'simkd', 'equal'])
def test_every_method_has_it(make_config, bfloat16, method):
    """Losses with the fast teacher are close to those with the teacher as it is, and not the same."""
    found = {}
    for choice in (True, 'exact', False):
        torch.manual_seed(0)
        model = build_trainer(make_config(method, str(choice), model__fast_teacher=choice)).model
        model.init_weights()
        losses(model)
        found[choice] = {name: loss.item() for name, loss in losses(model).items() if name.startswith('distill.')}
    assert found[False]
    for name, loss in found[False].items():
        assert found['exact'][name] == pytest.approx(loss, rel=1e-4)
        assert found[True][name] == pytest.approx(loss, rel=0.05)
    assert found[True] != found[False]


def test_what_recorders_get_is_in_float32(make_config, bfloat16):
    model = build_trainer(make_config('kd')).model
    for _ in range(2):
        losses(model)
        recorded, = model.distiller.teacher_recorders.get_recorder('head').data_buffer
        assert recorded.dtype == torch.float32


def test_the_key_of_a_wrong_value_is_given(make_config):
    with pytest.raises(ConfigError, match=r"model\.fast_teacher='fast' is not one of True, exact, False"):
        build_trainer(make_config('equal', model__fast_teacher='fast'))


def test_layers_of_a_method_on_logits_are_refused(make_config):
    with pytest.raises(ConfigError, match="model.distiller: .* unexpected keyword argument 'transmitters'"):
        build_trainer(make_config('kd', model__distiller__transmitters='auto'))


def test_a_teacher_with_deliveries_runs_once(make_config):
    """A delivery stores the teacher's data until the student has run."""
    delivery = dict(crop=dict(type='FunctionOutputs', func_path='torch.nn.functional.relu', max_keep_data=100))
    model = build_trainer(make_config('kd', model__distiller__distill_deliveries=delivery)).model
    calls = []
    model.teacher.backbone.register_forward_hook(lambda *_: calls.append(0))
    losses(model)
    assert len(calls) == 1


@pytest.mark.parametrize('pair, folded', [('wrn-40-2_wrn-16-2_cifar100', 19), ('vgg13_vgg8_cifar100', 10),
                                          ('resnet20_resnet8_cifar100-16px', 21)])
def test_no_layer_that_is_read_prevents_it(recwarn, bfloat16, pair, folded):
    """The stem of a wide ResNet is a convolution, which the first block's batch norm follows."""
    cfg = load_config(str(ROOT / 'configs/baselines/equal.py'), pair=pair)
    cfg.model.teacher_ckpt = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for module in model.teacher.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    images = torch.randn(4, *probe_input(model.student, model.input_shape).shape[1:])
    model(images, [DataSample().set_gt_label(i) for i in range(4)], mode='loss')
    assert model._fast[''].ways == ['bfloat16', 'exact'] and len(model._fast[''].norms) == folded
    assert not [warning for warning in recwarn if 'fast_teacher' in str(warning.message)]
