"""The layers that 'auto' finds."""
import math
from collections import OrderedDict

import pytest
import torch
from mmpretrain.registry import MODELS
from tapped_networks import IMAGENET, KEY, RESNET8X4, RESNET20, Residual, classifier, positive, read, traced
from torch import nn

from distpro.errors import ArgumentError
from distpro.tracing import in_place_off, probe_input, resolve_taps, trace

CIFAR = ('stem', 'layer1', 'layer2', 'layer3')
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
def test_auto_reads_stages_after_or_before_their_last_activation(backbone):
    model = classifier(backbone)
    in_place_off(model)
    calls = traced(model, size=64)
    assert all(tap.side == 'output' for tap in resolve_taps('auto', calls, KEY))
    taps = resolve_taps([dict(module='auto', before_activation=True)], calls, KEY)
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
    layers = [dict(module='auto', before_activation=True), dict(module='backbone.layer3', name='last')]
    before = resolve_taps(layers, calls, KEY)
    assert [tap.name for tap in before] == ['stem', 'layer1', 'layer2', 'layer3', 'last']
    assert resolve_taps(['auto'], calls, KEY) == resolve_taps('auto', calls, KEY) != before[:4]
    features = read(model, before, torch.randn(2, 3, 32, 32))
    assert all(features[tap.name].min() < 0 for tap in before[:4])
    assert torch.equal(features['last'], positive(features['layer3'])) and features['last'].min() == 0


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
    message = f"^{KEY}='auto' found 0 layer.s. in 'backbone' with trained parameters up to them: more .* requires_grad=True"
    model.requires_grad_(False)
    found = trace(model, lambda: model(images))
    with pytest.raises(ArgumentError, match=message):
        resolve_taps('auto', found, KEY, trained=True)
