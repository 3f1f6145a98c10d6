"""One short training with given weights, which can be differentiated from its end to its start."""
import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..checks import FLAG, check_choice
from ..errors import SearchError
from ..random_state import without_side_effects
from ..tracing import tensors_in
from .footprint import Footprint, bytes_of
from .trajectory import Step, Trajectory

LEAST_IMAGES = 16  # of a batch in a derivative: batch statistics of fewer say little
MEMORIES = ('device', 'host')


class Training(Protocol):
    """What a round needs of a training. Iterations are counted from the start of the round.

    Attributes:
        model (nn.Module): What is trained.
        optimizer (torch.optim.Optimizer): The optimiser.
    """
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def state(self) -> dict:
        """dict: All that a step changes (parameters, buffers, optimiser, schedules); tensors may be those in use."""

    def set_state(self, state: dict) -> None:
        """Go back to a state."""

    def take_step(self, iteration: int, batch: Any, weights: Tensor) -> Tensor:
        """Take a training step with the pathways' weights [N]; the same random numbers whenever it is repeated.

        Returns:
            Tensor: The training loss, a scalar.
        """

    def batches(self, iteration: int) -> Iterator[Any]:
        """The round's batches again, from an iteration on."""

    def training_loss(self, parameters: dict[str, Tensor], weights: Tensor, iteration: int, batch: Any) -> Tensor:
        """The loss of a step as a function of parameters and weights, of its images or the first of them."""

    def held_out_losses(self) -> Iterator[Tensor]:
        """Scalars with a graph, whose sum, averaged over processes, is the held-out loss."""

    def any_process(self, flag: Tensor) -> bool:
        """Whether a boolean scalar is true in any process."""

    def average(self, tensors: list[Tensor]) -> None:
        """Average tensors over processes in place."""


