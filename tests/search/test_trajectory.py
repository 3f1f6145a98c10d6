"""dJ/dw of every step of a run against autograd through the complete run, in float64."""
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distpro.errors import ArgumentError
from distpro.random_state import without_side_effects
from distpro.searching import Trajectory

STEPS, LR, WEIGHT_DECAY = 4, 0.2, 0.02
SGD = {
    'plain': dict(),
    'momentum': dict(momentum=0.8),
    'nesterov': dict(momentum=0.8, nesterov=True),
    'dampened': dict(momentum=0.8, dampening=0.3),
    'maximize': dict(momentum=0.8, maximize=True),
}


class Student(nn.Module):

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        feature = self.bn(self.conv(x))
        return feature, self.fc(self.dropout(torch.tanh(feature).mean((2, 3))))


class Problem:
    """A student and a transform, two pathways, a batch and weights for each of several steps, and a held-out batch."""

    def __init__(self, make_optimizer, seed=0, before=0):
        torch.manual_seed(seed)
        self.model = nn.ModuleDict(dict(student=Student(), transform=nn.Conv2d(4, 5, 1))).double()
        self.optimizer = make_optimizer(self.model.parameters())
        self.batches = [(torch.randn(6, 3, 5, 5).double(), torch.randint(3, (6, )), torch.randn(6, 5, 3, 3).double(),
                         torch.randn(6, 3).double(), seed) for seed in range(STEPS + before)]
        self.held_out = torch.randn(6, 3, 5, 5).double(), torch.randint(3, (6, ))
        self.weights = torch.rand(STEPS + before, 2).double() + 0.5
        for index in range(before):
            self.step(index)
        self.first = before

    def call(self, parameters, x):
        feature, logits = torch.func.functional_call(self.model['student'], _part(parameters, 'student.'), (x, ))
        return feature, logits

    def training_loss(self, parameters, weights, batch):
        x, y, target, logits_of_teacher, seed = batch
        torch.manual_seed(seed)
        feature, logits = self.call(parameters, x)
        transformed = torch.func.functional_call(self.model['transform'], _part(parameters, 'transform.'), (feature, ))
        losses = torch.stack([F.mse_loss(transformed, target), F.mse_loss(logits, logits_of_teacher)])
        return F.cross_entropy(logits, y) + (weights * losses).sum()

    def held_out_loss(self, parameters):
        torch.manual_seed(99)
        return F.cross_entropy(self.call(parameters, self.held_out[0])[1], self.held_out[1])

    def step(self, index):
        self.optimizer.zero_grad()
        self.training_loss(dict(self.model.named_parameters()), self.weights[index], self.batches[index]).backward()
        self.optimizer.step()

    def measured(self, parts=1, bound=math.inf):
        """dJ/dw [STEPS, 2], with all steps stored or with recomputed parts; self.lengths: of dJ/dtheta after each part."""
        trajectory = Trajectory(dict(self.model.named_parameters()), self.optimizer)
        states = {}
        length = STEPS // parts
        for index in range(self.first, self.first + STEPS):
            if (index - self.first) % length == 0:
                trajectory.steps.clear()
                states[index] = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()))
            trajectory.store(self.batches[index], self.weights[index])
            self.step(index)
        with without_side_effects(self.model):
            self.loss = trajectory.start([self.held_out_loss(dict(self.model.named_parameters()))])
            found, self.lengths = [trajectory.sweep(self.training_loss, bound)], [trajectory.length()]
            for begin in sorted(states)[-2::-1]:
                self.model.load_state_dict(states[begin][0])
                self.optimizer.load_state_dict(states[begin][1])
                for index in range(begin, begin + length):
                    trajectory.store(self.batches[index], self.weights[index])
                    self.step(index)
                found.insert(0, trajectory.sweep(self.training_loss, bound))
                self.lengths.append(trajectory.length())
        trajectory.close()
        return torch.cat(found)


def _part(parameters, prefix):
    return {name[len(prefix):]: p for name, p in parameters.items() if name.startswith(prefix)}


def through_sgd(problem, momentum=0.0, nesterov=False, dampening=0.0, maximize=False):
    """Autograd through the formulas of SGD as torch documents them."""
    weights = problem.weights.clone().requires_grad_()
    parameters = {name: p.detach().clone().requires_grad_() for name, p in problem.model.named_parameters()}
    buffers = {name: problem.optimizer.state.get(p, {}).get('momentum_buffer')
               for name, p in problem.model.named_parameters()}
    for index in range(problem.first, problem.first + STEPS):
        loss = problem.training_loss(parameters, weights[index], problem.batches[index])
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        stepped = {}
        for (name, p), g in zip(parameters.items(), gradients):
            g = (-g if maximize else g) + WEIGHT_DECAY * p
            if momentum:
                old = buffers[name]
                buffers[name] = g if old is None else momentum * old + (1 - dampening) * g
                g = g + momentum * buffers[name] if nesterov else buffers[name]
            stepped[name] = p - LR * g
        parameters = stepped
    return torch.autograd.grad(problem.held_out_loss(parameters), weights)[0][problem.first:]


def sgd(**options):
    return lambda parameters: torch.optim.SGD(parameters, lr=LR, weight_decay=WEIGHT_DECAY, **options)


