"""A distance for each transform: by its label, all of them at once, and what is refused."""
import copy

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn
from toys import network

import distpro
from distpro.errors import ArgumentError
from distpro.pathways import FormLoss, HCLLoss, LinearTransform, PathwayGrid, covariances
from distpro.tracing import FeatureTap

SHAPE, IMAGES = (3, 4, 4), 5


def grid_of(labels, **kwargs):
    tap = FeatureTap('layer', '', shape=SHAPE, layer='layer')
    return PathwayGrid([tap], [tap], dict.fromkeys(labels, LinearTransform), **kwargs).double()


def maps():
    return [dict(layer=torch.randn(IMAGES, *SHAPE, dtype=torch.float64)) for _ in 'st']


def by_hand(grid, label, received, transmitted):
    """The student's map after the transform, and the teacher's, in numpy."""
    conv = next(module for module in grid.transforms[f'layer>layer:{label}'].modules() if isinstance(module, nn.Conv2d))
    weight, bias = (x.detach().numpy() for x in (conv.weight[:, :, 0, 0], conv.bias))
    student = np.einsum('ic,bchw->bihw', weight, received['layer'].detach().numpy()) + bias[:, None, None]
    return student, transmitted['layer'].numpy()


def hcl(student, teacher, *sides):
    difference = student - teacher
    terms = [difference] + [difference.reshape(IMAGES, 3, side, 4 // side, side, 4 // side).mean((3, 5)) for side in sides]
    weights = 0.5**np.arange(len(terms))
    return sum(weight * (term**2).mean() for weight, term in zip(weights, terms)) / weights.sum()


def correlation_of_softmaxes(student, teacher):
    rows = [softmax(x, 1).reshape(IMAGES, -1) for x in (student, teacher)]
    return 1 - np.mean([np.corrcoef(s, t)[0, 1] for s, t in zip(*rows)])


@pytest.mark.parametrize('from_covariances', [True, False])
def test_each_transform_has_the_distance_of_its_label(from_covariances):
    torch.manual_seed(0)
    grid = grid_of(['plain', 'two', 'form', 'function'], from_covariances=from_covariances, distance=dict(
        two=HCLLoss((2, ), loss_weight=3.0), form=FormLoss(['softmax_channels'], 'pearson', 0.5),
        function=nn.functional.l1_loss))
    grid.unit = 'loss'
    received, transmitted = maps()
    received['layer'].requires_grad_()
    found = grid.pathway_losses(received, transmitted)
    sides = [by_hand(grid, label, received, transmitted) for label in ('plain', 'two', 'form', 'function')]
    expected = [hcl(*sides[0], 2, 1), 3 * hcl(*sides[1], 2), 0.5 * correlation_of_softmaxes(*sides[2]),
                np.abs(sides[3][0] - sides[3][1]).mean()]
    torch.testing.assert_close(found.detach(), torch.tensor(expected), rtol=1e-10, atol=0)
    # The gradient of each by a difference in a random direction.
    for index in range(4):
        gradient, = torch.autograd.grad(found[index], received['layer'], retain_graph=True)
        direction = torch.randn_like(gradient)
        with torch.no_grad():
            up, down = (grid.pathway_losses(dict(layer=received['layer'] + step * direction), transmitted)[index]
                        for step in (1e-6, -1e-6))
        torch.testing.assert_close((gradient * direction).sum(), (up - down) / 2e-6, rtol=1e-6, atol=1e-9)


def test_transforms_of_one_distance_share_the_covariances_of_a_layer(monkeypatch):
    made, measure = [], covariances.measure
    monkeypatch.setattr(covariances, 'measure', lambda *args: made.append(args) or measure(*args))
    for distance, count in ((None, 1), (HCLLoss((2, )), 1), (dict(c=nn.MSELoss()), 1), (dict(b=HCLLoss((2, ))), 2)):
        made.clear()
        grid_of('abc', distance=distance).pathway_losses(*maps())
        assert len(made) == count, distance


def test_a_distance_with_parameters_is_trained_once_for_all_transforms_that_have_it():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, student, teacher):
            return nn.functional.mse_loss(self.scale * student, teacher)

    shared = grid_of('ab', distance=Scaled())
    assert sum(p.dim() == 0 for p in shared.parameters()) == 1
    by_label = grid_of('ab', distance=dict(a=Scaled(), b=Scaled()))
    assert sum(p.dim() == 0 for p in by_label.parameters()) == 2
    twin = copy.deepcopy(by_label)
    by_label.distances['b'].scale.data.fill_(2)
    twin.load_state_dict(by_label.state_dict())
    assert [float(twin.distances[label].scale.detach()) for label in 'ab'] == [1, 2]


@pytest.mark.parametrize('distance, message', [
    (dict(pointwis=nn.MSELoss()), "distance: 'pointwis' is not the label of a transform, pointwise (nearest: pointwise)"),
    (dict(pointwise=nn.MSELoss), 'distance: pointwise=the class MSELoss must be an nn.Module, such as MSELoss(), or a func'),
    (dict(pointwise=nn.MSELoss(reduction='none')), 'distance (MSELoss) gives a Tensor of shape'),
    (dict(pointwise=dict(type='HCLLoss')), "distance: pointwise={'type': 'HCLLoss'} must be an nn.Module"),
])
def test_a_wrong_distance_of_a_label_is_refused(distance, message):
    with pytest.raises(ArgumentError) as error:
        distpro.Distillation(network(4), network(8), torch.randn(2, 3, 16, 16), distance=distance)
    assert message in str(error.value)
