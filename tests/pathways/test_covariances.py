"""Pathways from covariances: losses, derivatives and running statistics against those from maps, in float64."""
import copy
import random

import pytest
import torch
from both_ways import FIXED, all_derivatives, by_covariances, error, features, grids
from torch import nn

from distpro.pathways import HCLLoss, PointwiseTransform, affine, covariances, map_statistics, quadratic_form
from distpro.weighting import Weighting


def draw(seed):
    """Sizes and channels of receivers and transmitters, batch size and levels."""
    choose = random.Random(seed)
    sides = [(choose.choice([1, 2, 3, 4, 5, 7, 8]), choose.choice([1, 2, 4, 6, 7])) for _ in range(2)]
    # A batch norm removes the scale of a single channel: except for eps, its gradient is 0, and only rounding is left.
    receivers = [(choose.randint(2, 6), *size) for size in sides]
    factors = [(choose.choice([1, 2, 3, 4]), choose.choice([1, 2, 3])) for _ in range(3)]
    transmitters = [(choose.randint(1, 7), sides[number % 2][0] * a, sides[number % 2][1] * b)
                    for number, (a, b) in enumerate(factors)]
    levels = choose.choice([(4, 2, 1), (4, 2, 1), (), (1, ), (5, 3), (8, 3, 1), (2, 6)])
    return receivers, transmitters, choose.choice([2, 3, 7]), levels, choose.choice(['loss', 'variance'])


@pytest.mark.parametrize('seed', range(40))
def test_losses_derivatives_and_running_statistics_are_those_of_the_maps(seed, monkeypatch):
    torch.manual_seed(seed)
    receivers, transmitters, batch, levels, unit = draw(seed)
    both = grids(receivers, transmitters, distance=HCLLoss(levels, loss_weight=1.5),
                 weighting=Weighting('exponential', unit=unit))
    received, transmitted = features(receivers, 's', batch), features(transmitters, 't', batch)
    seen = by_covariances(monkeypatch)
    found, expected = (all_derivatives(grid, received, transmitted) for grid in both)
    assert len(seen) >= 2 * 3  # at least the transmitters made for a receiver, with two transforms
    assert error(found, expected) < 1e-10


def worst_error():
    torch.manual_seed(0)
    worst = 0.0
    for receivers, transmitters in FIXED:
        both = grids(receivers, transmitters)
        received, transmitted = features(receivers, 's', 3), features(transmitters, 't', 3)
        worst = max(worst, error(*(all_derivatives(grid, received, transmitted) for grid in both)))
    return worst


def half_products(feature, given, right=map_statistics.gradient_of_map):
    return right(feature, given._replace(covariance=given.covariance / 2))


def uncentred(feature, given, right=map_statistics.gradient_of_map):
    return right(feature, given._replace(centre=0 * given.centre))


def constant_mean(*args, right=map_statistics.measure_with_graph):
    found = right(*args)
    shift = found.mean - found.centre
    return found._replace(covariance=found.covariance + torch.outer(shift, shift))


def constant_statistics(transforms, tensors, mean, covariance, right=affine.stacked_affine):
    return right(transforms, tensors, mean, covariance.detach())


def unbiased_output(transforms, tensors, mean, covariance, right=affine.stacked_affine):
    return right(transforms, tensors, mean, covariance * 1.01)


def biased_running(transforms, tensors, joined, mean, count, right=affine.update_running):
    right(transforms, tensors, joined, mean, 10 * count)


def without_statistics(*args, right=affine.gradient_of_affine):
    return right(*args)._replace(covariance=None)


def without_weight(joined, tensors, mean, covariance, by_matrix, by_mean, right=affine.gradient_of_affine):
    return right(joined, tensors, mean, 0 * covariance, by_matrix, by_mean)


def without_levels(*args, right=quadratic_form.gradient_of_form):
    tensors, found = right(*args)
    return tensors, found._replace(averages={pooling: 0 * value for pooling, value in found.averages.items()})


def constant_averages(*args, right=quadratic_form.gradient_of_form):
    tensors, found = right(*args)
    return tensors, found._replace(mean=0 * found.mean)


def first_teacher_alone(*args, right=quadratic_form.gradient_of_form):
    tensors, found = right(*args)
    return tensors, found._replace(cross=dict([next(iter(found.cross.items()))]))


def full_weight(distance, height, width, right=HCLLoss.levels_of):
    levels = right(distance, height, width)
    return [(size, 2 * weight if size != (height, width) else weight) for size, weight in levels]