@pytest.mark.parametrize('before', [0, 3])
@pytest.mark.parametrize('name', SGD)
def test_equals_autograd_through_the_whole_run(name, before):
    problem = Problem(sgd(**SGD[name]), before=before)
    with without_side_effects(problem.model):
        expected = through_sgd(problem, **SGD[name])
    measured = problem.measured()
    assert measured.shape == (STEPS, 2) and measured.abs().max() > 1e-4
    torch.testing.assert_close(measured, expected, rtol=1e-9, atol=1e-12)


def test_the_comparison_detects_a_similar_formula():
    problem = Problem(sgd(**SGD['momentum']))
    with without_side_effects(problem.model):
        wrong = through_sgd(problem, **SGD['nesterov'])
    assert (problem.measured() - wrong).abs().max() > 1e-3 * wrong.abs().max()


ADAPTIVE = {
    'adam': lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.02, betas=(0.8, 0.9), eps=1e-4),
    'adamw': lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-4, amsgrad=True),
    'rmsprop': lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, momentum=0.5, eps=1e-3),
}


@pytest.mark.parametrize('before', [0, 3])
@pytest.mark.parametrize('name', ADAPTIVE)
def test_adaptive_optimisers_equal_differences_of_whole_runs(name, before):
    measured = Problem(ADAPTIVE[name], before=before).measured()

    def end(step, pathway, change):
        problem = Problem(ADAPTIVE[name], before=before)
        problem.weights[before + step, pathway] += change
        for index in range(before, before + STEPS):
            problem.step(index)
        return problem.held_out_loss(dict(problem.model.named_parameters())).item()

    for step in range(STEPS):
        for pathway in range(2):
            expected = (end(step, pathway, 1e-5) - end(step, pathway, -1e-5)) / 2e-5
            assert measured[step, pathway].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize('make', [sgd(**SGD['nesterov']), ADAPTIVE['adamw']])
def test_a_run_in_parts_is_the_run(make):
    torch.testing.assert_close(Problem(make).measured(parts=2), Problem(make).measured(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('parts', [1, 2])
@pytest.mark.parametrize('last', range(1, STEPS))
def test_before_the_derivative_has_grown_beyond_the_bound_it_counts_as_0(last, parts):
    problem = Problem(sgd(**SGD['momentum']))
    exact = problem.measured(parts=STEPS)
    lengths = problem.lengths[:last]  # after each of the last steps
    bound = max(lengths) * (1 - 1e-6)
    followed = 1 + next(index for index, length in enumerate(lengths) if length > bound)
    found = Problem(sgd(**SGD['momentum'])).measured(parts, bound)
    torch.testing.assert_close(found[-followed:], exact[-followed:], rtol=1e-12, atol=1e-14)
    assert (found[:-followed] == 0).all() and (exact[:-followed] != 0).all() and followed < STEPS


def test_a_sweep_changes_neither_parameters_nor_statistics():
    problem = Problem(sgd(**SGD['nesterov']))
    plain = Problem(sgd(**SGD['nesterov']))
    problem.measured()
    for index in range(STEPS):
        plain.step(index)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, problem.model.state_dict()[name]), name


def test_what_is_not_trained_is_left_out():
    problem = Problem(sgd())
    problem.model['student'].conv.weight.requires_grad_(False)
    trajectory = Trajectory(dict(problem.model.named_parameters()), problem.optimizer)
    assert 'student.conv.weight' not in trajectory.parameters and 'student.fc.weight' in trajectory.parameters


def test_a_step_that_is_skipped_is_not_stored():
    problem = Problem(sgd())
    trajectory = Trajectory(dict(problem.model.named_parameters()), problem.optimizer)
    trajectory.store(problem.batches[0], problem.weights[0])  # the loss scaler skips the step
    trajectory.store(problem.batches[1], problem.weights[1])
    problem.step(1)
    assert [step.batch for step in trajectory.steps] == [problem.batches[1]]


def test_an_optimiser_that_cannot_be_differentiated_is_refused():
    with pytest.raises(ArgumentError, match="LBFGS.*use torch's SGD"):
        Problem(lambda p: torch.optim.LBFGS(p)).measured()


@pytest.mark.parametrize('name', [*SGD, *ADAPTIVE])
def test_a_parameter_without_a_gradient_is_left_out_of_a_step(name):
    """A transform in steps in which its pathway has no weight: torch leaves it and its momentum as they are."""
    def problem(change=0.0):
        made = Problem(ADAPTIVE.get(name) or sgd(**SGD[name]))
        made.weights[1:3, 0] = 0
        made.weights[0, 0] += change
        plain = made.training_loss

        def without_transform(parameters, weights, batch):
            if float(weights[0]):
                return plain(parameters, weights, batch)
            torch.manual_seed(batch[4])
            logits = made.call(parameters, batch[0])[1]
            return F.cross_entropy(logits, batch[1]) + weights[1] * F.mse_loss(logits, batch[3])

        made.training_loss = without_transform
        return made

    measured = problem().measured()
    ends = []
    for change in (1e-5, -1e-5):
        other = problem(change)
        other.measured()
        ends.append(other.loss)
    assert measured[0, 0].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-9)
