"""dL_val/dw against autograd through the complete update, in float64."""
import copy

import pytest
import torch
import torch.nn.functional as F
from one_step_problem import OPTIMIZERS, Problem, error, momentum, nesterov, sgd
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from distpro.random_state import without_side_effects
from distpro.searching import Hypergradient


@pytest.mark.parametrize('name', OPTIMIZERS)
@pytest.mark.parametrize('method, tolerance', [('jvp', 1e-8), ('differences', 1e-3)])
def test_equals_autograd_through_the_whole_update(name, method, tolerance):
    make, updated = OPTIMIZERS[name]
    for seed in (1, 2):
        problem = Problem(make, seed)
        truth = problem.through_the_whole_update(updated)
        assert error(problem.measured(method, radius=1e-3), truth) < tolerance


@pytest.mark.parametrize('name, wrong', [('nesterov', momentum), ('momentum', nesterov), ('dampened', momentum),
                                         ('adamw', sgd), ('rmsprop', sgd)])
def test_the_comparison_detects_a_similar_formula(name, wrong):
    """Planted fault: with the step of a similar optimiser, the comparison above fails."""
    problem = Problem(OPTIMIZERS[name][0], 3)
    truth = problem.through_the_whole_update(OPTIMIZERS[name][1])
    assert error(problem.through_the_whole_update(wrong), truth) > 1e-2


def test_transforms_are_evaluated_as_before_the_step():
    """Planted fault: after the step the transforms have changed, and the derivative differs."""
    make, updated = OPTIMIZERS['nesterov']
    problem = Problem(make, 1)
    truth = problem.through_the_whole_update(updated)
    hypergradient = Hypergradient(problem.student, problem.optimizer, 'jvp')
    hypergradient.watch()
    problem.step()
    measured = hypergradient.after_step(problem.held_out_loss, problem.features, problem.sensitivities())
    assert error(measured, truth) > 1e-3


# AdamW's step count does not exist before its first step. torch then creates it in float32, and the bias correction of the
# differentiable step is in float32 too.
@pytest.mark.parametrize('name, tolerance', [('nesterov', 1e-8), ('adamw', 1e-6)])
def test_first_step_of_an_optimiser_without_state(name, tolerance):
    make, _ = OPTIMIZERS[name]
    problem = Problem(make, 4)
    problem.optimizer = make([*problem.student.parameters(), *problem.transforms.parameters()])

    def first(p, g, state):
        fresh = dict(momentum_buffer=0.0, step=0, exp_avg=0.0, exp_avg_sq=0.0)
        return OPTIMIZERS[name][1](p, g, fresh)

    truth = problem.through_the_whole_update(first)
    assert error(problem.measured('jvp'), truth) < tolerance


def test_float32_error_is_small_after_training_steps():
    make, updated = OPTIMIZERS['nesterov']
    double, single, rough = (Problem(make, 5) for _ in range(3))
    for problem in (single, rough):
        problem.student.float(), problem.transforms.float()
        for name in ('x', 'held_x', 'w'):
            setattr(problem, name, getattr(problem, name).float())
        problem.targets = [t.float() for t in problem.targets]
        for state in problem.optimizer.state.values():
            state['momentum_buffer'] = state['momentum_buffer'].float()
    truth = double.through_the_whole_update(updated)
    assert error(single.measured('jvp').double(), truth) < 1e-3
    assert error(rough.measured('differences').double(), truth) < 0.03  # method.md: about 1% at the default radius


def test_weights_of_all_pathways_come_from_one_dual_pass():
    problem = Problem(OPTIMIZERS['sgd'][0])
    hypergradient = Hypergradient(problem.student, problem.optimizer, 'jvp')
    hypergradient.watch()
    sensitivities = problem.sensitivities()
    problem.step()
    hypergradient.after_step(problem.held_out_loss, problem.features, sensitivities)
    assert hypergradient.passes == {'held_out_forward_backward': 1, 'dual_forward': 1}


class Attention(nn.Module):
    """Self-attention of a map's pixels by torch's fused kernel, and a residual."""

    def __init__(self, channels):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).unflatten(2, (3, 1, -1)).permute(2, 0, 3, 1, 4)
        return x + F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).view_as(x)


