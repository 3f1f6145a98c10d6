"""Optimisers and students that the hypergradient refuses, or differentiates in another way."""

import pytest
import torch
from one_step_problem import OPTIMIZERS, Problem, Student, error, sgd
from torch import nn

from distpro.searching import Hypergradient
from distpro.searching.optimizer_step import StepSnapshot, transposed


def test_a_skipped_step_gives_none():
    problem = Problem(OPTIMIZERS['sgd'][0])
    hypergradient = Hypergradient(problem.student, problem.optimizer)
    hypergradient.watch()
    assert hypergradient.after_step(problem.held_out_loss, problem.features, problem.sensitivities()) is None


class NoForwardMode(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Doubled(nn.Module):

    def forward(self, x):
        return NoForwardMode.apply(x)


def test_falls_back_to_differences_where_forward_mode_is_missing():
    problem = Problem(OPTIMIZERS['sgd'][0], 11)
    problem.student.bn1 = nn.Sequential(problem.student.bn1, Doubled())
    truth = problem.through_the_whole_update(sgd)
    hypergradient = Hypergradient(problem.student, problem.optimizer, 'auto', radius=1e-3)
    hypergradient.watch()
    sensitivities = problem.sensitivities()
    problem.step()
    measured = hypergradient.after_step(problem.held_out_loss, problem.features, sensitivities)
    assert hypergradient.fallback_reason and hypergradient.passes['plain_forward'] == 2
    assert error(measured, truth) < 1e-3
    with pytest.raises(RuntimeError):
        problem.measured('jvp')


def test_an_optimiser_that_cannot_be_differentiated_is_refused():
    student = Student()
    with pytest.raises(ValueError, match="^optimizer='LBFGS'"):
        Hypergradient(student, torch.optim.LBFGS(student.parameters()))


class Renamed(torch.optim.AdamW):
    """An optimiser with other defaults and an inherited step."""

    def __init__(self, params):
        super().__init__(params, lr=0.01)


class Regrouped(torch.optim.SGD):

    def _init_group(self, group, params, grads, momentum_buffer_list):
        return super()._init_group(group, params, grads, momentum_buffer_list)


class Sharpness(torch.optim.Optimizer):
    """Copies the defaults of another optimiser, as the common release of SAM does."""

    def __init__(self, params):
        super().__init__(params, torch.optim.SGD(params, 0.1).defaults)

    def step(self, closure=None):
        pass


def test_a_subclass_counts_as_what_it_inherits_the_step_of():
    student = Student()
    for kind in (Regrouped, Sharpness):
        with pytest.raises(ValueError, match=f"^optimizer='{kind.__name__}' has a step of its own"):
            Hypergradient(student, kind([*student.parameters()]) if kind is Sharpness else kind(student.parameters(), 0.1))
    for optimizer in (Renamed(student.parameters()), torch.optim.AdamW(student.parameters())):
        Hypergradient(student, optimizer)


DEAD = {
    'adam': lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.1), 'adamw': lambda p: torch.optim.AdamW(
        p, 0.1, weight_decay=0, amsgrad=True),
    'nadam': lambda p: torch.optim.NAdam(p, 0.1),
    'rmsprop': lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9), 'adagrad': lambda p: torch.optim.Adagrad(p, 0.1)}


@pytest.mark.parametrize('name', DEAD)
@pytest.mark.parametrize('steps', [0, 2])
def test_an_element_without_a_gradient_passes_the_derivative_on_and_any_other_nan_stays(name, steps):
    parameter = nn.Parameter(torch.tensor([0., 1.], dtype=torch.float64))
    optimizer = DEAD[name]([parameter])
    for _ in range(steps):
        parameter.grad = torch.tensor([0., 1.5], dtype=torch.float64)
        optimizer.step()
    parameter.grad = torch.tensor([0., 0.5], dtype=torch.float64)
    before = StepSnapshot(optimizer, [parameter])
    a = torch.tensor([3., 2.], dtype=torch.float64)
    found = transposed(optimizer, before, [a])
    assert found.parameters[0][0] == 3 and found.gradients[0][0] == 0
    assert all(value.isfinite().all() for value in (*found.gradients, *found.parameters, *found.states[0].values()))
    for spoiled in (torch.tensor([3., float('nan')]), torch.tensor([float('nan'), 2.])):
        found = transposed(optimizer, before, [spoiled.double()])
        assert torch.equal(found.gradients[0].isnan() | found.parameters[0].isnan(), spoiled.isnan())


def test_bad_arguments_name_their_key():
    student = Student()
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    with pytest.raises(ValueError, match="^method='hvp'"):
        Hypergradient(student, optimizer, 'hvp')
    with pytest.raises(ValueError, match='^radius=0'):
        Hypergradient(student, optimizer, radius=0)
    with pytest.raises(ValueError, match='no trainable parameter'):
        Hypergradient(Student(), optimizer)
