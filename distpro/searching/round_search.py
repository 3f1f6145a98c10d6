"""The default search: which process a short training ends best with on held-out images."""
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import SearchError
from ..pathways import PathwayGrid
from ..process import DistillationProcess, interpolate
from ..random_state import without_side_effects
from ..weighting import Weighting
from .first_process import reference_weighting, with_scheduled
from .round import Round, copied
from .searchers import BETTER, Searcher, Trial


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

    Attributes:
        gradient (Tensor, optional): Gradient of the last trial's held-out loss by alpha [knots, N]; None without one.
    """

    def __init__(self, grid: PathwayGrid, round: Round, searcher: Searcher, repeats: int = 1,
                 price: Tensor | None = None) -> None:
        self.grid, self.round, self.searcher, self.repeats, self.price = grid, round, searcher, repeats, price
        self.gradient: Tensor | None = None
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
    def number(self) -> int:
        """int: The number of the next round, or of the present one before its end, from 1; repeats count."""
        return len(self.searcher.history) * self.repeats + len(self._losses) + 1

    @property
    def stores(self) -> bool:
        """bool: Whether the present round may be differentiated at its end."""
        return self.searcher.differentiates and self.trial.kind == 'step' and self.searcher.steps_left > 1

    def begin(self) -> None:
        """Start the next round from the state before the first one."""
        self.remember()
        self.round.training.set_state(copied(self._initial))
        if self._trial is None or self._trial.loss is not None:
            self._trial = self.searcher.ask()
        with torch.no_grad():
            self.round.begin(self.weights(self.trial), self.stores)

    def remember(self) -> None:
        """Remember the state of the training, from which all rounds start; nothing if one is known."""
        if self._initial is None:
            self._initial = copied(self.round.training.state())

    def end(self) -> float | None:
        """End a round.

        Returns:
            float: The mean held-out loss if it was the last repeat of its process; None if there are more.
        """
        searcher, trial, weights = self.searcher, self.trial, self.round.weights
        with without_side_effects(self.round.training.model):
            loss = self.round.measure()
            if self.price is not None:
                loss += (with_scheduled(self.price.to(weights), self.grid) * weights.mean(0)).sum().item()
            self._losses.append(loss)
            if self.stores and searcher.wants_gradient(trial, _mean(self._losses)):
                self._gradients.append(self._gradient(self.round.derivatives()).cpu())
        if len(self._losses) < self.repeats:
            return None
        loss = _mean(self._losses)
        followed = len(self._gradients) == self.repeats and searcher.wants_gradient(trial, loss)
        self.tell(trial, loss, torch.stack(self._gradients).mean(0) if followed else None)
        return loss

    def tell(self, trial: Trial, loss: float, gradient: Tensor | None = None) -> None:
        """Tell the searcher the result of a trial, which may have been trained elsewhere; as :meth:`Searcher.tell`."""
        self._trial, self.gradient = trial, gradient
        self._losses, self._gradients = [], []
        self.searcher.tell(trial, loss, gradient)

    def _gradient(self, derivatives: Tensor) -> Tensor:
        """By alpha [knots, N + S], of the derivatives by the weights of all iterations."""
        if self.price is not None:
            derivatives = derivatives + with_scheduled(self.price.to(derivatives), self.grid) / self.round.iterations
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
            iterations=self.round.iterations, trials=[trial.to_dict() for trial in searcher.history],
            best='initial' if searcher.is_initial(best) else best.kind,
            guessing=searcher.guessing if math.isfinite(searcher.guessing) else None, complete=searcher.finished)
        count = len(self.grid.pathways)
        scheduled = dict(zip(self.grid.scheduled, best.alpha[:, count:].exp().T.tolist()))
        return DistillationProcess(self.grid.names, self._weighting(best), [knot / (knots - 1) for knot in range(knots)],
                                   best.alpha[:, :count].tolist(), origin, self.grid.layer_names, scheduled)

    def report(self, trial: Trial) -> str:
        """The last trial and its result in words."""
        found = f'held-out loss {trial.loss:.4f}' if trial.finite else 'training diverged'
        return f'Trial {len(self.searcher.history)}, {self.describe(trial)}: {found}'

    def try_step(self, batch: Any, losses: Callable[[], Iterable[Tensor]]) -> None:
        """Take one step with the initial process and go back; arguments as in :meth:`Round.try_step`."""
        self.round.try_step(self.weights(Trial('step', self.searcher.initial)).detach()[0], batch, losses)

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
        others = [f'{name} {trial.loss:.4f}' for name in self.searcher.references for trial in self.searcher.of_kind(name)]
        if math.isfinite(self.searcher.guessing):
            others.append(f'guessing {self.searcher.guessing:.4f}')
        return ', '.join(others)

    def result(self) -> str:
        """What was found, in words; nothing before a trial has a finite held-out loss."""
        searcher, best = self.searcher, self.searcher.best
        if best is None:
            return ''
        found = f'The best process has a held-out loss of {searcher.decisive_loss(best):.4f}'
        if searcher.is_initial(best):
            found += f', and is the initial one: another must be {1 - BETTER:.0%} below it'
        return f'{found} ({others})' if (others := self.summary()) else found

    def warning(self) -> str | None:
        """What is wrong with the result, if it is no better than what needs no search; None if nothing, or without one."""
        searcher, best = self.searcher, self.searcher.best
        if best is None:
            return None
        if best.kind in searcher.references:
            held = 'the student alone, all weights 0' if best.kind == 'student' else 'plain KD'
            return (f'No process is better than {best.kind!r} on the held-out images ({self.summary()}): the process holds '
                    f'{held}. More images, a better teacher or longer rounds (min_iterations) may help')
        loss = searcher.decisive_loss(best)
        if loss >= searcher.guessing:
            return (f'The best held-out loss, {loss:.4f}, is not below guessing ({searcher.guessing:.4f}): '
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


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
