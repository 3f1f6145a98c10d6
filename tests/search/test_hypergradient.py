"""dL_val/dw against autograd through the complete update, in float64."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from distpro.random_state import without_side_effects
from distpro.searching import Hypergradient
from distpro.searching.optimizer_step import StepSnapshot, transposed

LR, WEIGHT_DECAY, BETAS, EPS = 0.05, 0.01, (0.8, 0.95), 1e-6
RECEIVERS = (0, 1, 1)  # two pathways share a map


class Student(nn.Module):
    """Returns logits and stores its two maps. No biases before batch norm: their gradient is rounding noise."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        self.maps = [self.bn1(self.conv1(x))]
        self.maps.append(self.bn2(self.conv2(self.dropout(torch.tanh(self.maps[0])))))
        return self.fc(torch.tanh(self.maps[1]).mean((2, 3)))


class Problem:
    """A student, its transforms, a batch and a held-out batch after some training steps."""

    def __init__(self, make_optimizer, seed=0, dtype=torch.float64, dropout=0.0):
        torch.manual_seed(seed)
        self.student = Student(dropout).to(dtype)
        self.transforms = nn.ModuleList(nn.Sequential(nn.Conv2d(c, 7, 1), nn.BatchNorm2d(7)) for c in (5, 6, 6)).to(dtype)
        self.targets = [torch.randn(8, 7, s, s, dtype=dtype) for s in (6, 3, 3)]
        self.x, self.y = torch.randn(8, 3, 6, 6, dtype=dtype), torch.randint(4, (8, ))
        self.held_x, self.held_y = torch.randn(8, 3, 6, 6, dtype=dtype), torch.randint(4, (8, ))
        self.w = (torch.rand(3, dtype=dtype) + 0.5)
        self.optimizer = make_optimizer([*self.student.parameters(), *self.transforms.parameters()])
        for _ in range(4):
            self.step()

    def pathway_losses(self, student):
        student(self.x)
        maps = [self.student.maps[index] for index in RECEIVERS]
        return torch.stack([F.mse_loss(m(f), t) for m, f, t in zip(self.transforms, maps, self.targets)])

    def features(self, student):
        student(self.x)
        return dict(enumerate(self.student.maps))

    def sensitivities(self):
        """For the current student and transforms, each by a separate backward pass."""
        states = torch.get_rng_state()
        with without_side_effects(self.student, self.transforms):
            torch.set_rng_state(states)
            losses = self.pathway_losses(self.student)
            return [(index, torch.autograd.grad(loss, self.student.maps[index], retain_graph=True)[0])
                    for index, loss in zip(RECEIVERS, losses)]

    def training_loss(self, student, w):
        losses = self.pathway_losses(student)
        return F.cross_entropy(student(self.x), self.y) + (w * losses).sum()

    def held_out_loss(self, student=None):
        return F.cross_entropy((student or self.student)(self.held_x), self.held_y)

    def step(self):
        self.optimizer.zero_grad()
        self.training_loss(self.student, self.w).backward()
        self.optimizer.step()

    def measured(self, method, **kwargs):
        hypergradient = Hypergradient(self.student, self.optimizer, method, **kwargs)
        hypergradient.watch()
        sensitivities = self.sensitivities()
        self.step()
        gradient = hypergradient.after_step(self.held_out_loss, self.features, sensitivities)
        hypergradient.close()
        return gradient

    def through_the_whole_update(self, updated):
        """Autograd through loss, gradient, the hand-written update and the held-out loss."""
        w = self.w.clone().requires_grad_()
        theta = {name: p.detach().clone().requires_grad_() for name, p in self.student.named_parameters()}
        with without_side_effects(self.student, self.transforms):

            def at(parameters):
                return lambda x: torch.func.functional_call(self.student, parameters, (x, ))

            loss = self.training_loss(at(theta), w)
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            state = [self.optimizer.state[p] for p in self.student.parameters()]
            stepped = {name: updated(p, g, s) for (name, p), g, s in zip(theta.items(), gradients, state)}
            return torch.autograd.grad(self.held_out_loss(at(stepped)), w)[0]


def sgd(p, g, state):
    return p - LR * (g + WEIGHT_DECAY * p)


def momentum(p, g, state):
    return p - LR * (0.9 * state['momentum_buffer'] + g + WEIGHT_DECAY * p)


def dampened(p, g, state):
    return p - LR * (0.9 * state['momentum_buffer'] + 0.7 * (g + WEIGHT_DECAY * p))


def nesterov(p, g, state):
    g = g + WEIGHT_DECAY * p
    return p - LR * (g + 0.9 * (0.9 * state['momentum_buffer'] + g))


def adam_step(g, state):
    t = float(state['step']) + 1
    m = (BETAS[0] * state['exp_avg'] + (1 - BETAS[0]) * g) / (1 - BETAS[0]**t)
    s = (BETAS[1] * state['exp_avg_sq'] + (1 - BETAS[1]) * g**2) / (1 - BETAS[1]**t)
    return LR * m / (s.sqrt() + EPS)


def adam(p, g, state):
    return p - adam_step(g + WEIGHT_DECAY * p, state)


def adamw(p, g, state):
    return p * (1 - LR * WEIGHT_DECAY) - adam_step(g, state)


def rmsprop(p, g, state):
    g = g + WEIGHT_DECAY * p
    return p - LR * g / ((0.9 * state['square_avg'] + 0.1 * g**2).sqrt() + EPS)


OPTIMIZERS = {
    'sgd': (lambda ps: torch.optim.SGD(ps, LR, weight_decay=WEIGHT_DECAY), sgd),
    'momentum': (lambda ps: torch.optim.SGD(ps, LR, 0.9, weight_decay=WEIGHT_DECAY), momentum),
    'dampened': (lambda ps: torch.optim.SGD(ps, LR, 0.9, 0.3, weight_decay=WEIGHT_DECAY), dampened),
    'nesterov': (lambda ps: torch.optim.SGD(ps, LR, 0.9, weight_decay=WEIGHT_DECAY, nesterov=True), nesterov),
    'adam': (lambda ps: torch.optim.Adam(ps, LR, BETAS, EPS, WEIGHT_DECAY), adam),
    'adamw': (lambda ps: torch.optim.AdamW(ps, LR, BETAS, EPS, WEIGHT_DECAY), adamw),
    'rmsprop': (lambda ps: torch.optim.RMSprop(ps, LR, 0.9, EPS, WEIGHT_DECAY), rmsprop),
}


def error(measured, truth):
    return ((measured - truth).norm() / truth.norm()).item()


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


# ---- the faults of the release (method.md section 6), each with the wrong formula


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


# ---- refused optimisers and students


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
