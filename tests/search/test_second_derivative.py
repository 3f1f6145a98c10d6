"""Second derivatives of losses where two maps are equal or all zero, and elsewhere against torch's own."""
import inspect

import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn

from distpro.searching import Trajectory, twice_differentiable

MAPS, LOGITS = (6, 4, 4, 4), (6, 5)
LOSSES = {
    'hcl': (MAPS, dict(type='HCLLoss')), 'at': (MAPS, dict(type='ATLoss')), 'sp': (MAPS, dict(type='SPLoss')),
    'cc': (MAPS, dict(type='CCLoss')), 'ft': (MAPS, dict(type='FTLoss')), 'pkd': (MAPS, dict(type='PKDLoss')),
    'l2': (MAPS, dict(type='L2Loss', normalize=False, dist=True)), 'cwd': (MAPS, dict(type='ChannelWiseDivergence')),
    'rkd_distance': (MAPS, dict(type='DistanceWiseRKD')), 'rkd_angle': (MAPS, dict(type='AngleWiseRKD')),
    'kl': (LOGITS, dict(type='KLDivergence')), 'lskd': (LOGITS, dict(type='StandardizedKLDivergence')),
    'dist': (LOGITS, dict(type='DISTLoss')), 'dkd': (LOGITS, dict(type='DecoupledKDLoss')),
    'mlkd': (LOGITS, dict(type='MultiLevelLogitLoss')), 'wsld': (LOGITS, dict(type='WSLDLoss')),
}


def loss_of(name):
    shape, cfg = LOSSES[name]
    return shape, MODELS.build(dict(cfg, _scope_='mmrazor'))


def differentiated(loss, student, teacher, context=twice_differentiable):
    """The loss, its gradient and the second derivative along a direction."""
    student = student.clone().requires_grad_()
    labels = dict(gt_labels=torch.arange(6) % 5) if 'gt_labels' in inspect.signature(loss.forward).parameters else {}
    with context():
        value = loss(student, teacher, **labels).sum()
    gradient, = torch.autograd.grad(value, student, create_graph=True)
    direction = torch.randn(student.shape, generator=torch.Generator().manual_seed(1), dtype=student.dtype)
    return value, gradient, torch.autograd.grad((gradient * direction).sum(), student)[0]


@pytest.mark.parametrize('name', LOSSES)
def test_is_finite_where_maps_are_equal_or_zero(name):
    shape, loss = loss_of(name)
    student, teacher = torch.randn(shape), torch.randn(shape)
    dead_image, dead_channel = student.clone(), student.clone()
    dead_image[0], dead_channel[:, 0] = 0, 0
    for one, other in ((teacher, teacher), (torch.zeros(shape), teacher), (torch.zeros(shape), torch.zeros(shape)),
                       (dead_image, teacher), (dead_image, dead_image), (dead_channel, teacher)):
        assert all(found.isfinite().all() for found in differentiated(loss, one, other))


@pytest.mark.parametrize('name', [name for name in LOSSES if name != 'rkd_angle'])  # torch's own is NaN
def test_is_torchs_own_everywhere_else(name):
    shape, loss = loss_of(name)
    student, teacher = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    for found, expected in zip(differentiated(loss, student, teacher),
                               differentiated(loss, student, teacher, torch.enable_grad)):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('function', [
    lambda x: x.norm(), lambda x: torch.linalg.vector_norm(x, dim=0), lambda x: torch.norm(x, 2, 0, True).sum(),
    lambda x: x.square().sum().sqrt(), lambda x: x.std(0, unbiased=False), torch.std, lambda x: x.norm(p=1),
    lambda x: nn.functional.normalize(x, dim=0).sum()])
def test_both_derivatives_at_zero_are_zero(function):
    x = torch.zeros(3, requires_grad=True)
    with twice_differentiable():
        value = function(x)
    gradient, = torch.autograd.grad(value, x, create_graph=True)
    assert value.item() == 0 and not gradient.any()
    if gradient.requires_grad:
        second, = torch.autograd.grad(gradient.sum(), x, allow_unused=True)
        assert second is None or not second.any()


def test_a_sweep_goes_through_a_map_of_zeros():
    """A dead unit: its norm is differentiated twice at 0."""
    layer = nn.Linear(3, 4).double()
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    trajectory = Trajectory(dict(layer.named_parameters()), optimizer)
    batch, weights = torch.randn(5, 3).double(), torch.ones(1).double()

    def training_loss(parameters, weights, batch):
        out = torch.func.functional_call(layer, parameters, (batch, ))
        return weights[0] * nn.functional.normalize(out).sum() + out[:, 0].sum()

    trajectory.store(batch, weights)
    training_loss(dict(layer.named_parameters()), weights, batch).backward()
    for parameter in layer.parameters():
        parameter.grad = torch.nan_to_num(parameter.grad).clamp(-1, 1)
    optimizer.step()
    trajectory.start([layer(batch).square().sum()])
    assert trajectory.sweep(training_loss).isfinite().all() and all(a.isfinite().all() for a in trajectory.a)
