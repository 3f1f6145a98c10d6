"""Layers become taps, each of which reads the feature that its layer names."""
import copy
from collections import OrderedDict

import pytest
import torch
from mmcv.cnn import ConvModule
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from mmrazor.models.algorithms.base import BaseAlgorithm
from tapped_networks import (
    KEY,
    RESNET20,
    Network,
    Residual,
    Split,
    block_of,
    classifier,
    convolved,
    normalised,
    number_of_hooks,
    positive,
    read,
    resolve,
    shaken,
    stem_of,
    traced,
)
from torch import nn

from distpro.errors import ArgumentError
from distpro.tracing import FeatureReader, in_place_off, probe_input, resolve_logits, resolve_taps, trace


def before(module, **more):
    """A layer that is read before its activation."""
    return dict(module=module, before_activation=True, **more)


@pytest.mark.parametrize('layer', [
    'bn', dict(module='bn', before_activation=False), 'layer1.bn1', before('relu'), before('layer1'),
    before('layer1.relu', call=0)
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
    features = read(network, resolve(network, 'relu'), images)
    assert torch.allclose(features['relu'], positive(stem_of(network, images)), atol=1e-12)


def test_with_in_place_off_the_feature_is_before_the_activation(network, images):
    in_place_off(network)
    taps = resolve(network, before('relu', name='stem'), dict(module='bn', name='norm'), dict(module='relu', name='after'))
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
    for layer in (before('first'), before('second'), before('second.activate'), 'second.bn'):
        with pytest.raises(ArgumentError, match='is overwritten in place'):
            resolve(model, layer)
    in_place_off(model)
    first, second = resolve(model, before('first'), before('second'))
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
        resolve(model, before(layer), size=32)
    in_place_off(model)
    assert model.get_submodule(activation).inplace is False
    tap, = resolve(model, before(layer), size=32)
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
    taps = resolve(network, before('layer1'), before('layer1.relu', name='also'), before('layer1.relu', call=0))
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
    taps = resolve(model, before('block'), before('block', call=0, name='early'), before('block', call=-2, name='same'))
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
    tap, = resolve(model, before('act'))
    assert (tap.module, tap.side, tap.layer) == ('act', 'input', 'act')
    assert resolve(model, 'act')[0].side == resolve(model, dict(module='act', before_activation=False))[0].side == 'output'


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
    taps = resolve(model, dict(module='split', element=0, name='left'), before('split', element=1, name='right'),
                   dict(module='split', element=1, name='after'))
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
    other, = resolve(shaken(Network()), 'layer2')
    with pytest.raises(KeyError):
        FeatureReader(network, [tap, other]).__enter__()
    assert number_of_hooks(network) == 0


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
