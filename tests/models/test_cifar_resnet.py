"""The CIFAR networks of the distillation literature: same sizes and maps as RepDistiller's."""
import pathlib

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from distpro_mm.pathways import in_place_off, resolve_taps, trace

NETWORKS = Config.fromfile(pathlib.Path(__file__).parents[2] / 'configs' / '_base_' / 'networks' / 'cifar_networks.py')
NARROW = [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
WIDE = [(32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8)]
# Parameters with 100 classes, and maps of the stem and the stages at 32 x 32, read off RepDistiller's running models.
LITERATURE = dict(resnet8=(83892, NARROW), resnet14=(181108, NARROW), resnet20=(278324, NARROW), resnet32=(472756, NARROW),
                  resnet44=(667188, NARROW), resnet56=(861620, NARROW), resnet110=(1736564, NARROW),
                  resnet8x4=(1233540, WIDE), resnet32x4=(7433860, WIDE))


@pytest.mark.parametrize('name', LITERATURE)
def test_has_the_sizes_of_the_literature(name):
    parameters, shapes = LITERATURE[name]
    model = MODELS.build(NETWORKS[name]).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    in_place_off(model)
    taps = resolve_taps('auto', trace(model, lambda: model(torch.randn(2, 3, 32, 32), mode='tensor')), 'receivers')
    assert [tap.shape for tap in taps] == shapes


@pytest.mark.parametrize('depth', [2, 9, 21])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f'depth={depth} is not 6 n'):
        MODELS.build(dict(type='CIFARResNet', depth=depth))


def test_puts_out_the_stages_asked_for():
    backbone = MODELS.build(dict(type='CIFARResNet', depth=8, in_channels=1, out_indices=(0, 2)))
    assert [tuple(x.shape) for x in backbone(torch.randn(2, 1, 8, 8))] == [(2, 16, 8, 8), (2, 64, 2, 2)]
