import copy
import math
import pickle
from collections import OrderedDict

import pytest
import torch
from mmcv.cnn import ConvModule
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from mmrazor.models.algorithms.base import BaseAlgorithm
from torch import nn

from distpro.errors import ArgumentError
from distpro.tracing import FeatureReader, in_place_off, probe_input, resolve_logits, resolve_taps, trace

KEY = 'receivers'


class Residual(nn.Module):
    """A residual block that uses one in-place ReLU twice, like the real networks."""

    def __init__(self, width=6):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


class Network(nn.Module):
    """A stem, two stages with pooling between them, a list of layers, an unused layer, and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.layer1, self.pool, self.layer2 = Residual(), nn.AvgPool2d(2), Residual()
        self.blocks = nn.ModuleList([nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 1)])
        self.spare = nn.Conv2d(4, 4, 1)
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x):
        x = self.layer2(self.pool(self.layer1(self.relu(self.bn(self.conv(x))))))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.dropout(x).mean((2, 3)))


class Split(nn.Module):

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return x * 2, self.relu(x - 1)


def shaken(model):
    """The model in double precision, with batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.2
    return model.double()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return shaken(Network())


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def traced(model, channels=3, size=8):
    shape = (channels, size, size)
    return trace(model, lambda: model(probe_input(model, shape)))


def resolve(model, *layers, **kwargs):
    return resolve_taps(list(layers), traced(model, **kwargs), KEY)


def read(model, taps, images, **kwargs):
    with FeatureReader(model, taps, **kwargs) as reader:
        model(images)
    return reader.features


def number_of_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def convolved(x, conv):
    return nn.functional.conv2d(x, conv.weight, conv.bias, padding=conv.padding)


