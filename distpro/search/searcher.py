"""Search strategies: which process to try in the next round, given the held-out losses of those that were tried."""
import copy
import dataclasses
import math
from typing import Dict, List, Optional, Sequence

import numpy as np
import torch
from cmaes import CMA
from torch import Tensor

POPULATION = 7  # rounds of a generation of EvolutionSearcher
SCATTER = 2.0  # factor by which held-out losses of two trainings of one process differ, on a few hundred images
HALF_STEP_AT = 0.25  # of the median absolute gradient
TINY = torch.finfo(torch.float32).tiny
SEARCHERS: Dict[str, type] = {}


def register_searcher(name: str):
    """Register a subclass of :class:`Searcher` under a name."""
    def register(cls: type) -> type:
        SEARCHERS[name] = cls
        return cls

    return register


@dataclasses.dataclass
class Trial:
    """A process that was tried, or is to be.

    Args:
        kind (str): Name of a reference; 'level': a total weight; or 'step': a refinement of the best level.
        alpha (Tensor): Free parameters [knots, N].
        loss (float, optional): Held-out loss, NaN if training diverged. Defaults to None: not known yet.
    """
    kind: str
    alpha: Tensor
    loss: Optional[float] = None

    @property
    def finite(self) -> bool:
        """bool: Whether it has a finite held-out loss."""
        return self.loss is not None and math.isfinite(self.loss)


