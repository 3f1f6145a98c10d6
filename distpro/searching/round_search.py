"""The default search: which process a short training ends best with on held-out images."""
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, SearchError, argument_prefix
from ..pathways import PathwayGrid
from ..process import DistillationProcess, ProcessLike, fit_process, interpolate
from ..random_state import without_side_effects
from ..weighting import OFF, Weighting, log_weights
from .round import Round, copied
from .searchers import Searcher, Trial, strategy_of

REFERENCES = ('student', 'kd')


class RoundSearch:
    """Searches a process by rounds: short trainings with the same start, one process in each.

    A :class:`Searcher` proposes the process of the next round and is told the held-out loss at its end, and its gradient if
    it wants that. A round that is too short to tell processes apart is repeated with other batches, and the means count.

    Use, until :attr:`finished`: :meth:`begin`; train :attr:`round` with its batches; :meth:`end`.

    Args:
        grid (PathwayGrid): The pathways.
        round (Round): Trains a round.
        searcher (Searcher): The strategy.
        repeats (int): Rounds of each process, >= 1. Defaults to 1.
        price (Tensor, optional): Added to the held-out loss for each unit of weight on a pathway [N]. Defaults to None.
    """

    def __init__(self, grid: PathwayGrid, round: Round, searcher: Searcher, repeats: int = 1,
                 price: Tensor | None = None) -> None:
        self.grid, self.round, self.searcher, self.repeats, self.price = grid, round, searcher, repeats, price
        self._trial: Trial | None = None
        self._initial: dict | None = None
        self._losses: list[float] = []  # of the present trial's repeats that are done
        self._gradients: list[Tensor] = []

    @property
    def trial(self) -> Trial:
        """Trial: The process of the present round, or of the last one."""
        if self._trial is None:
            raise SearchError('there is no round yet, or no more: begin() starts one while the search is not finished')
        return self._trial

    @property
    def finished(self) -> bool:
        """bool: Whether the search is at its end."""
        return self.searcher.finished

    @property
    def rounds(self) -> int:
        """int: Rounds of all trials so far, and of the present one."""
        return (len(self.searcher.history) + (not self.finished)) * self.repeats

    @property
    def stores(self) -> bool:
        """bool: Whether the present round may be differentiated at its end."""
        return self.searcher.differentiates and self.trial.kind == 'step' and self.searcher.steps_left > 1

    def begin(self) -> None:
        """Start the next round from the state before the first one."""
        training = self.round.training
        if self._initial is None:
            self._initial = copied(training.state())
        training.set_state(copied(self._initial))
        if self._trial is None or self._trial.loss is not None:
            self._trial = self.searcher.ask()
        with torch.no_grad():
            self.round.begin(self.weights(self.trial), self.stores)

    def end(self) -> float | None:
        """End a round.

        Returns:
            float: The mean held-out loss if it was the last repeat of its process; None if there are more.
        """
        searcher, trial, weights = self.searcher, self.trial, self.round.weights
        with without_side_effects(self.round.training.model):
            loss = self.round.measure()
            if self.price is not None:
                loss += (_with_scheduled(self.price.to(weights), self.grid) * weights.mean(0)).sum().item()
            self._losses.append(loss)
            if self.stores and searcher.wants_gradient(trial, _mean(self._losses)):
                self._gradients.append(self._gradient(self.round.derivatives()).cpu())
        if len(self._losses) < self.repeats:
            return None
        loss = _mean(self._losses)
        followed = len(self._gradients) == self.repeats and searcher.wants_gradient(trial, loss)
        searcher.tell(trial, loss, torch.stack(self._gradients).mean(0) if followed else None)
        self._losses, self._gradients = [], []
        return loss

    def _gradient(self, derivatives: Tensor) -> Tensor:
        """By alpha [knots, N + S], of the derivatives by the weights of all iterations."""
        if self.price is not None:
            derivatives = derivatives + _with_scheduled(self.price.to(derivatives), self.grid) / self.round.iterations
        alpha = self.trial.alpha.clone().requires_grad_()
        return torch.autograd.grad((self.weights(self.trial, alpha) * derivatives).sum(), alpha)[0]

    def weights(self, trial: Trial, alpha: Tensor | None = None) -> Tensor:
        """Weights of all iterations [iterations, N + S], differentiable in alpha [knots, N + S], or of the trial's."""
        alpha = (trial.alpha if alpha is None else alpha).to(self.grid.alpha)
        count = len(self.grid.pathways)
        knots = torch.stack([torch.cat([self._weighting(trial)(knot[:count]), knot[count:].exp()]) for knot in alpha])
        progress = np.linspace(0, 1, self.round.iterations)
        shares = interpolate(np.linspace(0, 1, len(knots)), np.eye(len(knots)), progress)  # of the knots in an iteration
        return torch.from_numpy(shares).to(knots) @ knots

    def _weighting(self, trial: Trial) -> Weighting:
        return reference_weighting(self.grid) if trial.kind in self.searcher.references else self.grid.weighting

    def process(self) -> DistillationProcess | None:
        """The best process so far, with the trials as its origin; None before the first trial is done."""
        searcher, best = self.searcher, self.searcher.best
        if best is None:
            return None
        knots = len(best.alpha)
        origin = dict(
            iterations=self.round.iterations, trials=[trial.to_dict() for trial in searcher.history], best=best.kind,
            guessing=searcher.guessing if math.isfinite(searcher.guessing) else None, complete=searcher.finished)
        count = len(self.grid.pathways)
        scheduled = dict(zip(self.grid.scheduled, best.alpha[:, count:].exp().T.tolist()))
        return DistillationProcess(self.grid.names, self._weighting(best), [knot / (knots - 1) for knot in range(knots)],
                                   best.alpha[:, :count].tolist(), origin, self.grid.layer_names, scheduled)

    def report(self, trial: Trial) -> str:
        """The last trial and its result in words."""
        found = f'held-out loss {trial.loss:.4f}' if trial.finite else 'training diverged'
        return f'Trial {len(self.searcher.history)}, {self.describe(trial)}: {found}'

    def try_derivatives(self, batch: Any, losses: Callable[[], Iterable[Tensor]]) -> None:
        """Differentiate one step with the initial process; arguments as in :meth:`Round.try_derivatives`."""
        self.round.try_derivatives(self.weights(Trial('step', self.searcher.initial)).detach()[0], batch, losses)

    def describe(self, trial: Trial) -> str:
        """A trial in words."""
        if trial.confirms:
            first = next(other for other in self.searcher.history if torch.equal(other.alpha, trial.alpha))
            return f'{self.describe(first)}, again'
        if trial.kind == 'level':
            divisions = [id(other) for other in self.searcher.of_kind('level')].index(id(trial))
            return f'initial weights divided by {self.searcher.factor**divisions:g}' if divisions else 'initial weights'
        return dict(student='student alone', kd='plain KD', logits='other weight of the logits', shape='rising weights',
                    step='refinement')[trial.kind]

    def summary(self) -> str:
        """The references' held-out losses, in words."""
        others = ', '.join(f'{name} {trial.loss:.4f}' for name in self.searcher.references
                           for trial in self.searcher.of_kind(name))
        if math.isfinite(self.searcher.guessing):
            others += f', guessing {self.searcher.guessing:.4f}'
        return others

    def warning(self) -> str | None:
        """What is wrong with the result, if it is no better than what needs no search; None if nothing, or without one."""
        searcher, best = self.searcher, self.searcher.best
        if best is None:
            return None
        if best.kind in searcher.references:
            held = 'the student alone, all weights 0' if best.kind == 'student' else 'plain KD'
            return (f'No process is better than {best.kind!r} on the held-out images ({self.summary()}): the process holds '
                    f'{held}. More images, a better teacher or longer rounds (min_iterations) may help')
        if searcher.mean_loss(best) >= searcher.bar:
            return (f'The best held-out loss, {searcher.mean_loss(best):.4f}, is not below guessing ({searcher.bar:.4f}): '
                    'the student learns nothing in a round; give more epochs or check the learning rate')
        return None

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return dict(searcher=self.searcher.state_dict(), initial=self._initial, losses=self._losses,
                    gradients=self._gradients)

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave."""
        state = copied(state)  # a checkpoint may be loaded onto a GPU
        self.searcher.load_state_dict(state['searcher'])
        self._trial = None  # the round begins again
        self._initial, self._losses, self._gradients = state['initial'], state['losses'], state['gradients']


def build_searcher(grid: PathwayGrid, searcher: str | type | dict, rounds: int = 3, knots: int = 4,
                   initial_bump: float = 3.0, feature_weight: float = 16.0, references: Sequence[str] = REFERENCES,
                   guessing: float = math.inf, max_divisions: int = 5, seed: int = 0,
                   initial: ProcessLike | None = None) -> Searcher:
    """A search strategy that starts from the default process or from a given one.

    Args:
        grid (PathwayGrid): The pathways, and what else is searched for (:meth:`PathwayGrid.schedule`).
        searcher (str, type or dict): Its name or class, or a dict with arguments, see :func:`strategy_of`.
        rounds (int): Refinements, >= 0. Defaults to 3.
        knots (int): Evenly spaced points of the run, >= 2, at which alpha is free. Defaults to 4.
        initial_bump (float): Offset added to the initial alpha at every interior knot. Defaults to 3: exp(3) = 20 times the
            weight at the ends. Weights that increase by as much from the first knot to the last are tried as well.
        feature_weight (float): Factor of the feature pathways' initial weights exp(alpha), > 0. Defaults to 16.
        references (Sequence[str]): Some of :data:`REFERENCES`. 'kd' is left out where no pathway is between logits.
        guessing (float): Loss of a classifier that guesses. Defaults to infinity: unknown.
        max_divisions (int): How often the initial weights are divided by 4 at most, >= 0. Defaults to 5.
        seed (int): Seed of random strategies. Defaults to 0.
        initial (str, dict or DistillationProcess, optional): The process that is tried first, as in
            :func:`distpro.process.fit_process`, mapped to the pathways by depth. ``initial_bump`` and ``feature_weight`` do
            not apply, and rising weights are not tried. Defaults to None: the default process.

    Raises:
        ArgumentError: If the strategy is unknown, an argument of it is out of range, or the initial process does not fit.
    """
    kind, arguments = strategy_of(searcher, rounds)
    if not rounds and not max_divisions:
        raise ArgumentError('rounds=0 and max_divisions=0 leave nothing to search for: give one of the two')
    free = grid.weighting.type == 'exponential'
    constant = grid.alpha.detach().cpu().repeat(knots, 1)
    if free:
        features = [index for index in range(constant.shape[1]) if index not in grid.logit_indices]
        constant[:, features] += math.log(feature_weight)
    rising = constant + initial_bump * torch.linspace(0, 1, knots)[:, None] if initial is None and initial_bump else None
    if initial is None:
        first = constant.clone()
        first[1:-1] += initial_bump
        first = _with_scheduled(first, grid)
    else:
        with argument_prefix('initial: '):
            first = _alpha_of(initial, grid, knots).to(constant)
    known = reference_alphas(grid, knots)
    with argument_prefix('searcher: '):
        return kind(first, {name: _with_scheduled(known[name], grid) for name in references if name in known}, rounds,
                    grid.logit_indices, len(grid.scheduled), guessing, has_level=free, max_divisions=max_divisions,
                    seed=seed, off=OFF, other_shape=None if rising is None else _with_scheduled(rising, grid), **arguments)


def _with_scheduled(numbers: Tensor, grid: PathwayGrid) -> Tensor:
    """Numbers [..., N] of the pathways, and 0 for what is scheduled, which as alpha is a factor of 1: [..., N + S]."""
    return torch.nn.functional.pad(numbers, (0, len(grid.scheduled)))


def _alpha_of(source: ProcessLike, grid: PathwayGrid, knots: int) -> Tensor:
    """alpha [knots, N + S] of a process for the grid's pathways and for what it schedules, float64."""
    process = fit_process(source, grid.names, grid.layer_names, grid.weighting.unit, transfer=True)
    if grid.weighting.type != 'exponential':
        raise ArgumentError(f"a search can start from a process with weighting.type='exponential' only, got "
                            f"'{grid.weighting.type}'")
    if process.weighting.unit != grid.weighting.unit:
        raise ArgumentError(f"the process has weights in the unit '{process.weighting.unit}', and weighting.unit="
                            f"'{grid.weighting.unit}'")
    progress = np.linspace(0, 1, knots).tolist()
    others = dict(zip(process.scheduled, process.scheduled_at(progress).T))
    columns = [*process.weights_at(progress).T, *(others.get(name, np.ones(knots)) for name in grid.scheduled)]
    return torch.from_numpy(log_weights(np.stack(columns, axis=1)))