def normalised(x, bn):
    """Output of a batch norm in training mode, from its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean)**2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + bn.eps).sqrt() * bn.weight[:, None, None] + bn.bias[:, None, None]


def positive(x):
    return x * (x > 0)


def stem_of(network, images):
    """Output of the stem before its activation."""
    return normalised(convolved(images, network.conv), network.bn)


def block_of(block, x):
    """Outputs of a block before each of its two activations."""
    first = normalised(convolved(x, block.conv1), block.bn1)
    return first, normalised(convolved(positive(first), block.conv2), block.bn2) + x


# ---- in-place activations


@pytest.mark.parametrize('layer', [
    'relu', 'bn', dict(module='relu', before_activation=True), dict(module='bn', before_activation=False), 'layer1',
    dict(module='layer1.relu', call=0), dict(module='layer1.bn1', before_activation=False),
])
def test_what_an_in_place_activation_overwrites_is_refused(network, layer):
    name = layer if isinstance(layer, str) else layer['module']
    with pytest.raises(ArgumentError, match=f"^{KEY}: the output of layer '{name}' is overwritten in place"):
        resolve(network, layer)
    in_place_off(network)
    assert resolve(network, layer)[0].shape == (6, 8, 8)


def test_what_any_other_in_place_operation_overwrites_is_refused():

    class AddsInPlace(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.norm(self.conv(x))
            y += x
            return self.last(y)

    model = AddsInPlace()
    in_place_off(model)
    with pytest.raises(ArgumentError, match="'norm' is overwritten in place"):
        resolve(model, 'norm')
    assert [tap.module for tap in resolve(model, 'conv', 'last')] == ['conv', 'last']


def test_after_an_in_place_activation_a_feature_is_its_own(network, images):
    """The feature after the activation is not overwritten, so in-place may stay on."""
    features = read(network, resolve(network, dict(module='relu', before_activation=False)), images)
    assert torch.allclose(features['relu'], positive(stem_of(network, images)), atol=1e-12)


def test_with_in_place_off_the_feature_is_before_the_activation(network, images):
    in_place_off(network)
    taps = resolve(network, dict(module='relu', name='stem'), dict(module='bn', name='norm'),
                   dict(module='relu', name='after', before_activation=False))
    features = read(network, taps, images)
    expected = stem_of(network, images)
    assert expected.min() < -0.1
    assert torch.allclose(features['stem'], expected, atol=1e-12)
    assert torch.allclose(features['norm'], expected, atol=1e-12)
    assert torch.allclose(features['after'], positive(expected), atol=1e-12)


def conv_modules():
    torch.manual_seed(2)
    norm = dict(type='BN')
    return shaken(nn.Sequential(OrderedDict(first=ConvModule(3, 6, 3, padding=1, norm_cfg=norm, inplace=True),
                                            second=ConvModule(6, 4, 3, padding=1, norm_cfg=norm, inplace=True))))


def test_the_trap_is_seen_in_mmcvs_conv_module(images):
    model = conv_modules()
    assert model.first.activate.inplace and model.second.activate.inplace
    for layer in ('first', 'second', 'second.activate', dict(module='second.bn', before_activation=False)):
        with pytest.raises(ArgumentError, match='is overwritten in place'):
            resolve(model, layer)
    in_place_off(model)
    first, second = resolve(model, 'first', 'second')
    assert (first.module, first.side, second.module) == ('first.activate', 'input', 'second.activate')
    features = read(model, [first, second], images)
    expected = normalised(convolved(images, model.first.conv), model.first.bn)
    assert expected.min() < -0.1 and torch.allclose(features['first'], expected, atol=1e-12)
    expected = normalised(convolved(positive(expected), model.second.conv), model.second.bn)
    assert expected.min() < -0.1 and torch.allclose(features['second'], expected, atol=1e-12)


@pytest.mark.parametrize('backbone, layer, activation', [
    (dict(type='CIFARResNet', depth=8), 'backbone.layer3', 'backbone.layer3.0.relu'),
    (dict(type='MobileNetV2'), 'backbone.conv1', 'backbone.conv1.activate'),
])
def test_mmrazors_own_switch_is_not_enough(backbone, layer, activation):
    model = classifier(backbone)
    BaseAlgorithm(model, module_inplace=False)
    assert model.get_submodule(activation).inplace is True
    with pytest.raises(ArgumentError, match='is overwritten in place'):
        resolve(model, layer, size=32)
    in_place_off(model)
    assert model.get_submodule(activation).inplace is False
    tap, = resolve(model, layer, size=32)
    assert (tap.module, tap.side) == (activation, 'input')
    assert read(model, [tap], torch.randn(2, 3, 32, 32))[tap.name].min() < -0.1


def test_in_place_off_changes_no_output(network, images):
    twin = copy.deepcopy(network)
    in_place_off(twin)
    assert not any(getattr(module, 'inplace', False) for module in twin.modules())
    network.eval(), twin.eval()
    assert torch.equal(network(images), twin(images))


# ---- which call of which module


def test_of_a_relu_used_twice_it_is_the_last_calls_input(network, images):
    in_place_off(network)
    taps = resolve(network, 'layer1', dict(module='layer1.relu', name='also'), dict(module='layer1.relu', call=0))
    assert [(tap.module, tap.side, tap.call) for tap in taps] == [
        ('layer1.relu', 'input', 1), ('layer1.relu', 'input', 1), ('layer1.relu', 'input', 0)]
    features = read(network, taps, images)
    first, last = block_of(network.layer1, positive(stem_of(network, images)))
    assert last.min() < -0.1 and not torch.allclose(first, last, atol=0.1)
    assert torch.allclose(features['layer1'], last, atol=1e-12)
    assert torch.equal(features['also'], features['layer1'])
    assert torch.allclose(features['layer1_relu'], first, atol=1e-12)


def test_of_a_block_used_twice_it_is_the_last_or_the_one_asked_for(images):

    class Recurrent(nn.Module):

        def __init__(self):
            super().__init__()
            self.block = Residual(3)

        def forward(self, x):
            return self.block(self.block(x))

    torch.manual_seed(3)
    model = shaken(Recurrent())
    in_place_off(model)
    taps = resolve(model, 'block', dict(module='block', call=0, name='early'), dict(module='block', call=-2, name='same'))
    assert [tap.call for tap in taps] == [3, 1, 1]  # of the ReLU, which each block calls twice
    features = read(model, taps, images)
    _, early = block_of(model.block, images)
    _, late = block_of(model.block, positive(early))
    assert torch.allclose(features['block'], late, atol=1e-12)
    assert torch.allclose(features['early'], early, atol=1e-12) and torch.equal(features['same'], features['early'])


@pytest.mark.parametrize('activation', [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.Hardswish(), nn.SiLU(), nn.GELU(), nn.Sigmoid(), nn.Tanh(), nn.ELU(),
    nn.PReLU(), nn.PReLU(3)
], ids=repr)
def test_every_activation_is_known_by_what_it_does(activation):
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), act=activation))
    tap, = resolve(model, 'act')
    assert (tap.module, tap.side, tap.layer) == ('act', 'input', 'act')
    assert resolve(model, dict(module='act', before_activation=False))[0].side == 'output'


@pytest.mark.parametrize('layer', [
    nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.InstanceNorm2d(3), nn.Identity(), nn.Dropout(0.5),
    nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 3, 1), nn.ChannelShuffle(3), nn.Softmax(1),
    nn.LocalResponseNorm(2), nn.ZeroPad2d(1)
], ids=repr)
def test_what_is_no_activation_is_not_taken_for_one(layer):
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), layer=layer))
    tap, = resolve(model, 'layer')
    assert (tap.module, tap.side) == ('layer', 'output')
    with pytest.raises(ArgumentError, match=f"^{KEY}: the output of layer 'layer' is not that of an activation"):
        resolve(model, dict(module='layer', before_activation=True))


def test_an_element_of_a_tuple_is_picked(images):
    model = nn.Sequential(OrderedDict(split=Split()))
    taps = resolve(model, dict(module='split', element=0, name='left'), dict(module='split', element=1, name='right'),
                   dict(module='split', element=1, before_activation=False, name='after'))
    features = read(model, taps, images)
    assert torch.equal(features['left'], 2 * images) and torch.equal(features['right'], images - 1)
    assert torch.equal(features['after'], positive(images - 1))


def test_names_are_short_and_without_dots():
    model = classifier(dict(type='CIFARResNet', depth=14))
    in_place_off(model)
    taps = resolve(model, 'backbone.layer1', 'backbone.layer2.1', 'backbone', dict(module='backbone.bn1', name='early'),
                   size=32)
    assert [tap.name for tap in taps] == ['layer1', 'layer2_1', 'backbone', 'early']
    assert [tap.layer for tap in taps] == ['backbone.layer1', 'backbone.layer2.1', 'backbone', 'backbone.bn1']
    assert [tap.shape for tap in taps] == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (16, 32, 32)]


# ---- reading


LAYERS = ('relu', 'layer1', 'layer2')


@pytest.fixture
def tapped(network):
    in_place_off(network)
    return network, resolve(network, *LAYERS)


def test_no_hook_outlives_the_block(tapped, images):
    model, taps = tapped
    with FeatureReader(model, taps) as reader:
        assert number_of_hooks(model) == 3
        model(images)
    assert number_of_hooks(model) == 0 and list(reader.features) == list(LAYERS)
    before = reader.features['layer1']
    model(images + 1)
    assert reader.features['layer1'] is before


@pytest.mark.parametrize('stop_early', [False, True])
def test_no_hook_outlives_an_error_and_the_error_is_seen(tapped, images, stop_early):
    model, taps = tapped
    with pytest.raises(ZeroDivisionError):
        with FeatureReader(model, taps, stop_early):
            raise ZeroDivisionError
    assert number_of_hooks(model) == 0
    with pytest.raises(RuntimeError, match='channels'):
        with FeatureReader(model, taps, stop_early):
            model(images[:, :2])
    assert number_of_hooks(model) == 0


def test_a_model_can_be_copied_and_pickled_after_reading(tapped, images):
    model, taps = tapped
    features = read(model, taps, images)
    assert features['layer2'].requires_grad  # it has a graph
    model.eval()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images), model(images)) and number_of_hooks(twin) == 0
        assert torch.equal(read(twin, taps, images)['layer2'], read(model, taps, images)['layer2'])


@pytest.mark.parametrize('stop_early', [False, True])
def test_a_reader_can_be_used_again(tapped, images, stop_early):
    model, taps = tapped
    reader = FeatureReader(model, taps, stop_early)
    model.eval()
    for batch in (images, images + 1):
        with reader:
            model(batch)
        expected = read(model, taps, batch)
        assert set(reader.features) == set(expected) == set(LAYERS)
        assert all(torch.equal(reader.features[name], expected[name]) for name in LAYERS)


def test_gradients_flow_through_what_is_read(tapped, images):
    model, taps = tapped
    features = read(model, taps, images)
    gradient, = torch.autograd.grad(features['relu'][..., 0, 0].sum(), model.bn.bias)
    assert torch.allclose(gradient, torch.full((6, ), 4.0, dtype=torch.float64))


def test_stopping_early_leaves_out_what_follows(tapped, images):
    model, taps = tapped
    model.eval()
    watched, called = ('relu', 'layer1.relu', 'pool', 'layer2.conv1', 'blocks.0', 'fc'), []
    for name in watched:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    whole = read(model, taps, images)
    assert tuple(dict.fromkeys(called)) == watched
    for chosen, reached in ((taps, 4), (taps[:2], 2), (taps[1::-1], 2), (taps[:1], 1)):
        called.clear()
        stopped = read(model, chosen, images, stop_early=True)
        assert tuple(dict.fromkeys(called)) == watched[:reached]
        assert set(stopped) == {tap.name for tap in chosen}
        assert all(torch.equal(stopped[name], whole[name]) for name in stopped)


def test_stopping_early_waits_for_the_last_call(tapped, images):
    model, _ = tapped
    model.eval()
    taps = resolve(model, dict(module='layer1.relu', call=0, name='first'), dict(module='layer1.relu', name='second'))
    whole, stopped = read(model, taps, images), read(model, taps, images, stop_early=True)
    assert list(stopped) == ['first', 'second'] and not torch.equal(stopped['first'], stopped['second'])
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


# ---- tracing


def test_tracing_leaves_nothing_behind(network):
    network.train()
    network.layer1.eval()
    network.layer1.bn2.training = True
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random, passes = torch.get_rng_state(), []

    def forward():
        passes.append([module.training for module in network.modules()])
        network(torch.randn(2, 3, 8, 8, dtype=torch.float64))

    trace(network, forward)
    assert passes == [[False] * len(modes)]
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert number_of_hooks(network) == 0
    assert not any(p.grad is not None for p in network.parameters())


def test_finding_the_layers_leaves_the_modes_as_they_are(tapped):
    model, _ = tapped
    model.train()
    model.layer1.eval()
    model.layer1.bn2.training = True
    modes = [module.training for module in model.modules()]
    assert [tap.side for tap in resolve(model, *LAYERS)] == ['input'] * 3
    resolve_taps('auto', traced(model), KEY)
    assert [module.training for module in model.modules()] == modes


def test_a_forward_that_fails_leaves_nothing_behind_either(network):
    network.train()
    network.layer2.eval()
    modes, random = [module.training for module in network.modules()], torch.get_rng_state()

    def forward():
        network(torch.randn(2, 3, 8, 8, dtype=torch.float64))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trace(network, forward)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random) and number_of_hooks(network) == 0


def test_a_trace_holds_every_call_in_order(network):
    calls = traced(network)
    assert [(call.name, call.index) for call in calls.calls][:11] == [
        ('conv', 0), ('bn', 0), ('relu', 0), ('layer1.conv1', 0), ('layer1.bn1', 0), ('layer1.relu', 0), ('layer1.conv2', 0),
        ('layer1.bn2', 0), ('layer1.relu', 1), ('layer1', 0), ('pool', 0)]
    assert [call.index for call in calls.of('layer2.relu')] == [0, 1] and calls.of('spare') == calls.of('blocks') == []
    assert all(call.output.requires_grad for call in calls.calls)


def test_probing_images_are_the_same_every_time_and_cost_no_random_numbers(network):
    random = torch.get_rng_state()
    images = probe_input(network)
    assert images.shape == (2, 3, 64, 64) and images.dtype == torch.float64
    assert torch.equal(images, probe_input(network)) and torch.equal(torch.get_rng_state(), random)
    assert not torch.equal(images[0], images[1])
    network.pool.img_size = (24, 40)
    assert probe_input(network).shape == (2, 3, 24, 40)
    assert probe_input(nn.Conv2d(1, 2, 3), (5, 6, 7)).shape == (2, 5, 6, 7)
    assert probe_input(nn.Conv2d(1, 2, 3)).shape == (2, 1, 64, 64)


# ---- layers that are refused


@pytest.mark.parametrize('layer, message', [
    ('layr1', "the model has no layer 'layr1'; nearest: layer1"),
    ('layer1.relu2', "the model has no layer 'layer1.relu2'; nearest: layer1.relu"),
    ('layer3', "the model has no layer 'layer3'; nearest: .*layer2"),
    ('', "the model has no layer ''"),
    ('QQQ', "the model has no layer 'QQQ'$"),
    ('spare', "layer 'spare' is not called in a forward"),
    ('blocks', r"layer 'blocks' is not called in a forward of the model; give a layer inside it: blocks\.0, blocks\.1$"),
    (dict(module='layer1.relu', call=2), "layer 'layer1.relu' is called 2 times in a forward, so call=2 does not exist"),
    (dict(module='layer1.relu', call=-3), "layer 'layer1.relu' is called 2 times in a forward, so call=-3 does not exist"),
    ('fc', r"layer 'fc' returns \(2, 5\), which is not a map: neither \[B, C, H, W\]"),
    (dict(module='pool', before_activation=True), "the output of layer 'pool' is not that of an activation"),
    (dict(module='layer1.conv1', before_activation=True), "the output of layer 'layer1.conv1' is not that of"),
    (dict(module='layer1', element=2), r"layer 'layer1' returns 1 value\(s\), so element=2 does not exist"),
    (dict(module='layer1', call=None), 'call=None of a layer must be of type int'),
    (dict(module='layer1', element=1.0), 'element=1.0 of a layer must be of type int or str'),
    (dict(module=3), 'module=3 of a layer must be of type str'),
    (dict(module='layer1', name='a.b'), r"name='a\.b' of a layer may not contain"),
    (dict(name='stem'), "a layer needs 'module' and may have .*, got {'name': 'stem'}"),
    (dict(module='layer1', depth=1),
     r"a layer needs 'module' and may have \['before_activation', 'call', 'element', 'name'\], got {.*'depth': 1}"),
])
def test_a_layer_that_does_not_do_is_refused(network, layer, message):
    in_place_off(network)
    with pytest.raises(ArgumentError, match=f'^{KEY}: {message}') as caught:
        resolve(network, 'layer2', layer)
    assert '\n' not in str(caught.value)


def test_values_that_are_no_single_map_are_refused():

    class PutsOut(nn.Module):

        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return self.value(x)

    def put_out(value):
        return nn.Sequential(OrderedDict(layer=PutsOut(value)))

    with pytest.raises(ArgumentError, match=f"^{KEY}: layer 'layer' returns 2 values: choose one with element="):
        resolve(put_out(lambda x: (x, 2 * x)), 'layer')
    with pytest.raises(ArgumentError, match="'layer' returns 3 values"):
        resolve(put_out(lambda x: [x, x, x]), dict(module='layer', before_activation=False))
    with pytest.raises(ArgumentError, match=f"^{KEY}: layer 'layer' returns 2 values: choose .* one of \\['a', 'b'\\]"):
        resolve(put_out(lambda x: dict(a=x, b=x)), 'layer')
    with pytest.raises(ArgumentError, match=r"'layer' returns \(2, 3, 64\), which is not a map"):
        resolve(put_out(lambda x: (x, x.flatten(2))), dict(module='layer', element=1))
    with pytest.raises(ArgumentError, match=r"so element='c' does not exist; valid are \['a', 'b'\]"):
        resolve(put_out(lambda x: dict(a=x, b=x)), dict(module='layer', element='c'))
    with pytest.raises(ArgumentError, match="'layer' returns 2 values: choose one"):
        resolve(put_out(lambda x: (x.sum(), (8, 8))), 'layer')
    assert resolve(put_out(lambda x: (x[:, :2], )), 'layer')[0].shape == (2, 8, 8)  # a tuple of one needs no element


def test_two_layers_of_one_name_are_refused(network):
    in_place_off(network)
    for layers in (['layer1', 'pool', 'layer1'], ['layer1', dict(module='pool', name='layer1')],
                   [dict(module='layer1.bn1'), dict(module='pool', name='layer1_bn1')]):
        with pytest.raises(ArgumentError, match=f"^{KEY} has two layers called 'layer1.*rename one of them with name="):
            resolve(network, *layers)
    assert [tap.name for tap in resolve(network, 'layer1', dict(module='layer1', name='twice'))] == ['layer1', 'twice']


def test_no_layer_and_other_words_than_auto_are_refused(network):
    with pytest.raises(ArgumentError, match=f"^{KEY} is empty: give at least one layer, or {KEY}='auto'"):
        resolve(network)
    for word in ('layer1', 'Auto', ''):
        with pytest.raises(ArgumentError, match=f"^{KEY}='{word}' is neither 'auto' nor a list of layer names"):
            resolve_taps(word, traced(network), KEY)


# ---- finding the stages


def classifier(backbone):
    torch.manual_seed(4)
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone))


RESNET20 = dict(type='CIFARResNet', depth=20)
RESNET8X4 = dict(type='CIFARResNet', depth=8, stem_channels=32, channels=(64, 128, 256))
CIFAR = ('stem', 'layer1', 'layer2', 'layer3')
IMAGENET = ('stem', 'layer1', 'layer2', 'layer3', 'layer4')
MOBILE = ('stem', 'layer1', 'layer2', 'layer3', 'layer5', 'layer7')


@pytest.mark.parametrize('backbone, size, names, channels, strides', [
    (RESNET20, (32, 32), CIFAR, (16, 16, 32, 64), (1, 1, 2, 4)),
    (RESNET20, (20, 36), CIFAR, (16, 16, 32, 64), (1, 1, 2, 4)),
    (RESNET8X4, (32, 32), CIFAR, (32, 64, 128, 256), (1, 1, 2, 4)),
    (dict(type='ResNet', depth=18), (64, 64), IMAGENET, (64, 64, 128, 256, 512), (4, 4, 8, 16, 32)),
    (dict(type='ResNet', depth=18), (48, 64), IMAGENET, (64, 64, 128, 256, 512), (4, 4, 8, 16, 32)),
    (dict(type='ResNet', depth=18), (32, 96), IMAGENET, (64, 64, 128, 256, 512), (4, 4, 8, 16, 32)),
    (dict(type='ResNet', depth=50), (64, 64), IMAGENET, (64, 256, 512, 1024, 2048), (4, 4, 8, 16, 32)),
    (dict(type='MobileNetV2'), (64, 64), MOBILE, (32, 16, 24, 32, 96, 320), (2, 2, 4, 8, 16, 32)),
    (dict(type='MobileNetV2'), (48, 64), MOBILE, (32, 16, 24, 32, 96, 320), (2, 2, 4, 8, 16, 32)),
], ids=lambda value: f"{value['type']}{value.get('depth', '')}" if isinstance(value, dict) else None)
def test_auto_finds_the_stem_and_the_end_of_every_stage(backbone, size, names, channels, strides):
    model = classifier(backbone)
    in_place_off(model)
    calls = trace(model, lambda: model(probe_input(model, (3, *size))))
    taps = resolve_taps('auto', calls, KEY)
    assert tuple(tap.name for tap in taps) == names
    assert [tap.shape for tap in taps] == [(width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
                                           for width, stride in zip(channels, strides)]
    order = [max(i for i, call in enumerate(calls.calls) if call.name == tap.layer) for tap in taps]
    assert order == sorted(order) and len(set(order)) == len(order)
    seen = []
    for tap in taps[1:]:
        model.get_submodule(tap.layer).register_forward_hook(lambda *_, name=tap.name: seen.append(name))
    features = read(model.eval(), taps, torch.randn(1, 3, *size))
    assert tuple(features) == names and tuple(seen) == names[1:]
    assert [tuple(feature.shape[1:]) for feature in features.values()] == [tap.shape for tap in taps]


@pytest.mark.parametrize('backbone', [RESNET20, dict(type='ResNet', depth=18)], ids=lambda backbone: backbone['type'])
def test_auto_reads_stages_before_their_last_activation(backbone):
    model = classifier(backbone)
    in_place_off(model)
    taps = resolve_taps('auto', traced(model, size=64), KEY)
    features = read(model, taps, torch.randn(2, 3, 64, 64))
    after = {}
    for tap in taps[1:]:
        assert tap.side == 'input' and features[tap.name].min() < -0.01
        model.get_submodule(tap.layer).register_forward_hook(
            lambda module, inputs, output, name=tap.name: after.update({name: output}))
    features = read(model, taps, torch.randn(2, 3, 64, 64))
    assert all(torch.equal(after[name], positive(features[name])) for name in after) and len(after) == len(taps) - 1


def test_auto_needs_no_backbone_of_that_name(network):
    in_place_off(network)
    taps = resolve_taps('auto', traced(network), KEY)
    assert [tap.layer for tap in taps][:2] == ['relu', 'layer1'] and taps[0].name == 'stem'
    assert [tap.shape for tap in taps][:2] == [(6, 8, 8), (6, 8, 8)] and taps[-1].shape == (6, 4, 4)


def test_auto_on_a_plain_chain_reads_where_the_map_changes():
    chain = nn.Sequential(OrderedDict(
        a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 4, 3, padding=1), down=nn.MaxPool2d(2),
        c=nn.Conv2d(4, 5, 3, padding=1), d=nn.Conv2d(5, 6, 3, stride=2, padding=1)))
    taps = resolve_taps('auto', traced(chain), KEY)
    assert [(tap.layer, tap.shape) for tap in taps] == [('b', (4, 8, 8)), ('c', (5, 4, 4)), ('d', (6, 2, 2))]


def test_auto_looks_into_a_wrapper_and_past_pooled_maps():
    stages = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 3, 3, padding=1), one=Residual(3), down=nn.AvgPool2d(2),
                                       two=Residual(3)))
    head = nn.Sequential(nn.Conv2d(3, 9, 1), nn.BatchNorm2d(9), nn.Conv2d(9, 3, 1))
    model = nn.Sequential(OrderedDict(features=stages, pool=nn.AdaptiveAvgPool2d(1), head=head))
    in_place_off(model)
    taps = resolve_taps('auto', traced(model), KEY)
    assert [(tap.name, tap.layer, tap.shape) for tap in taps] == [
        ('stem', 'features.stem', (3, 8, 8)), ('features_one', 'features.one', (3, 8, 8)),
        ('features_two', 'features.two', (3, 4, 4))]


def test_auto_looks_into_lists_that_are_not_called_themselves():

    class Listed(nn.Module):

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 3, padding=1)
            self.stages = nn.ModuleList([Residual(3), Residual(3), Residual(3)])
            self.down = nn.ModuleDict(dict(between=nn.AvgPool2d(2)))

        def forward(self, x):
            first, second, third = self.stages
            return third(self.down['between'](second(first(self.stem(x)))))

    model = Listed()
    in_place_off(model)
    taps = resolve_taps('auto', traced(model), KEY)
    assert [(tap.name, tap.layer, tap.shape) for tap in taps] == [
        ('stem', 'stem', (3, 8, 8)), ('stages_1', 'stages.1', (3, 8, 8)), ('stages_2', 'stages.2', (3, 4, 4))]


def test_auto_without_stages_is_refused():
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    with pytest.raises(ArgumentError, match=f"^{KEY}='auto' found 1 layer.*list the layers, e.g. {KEY}="):
        resolve_taps('auto', traced(flat), KEY)
    with pytest.raises(ArgumentError, match=f"^{KEY}='auto' found 0 layer"):
        resolve_taps('auto', traced(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))), KEY)


@pytest.mark.parametrize('layers', [[3], 7, dict(module='layer1')])
def test_layers_that_are_no_list_are_refused(network, layers):
    in_place_off(network)
    with pytest.raises(ArgumentError, match=f"^{KEY}=.* is neither 'auto' nor a list"):
        resolve_taps(layers, trace(network, lambda: network(probe_input(network))), KEY)


def test_a_reader_inside_another_does_not_take_its_stop(network, images):
    in_place_off(network)
    early, late = resolve(network, 'layer1', 'layer2')
    with FeatureReader(network, [early], stop_early=True) as outer:
        with FeatureReader(network, [late]):
            network(images)
        raise AssertionError('the outer reader was to stop the forward')
    assert list(outer.features) == ['layer1']


def test_a_reader_of_a_layer_that_is_not_there_leaves_no_hook(network, images):
    in_place_off(network)
    tap, = resolve(network, 'layer1')
    del network.layer2
    other, = resolve(shaken(Network()), dict(module='layer2', before_activation=False))
    with pytest.raises(KeyError):
        FeatureReader(network, [tap, other]).__enter__()
    assert number_of_hooks(network) == 0


def test_auto_includes_a_last_stage_of_single_pixels():
    model = MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=512)))
    in_place_off(model)
    taps = resolve_taps('auto', trace(model, lambda: model(torch.randn(2, 3, 32, 32), mode='tensor')), KEY)
    assert [(tap.name, tap.shape) for tap in taps][-2:] == [('layer3', (256, 2, 2)), ('layer4', (512, 1, 1))]


# ---- 'auto' as an entry of a list, and the classifier's output


def test_auto_in_a_list_applies_its_dict_to_all_layers():
    model = classifier(RESNET20)
    in_place_off(model)
    calls = traced(model, size=32)
    layers = [dict(module='auto', before_activation=False), dict(module='backbone.layer3', name='last')]
    after = resolve_taps(layers, calls, KEY)
    assert [tap.name for tap in after] == ['stem', 'layer1', 'layer2', 'layer3', 'last']
    assert resolve_taps(['auto'], calls, KEY) == resolve_taps('auto', calls, KEY) != after[:4]
    features = read(model, after, torch.randn(2, 3, 32, 32))
    assert all(features[tap.name].min() == 0 for tap in after[:4])
    assert torch.equal(features['layer3'], positive(features['last'])) and features['last'].min() < 0


def test_auto_in_a_list_takes_no_other_option():
    with pytest.raises(ArgumentError, match=f"^{KEY}: module='auto' stands for several layers and allows before_"):
        resolve_taps([dict(module='auto', call=0)], traced(classifier(RESNET20), size=32), KEY)


def test_frozen_layers_are_no_receivers():
    backbone = dict(type='ResNet', depth=18, base_channels=8, frozen_stages=1)
    model = classifier(backbone)
    in_place_off(model)
    images = torch.randn(2, 3, 64, 64)
    found = trace(model, lambda: model(images))
    assert [tap.name for tap in resolve_taps('auto', found, KEY)] == list(IMAGENET)
    assert [tap.name for tap in resolve_taps('auto', found, KEY, trained=True)] == ['layer2', 'layer3', 'layer4']
    with pytest.raises(ArgumentError, match=f"^{KEY}: no parameter up to layer 'backbone.layer1' is trained"):
        resolve_taps(['backbone.layer1', 'backbone.layer2'], found, KEY, trained=True)


def test_logits_are_what_a_classifier_gives_in_every_mode():
    model = MODELS.build(dict(type='ImageClassifier', backbone=RESNET20, neck=dict(type='GlobalAveragePooling'),
                              head=dict(type='LinearClsHead', num_classes=7, in_channels=64)))
    tap = resolve_logits(traced(model, size=32), KEY)
    images = torch.randn(3, 3, 32, 32)
    samples = [DataSample().set_gt_label(label) for label in range(3)]
    logits = model(images, mode='tensor')
    assert tap.name == 'logits' and tap.shape == (7, ) == tuple(logits.shape[1:])
    for run in (lambda: model(images, mode='tensor'), lambda: model(images, samples, mode='loss')):
        with FeatureReader(model, [tap]) as reader:
            run()
        assert torch.equal(reader.features['logits'], logits)


def test_a_model_that_ends_in_no_logits_is_refused():
    with pytest.raises(ArgumentError, match=rf'^{KEY}: the model returns \(2, 4, 8, 8\), not logits'):
        resolve_logits(traced(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())), KEY)
