"""Maps at a lower resolution."""
import pathlib

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from toys import network

import distpro
from distpro.errors import ArgumentError
from distpro.pathways import ConvAttentionTransform, PathwayGrid, PointwiseTransform
from distpro.tracing import FeatureReader, FeatureTap, Layout
from distpro.tracing.tap import halvings


@pytest.mark.parametrize('map_size, sides, block', [
    (4, (56, 56), 8), (4, (28, 28), 4), (4, (14, 14), 2), (4, (7, 7), 1), (4, (32, 32), 8), (4, (4, 4), 1), (4, (24, 24), 4),
    (4, (13, 16), 1), (4, (8, 32), 2), (8, (32, 32), 4), (8, (56, 56), 4), (1, (8, 8), 8), (1, (1, 1), 1), (4, (3, 3), 1),
    (100, (56, 56), 1), (None, (56, 56), 1), (4, (), 1)])
def test_maps_are_halved_as_often_as_both_sides_remain_whole_and_large_enough(map_size, sides, block):
    assert halvings(sides, map_size) == block
    assert FeatureTap('x', '', shape=(3, *sides)).at(map_size).shape == (3, *(side // block for side in sides))


@pytest.mark.parametrize('layout', [Layout(), Layout('channels_last'), Layout('tokens', (16, 8), 1)])
def test_a_tap_reads_the_means_of_blocks(layout):
    torch.manual_seed(0)
    whole = torch.randn(2, 5, 16, 8, dtype=torch.float64)
    given = layout.write(torch.zeros(2, 129, 5, dtype=torch.float64), whole)
    tap = FeatureTap('x', '', shape=(5, 16, 8), layout=layout).at(4)
    assert tap.shape == (5, 8, 4)
    assert torch.allclose(tap.read((), given), F.avg_pool2d(whole, 2), rtol=1e-12)


@pytest.mark.parametrize('transform', [PointwiseTransform, ConvAttentionTransform])
def test_losses_and_gradients_are_those_of_averaged_maps(transform):
    torch.manual_seed(1)
    student, teacher, images = network(4).double(), network(6).double(), torch.randn(6, 3, 16, 16).double()
    kd = distpro.Distillation(student, teacher, images, transforms=dict(t=transform), connections='all', map_size=4)
    assert [tap.shape for tap in kd.grid.taps('transmitter')] == [(6, 4, 4), (6, 4, 4), (12, 4, 4), (5, )]
    out = kd(images)
    found = torch.autograd.grad(out.loss, [*student.parameters(), *kd.grid.parameters()], allow_unused=True)
    # Read at full size, averaged by torch, and given to a grid of layers of that size.
    taps = {side: [tap.at(None) for tap in kd.grid.taps(side)] for side in ('receiver', 'transmitter')}
    with FeatureReader(student, taps['receiver']) as received, FeatureReader(teacher.eval(), taps['transmitter']) as sent:
        student(images), teacher(images)
    maps = [{name: F.avg_pool2d(x, x.shape[-1] // 4) if x.dim() == 4 else x for name, x in reader.features.items()}
            for reader in (received, sent)]
    assert max(x.shape[-1] for x in received.features.values() if x.dim() == 4) == 16
    grid = PathwayGrid(
        [FeatureTap(tap.name, '', shape=tap.shape) for tap in kd.grid.taps('transmitter')[:-1]],
        [FeatureTap(tap.name, '', shape=tap.shape) for tap in kd.grid.taps('receiver')[:-1]], dict(t=transform), 'all',
        logit_taps=kd.grid.logit_taps, logit_losses=dict(kd.grid.logit_losses.items()),
        from_covariances=False).double()
    grid.load_state_dict(kd.grid.state_dict())
    expected = grid.loss(maps[0], {name: x.detach() for name, x in maps[1].items()})[0]
    torch.testing.assert_close(out.loss, expected, rtol=1e-10, atol=0)
    gradients = torch.autograd.grad(expected, [*student.parameters(), *grid.parameters()], allow_unused=True)
    for one, other in zip(found, gradients):
        if other is None:
            assert one is None or not one.abs().max() > 1e-12
        else:
            torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-7, atol=1e-10)


def test_larger_images_are_averaged_to_the_same_size():
    torch.manual_seed(2)
    kd = distpro.Distillation(network(4), network(6), torch.randn(2, 3, 16, 16), map_size=4)
    shapes = []
    kd.grid.loss, loss = lambda *maps: shapes.append(maps) or loss(*maps), kd.grid.loss
    assert kd(torch.randn(2, 3, 32, 32)).loss.isfinite()
    maps = [x for given in shapes for features in given for x in features.values() if x.dim() == 4]
    assert {tuple(x.shape[2:]) for x in maps} == {(4, 4)}


@pytest.mark.parametrize('wrong', [0, -4, 2.5, '4', True])
def test_a_wrong_size_is_refused(wrong):
    with pytest.raises(ArgumentError, match='map_size'):
        distpro.Distillation(network(), network(), torch.randn(2, 3, 16, 16), map_size=wrong)


class ByPixel(torch.nn.Module):
    """Logits of each pixel."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
        self.body = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU())
        self.head = torch.nn.Conv2d(4, classes, 1)

    def forward(self, x):
        return self.head(self.body(self.stem(x)))


@pytest.mark.parametrize('images, given, size', [
    ('classified', {}, 4), ('classified', dict(map_size=None), 16), ('classified', dict(map_size=8), 8),
    ('by pixel', {}, 16), ('by pixel', dict(map_size=4), 4)])
def test_maps_of_classifiers_alone_are_halved_by_default(images, given, size):
    made = [network, ByPixel][images == 'by pixel']
    if images == 'by pixel':
        given['get_logits'] = lambda output: output.movedim(1, -1).flatten(0, 2)
    kd = distpro.Distillation(made(), made(), torch.randn(2, 3, 16, 16), **given)
    assert kd.grid.taps('receiver')[0].shape[1:] == (size, size)


def test_the_shipped_configs_of_distpro_read_small_maps():
    root = pathlib.Path(__file__).parents[2] / 'configs'
    for name in ('distill', 'search', 'refine', 'equal', 'distill_searched', 'distill_refined'):
        assert Config.fromfile(root / f'distpro/{name}.py').model.distiller.map_size == 4
    for name in ('published_search', 'published_distill'):
        assert 'map_size' not in Config.fromfile(root / f'distpro/{name}.py').model.distiller
