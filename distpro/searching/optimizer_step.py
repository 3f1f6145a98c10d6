r"""The step of an optimiser as a function that can be differentiated.

A step takes the parameters :math:`\theta`, the optimiser's state s and the gradient g to :math:`\theta'` and s'. Its
transposed derivative takes :math:`a = \partial J / \partial \theta'` and :math:`b = \partial J / \partial s'` back.
"""
import collections
import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..checks import FLAG, check_choice
from ..errors import ArgumentError

State = dict[str, Tensor]
COUNTERS = ('step', 'mu_product')  # entries of a state that no gradient enters


def check_differentiable(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimiser whose step has no derivative here.

    A subclass with an update of its own (gradient centralisation, SAM) mostly computes it without gradients, so that taking
    it again would give a wrong derivative. A subclass that inherits the update is accepted.

    Raises:
        ArgumentError: If its step is not the one of an optimiser of torch that knows ``differentiable``.
    """
    kind = type(optimizer)
    base = next(base for base in kind.__mro__ if base.__module__.startswith('torch.optim'))
    # torch puts a wrapper of its own around the step of every class.
    inherited = all(_unwrapped(kind, name) is _unwrapped(base, name) for name in ('step', '_init_group'))
    if not inherited or 'differentiable' not in optimizer.defaults:
        own = '' if inherited else ' has a step of its own and'
        raise ArgumentError(f"optimizer='{kind.__name__}'{own} cannot be differentiated, which the search "
                          "needs: use torch's SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad or Adadelta")


def _unwrapped(kind: type, name: str) -> Callable | None:
    """A method without wrappers; None if the class has none of this name."""
    found = getattr(kind, name, None)
    return None if found is None else inspect.unwrap(found)


class StepSnapshot:
    """The parameters, and what else the derivative of a step needs, just before the step.

    Args:
        optimizer (torch.optim.Optimizer): The optimiser.
        parameters (Sequence[Parameter]): Those of its parameters that count.
        on_host (bool): Whether to store in main memory (pinned, for tensors of a GPU) and not on their device. Defaults to
            False.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], on_host: bool = False) -> None:
        check_choice('on_host', on_host, FLAG)
        group_of = {id(p): group for group in optimizer.param_groups for p in group['params']}
        self.theta = [_stored(p, on_host) for p in parameters]
        self.groups = [{k: value for k, value in group_of[id(p)].items() if k != 'params'} for p in parameters]
        self.had_buffer = [optimizer.state.get(p, {}).get('momentum_buffer') is not None for p in parameters]
        self.skipped = [p.grad is None for p in parameters]  # the step leaves them and their states as they are
        self.gradients: list[Tensor | None] = []
        self.states: list[dict] = []
        if not isinstance(optimizer, torch.optim.SGD):  # whose derivative depends on neither
            self.gradients = [None if p.grad is None else _stored(p.grad, on_host) for p in parameters]
            self.states = [{key: _stored(value, on_host) if isinstance(value, Tensor) else value
                            for key, value in optimizer.state.get(p, {}).items()} for p in parameters]

    def on(self, parameters: Sequence[nn.Parameter]) -> 'StepSnapshot':
        """A copy with all tensors on the devices of the parameters; those that are there are not copied."""
        there = copy.copy(self)
        places = [p.device for p in parameters]
        there.theta = [moved(theta, place) for theta, place in zip(self.theta, places)]
        there.gradients = [moved(gradient, place) for gradient, place in zip(self.gradients, places)]
        there.states = [{key: moved(value, place) if key not in COUNTERS else value for key, value in state.items()}
                        for state, place in zip(self.states, places)]
        return there


def _stored(tensor: Tensor, on_host: bool) -> Tensor:
    if not on_host:
        return tensor.detach().clone()
    copied = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copied.copy_(tensor.detach(), non_blocking=True)  # in the order of the GPU's work, which is read back likewise


def moved(values: Any, device: torch.device | str) -> Any:
    """Tuples, lists and dicts with all their tensors on a device; what is no tensor stays."""
    if isinstance(values, Tensor):
        return values.to(device, non_blocking=torch.device(device).type != 'cpu')
    if isinstance(values, dict):
        return {key: moved(value, device) for key, value in values.items()}
    return type(values)(moved(value, device) for value in values) if isinstance(values, (list, tuple)) else values


class Transposed(NamedTuple):
    """What a step's transposed derivative gives, one entry a parameter."""
    gradients: list[Tensor]
    parameters: list[Tensor]
    states: list[State]


