"""The four transforms: sizes of the release, and what each computes."""
import pytest
import torch
import torch.nn.functional as F
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import nn

from distpro_mm.models.connectors.transforms import resize, resize_and_convolve

PARAMETERS = dict(PointwiseTransform=2176, AttentionTransform=19680, DeepAttentionTransform=28960,
                  ConvAttentionTransform=37152)


def build(kind, in_channels=32, out_channels=64, **arguments):
    return MODELS.build(dict(type=f'mmrazor.{kind}', in_channels=in_channels, out_channels=out_channels, **arguments))


@pytest.mark.parametrize('kind, parameters', PARAMETERS.items())
def test_has_the_parameters_of_the_release(kind, parameters):
    transform = build(kind)
    assert isinstance(transform, BaseConnector)
    assert sum(p.numel() for p in transform.parameters()) == parameters
    assert all(m.bias is None for m in transform.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize('kind', PARAMETERS)
@pytest.mark.parametrize('channels', [(3, 8), (8, 3), (600, 520)])
def test_brings_a_map_to_the_teachers_shape(kind, channels):
    transform = build(kind, *channels)
    feature = torch.randn(2, channels[0], 6, 5)
    assert transform(feature, size=(12, 9)).shape == (2, channels[1], 12, 9)
    assert transform(feature, size=(3, 2)).shape == (2, channels[1], 3, 2)
    assert transform(feature).shape == (2, channels[1], 6, 5)


@pytest.mark.parametrize('kind', PARAMETERS)
def test_inner_maps_are_no_wider_than_512(kind):
    widths = {m.out_channels for m in build(kind, 600, 520).modules() if isinstance(m, nn.Conv2d)}
    assert widths <= {512, 520, 1}


def by_hand(kind, transform, x, size):
    """The release's description, layer by layer, with the transform's own weights in eval mode."""
    layers = [m for m in transform.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    layers = iter(layers)

    def conv(value):
        weight = next(layers).weight
        return F.conv2d(value, weight, padding=weight.shape[-1] // 2)

    def norm(value):
        bn = next(layers)
        shape = (1, -1, 1, 1)
        centred = (value - bn.running_mean.view(shape)) / (bn.running_var.view(shape) + bn.eps).sqrt()
        return centred * bn.weight.view(shape) + bn.bias.view(shape)

    def attend(value):
        return value * conv(value)

    def resize(value):
        rows = torch.arange(size[0]) * value.shape[2] // size[0]
        columns = torch.arange(size[1]) * value.shape[3] // size[1]
        return value[:, :, rows][:, :, :, columns]

    if kind == 'PointwiseTransform':
        return resize(norm(conv(x)))
    if kind == 'AttentionTransform':
        return norm(conv(resize(attend(norm(conv(x))))))
    if kind == 'DeepAttentionTransform':
        return norm(conv(norm(conv(resize(attend(norm(conv(x))))))))
    return norm(conv(resize(norm(conv(attend(norm(conv(x)).relu()))).relu())))


SIZES = [(9, 8), (6, 4), (12, 4), (18, 16), (3, 2)]  # not a multiple, the same, one side twice, 3 and 4 times, smaller


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', PARAMETERS)
def test_computes_what_the_release_describes(kind, size):
    transform = build(kind, 5, 7).double().eval()
    for parameter in transform.parameters():
        nn.init.normal_(parameter, std=0.5)
    for name, buffer in transform.named_buffers():
        if 'running' in name:
            nn.init.uniform_(buffer, 0.5, 2)
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(transform(x, size=size), by_hand(kind, transform, x, size), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('size', SIZES)
def test_a_resize_and_convolution_in_one_has_the_gradients_of_both(size):
    conv = nn.Conv2d(5, 7, 3, padding=1).double()
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters()]
    outputs = [resize_and_convolve(x, size, conv), conv(F.interpolate(x, size=size, mode='nearest'))]
    direction = torch.randn_like(outputs[0])
    for one, both in zip(*(torch.autograd.grad(output, inputs, direction) for output in outputs)):
        torch.testing.assert_close(one, both, rtol=1e-11, atol=1e-11)
    assert torch.equal(resize(x, size), F.interpolate(x, size=size, mode='nearest'))


def test_runs_as_a_connector_of_a_stock_distiller():
    student, teacher = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Sequential(nn.Conv2d(3, 6, 1, stride=2))
    distiller = MODELS.build(dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        student_recorders=dict(map=dict(type='ModuleOutputs', source='0')),
        teacher_recorders=dict(map=dict(type='ModuleOutputs', source='0')),
        connectors=dict(bridge=dict(type='AttentionTransform', in_channels=4, out_channels=6, size=(4, 4))),
        distill_losses=dict(loss_hcl=dict(type='HCLLoss', loss_weight=2.0)),
        loss_forward_mappings=dict(loss_hcl=dict(
            s_feature=dict(from_student=True, recorder='map', connector='bridge'),
            t_feature=dict(from_student=False, recorder='map')))))
    distiller.prepare_from_student(student)
    distiller.prepare_from_teacher(teacher)
    images = torch.randn(2, 3, 8, 8)
    with distiller.student_recorders, distiller.teacher_recorders, torch.no_grad():
        s, t = student(images), teacher(images)
    losses = distiller.compute_distill_losses()
    expected = 2 * MODELS.build(dict(type='mmrazor.HCLLoss'))(distiller.connectors['bridge'](s), t)
    torch.testing.assert_close(losses['loss_hcl'], expected)