class Searcher:
    """Base of the search strategies: references first, then the level of the weights, then a refinement.

    1. Each reference ('student', the student alone; 'kd', plain KD) is tried once. The lowest of their losses and of
       ``guessing`` is the bar that a process must beat.
    2. 'level': the initial process is tried, and then the same process with all weights divided by ``factor``, again and
       again: until the loss rises while the lowest is below the bar, or rises twice. At least one division is tried, at
       most ``max_divisions``.
    3. 'logits': the best level is tried with the logits as plain KD has them if that was better than the student alone, and
       without logits if not. While that is the best so far, the other weights are divided further.
    4. 'step': the best of these is refined in ``rounds`` trials by :meth:`refine`, unless it is above ``SCATTER`` times the
       bar, from where the refinement does not come down.

    Use: :meth:`ask` for a trial, train with it, then :meth:`tell` its held-out loss, with the gradient where
    :meth:`wants_gradient` says so, until ``finished``.

    Args:
        initial (Tensor): alpha [knots, N] of the first level.
        references (dict[str, Tensor]): alpha [knots, N] of the references, some of 'student' and 'kd'.
        rounds (int): Trials of the refinement, >= 1.
        logits (Sequence[int]): Columns of alpha that belong to pathways between logits. Defaults to none.
        guessing (float): Loss of a student that has learned nothing. Defaults to infinity.
        has_level (bool): Whether a lower alpha means a lower weight by the same factor, as with ``exp(alpha)``. If not,
            ``max_divisions`` counts as 0. Defaults to True.
        factor (float): Divides the weights from one level to the next, > 1. Defaults to 4.
        max_divisions (int): Divisions tried at most, >= 0. 0: the initial process is refined without a trial of its level.
            Defaults to 5.
        seed (int): Seed of random searchers. Defaults to 0.
        off (float): alpha of a pathway that is switched off and stays so. Defaults to minus infinity.
    """
    differentiates = False
    minimum_rounds = 1

    def __init__(self, initial: Tensor, references: Dict[str, Tensor], rounds: int, logits: Sequence[int] = (),
                 guessing: float = math.inf, has_level: bool = True, factor: float = 4.0, max_divisions: int = 5,
                 seed: int = 0, off: float = -math.inf) -> None:
        self.off = off
        self.initial, self.references, self.rounds = initial.detach().clone(), references, rounds
        self.logits, self.guessing, self.factor, self.seed = list(logits), guessing, factor, seed
        self.max_divisions = max_divisions if has_level else 0
        self.history: List[Trial] = []

    def of_kind(self, kind: str) -> List[Trial]:
        """list[Trial]: The trials of a kind that were told, in order."""
        return [trial for trial in self.history if trial.kind == kind]

    @property
    def bar(self) -> float:
        """float: The loss that a process must beat."""
        reference = _lowest([trial for trial in self.history if trial.kind in self.references])
        return min(self.guessing, math.inf if reference is None else reference.loss)

    def mean_loss(self, trial: Trial) -> float:
        """float: Mean loss of all trials of the same process: trainings scatter, and a lucky one must not win by that."""
        same = [other.loss for other in self.history if torch.equal(other.alpha, trial.alpha)]
        return sum(same) / len(same)

    @property
    def best(self) -> Optional[Trial]:
        """Trial: The process with the lowest mean loss, references included; None if none is finite."""
        finite = [trial for trial in self.history if math.isfinite(self.mean_loss(trial))]
        return min(finite, key=self.mean_loss, default=None)

    @property
    def best_level(self) -> Optional[Trial]:
        """Trial: The trial with the lowest loss before the refinement, without references; None if none is finite."""
        return _lowest(self.of_kind('level') + self.of_kind('logits'))

    def _next_level(self) -> Optional[Trial]:
        """The next trial of all weights divided together; None if the level is known."""
        losses = [trial.loss if trial.finite else math.inf for trial in self.of_kind('level')]
        rises = [after >= before for before, after in zip(losses, losses[1:])]
        enough = 1 if losses and min(losses) < self.bar else 2  # rises in a row after which lower levels are not tried
        known = not self.max_divisions or len(losses) > self.max_divisions or \
            len(rises) >= enough and all(rises[-enough:]) and min(losses) < math.inf
        return None if known else Trial('level', self.initial - len(losses) * math.log(self.factor))

    def _next_logits(self) -> Optional[Trial]:
        """The next trial with the logits taken apart; None if there is none."""
        student, kd = (_lowest(self.of_kind(name)) for name in ('student', 'kd'))
        base, done = _lowest(self.of_kind('level')), self.of_kind('logits')
        if not self.max_divisions or None in (student, kd, base) or len(self.logits) == self.initial.shape[1]:
            return None
        if done and (len(done) > self.max_divisions or done[-1] is not self.best_level):
            return None
        alpha = base.alpha - len(done) * math.log(self.factor)
        alpha[:, self.logits] = self.references['kd' if kd.loss < student.loss else 'student'][:, self.logits]
        return Trial('logits', alpha)

    @property
    def steps_left(self) -> int:
        """int: Refinements that are still to come, the present one included."""
        return self.rounds - len(self.of_kind('step'))

    def ask(self) -> Optional[Trial]:
        """Trial: What to try next, the same until :meth:`tell`; None if the search is finished."""
        for name, alpha in self.references.items():
            if not self.of_kind(name):
                return Trial(name, alpha.clone())
        trial = self._next_level() or self._next_logits()
        if trial is None and self.base is not None and self.steps_left > 0:
            trial = Trial('step', self.refine(len(self.of_kind('step'))))
        return trial

    @property
    def base(self) -> Optional[Tensor]:
        """Tensor: alpha [knots, N] that the refinement starts from; None if no level comes near the bar."""
        if not self.max_divisions:
            return self.initial
        best = self.best_level
        return None if best is None or best.loss >= SCATTER * self.bar else best.alpha

    @property
    def finished(self) -> bool:
        """bool: Whether there is nothing more to try."""
        return self.ask() is None

    def _changed(self, change: Tensor) -> Tensor:
        """The base with a change [knots, N] added; what is switched off stays so."""
        return torch.where(self.base > self.off, self.base + change.to(self.base), self.base)

    def refine(self, step: int) -> Tensor:
        """Tensor: alpha [knots, N] of a refinement, counted from 0."""
        raise NotImplementedError

    def wants_gradient(self, loss: float) -> bool:
        """Whether the gradient of the held-out loss is wanted of the present trial, given its loss."""
        return False

    def tell(self, loss: float, gradient: Optional[Tensor] = None) -> Trial:
        """Report the present trial.

        Args:
            loss (float): Its held-out loss; NaN if its training diverged.
            gradient (Tensor, optional): The loss's gradient with respect to alpha [knots, N].

        Returns:
            Trial: The trial.
        """
        trial = self.ask()
        trial.loss = float(loss)
        self.history.append(trial)
        return trial

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return dict(history=[dataclasses.asdict(trial) for trial in self.history])

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave."""
        self.history = [Trial(**trial) for trial in state['history']]


def _lowest(trials: Sequence[Trial]) -> Optional[Trial]:
    return min((trial for trial in trials if trial.finite), key=lambda trial: trial.loss, default=None)


@register_searcher('rprop')
class RpropSearcher(Searcher):
    """Follows the gradient's sign from the best level, with a step length of its own at every knot and pathway.

    A trial is followed up to a loss of 1 + tolerance times the lowest. One that is worse, diverged or has no finite
    gradient is not: alpha goes back to the best trial's and takes half the step.

    Args:
        step_size (float): Longest step of alpha, > 0. Defaults to 0.7.
        tolerance (float): See above, >= 0. Defaults to 0.05.
        **kwargs: Of :class:`Searcher`.

    Note:
        Source: Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993; steps are also
        shortened where the gradient is small against the median.
    """
    differentiates = True

    def __init__(self, *args, step_size: float = 0.7, tolerance: float = 0.05, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.tolerance = tolerance
        self.alpha = torch.zeros_like(self.initial, requires_grad=True)
        self.optimizer = torch.optim.Rprop([self.alpha], lr=step_size, step_sizes=(0, step_size))
        self._followed: Optional[dict] = None  # best step: alpha, loss, gradient and the optimiser's state before its step
        self._next: Optional[Tensor] = None

    def refine(self, step: int) -> Tensor:
        """Tensor: The best level again, to be differentiated, then where the gradient leads."""
        return self.base.clone() if self._next is None else self._next.clone()

    def _near(self, loss: float) -> bool:
        best = self._followed
        return math.isfinite(loss) and (best is None or loss <= best['loss'] + self.tolerance * abs(best['loss']))

    def wants_gradient(self, loss: float) -> bool:
        """Whether the present trial is one to follow; the last one is not."""
        return self.ask().kind == 'step' and self.steps_left > 1 and self._near(loss)

    def tell(self, loss: float, gradient: Optional[Tensor] = None) -> Trial:
        """Report the present trial and take a step of alpha; arguments as in :meth:`Searcher.tell`."""
        trial = super().tell(loss, gradient)
        if trial.kind != 'step' or self.steps_left <= 0:
            return trial
        here = self._followed
        if gradient is not None and gradient.isfinite().all():
            here = dict(alpha=trial.alpha, loss=trial.loss, gradient=gradient.detach().to(trial.alpha),
                        optimizer=copy.deepcopy(self.optimizer.state_dict()))
            if self._followed is None or trial.loss < self._followed['loss']:
                self._followed = here
        elif here is not None:
            for part in (*here['optimizer']['param_groups'], *here['optimizer']['state'].values()):
                length = 'lr' if 'lr' in part else 'step_size'
                part[length] = part[length] / 2
        self._next = trial.alpha if here is None else self._step_from(here)
        return trial

    def _step_from(self, here: dict) -> Tensor:
        with torch.no_grad():
            self.alpha.copy_(here['alpha'])
        self.optimizer.load_state_dict(copy.deepcopy(here['optimizer']))
        self.alpha.grad = here['gradient'].clone()
        self.optimizer.step()
        self.alpha.grad = None
        size = here['gradient'].abs()  # Rprop follows the sign alone, which is chance where a weight hardly matters
        share = size / (size + HALF_STEP_AT * size.median() + TINY)
        return torch.lerp(here['alpha'], self.alpha.detach(), share)

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return dict(super().state_dict(), followed=self._followed, next=self._next, optimizer=self.optimizer.state_dict())

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        self._followed, self._next = state['followed'], state['next']
        self.optimizer.load_state_dict(state['optimizer'])


@register_searcher('random')
class RandomSearcher(Searcher):
    """A control: normal numbers of standard deviation 1 added to the best level.

    One number for each knot, each pathway, and both.
    """

    def refine(self, step: int) -> Tensor:
        """Tensor: The best level and a random change."""
        knots, pathways = self.initial.shape
        random = np.random.RandomState([self.seed, step])
        change = random.randn(knots, 1) + random.randn(1, pathways) + random.randn(knots, pathways)
        return self._changed(torch.from_numpy(change))


@register_searcher('evolution')
class EvolutionSearcher(Searcher):
    """CMA-ES from the best level, over one number for each knot and one for each pathway, which are added."""
    minimum_rounds = POPULATION + 1

    def refine(self, step: int) -> Tensor:
        """Tensor: The next member of a generation; all generations are gone through anew, so no state is needed."""
        knots, pathways = self.initial.shape
        evolution = CMA(np.zeros(knots + pathways), 1.0, population_size=POPULATION, seed=self.seed % 2**32)
        member = evolution.ask()
        generation = []
        for trial in self.of_kind('step')[:step]:
            generation.append((member, trial.loss if trial.finite else np.finfo(np.float64).max))
            if len(generation) == POPULATION:
                evolution.tell(generation)
                generation = []
            member = evolution.ask()
        return self._changed(torch.from_numpy(member[:knots, None] + member[knots:]))
