"""The networks of the distillation literature have the sizes and maps of RepDistiller's."""
import pathlib

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.registry import MODELS

from distpro.tracing import FeatureReader, in_place_off, resolve_taps, trace
from distpro_mm.models.backbones.cifar_pyramidnet import PyramidBlock

NETWORKS = pathlib.Path(__file__).parents[2] / 'configs' / '_base_' / 'networks'
CIFAR = Config.fromfile(NETWORKS / 'cifar_networks.py')
IMAGENET = Config.fromfile(NETWORKS / 'imagenet_networks.py')
NARROW = [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
WIDE = [(32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8)]
WRN_2 = [(16, 32, 32), (32, 32, 32), (64, 16, 16), (128, 8, 8)]
WRN_4 = [(16, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8)]
VGG = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)]
# Parameters with 100 classes, and maps of the stem and the stages at 32 x 32, read off RepDistiller's running models;
# PyramidNet's parameters as published for imgclsmob's, its maps by the paper's formula.
LITERATURE = dict(
    resnet8=(83892, NARROW), resnet14=(181108, NARROW), resnet20=(278324, NARROW), resnet32=(472756, NARROW),
    resnet44=(667188, NARROW), resnet56=(861620, NARROW), resnet110=(1736564, NARROW),
    resnet8x4=(1233540, WIDE), resnet32x4=(7433860, WIDE),
    wrn_16_1=(180916, NARROW), wrn_16_2=(703284, WRN_2), wrn_40_1=(569780, NARROW), wrn_40_2=(2255156, WRN_2),
    wrn_16_4=(2772020, WRN_4), wrn_28_2=(1479220, WRN_2), wrn_28_4=(5872180, WRN_4),
    pyramidnet200=(26844952, [(16, 32, 32), (384, 32, 32), (704, 16, 16), (1024, 8, 8)]),
    pyramidnet110=(3913536, [(16, 32, 32), (44, 32, 32), (72, 16, 16), (100, 8, 8)]),
    vgg8=(3965028, VGG), vgg11=(9277284, VGG), vgg13=(9462180, VGG), vgg16=(14774436, VGG), vgg19=(20086692, VGG),
    mobilenetv2_half=(812836, [(16, 16, 16), (12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)]),
    shufflenetv1=(949258, [(24, 32, 32), (240, 16, 16), (480, 8, 8), (960, 4, 4)]),
    shufflenetv2=(1355528, [(24, 32, 32), (116, 16, 16), (232, 8, 8), (464, 4, 4)]),
    resnet50_cifar=(23705252, [(64, 32, 32), (256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]))
# VGG's fourth and fifth stage have maps of the same size, which 'auto' finds as one stage, so the layers are named.
VGG_LAYERS = [f'backbone.layer{stage}' for stage in range(1, 6)]


def taps_of(model, layers='auto', size=32):
    in_place_off(model)
    return resolve_taps(layers, trace(model, lambda: model(torch.randn(2, 3, size, size), mode='tensor')), 'receivers')


def test_every_network_is_offered():
    assert {name for name in CIFAR if not name.startswith('_')} == set(LITERATURE)


@pytest.mark.parametrize('name', LITERATURE)
def test_has_the_sizes_of_the_literature(name):
    parameters, shapes = LITERATURE[name]
    model = MODELS.build(CIFAR[name]).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert [tap.shape for tap in taps_of(model, VGG_LAYERS if 'vgg' in name else 'auto')] == shapes


@pytest.mark.parametrize('depth', [8, 13])
def test_of_vggs_two_stages_of_one_size_auto_reads_the_last(depth):
    taps = taps_of(MODELS.build(dict(CIFAR.vgg8, backbone=dict(type='CIFARVGG', depth=depth))))
    assert [tap.name for tap in taps] == ['layer1', 'layer2', 'layer3', 'layer5']
    assert [tap.shape for tap in taps] == VGG[:3] + VGG[4:]


# Parameters as published: MobileNet's 4.2 million, torchvision's ResNets, DeiT's 5.7 million.
@pytest.mark.parametrize('name, parameters', [('mobilenetv1', 4231976), ('resnet18', 11689512), ('resnet34', 21797672),
                                              ('resnet50', 25557032), ('deit_tiny', 5717416)])
def test_has_the_published_number_of_parameters(name, parameters):
    assert sum(p.numel() for p in MODELS.build(IMAGENET[name]).parameters()) == parameters


def test_mobilenet_has_the_maps_of_its_paper():
    shapes = [tap.shape for tap in taps_of(MODELS.build(IMAGENET.mobilenetv1), size=224)]
    assert shapes == [(32, 112, 112), (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]


@pytest.mark.parametrize('name, activated', [
    ('vgg8', True), ('shufflenetv1', True), ('shufflenetv2', True), ('mobilenetv1', True), ('wrn_16_1', False),
    ('mobilenetv2_half', False), ('pyramidnet110', False)])
def test_a_stage_may_be_read_before_its_activation(name, activated):
    model = MODELS.build({**CIFAR, **IMAGENET}[name]).eval()
    taps = [tap for tap in taps_of(model, layers=[dict(module='auto', before_activation=True)]) if tap.name != 'stem']
    after = [torch.nn.Identity()] * len(taps)  # the output of a stage, read by a separate hook
    for index, tap in enumerate(taps):
        model.get_submodule(tap.layer).register_forward_hook(
            lambda module, inputs, output, index=index: after.__setitem__(index, output))
    with FeatureReader(model, taps) as reader:
        model(torch.randn(2, 3, 32, 32), mode='tensor')
    assert len(taps) >= 3
    for tap, output in zip(taps, after):
        feature = reader.features[tap.name]
        assert (feature < 0).any()
        assert torch.equal(feature.relu() if activated else feature, output)


@pytest.mark.parametrize('backbone, depth, message', [
    ('CIFARResNet', 2, 'is not 6 n'), ('CIFARResNet', 9, 'is not 6 n'), ('CIFARResNet', 21, 'is not 6 n'),
    ('CIFARWideResNet', 4, 'is not 6 n'), ('CIFARWideResNet', 20, 'is not 6 n'), ('CIFARVGG', 12, 'is not one of'),
    ('CIFARPyramidNet', 111, 'is not 9 n'), ('CIFARPyramidNet', 2, 'is not 9 n')])
def test_other_depths_are_refused(backbone, depth, message):
    with pytest.raises(ValueError, match=f'depth={depth} {message}'):
        MODELS.build(dict(type=backbone, depth=depth, **(dict(alpha=48) if 'Pyramid' in backbone else {})))


# Exact counts that imgclsmob publishes for its PyramidNets with 100 classes (110, alpha 84: with 10).
@pytest.mark.parametrize('depth, alpha, bottleneck, channels, classes, parameters', [
    (110, 84, False, 100, 10, 3904446), (110, 270, False, 286, 100, 28511307), (164, 270, True, 1144, 100, 27319071),
    (236, 220, True, 944, 100, 27054096), (272, 200, True, 864, 100, 26288692)])
def test_pyramidnets_have_the_published_number_of_parameters(depth, alpha, bottleneck, channels, classes, parameters):
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=channels)
    model = MODELS.build(dict(CIFAR.pyramidnet200, head=head,
                              backbone=dict(type='CIFARPyramidNet', depth=depth, alpha=alpha, bottleneck=bottleneck)))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize('bottleneck', [True, False])
def test_a_pyramidal_block_is_the_papers(bottleneck):
    """Figure 6 (d) written out: batch norm, convolutions with batch norm, ReLU between them, and a shortcut of zeros."""
    block = PyramidBlock(4, 5, 2, bottleneck).double().eval()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)

    def norm(bn, x):
        return x / (1 + bn.eps)**0.5 * bn.weight[:, None, None] + bn.bias[:, None, None]

    y = norm(block.bn1, x)
    y = norm(block.bn2, F.conv2d(y, block.conv1.weight, stride=1 if bottleneck else 2, padding=0 if bottleneck else 1))
    y = F.conv2d(F.relu(y), block.conv2.weight, stride=2 if bottleneck else 1, padding=1)
    y = norm(block.bn3, y)
    if bottleneck:
        y = norm(block.bn4, F.conv2d(F.relu(y), block.conv3.weight))
    pooled = torch.stack([x[:, :, i:i + 2, j:j + 2].mean((2, 3)) for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)], -1)
    out = block(x)
    assert out.shape == (2, 20 if bottleneck else 5, 4, 4)
    torch.testing.assert_close(out[:, :4], y[:, :4] + pooled.view(2, 4, 4, 4))
    torch.testing.assert_close(out[:, 4:], y[:, 4:])