def reference_alphas(grid: PathwayGrid, knots: int) -> dict[str, Tensor]:
    """alpha [knots, N] of the student alone and, if there are pathways between logits, of plain KD."""
    off = torch.full((knots, len(grid.pathways)), OFF, dtype=grid.alpha.dtype)
    if not grid.logit_indices:
        return dict(student=off)
    kd = off.clone()
    # One logit loss in all: in the unit 'variance' they are averaged anyway.
    count = 1 if grid.weighting.unit == 'variance' else len(grid.logit_indices)
    kd[:, grid.logit_indices] = -math.log(count * float(reference_weighting(grid)(torch.zeros(1))))
    return dict(student=off, kd=kd)


def reference_weighting(grid: PathwayGrid) -> Weighting:
    """A weighting that can switch pathways off: the grid's own, or exp(alpha)."""
    own = grid.weighting
    return own if own.type == 'exponential' else Weighting('exponential', unit=own.unit)


def round_epochs(max_epochs: int, iterations: int, share: float, min_iterations: int) -> int:
    """Epochs of a round: a share of the training's, at least enough for ``min_iterations``, at most the training's.

    Args:
        max_epochs (int): Epochs of the training.
        iterations (int): Iterations of an epoch.
        share (float): Share of the training, in (0, 1].
        min_iterations (int): Least iterations of a round.

    Returns:
        int: Epochs, >= 1.
    """
    return max(1, min(max_epochs, max(round(share * max_epochs), math.ceil(min_iterations / iterations))))


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