class Round:
    """Trains with a schedule of weights, measures the held-out loss, and differentiates it by the weights of each step.

    Use: :meth:`open`; for each round :meth:`begin`, then :meth:`step` with each batch, then :meth:`measure` and, if the
    round is to be differentiated, :meth:`derivatives`; at the end :meth:`close`. The steps are stored in memory. Those that
    do not fit are taken again in parts, the last part first, see :class:`Footprint`.

    Args:
        training (Training): The training.
        iterations (int): Steps of a round, >= 1.
        differentiates (bool): Whether rounds may be differentiated. If not, nothing is stored.
        memory (float): GiB for stored steps, > 0, and as much main memory for states, see :class:`Footprint`. Defaults to 4.
        max_growth (float): Growth of the gradient on its way back, relative to its length at the end of the round, > 0, from
            where it is not followed further: where training is chaotic, the effect of earlier weights cannot be known, and
            counts as 0. Defaults to 2.
        memory_on (str): Where steps are stored: 'device', that of the training, or 'host', main memory (pinned if the device
            is a GPU). Defaults to 'device'.

    Attributes:
        footprint (Footprint, optional): What a round stores; None before the first stored step.
        diverged (bool): Whether the training loss was not finite; the steps after that are skipped.
    """

    def __init__(self, training: Training, iterations: int, differentiates: bool, memory: float = 4.0,
                 max_growth: float = 2.0, memory_on: str = 'device') -> None:
        check_choice('differentiates', differentiates, FLAG)
        check_choice('memory_on', memory_on, MEMORIES)
        self.memory_on = memory_on
        self.footprint: Footprint | None = None
        self.training, self.iterations = training, iterations
        self.memory, self.max_growth = memory, max_growth
        self.differentiates, self.diverged = differentiates, False
        self.trajectory: Trajectory | None = None

    def open(self) -> None:
        """Start to watch the training's optimiser."""
        if self.differentiates:
            training = self.training
            self.trajectory = Trajectory(dict(training.model.named_parameters()), training.optimizer, training.average,
                                         self.memory_on == 'host')

    def begin(self, weights: Tensor, store: bool) -> None:
        """Start a round; the training is in its initial state.

        Args:
            weights (Tensor): Weights of the pathways at each step [iterations, N].
            store (bool): Whether to store the steps, so that the round can be differentiated.
        """
        self.weights, self.store = weights, store and self.trajectory is not None
        self.diverged, self._iteration = False, 0
        self._starts: list[int] = []  # first iterations of the parts
        self._states: dict[int, dict] = {}  # before some of the parts, by their place among all
        self._settings: list[list[dict]] = []  # of the optimiser, by iteration
        self._sums: dict[int, list[Tensor]] = {}  # of the batches that may be taken again, by iteration
        if self.trajectory is not None:
            self.trajectory.steps.clear()

    @property
    def _stored(self) -> Trajectory:
        """Trajectory: The stored steps, of a round that is open and may be differentiated."""
        if self.trajectory is None:
            raise RuntimeError('a round is differentiated only with differentiates=True, between open() and close()')
        return self.trajectory

    def step(self, batch: Any) -> Tensor:
        """Tensor: The training loss of the next step, detached; NaN once the round has diverged."""
        iteration, self._iteration = self._iteration, self._iteration + 1
        if self.diverged:
            return torch.tensor(math.nan)
        if self.store:
            if not self._starts or self._full():
                self._stored.steps.clear()
                if len(self._starts) % self._group == 0:
                    self._states[len(self._starts)] = copied(self.training.state())
                self._starts.append(iteration)
            self._settings.append([{key: value for key, value in group.items() if key != 'params'}
                                   for group in self.training.optimizer.param_groups])
            if self.footprint is None or self.footprint.parts > 1:
                self._sums[iteration] = _sums_of(batch)
        loss = self._take(iteration, batch, self.store)
        if self.store and self.footprint is None and self._stored.steps:
            self.footprint = self._measured(self._stored.steps[-1])
        self.diverged = self.training.any_process(~torch.isfinite(loss))
        return loss

    def _take(self, iteration: int, batch: Any, store: bool) -> Tensor:
        weights = self.weights[iteration]
        if store:
            self._stored.store((iteration, batch), weights)
        elif self.trajectory is not None:
            self.trajectory.do_not_store()
        return self.training.take_step(iteration, batch, weights).detach()

    def _measured(self, step: Step) -> Footprint:
        """What a round stores, by its first step, before which most optimisers have no state yet."""
        before, optimizer = step.before, self.training.optimizer
        states = before.states if isinstance(optimizer, torch.optim.SGD) else list(optimizer.state.values())
        stored = bytes_of([before.theta, before.gradients, states, step.batch])
        return Footprint(self.iterations, stored, bytes_of(self.training.state()), self.memory)

    @property
    def _group(self) -> int:
        """int: Parts of a group, see :class:`Footprint`."""
        return 1 if self.footprint is None else self.footprint.group

    def _full(self) -> bool:
        return self.footprint is not None and len(self._stored.steps) >= self.footprint.steps

    def measure(self) -> float:
        """float: The held-out loss; NaN if the round has diverged. It is where :meth:`derivatives` begins."""
        if self.diverged:
            return math.nan
        with self._full_precision():
            if self.trajectory is not None:
                return self.trajectory.start(self.training.held_out_losses())
            with torch.no_grad():
                mean = torch.stack([loss.detach() for loss in self.training.held_out_losses()]).sum()
            self.training.average([mean])
            return mean.item()

    def derivatives(self) -> Tensor:
        """Tensor: Derivatives of the measured loss by the weights of each step [iterations, N]."""
        end = copied(self.training.state()) if len(self._starts) > 1 else None
        bound = self.max_growth * self._stored.length()
        derivatives, last = torch.zeros_like(self.weights), self.iterations
        with self._full_precision():
            for part, first in reversed(list(enumerate(self._starts))):
                if last < self.iterations:
                    self._find_state(part)
                    self._take_again(part, last)
                taken = [step.batch[0] for step in self._stored.steps]  # a loss scaler skips some
                if taken:
                    derivatives[taken] = self._stored.sweep(self._training_loss, bound).to(derivatives)
                self._states.pop(part, None)
                last = first
                if self._stored.ended:
                    break
        if end is not None:
            self.training.set_state(copy.deepcopy(end))
        return derivatives

    def _find_state(self, part: int) -> None:
        """Find the state before a part, and before all parts between the last one with a state and this one."""
        if part not in self._states:
            known = max(other for other in self._states if other < part)
            self._take_again(known, self._starts[part], store=False)

    def _take_again(self, part: int, last: int, store: bool = True) -> None:
        """Take the steps from a part on again, up to an iteration; store them, or else the states before further parts."""
        first, further = self._starts[part], {start: place for place, start in enumerate(self._starts)}
        self.training.set_state(copy.deepcopy(self._states[part]))  # the optimiser would go on with the very same objects
        batches = self.training.batches(first)
        for iteration in range(first, last):
            for group, settings in zip(self.training.optimizer.param_groups, self._settings[iteration]):
                group.update(settings)
            batch = next(batches)
            if not all(map(torch.equal, _sums_of(batch), self._sums[iteration])):
                raise SearchError('the derivative of a round takes its steps again, and now its batches are others: let '
                                  'their order and their augmentation depend on the global random state alone, or store '
                                  'all steps with a higher memory')
            self._take(iteration, batch, store)
            if not store and iteration + 1 in further:
                self._states[further[iteration + 1]] = copied(self.training.state())

    def _training_loss(self, parameters: dict[str, Tensor], weights: Tensor, stored: tuple[int, Any]) -> Tensor:
        iteration, batch = stored
        return self.training.training_loss(parameters, weights, iteration, batch)

    def try_step(self, weights: Tensor, batch: Any, losses: Callable[[], Iterable[Tensor]]) -> None:
        """Take one step, differentiate it if rounds may be differentiated, and go back to the state before it.

        So what has no second derivative fails at once and not after a round, and what the first step measures, such as the
        variances of the teacher's features, does not depend on the first trial.

        Args:
            weights (Tensor): Weights [N] of the step.
            batch (Any): Its batch.
            losses (Callable): Gives one or more held-out losses.

        Raises:
            NotImplementedError or RuntimeError: If something cannot be differentiated.
        """
        before, self.store = copied(self.training.state()), self.trajectory is not None
        self.weights = weights[None]
        try:
            self._take(0, batch, self.store)
            if self.trajectory is not None:
                with without_side_effects(self.training.model), self._full_precision():
                    self.trajectory.start(losses())
                    if self.trajectory.steps:  # else a loss scaler skipped the step
                        self.trajectory.sweep(self._training_loss)
        finally:
            if self.trajectory is not None:
                self.trajectory.steps, self.trajectory.swept = [], 0
            self.training.set_state(before)

    def _full_precision(self) -> torch.autocast:
        device = next(self.training.model.parameters()).device.type
        return torch.autocast(device, enabled=False)

    def close(self) -> None:
        """Stop watching the optimiser."""
        if self.trajectory is not None:
            self.trajectory.close()
            self.trajectory = None


def images_of_a_share(images: int, share: float) -> int:
    """int: The images of a batch that a derivative is computed of: a share in (0, 1], at least :data:`LEAST_IMAGES`."""
    return min(images, max(LEAST_IMAGES, math.ceil(share * images)))


def copied(state: Any) -> Any:
    """A state with copies of its tensors in main memory."""
    if isinstance(state, Tensor):
        return state.detach().to('cpu', copy=True)
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(copied(value) for value in state)
    return copy.deepcopy(state)


def _sums_of(batch: Any) -> list[Tensor]:
    """The sum of each tensor of a batch, by which another batch is known."""
    return [tensor.sum() for tensor in tensors_in(batch)]
