"""Features in other layouts, read as maps [B, C, H, W]: the source of each pixel, and the omitted tokens."""
import pytest
import torch
from torch import nn

from distpro.errors import ArgumentError
from distpro.tracing import FeatureReader, Layout, resolve_taps, trace

KEY = 'receivers'


class Tokens(nn.Module):
    """Patches of 4 x 4 pixels as tokens, with extra tokens before and after them, mixed in each block."""

    def __init__(self, before=1, after=0, width=5, blocks=6, pool_after=None):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.before, self.after = nn.Parameter(torch.randn(1, before, width)), nn.Parameter(torch.randn(1, after, width))
        self.place = nn.Parameter(torch.randn(1, 1, width))
        self.drop = nn.Dropout(0.1)
        self.layers = nn.ModuleList(Mixer(width) for _ in range(blocks))
        self.pool_after = pool_after

    def forward(self, x):
        x = self.embed(x)
        size = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        extra = [part.expand(len(x), -1, -1) for part in (self.before, self.after)]
        x = self.drop(torch.cat([extra[0], x, extra[1]], 1) + self.place)
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if place == self.pool_after:
                ahead, count = self.before.size(1), size[0] * size[1]
                grid = x[:, ahead:ahead + count].transpose(1, 2).unflatten(2, size)
                grid = nn.functional.avg_pool2d(grid, 2).flatten(2).transpose(1, 2)
                x = torch.cat([x[:, :ahead], grid, x[:, ahead + count:]], 1)
        return x


class Mixer(nn.Module):
    """Mixes all tokens."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.second(torch.tanh(self.first(self.norm(x).mean(1, keepdim=True) + x)))


class Lasts(nn.Module):
    """Two stages of channels-last maps. The first has as many channels as pixels per side."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, 2)
        self.stages = nn.ModuleList([Mixer(8), Mixer(12)])
        self.between = nn.Conv2d(8, 12, 2, 2)

    def forward(self, x):
        x = self.stages[0](self.embed(x).permute(0, 2, 3, 1))
        return self.stages[1](self.between(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def traced(network, size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    return trace(network, lambda: network(images))


def read(network, taps, images):
    with FeatureReader(network, taps) as reader:
        network(images)
    return reader.features


@pytest.mark.parametrize('before, after', [(0, 0), (1, 0), (2, 0), (0, 1), (1, 4)])
@pytest.mark.parametrize('size', [(16, 16), (8, 20), (20, 12), (4, 4)])
def test_tokens_are_read_as_the_map_of_their_patches(before, after, size):
    network = Tokens(before, after)
    taps = resolve_taps(['layers.1', 'layers.5'], traced(network, size), KEY)
    height, width = size[0] // 4, size[1] // 4
    assert [tap.shape for tap in taps] == [(5, height, width)] * 2
    images = torch.randn(3, 3, *size)
    values = {}
    network.layers[1].register_forward_hook(lambda module, inputs, output: values.update(x=output))
    found = read(network, taps, images)['layers_1']
    for row in range(height):
        for column in range(width):
            token = values['x'][:, before + row * width + column]
            assert torch.equal(found[:, :, row, column], token)


def test_class_tokens_are_known_in_later_stages_too():
    network = Tokens(before=1, after=1, pool_after=2)
    taps = resolve_taps(['layers.2', 'layers.4'], traced(network, (16, 16)), KEY)
    assert [(tap.shape, tap.layout.before, tap.layout.after) for tap in taps] == [((5, 4, 4), 1, 1), ((5, 2, 2), 1, 1)]


def test_a_plain_transformer_is_read_at_even_depths():
    for blocks, places in ((12, (2, 5, 8, 11)), (3, (0, 1, 2)), (5, (1, 2, 3, 4))):
        taps = resolve_taps('auto', traced(Tokens(blocks=blocks), (8, 8)), KEY)
        assert [tap.layer for tap in taps] == [f'layers.{place}' for place in places]
    taps = resolve_taps('auto', traced(Tokens(pool_after=2), (16, 16)), KEY)  # in two stages
    assert [tap.layer for tap in taps] == ['drop', 'layers.2', 'layers.5']


def test_maps_with_the_channels_last_are_turned():
    network = Lasts()
    taps = resolve_taps('auto', traced(network, (16, 16)), KEY)
    assert [(tap.layer, tap.shape) for tap in taps] == [
        ('embed', (8, 8, 8)), ('stages.0', (8, 8, 8)), ('stages.1', (12, 4, 4))]
    images = torch.randn(2, 3, 16, 16)
    values = {}
    network.stages[0].register_forward_hook(lambda module, inputs, output: values.update(x=output))
    found = read(network, taps, images)
    assert torch.equal(found['stages_0'], values['x'].permute(0, 3, 1, 2))


def test_a_map_as_wide_as_it_has_channels_is_not_taken_for_one_with_the_channels_last():
    block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), block)
    tap = resolve_taps(['1'], traced(network, (16, 16)), KEY)[0]
    assert tap.layout == Layout() and tap.shape == (16, 16, 16)


class Says(nn.Module):

    def __init__(self, value):
        super().__init__()
        self.conv, self.value = nn.Conv2d(3, 4, 2, 2), value

    def forward(self, x):
        return self.value(self.conv(x))


@pytest.mark.parametrize('value, element', [
    (lambda x: (x.flatten(2).transpose(1, 2), (4, 4)), 0), (lambda x: (None, x), 1), (lambda x: dict(size=4, x=x), 'x'),
    (lambda x: [x.mean(), x], 1)])
def test_the_one_map_among_several_values_needs_no_naming(value, element):
    network = nn.Sequential(Says(value))
    tap = resolve_taps(['0'], traced(network, (8, 8)), KEY)[0]
    assert (tap.element, tap.shape) == (element, (4, 4, 4))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(read(network, [tap], images)['0'], network[0].conv(images))


def test_gradients_reach_the_tokens_that_are_read_and_no_other():
    network = Tokens(before=2)
    tap = resolve_taps(['drop'], traced(network, (8, 8)), KEY)[0]
    read(network, [tap], torch.randn(2, 3, 8, 8))['drop'].square().sum().backward()
    assert network.embed.weight.grad.abs().sum() > 0 and network.before.grad is None or not network.before.grad.any()


def test_images_of_another_size_than_probed_fill_a_grid_of_the_same_proportions():
    network = Tokens(before=1)
    tap = resolve_taps(['drop'], traced(network, (8, 16)), KEY)[0]
    images = torch.randn(2, 3, 16, 32)
    assert read(network, [tap], images)['drop'].shape == (2, 5, 4, 8)
    with pytest.raises(ArgumentError, match='30 tokens of an image do not fit a grid with the aspect ratio 2 x 4'):
        read(network, [tap], torch.randn(2, 3, 20, 24))


@pytest.mark.parametrize('shape', [(2, 7, 5), (2, 3), (2, 3, 4, 4, 4)])
def test_what_fills_no_grid_is_refused(shape):
    network = nn.Sequential(Says(lambda x: x.new_zeros(shape)))
    with pytest.raises(ArgumentError, match=r"layer '0' returns .*, which is not a map: neither \[B, C, H, W\]"):
        resolve_taps(['0'], traced(network, (8, 8)), KEY)