# Of the shallowest stage and the map for the classifier, for images of one channel and 32 x 32.
@pytest.mark.parametrize('backbone, last, shapes', [
    (dict(type='CIFARResNet', depth=8), 2, [(16, 32), (64, 8)]),
    (dict(type='CIFARWideResNet', depth=10, widen_factor=3), 2, [(48, 32), (192, 8)]),
    (dict(type='CIFARPyramidNet', depth=11, alpha=12), 2, [(80, 32), (112, 8)]),
    (dict(type='CIFARVGG', depth=8), 4, [(64, 32), (512, 4)]),
    (dict(type='CIFARMobileNetV2', widen_factor=0.25), 7, [(4, 16), (1280, 2)]),
    (dict(type='CIFARShuffleNetV1', channels=(48, 96, 192), groups=2), 2, [(48, 16), (192, 4)]),
    (dict(type='CIFARShuffleNetV2', channels=(48, 96, 192), last_channels=100), 3, [(48, 16), (100, 4)]),
    (dict(type='MobileNetV1'), 4, [(64, 16), (1024, 1)])])
def test_returns_the_stages_asked_for(backbone, last, shapes):
    images = torch.randn(2, 1, 32, 32)
    model = MODELS.build(dict(backbone, in_channels=1, out_indices=(0, last)))
    model.eval()
    with torch.no_grad():
        first, final = model(images)
        assert [tuple(x.shape) for x in (first, final)] == [(2, width, size, size) for width, size in shapes]
        seen = []
        with model.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output)):
            model(images)
        assert torch.equal(first, seen[0])
        assert (final >= 0).all()  # the input of the classifier is the output of an activation
        model.out_indices = MODELS.build(dict(backbone, in_channels=1)).out_indices
        by_default = model(images)
        assert len(by_default) == 1 and torch.equal(by_default[0], final)
