"""Trainings and searches with pathways from covariances, against pathways from maps."""
import copy

import pytest
import torch
import torch.nn.functional as functional
from test_distillation import MANUAL
from test_plain_search import search
from toys import network

import distpro
from distpro.pathways import LinearTransform, PointwiseTransform, covariances

BOTH = dict(pointwise=PointwiseTransform, linear=LinearTransform)


@pytest.fixture
def computed(monkeypatch):
    """A list that grows with each pathway that is computed from covariances."""
    seen, add = [], covariances.LinearPathways.add
    monkeypatch.setattr(covariances.LinearPathways, 'add', lambda *args: seen.append(0) or add(*args))
    return seen


def trained(data, teacher, dtype, **kwargs):
    """The student and the distillation after three epochs."""
    torch.manual_seed(0)
    student = network().to(dtype)
    images = next(iter(data[1]))[0].to(dtype)
    kd = distpro.Distillation(student, copy.deepcopy(teacher).to(dtype), images[:2], process=MANUAL, transforms=BOTH,
                              **kwargs)
    optimizer = torch.optim.SGD([*student.parameters(), *kd.parameters()], 0.05, 0.9, weight_decay=1e-3)
    for epoch in range(3):
        for images, labels in data[1]:
            out = kd(images.to(dtype), progress=epoch / 2)
            loss = functional.cross_entropy(out.logits, labels) + out.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student, kd


def distance(one, other):
    """Largest difference of two states, relative to the largest entry of each tensor."""
    pairs = [(value.double(), other[name].double()) for name, value in one.items()]
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item() for a, b in pairs)


@pytest.mark.parametrize('dtype, bound', [(torch.float64, 1e-9), (torch.float32, 1e-2)])
def test_a_training_ends_with_the_same_student_and_transforms(data, teacher, computed, dtype, bound):
    student, kd = trained(data, teacher, dtype)
    assert len(computed) > 12
    computed.clear()
    other, plain = trained(data, teacher, dtype, from_covariances=False)
    assert not computed and list(kd.state_dict()) == list(plain.state_dict())
    assert distance(student.state_dict(), other.state_dict()) < bound
    assert distance(kd.state_dict(), plain.state_dict()) < bound


def test_the_default_search_differentiates_them(data, teacher, computed, monkeypatch):
    """All derivatives of a round by the weights at each of its steps, in float64."""
    double = [[(images.double(), labels) for images, labels in loader] for loader in data]
    found, derivatives = [], distpro.searching.Round.derivatives
    monkeypatch.setattr(distpro.searching.Round, 'derivatives',
                        lambda current: found.append(derivatives(current)) or found[-1])
    student, losses = network().double(), []
    for from_covariances in (True, False):
        process = search(double, copy.deepcopy(teacher).double(), student, from_covariances=from_covariances,
                         references=['student'], max_divisions=0, epochs=1, min_iterations=4,
                         weighting=distpro.Weighting('exponential', kd_weight=0.01))
        losses.append([trial['loss'] for trial in process.origin['trials']])
        assert bool(computed) == from_covariances
        computed.clear()
    count = len(found) // 2
    assert count and len(found) == 2 * count and found[0].abs().max() > 0
    for one, other in zip(found[:count], found[count:]):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