@pytest.mark.parametrize('name', ['nesterov', 'adamw'])
def test_a_student_with_attention_has_its_exact_derivative(name):
    make, updated = OPTIMIZERS[name]
    problem = Problem(make, 12)
    problem.student.dropout = Attention(5).double()
    problem.optimizer = make([*problem.student.parameters(), *problem.transforms.parameters()])
    for _ in range(4):
        problem.step()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel cannot be differentiated twice
        truth = problem.through_the_whole_update(updated)
    hypergradient = Hypergradient(problem.student, problem.optimizer, 'auto')
    hypergradient.watch()
    sensitivities = problem.sensitivities()
    problem.step()
    measured = hypergradient.after_step(problem.held_out_loss, problem.features, sensitivities)
    assert hypergradient.fallback_reason is None and hypergradient.passes['dual_forward'] == 1
    assert error(measured, truth) < 1e-8


def snapshot(problem):
    modules = nn.ModuleList([problem.student, problem.transforms])
    return copy.deepcopy([modules.state_dict(), torch.get_rng_state(), problem.optimizer.state_dict()])


def identical(a, b):
    return all(torch.equal(x, y) for x, y in zip(a[0].values(), b[0].values())) and torch.equal(a[1], b[1])


@pytest.mark.parametrize('method', ['jvp', 'differences'])
@pytest.mark.parametrize('name', ['nesterov', 'adamw'])
def test_extra_passes_leave_everything_bit_identical(method, name):
    """Faults 1 and 4: the student stays at the virtual step; running statistics advance five times a step."""
    make, _ = OPTIMIZERS[name]
    plain, searched = Problem(make, 6, dropout=0.3), Problem(make, 6, dropout=0.3)
    torch.manual_seed(1)
    plain.step()
    after_plain = snapshot(plain)
    torch.manual_seed(1)
    searched.measured(method)
    after_search = snapshot(searched)
    assert identical(after_plain, after_search)
    for mine, theirs in zip(searched.optimizer.state.values(), plain.optimizer.state.values()):
        assert all(torch.equal(torch.as_tensor(mine[k]), torch.as_tensor(theirs[k])) for k in mine)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(searched.student.parameters(), plain.student.parameters()))


def test_the_bit_identity_check_detects_a_virtual_step_and_changed_statistics():
    plain, kept, moved = (Problem(OPTIMIZERS['sgd'][0], 7) for _ in range(3))
    with torch.no_grad():
        kept.student.fc.bias.add_(1e-9)
    moved.held_out_loss()  # a training-mode forward outside of without_side_effects()
    assert not identical(snapshot(plain), snapshot(kept))
    assert not identical(snapshot(plain), snapshot(moved))


def test_v_is_the_gradient_of_the_held_out_loss_alone():
    """Fault 2: .grad still has the training gradient when the held-out loss is differentiated."""
    problem = Problem(OPTIMIZERS['sgd'][0], 8)
    seen = []
    hypergradient = Hypergradient(problem.student, problem.optimizer, 'jvp', average=lambda ts: seen.append(ts))
    hypergradient.watch()
    problem.step()  # leaves .grad filled
    hypergradient.after_step(problem.held_out_loss, problem.features, problem.sensitivities())
    with without_side_effects(problem.student):
        truth = torch.autograd.grad(problem.held_out_loss(), list(problem.student.parameters()))
    assert all(torch.allclose(v, t, rtol=0, atol=1e-14) for v, t in zip(seen[0], truth))
    polluted = [t + p.grad for t, p in zip(truth, problem.student.parameters())]
    assert not any(torch.allclose(p, t, rtol=0, atol=1e-14) for p, t in zip(polluted, truth))


def test_momentum_counts_though_one_parameter_has_no_buffer_yet():
    """Fault 3: momentum silently becomes zero if one parameter has no buffer yet."""
    problem = Problem(OPTIMIZERS['nesterov'][0], 9)
    late = problem.student.fc.bias
    buffer = problem.optimizer.state[late].pop('momentum_buffer')

    def updated(p, g, state):
        return nesterov(p, g, state if 'momentum_buffer' in state else dict(momentum_buffer=torch.zeros_like(buffer)))

    truth = problem.through_the_whole_update(updated)
    assert error(problem.measured('jvp'), truth) < 1e-8


def test_a_pathway_without_a_sensitivity_has_no_derivative():
    problem = Problem(OPTIMIZERS['sgd'][0], 10)
    hypergradient = Hypergradient(problem.student, problem.optimizer, 'jvp')
    hypergradient.watch()
    (first, _), second, third = problem.sensitivities()
    problem.step()
    measured = hypergradient.after_step(problem.held_out_loss, problem.features, [(first, None), second, third])
    assert measured[0] == 0 and (measured[1:] != 0).all()