FAULTS = {
    'gradient of the covariance': (map_statistics, 'gradient_of_map', half_products),
    'gradient of maps that are not centred': (map_statistics, 'gradient_of_map', uncentred),
    'constant mean in the covariance': (covariances, 'measure_with_graph', constant_mean),
    'constant batch statistics': (quadratic_form, 'stacked_affine', constant_statistics),
    'another variance in the output': (quadratic_form, 'stacked_affine', unbiased_output),
    'biased running variance': (covariances, 'update_running', biased_running),
    'bins of one size': (map_statistics.Pooling, 'uneven', property(lambda pooling: False)),
    'every bin of entire pixels': (map_statistics.Pooling, 'aligned', property(lambda pooling: True)),
    'levels of twice the weight': (HCLLoss, 'levels_of', full_weight),
}
IN_THE_FIRST_GRADIENT = {
    'gradient of the covariance': (covariances, 'gradient_of_map', half_products),
    'gradient of maps that are not centred': (covariances, 'gradient_of_map', uncentred),
    'constant batch statistics': (quadratic_form, 'gradient_of_affine', without_statistics),
    'gradient of the weights without the variance': (quadratic_form, 'gradient_of_affine', without_weight),
    'gradient without the levels': (covariances, 'gradient_of_form', without_levels),
    'averages less a constant': (covariances, 'gradient_of_form', constant_averages),
    'products with one teacher alone': (covariances, 'gradient_of_form', first_teacher_alone),
}


@pytest.mark.parametrize('fault', [*FAULTS.values(), *IN_THE_FIRST_GRADIENT.values()],
                         ids=[*FAULTS, *(f'{name}, by hand' for name in IN_THE_FIRST_GRADIENT)])
def test_a_planted_fault_is_seen(fault, monkeypatch):
    assert worst_error() < 1e-10
    monkeypatch.setattr(*fault)
    assert worst_error() > 1e-4


NORMS = dict(
    running=lambda norm: norm.eval(), average=lambda norm: setattr(norm, 'momentum', None),
    fixed_scale=lambda norm: [norm.register_parameter(name, None) for name in ('weight', 'bias')],
    without_running=lambda norm: [setattr(norm, name, None) for name in ('running_mean', 'running_var')] and setattr(
        norm, 'track_running_stats', False),
    own_eps=lambda norm: setattr(norm, 'eps', 0.5))


@pytest.mark.parametrize('name', NORMS)
def test_every_setting_of_the_batch_norm_is_followed(name, monkeypatch):
    torch.manual_seed(3)

    def change(transform):
        for norm in transform.modules():
            if isinstance(norm, nn.BatchNorm2d):
                NORMS[name](norm)
                if norm.running_var is not None:
                    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)

    receivers, transmitters = FIXED[0]
    both = grids(receivers, transmitters, change=change)
    received, transmitted = features(receivers, 's', 5), features(transmitters, 't', 5)
    seen = by_covariances(monkeypatch)
    for _ in range(3):  # the running statistics are those of several steps
        assert error(*(all_derivatives(grid, received, transmitted) for grid in both)) < 1e-10
    assert len(seen) == 3 * 8
    with torch.no_grad():
        assert error(*([grid.pathway_losses(received, transmitted), *grid.buffers()] for grid in both)) < 1e-10
    for grid in both:
        grid.eval()
    assert error(*(all_derivatives(grid, received, transmitted) for grid in both)) < 1e-10


@pytest.mark.parametrize('scale', [1.0, 0.1, 0.01, 0.001])
def test_gradients_in_single_precision_are_as_exact_as_sums_over_pixels_can_be(scale):
    """Also where the student is close to the teacher, so that the gradient is a small difference.

    The rounding errors of a sum of M products grow as sqrt(M), and the gradient is smaller than the products by the scale.
    The order in which a library sums matters too: on some processors the errors are six times those of maps.
    """
    torch.manual_seed(5)
    receivers, transmitters = [(8, 8, 8)], [(12, 16, 16)]
    both = grids(receivers, transmitters, dict(pointwise=PointwiseTransform),
                 weighting=Weighting('exponential', unit='loss'))
    received = {name: feature + 5 for name, feature in features(receivers, 's', 16).items()}  # so that centring matters
    with torch.no_grad():
        close = copy.deepcopy(both[0].transforms['t0>s0:pointwise'])(received['s0'], size=(16, 16))
    transmitted = dict(t0=close + scale * torch.randn_like(close))

    def gradients(grid, dtype):
        grid = copy.deepcopy(grid).to(dtype)
        given = {name: feature.to(dtype).requires_grad_() for name, feature in received.items()}
        loss = grid.pathway_losses(given, dict(t0=transmitted['t0'].to(dtype))).sum()
        return torch.autograd.grad(loss, [*given.values(), *grid.transforms.parameters()])

    exact, pixels = gradients(both[1], torch.float64), 16 * 8 * 8
    errors = [(torch.linalg.vector_norm(g - e) / torch.linalg.vector_norm(e)).item()
              for g, e in zip(gradients(both[0], torch.float32), exact)]
    assert max(errors) < 6 * torch.finfo(torch.float32).eps * pixels**0.5 / scale, errors
