r"""The gradient of a loss at the end of a run with respect to the pathways' weights at each of its steps.

A step of training takes the parameters :math:`\theta_t` (student and transforms) and the optimiser's state to the next by
the gradient :math:`g_t` of :math:`L_t = \mathrm{CE} + \sum_p w_{t,p} l_p`. The transposed derivative of the optimiser's step
takes :math:`\partial J / \partial \theta_{t+1}` back to :math:`c = \partial J / \partial g_t`, and then

.. math:: \frac{\partial J}{\partial w_{t,p}} = \langle \nabla_\theta l_p(\theta_t), c \rangle, \qquad
          \frac{\partial J}{\partial \theta_t} = \nabla^2_\theta L_t \, c + \text{what the step itself passes on}.

Both come from one backward pass through :math:`\langle g_t, c \rangle`, whatever the number of pathways.

Source: reverse-mode differentiation of training, Maclaurin et al., ICML 2015, here with plain copies of what a step started
from. DistPro (ECCV 2022) looks one step ahead.
"""
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import FLAG, check_choice
from .optimizer_step import State, StepSnapshot, check_differentiable, moved, transposed
from .second_derivative import twice_differentiable


@dataclasses.dataclass
class Step:
    """A step that was taken.

    Args:
        batch (Any): What the training loss is computed of.
        weights (Tensor): The pathways' weights [N] that it was taken with.
        before (StepSnapshot): What the optimiser had before it.
    """
    batch: Any
    weights: Tensor
    before: StepSnapshot


class Trajectory:
    """Stores training steps as they are taken, and differentiates through them backwards.

    Use: :meth:`store` before each step, take the steps as always, then :meth:`start` and :meth:`sweep`. A run that is too
    long to store is swept in parts, the last first: each part's steps are taken again, stored and swept.

    Args:
        parameters (dict[str, Parameter]): What is trained, by name; parameters that are not optimised are left out.
        optimizer (torch.optim.Optimizer): Their optimiser: SGD in any form, or any optimiser of torch that knows
            ``differentiable``.
        average (Callable, optional): Averages a list of tensors over processes in place. Defaults to None.
        on_host (bool): Whether steps are stored in main memory, see :class:`StepSnapshot`. Defaults to False.

    Raises:
        ArgumentError: If the optimiser cannot be differentiated.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer,
                 average: Callable[[list[Tensor]], None] | None = None, on_host: bool = False) -> None:
        check_choice('on_host', on_host, FLAG)
        check_differentiable(optimizer)
        self.on_host = on_host
        optimised = {id(p) for group in optimizer.param_groups for p in group['params']}
        self.parameters = {name: p for name, p in parameters.items() if p.requires_grad and id(p) in optimised}
        self.optimizer = optimizer
        self.average = average or (lambda tensors: None)
        self.steps: list[Step] = []
        self.swept = 0  # steps that were differentiated so far
        self._next: tuple[Any, Tensor] | None = None  # batch and weights of the next step
        self._handle = optimizer.register_step_pre_hook(self._before_step)

    def store(self, batch: Any, weights: Tensor) -> None:
        """Store the optimiser's next step; one that a loss scaler skips changes nothing and is not stored."""
        self._next = moved(batch, 'cpu') if self.on_host else batch, weights.detach().clone()

    def do_not_store(self) -> None:
        """Do not store the optimiser's next step."""
        self._next = None

    def _before_step(self, optimizer, args, kwargs) -> None:
        if self._next is not None:
            self.steps.append(Step(*self._next, StepSnapshot(optimizer, list(self.parameters.values()), self.on_host)))
            self._next = None

    def start(self, losses: Iterable[Tensor]) -> float:
        """Begin at the end of the run.

        Args:
            losses (Iterable[Tensor]): J is their sum, averaged over processes: scalars, each with a graph to the present
                parameters; one is held at a time.

        Returns:
            float: J.
        """
        self.ended = False  # whether the derivative has become longer than the bound on its way back
        self.a = [torch.zeros_like(p) for p in self.parameters.values()]
        self.b: Sequence[State] = [{} for _ in self.a]
        total = torch.zeros_like(self.a[0].flatten()[0])
        with torch.enable_grad():
            for loss in losses:
                found = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
                for a, g in zip(self.a, found):
                    if g is not None:
                        a += g
                total += loss.detach()
        self.average([*self.a, total])
        return total.item()

    def length(self) -> float:
        """float: Length of the derivative of J by the parameters that the way back has reached."""
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.a))).item()

    def sweep(self, training_loss: Callable[[dict[str, Tensor], Tensor, Any], Tensor], bound: float = math.inf) -> Tensor:
        """Go back through the stored steps, and delete them.

        Args:
            training_loss (Callable): The loss of a step, a scalar with a graph, as a function of the parameters by name,
                the weights [N] and the batch. The same function as in the step: same images, same random numbers.
            bound (float): Where the derivative by the parameters is longer, the way back ends: the derivatives of all steps
                before are 0. Defaults to infinity.

        Returns:
            Tensor: dJ/dw of each stored step [K, N].
        """
        derivatives = [torch.zeros_like(step.weights) for step in self.steps]
        while self.steps and not self.ended:
            step = self.steps.pop()
            derivatives[len(self.steps)] = self._back(step, training_loss)
            self.ended = self.length() > bound
        self.steps.clear()
        return torch.stack(derivatives)

    def _back(self, step: Step, training_loss: Callable) -> Tensor:
        """From after a step to before it; dJ/dw [N]."""
        self.swept += 1
        before = step.before.on(list(self.parameters.values()))
        theta = [p.requires_grad_() for p in before.theta]
        weights = step.weights.clone().requires_grad_()
        with torch.enable_grad(), twice_differentiable():
            batch = moved(step.batch, theta[0].device) if self.on_host else step.batch
            loss = training_loss(dict(zip(self.parameters, theta)), weights, batch)
            gradients = torch.autograd.grad(loss, theta, create_graph=True, allow_unused=True)
            through = transposed(self.optimizer, before, self.a, self.b)
            reached = [(g * c).sum() for g, c in zip(gradients, through.gradients) if g is not None]
            # Not by autograd.grad, which passes over what torch marks as differentiable once, where this raises.
            torch.stack(reached).sum().backward()
        second = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in (*theta, weights)]
        self.average(second)
        self.a = [direct + d for direct, d in zip(through.parameters, second)]
        self.b = through.states
        return second[-1]

    def close(self) -> None:
        """Leave the optimiser as it was."""
        self._handle.remove()
