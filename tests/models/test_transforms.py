"""The four transforms of the release and ours: sizes, and outputs for maps of any size and layout."""
import pytest
import torch
import torch.nn.functional as F
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import nn

from distpro.errors import ArgumentError
from distpro.pathways.cost import cost
from distpro.pathways.transforms import Transform, resize, resize_and_convolve

RELEASED = dict(PointwiseTransform=2176, AttentionTransform=19680, DeepAttentionTransform=28960,
                ConvAttentionTransform=37152)
PROJECTIONS = dict(IdentityTransform=0, LinearTransform=2112, MLPTransform=6272)
KINDS = [*RELEASED, *PROJECTIONS]


def build(kind, in_channels=32, out_channels=64, **arguments):
    return MODELS.build(dict(type=f'mmrazor.{kind}', in_channels=in_channels, out_channels=out_channels, **arguments))


@pytest.mark.parametrize('kind, parameters', {**RELEASED, **PROJECTIONS}.items())
def test_has_the_parameters_in_its_docstring(kind, parameters):
    transform = build(kind, *((64, 64) if kind == 'IdentityTransform' else (32, 64)))
    assert isinstance(transform, BaseConnector)
    assert sum(p.numel() for p in transform.parameters()) == parameters
    assert (f'{parameters:,}' if parameters else 'No parameters') in type(transform).__doc__
    biased = [m.bias is not None for m in transform.modules() if isinstance(m, nn.Conv2d)]
    assert all(biased) if kind in PROJECTIONS else not any(biased)


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'IdentityTransform'])
@pytest.mark.parametrize('channels', [(3, 8), (8, 3), (600, 520)])
def test_brings_a_map_to_the_teachers_shape(kind, channels):
    transform = build(kind, *channels)
    feature = torch.randn(2, channels[0], 6, 5)
    assert transform(feature, size=(12, 9)).shape == (2, channels[1], 12, 9)
    assert transform(feature, size=(3, 2)).shape == (2, channels[1], 3, 2)
    assert transform(feature).shape == (2, channels[1], 6, 5)


@pytest.mark.parametrize('kind', RELEASED)
def test_inner_maps_are_no_wider_than_512(kind):
    widths = {m.out_channels for m in build(kind, 600, 520).modules() if isinstance(m, nn.Conv2d)}
    assert widths <= {512, 520, 1}


def by_hand(kind, transform, x, size):
    """The description of each transform, layer by layer, with its weights."""
    layers = iter([m for m in transform.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))])
    shape = (1, -1, 1, 1)

    def conv(value):
        weight = next(layers).weight
        return F.conv2d(value, weight, padding=weight.shape[-1] // 2)

    def linear(value):
        layer = next(layers)
        return torch.einsum('oc,bchw->bohw', layer.weight[:, :, 0, 0], value) + layer.bias.view(shape)

    def norm(value):
        bn = next(layers)
        mean, var = (value.mean((0, 2, 3)), value.var((0, 2, 3), unbiased=False)) if bn.training else (bn.running_mean,
                                                                                                      bn.running_var)
        centred = (value - mean.view(shape)) / (var.view(shape) + bn.eps).sqrt()
        return centred * bn.weight.view(shape) + bn.bias.view(shape)

    def attend(value):
        return value * conv(value)

    def gelu(value):
        return value * (1 + torch.erf(value / 2**0.5)) / 2

    def resize(value):
        rows = torch.arange(size[0]) * value.shape[2] // size[0]
        columns = torch.arange(size[1]) * value.shape[3] // size[1]
        return value[:, :, rows][:, :, :, columns]

    return dict(
        IdentityTransform=lambda: resize(x),
        LinearTransform=lambda: linear(resize(x)),
        MLPTransform=lambda: linear(gelu(linear(resize(x)))),
        PointwiseTransform=lambda: resize(norm(conv(x))),
        AttentionTransform=lambda: norm(conv(resize(attend(norm(conv(x)))))),
        DeepAttentionTransform=lambda: norm(conv(norm(conv(resize(attend(norm(conv(x)))))))),
        ConvAttentionTransform=lambda: norm(conv(resize(norm(conv(attend(norm(conv(x)).relu()))).relu()))))[kind]()


# Not a multiple, equal, one side twice, 3 and 4 times, smaller.
SIZES = [(9, 8), (6, 4), (12, 4), (18, 16), (3, 2)]
# Maps of the student and the teacher: the student's smaller, larger, larger along one side, not square, of one pixel.
PAIRS = [*(((6, 4), size) for size in SIZES), ((7, 3), (5, 9)), ((3, 7), (12, 7)), ((13, 5), (4, 4)), ((2, 3), (32, 9)),
         ((1, 1), (7, 3)), ((5, 9), (1, 1)), ((1, 1), (1, 1)), ((1, 6), (5, 12))]


def settled(kind, training=False):
    """A transform from 5 (or 7) to 7 channels in float64, with all parameters changed."""
    transform = build(kind, 7 if kind == 'IdentityTransform' else 5, 7).double().train(training)
    for parameter in transform.parameters():
        nn.init.normal_(parameter, std=0.5)
    for name, buffer in transform.named_buffers():
        if 'running' in name:
            nn.init.uniform_(buffer, 0.5, 2)
    return transform


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('own, size', PAIRS)
@pytest.mark.parametrize('kind', KINDS)
def test_computes_what_is_described_on_maps_of_any_sizes(kind, own, size, training):
    transform = settled(kind, training)
    x = torch.randn(3, 7 if kind == 'IdentityTransform' else 5, *own, dtype=torch.float64, requires_grad=True)
    result, expected = transform(x, size=size), by_hand(kind, transform, x, size)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)
    wanted, direction = [x, *transform.parameters()], torch.randn_like(expected)
    for one, other in zip(*(torch.autograd.grad(value, wanted, direction) for value in (result, expected))):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('kind', KINDS)