def transposed(optimizer: torch.optim.Optimizer, before: StepSnapshot, a: Sequence[Tensor],
               b: Sequence[State] | None = None) -> Transposed:
    """Take the derivatives by what a step gave back to what it was given.

    SGD in closed form. Any other optimiser of ``torch.optim`` that can be differentiated: exactly, by taking its own step
    once more on copies.

    Args:
        optimizer (torch.optim.Optimizer): The optimiser that took the step.
        before (StepSnapshot): Stored just before the step.
        a (Sequence[Tensor]): Derivatives by the stepped parameters, shaped like them.
        b (Sequence[dict], optional): Derivatives by the state after the step, by its keys. Defaults to None: 0.

    Returns:
        Transposed: Derivatives by the gradients, by the parameters as far as the step itself depends on them, and by the
        state before the step.
    """
    b = b or [{} for _ in a]
    if isinstance(optimizer, torch.optim.SGD):
        parts = [_sgd(group, had_buffer, *adjoints)
                 for group, had_buffer, *adjoints in zip(before.groups, before.had_buffer, a, b)]
        found = Transposed(*(list(part) for part in zip(*parts)))
    else:
        found = _replayed(optimizer, before, a, b)
    for place, skipped in enumerate(before.skipped):
        if skipped:
            found.gradients[place] = torch.zeros_like(a[place])
            found.parameters[place], found.states[place] = a[place], b[place]
    return found


def _sgd(group: dict, had_buffer: bool, a: Tensor, b: State) -> tuple:
    """torch's SGD."""
    c = -float(group['lr']) * a  # by the update
    states = {}
    if group['momentum']:
        kept = b.get('momentum_buffer', 0) + (group['momentum'] if group['nesterov'] else 1) * c
        # The first step of torch's SGD takes the gradient whole into the buffer, whatever the dampening.
        share = 1 - group['dampening'] if had_buffer else 1
        c = share * kept + (c if group['nesterov'] else 0)
        if had_buffer:
            states = dict(momentum_buffer=group['momentum'] * kept)
    return -c if group['maximize'] else c, a + group['weight_decay'] * c, states


@torch.enable_grad()
def _replayed(optimizer, before: StepSnapshot, a: Sequence[Tensor], b: Sequence[State]) -> Transposed:
    """Take the optimiser's own step again on copies, with autograd through it."""
    shadow = copy.copy(optimizer)
    shadow._optimizer_step_pre_hooks = collections.OrderedDict()
    shadow._optimizer_step_post_hooks = collections.OrderedDict()
    shadow.defaults = {**optimizer.defaults, 'differentiable': True}
    shadow.param_groups, shadow.state = [], collections.defaultdict(dict)
    thetas = [theta.clone().requires_grad_() for theta in before.theta]
    gradients = [(torch.zeros_like(theta) if gradient is None else gradient.clone()).requires_grad_()
                 for theta, gradient in zip(before.theta, before.gradients)]
    states = [{key: value.clone().requires_grad_() for key, value in state.items()
               if isinstance(value, Tensor) and value.shape == theta.shape and key not in COUNTERS}
              for state, theta in zip(before.states, before.theta)]
    stepped = []
    for theta, gradient, state, leaves, group in zip(thetas, gradients, before.states, states, before.groups):
        parameter = theta.clone()  # what is changed in place
        parameter.retain_grad()
        parameter.grad = gradient
        # torch counts steps in float32; a differentiable step computes Adam's bias correction from that in float32.
        counted = {key: value.double() if key == 'step' and isinstance(value, Tensor) else value
                   for key, value in _cloned(state).items()}
        shadow.state[parameter] = {**counted, **{key: leaf.clone() for key, leaf in leaves.items()}}
        shadow.param_groups.append({**group, 'params': [parameter], 'differentiable': True, 'foreach': False,
                                    'fused': None, 'capturable': False})
        stepped.append(parameter)
    # The class's own step without the wrappers that an lr scheduler puts on the instance.
    type(optimizer).step(shadow)
    outputs, adjoints = list(stepped), list(a)
    for parameter, state in zip(stepped, b):
        for key, adjoint in state.items():
            outputs.append(shadow.state[parameter][key])
            adjoints.append(adjoint)
    inputs = [*thetas, *gradients, *(leaf for state in states for leaf in state.values())]
    found = torch.autograd.grad(outputs, inputs, adjoints, allow_unused=True)
    found = [torch.zeros_like(leaf) if d is None else d for d, leaf in zip(found, inputs)]
    # An element whose gradient has always been exactly 0 sits at the kink of the square root in Adam's step: it has no
    # derivative, and no pathway moves it, so it counts nothing. Any other value that is not finite stays.
    still = [_always_zero(gradient, state) & adjoint.isfinite() for gradient, state, adjoint in zip(gradients, states, a)]
    count = len(thetas)
    passed_on = [torch.where(zero & ~d.isfinite(), adjoint, d) for d, zero, adjoint in zip(found, still, a)]
    by_gradient = [torch.where(zero & ~d.isfinite(), 0, d) for d, zero in zip(found[count:], still)]
    rest = iter(found[2 * count:])
    return Transposed(by_gradient, passed_on, [
        {key: torch.where(zero & ~d.isfinite(), 0, d) for key, d in zip(state, rest)} for state, zero in zip(states, still)])


def _always_zero(gradient: Tensor, state: State) -> Tensor:
    """Elements whose gradient is exactly 0 now and was at all steps before."""
    zero = gradient.detach() == 0
    for value in state.values():
        zero = zero & (value.detach() == 0)
    return zero


def _cloned(state: dict) -> dict:
    """An optimiser's state of one parameter, with tensors of its own."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
