"""Grids of pathways computed from covariances and from maps, with their losses and derivatives."""
import copy

import torch
from torch import nn

from distpro.pathways import LinearTransform, PathwayGrid, PointwiseTransform, covariances
from distpro.tracing import FeatureTap

BOTH = dict(pointwise=PointwiseTransform, linear=LinearTransform)


def grids(receivers, transmitters, transforms=BOTH, change=lambda transform: None, **kwargs):
    """One grid from covariances and one from maps, in float64, with the same parameters."""
    taps = [[FeatureTap(f'{side}{number}', '', shape=shape) for number, shape in enumerate(shapes)]
            for side, shapes in (('t', transmitters), ('s', receivers))]
    grid = PathwayGrid(*taps, transforms, 'all', **kwargs).double()
    for transform in grid.transforms.values():
        change(transform)
        for parameter in transform.parameters():
            nn.init.normal_(parameter)
    plain = copy.deepcopy(grid)
    plain.from_covariances = False
    return grid, plain


def features(shapes, side, batch, dtype=torch.float64):
    """Maps with a different mean and deviation in each channel."""
    return {f'{side}{number}': torch.randn(batch, *shape, dtype=dtype) * (1 + torch.rand(shape[0], 1, 1, dtype=dtype))
            + torch.randn(shape[0], 1, 1, dtype=dtype) for number, shape in enumerate(shapes)}


def all_derivatives(grid, received, transmitted, catch=False):
    """Losses, first derivatives by maps and parameters without and with a graph, second ones, and the buffers afterwards."""
    received = {name: feature.clone().requires_grad_() for name, feature in received.items()}
    losses = grid.pathway_losses(received, transmitted, catch=catch)
    leaves = [*received.values(), *(parameter for index in grid.active
                                    for parameter in grid.transforms[grid.names[index]].parameters())]
    factors = torch.linspace(0.5, 2, len(losses), dtype=losses.dtype)
    alone = torch.autograd.grad((factors * losses).sum(), leaves, retain_graph=True)
    first = torch.autograd.grad((factors * losses).sum(), leaves, create_graph=True)
    random_state = torch.Generator().manual_seed(7)
    directions = [torch.randn(g.shape, generator=random_state, dtype=g.dtype) for g in first]
    second = torch.autograd.grad(sum((g * c).sum() for g, c in zip(first, directions)), leaves, allow_unused=True)
    second = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(second, leaves)]
    return [losses, *alone, *first, *second, *grid.transforms.buffers()]


def error(found, expected):
    """Largest error, relative to the largest value of each tensor."""
    assert len(found) == len(expected)
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item() for a, b in zip(found, expected))


def by_covariances(monkeypatch):
    """A list that grows by one for each pathway that is computed from covariances."""
    seen, add = [], covariances.LinearPathways.add
    monkeypatch.setattr(covariances.LinearPathways, 'add', lambda *args: seen.append(args[1]) or add(*args))
    return seen


FIXED = [((3, 8, 8), (5, 4, 4)), ((4, 16, 16), (6, 8, 8))], [((3, 7, 7), (2, 2, 2)), ((4, 14, 14), (5, 14, 28))]