def test_takes_maps_in_any_layout(kind):
    """Maps in memory as tokens, as channels last, or as a part of a larger tensor."""
    transform = settled(kind)
    for size in ((12, 8), (7, 3)):
        x = torch.randn(2, 7 if kind == 'IdentityTransform' else 5, 6, 4, dtype=torch.float64)
        layouts = [x.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(2, (6, 4)),
                   x.to(memory_format=torch.channels_last), torch.cat([x, x], 1)[:, :x.size(1)]]
        for layout in layouts:
            assert torch.equal(layout, x) and not layout.is_contiguous()
            torch.testing.assert_close(transform(layout, size=size), transform(x, size=size), rtol=1e-12, atol=1e-12)


# ---- ours


def test_an_identity_is_refused_where_channels_differ():
    with pytest.raises(ArgumentError, match='^in_channels=32 and out_channels=64 must be equal, .* use LinearTransform, or '
                                            'remove the pair from connections'):
        build('IdentityTransform')


def test_a_perceptron_is_as_wide_as_asked_for():
    assert sum(p.numel() for p in build('MLPTransform', hidden_channels=128).parameters()) == 33 * 128 + 129 * 64
    for width in (0, -4, 2.5):
        with pytest.raises(ArgumentError, match='^hidden_channels=.* must be a whole number from 1'):
            build('MLPTransform', hidden_channels=width)


def test_segments_that_are_compared_each_are_one_linear_map_and_their_spread():
    """Segments of a linear map would change nothing, with HCL too."""
    hcl = MODELS.build(dict(type='mmrazor.HCLLoss'))
    feature, target = torch.randn(2, 5, 8, 6, dtype=torch.float64), torch.randn(2, 7, 8, 6, dtype=torch.float64)
    segments = [settled('LinearTransform') for _ in range(3)]
    each = torch.stack([hcl(segment(feature), target) for segment in segments]).mean()
    mean = torch.stack([segment(feature) for segment in segments]).mean(0)
    spread = torch.stack([hcl(segment(feature), mean) for segment in segments]).mean()
    torch.testing.assert_close(each, hcl(mean, target) + spread, rtol=1e-12, atol=0)


# ---- a resize and a convolution in one


@pytest.mark.parametrize('size', [*SIZES, (30, 32), (6, 28)])
def test_a_resize_and_convolution_in_one_has_the_gradients_of_both(size):
    conv = nn.Conv2d(5, 7, 3, padding=1).double()
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters()]
    outputs = [resize_and_convolve(x, size, conv), conv(F.interpolate(x, size=size, mode='nearest'))]
    direction = torch.randn_like(outputs[0])
    for one, both in zip(*(torch.autograd.grad(output, inputs, direction) for output in outputs)):
        torch.testing.assert_close(one, both, rtol=1e-11, atol=1e-11)
    assert torch.equal(resize(x, size), F.interpolate(x, size=size, mode='nearest'))


class Custom(Transform):
    """A transform of a user: any layers after the resize."""

    def __init__(self, *layers):
        self.layers = layers
        super().__init__(4, 6)

    def build(self, in_channels, out_channels, mid):
        return [], list(self.layers)


AFTER = {
    'dilated': lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    'reflected': lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'),
    'circular': lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode='circular'),
    'grouped': lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), 'wide': lambda: nn.Conv2d(4, 6, 5, padding=2),
    'pointwise': lambda: nn.Conv2d(4, 6, 1), 'strided': lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    'unpadded': lambda: nn.Conv2d(4, 6, 2), 'same': lambda: nn.Conv2d(4, 6, 3, padding='same'),
    'oblong': lambda: nn.Conv2d(4, 6, (3, 1), padding=(1, 0)), 'transposed': lambda: nn.ConvTranspose2d(4, 6, 3, padding=1),
    'activation': nn.GELU, 'normalised': lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3, padding=1)),
    'block': lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()), 'plain': lambda: nn.Conv2d(4, 6, 3, padding=1)}


@pytest.mark.parametrize('name', AFTER)
def test_a_subclass_computes_its_layers_whatever_they_are(name):
    layer = AFTER[name]().double()
    transform = Custom(layer, nn.Tanh()).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    for size in ((6, 8), (3, 2), (12, 6), (7, 5)):
        expected = torch.tanh(layer(F.interpolate(x, size=size, mode='nearest')))
        torch.testing.assert_close(transform(x, size=size), expected, rtol=1e-11, atol=1e-12)


def test_hooks_of_a_layer_after_the_resize_are_run():
    layer, seen = nn.Conv2d(4, 6, 3, padding=1), []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    Custom(layer)(torch.randn(2, 4, 3, 3), size=(6, 6))
    assert seen == [(2, 6, 6, 6)]


@pytest.mark.parametrize('own, size', [((4, 4), (8, 8)), ((4, 4), (16, 16)), ((2, 2), (32, 32)), ((1, 1), (32, 32))])
def test_an_enlargement_costs_less_than_convolving_the_large_map(own, size):
    """Down to a map of one pixel, which is smaller than a kernel with the size of the factor."""
    conv, x = nn.Conv2d(32, 32, 3, padding=1), torch.randn(16, 32, *own, requires_grad=True)
    assert cost(lambda: resize_and_convolve(x, size, conv)) < 0.9 * cost(lambda: conv(resize(x, size)))


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
