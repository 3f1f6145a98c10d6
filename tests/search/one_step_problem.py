"""A student, its transforms and an optimiser in float64, and one search step by autograd through the update."""

import torch
import torch.nn.functional as F
from torch import nn

from distpro.random_state import without_side_effects
from distpro.searching import Hypergradient

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
