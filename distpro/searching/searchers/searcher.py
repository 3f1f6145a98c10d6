"""Search strategies: which process to try in the next round, given the held-out losses of those that were tried."""
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import FLAG, check_choice, check_whole, register
from ...errors import SearchError
from .ask_tell import AskTell
from .confirmation import SCATTER, Confirmation, confirmation_of, known_stays
from .trial import Trial, lowest, refined
from .trial_losses import TrialLosses

EXPLORED = ('level', 'logits', 'shape')  # kinds of trials of processes before the refinement
SEARCHERS: dict[str, type] = {}


def register_searcher(searcher: type) -> type:
    """Register a subclass of :class:`Searcher` under its class name; a decorator."""
    register(SEARCHERS, searcher)
    return searcher


class Searcher(AskTell[Trial]):
    """Base of the search strategies: references first, then the level of the weights, then a refinement.

    1. Each reference ('student', the student alone; 'kd', plain KD) is tried once. The lowest of their losses and of
       ``guessing`` is the bar that a process must beat.
    2. 'level': the initial process is tried, and then the same process with all weights divided by ``factor``, again and
       again: until the loss rises while the lowest is below the bar, or rises twice. At least one division is tried, at
       most ``max_divisions``. If the initial process is ``known`` and below the bar, 2 to 4 end with that trial, unless
       ``rounds`` is 0.
    3. 'logits': the best level is tried with the logits as plain KD has them if that was better than the student alone, and
       without logits if not. While that is the best so far, the other weights are divided further.
    4. 'shape': the best of these is tried with the course over time of ``other_shape``. While that is the best so far, the
       weights are divided further.
    5. 'step': the best of these is refined in ``rounds`` trials by :meth:`refine`, unless it is above twice the bar, from
       where it does not come down. It ends if two trials of one process differ by more than this factor.
    6. The lowest of many losses is partly luck. Processes and a reference that are as close to the best one as two trials
       of one process are to each other are tried up to ``confirmations`` times more, three at most, and these trials
       decide; see :func:`.confirmation_of`. One time more is enough while no two trials of one process differ by 10% or
       more. Between a reference and the best process the factor is the square of that of two trials, at least 1.25; a
       reference that comes as close to the winner joins later.
    7. A ``known`` initial process that is below the bar is the result unless another is 2% below it; see
       :func:`.known_stays`.

    See :class:`AskTell` for its use; :meth:`tell` gets the gradient too where :meth:`wants_gradient` returns True. Open may
    be the references, the first level, and as many refinements as permitted. A new strategy overrides :meth:`refine`.

    Args:
        initial (Tensor): alpha [knots, N] of the first level.
        references (dict[str, Tensor]): alpha [knots, N] of the references, some of 'student' and 'kd'.
        rounds (int): Trials of the refinement, >= 0. With 0, the search ends with the level, and nothing is differentiated.
        logits (Sequence[int]): Columns of alpha that belong to pathways between logits. Defaults to none.
        others (int): Number of the last columns that are no weights; levels do not change them. Defaults to 0.
        guessing (float): Loss of a student that has learned nothing. Defaults to infinity.
        has_level (bool): Whether a lower alpha means a lower weight by the same factor, as with ``exp(alpha)``. If not,
            ``max_divisions`` counts as 0. Defaults to True.
        factor (float): Divides the weights from one level to the next, > 1. Defaults to 4.
        max_divisions (int): Divisions tried at most, >= 0. 0: the initial process is refined without a trial of its own.
            Defaults to 5.
        seed (int): Seed of random searchers. Defaults to 0.
        off (float): alpha of a pathway that stays switched off. Defaults to minus infinity.
        confirmations (int): See above, >= 0. Defaults to 3.
        other_shape (Tensor, optional): See above, alpha [knots, N] of another initial process. Defaults to None.
        known (bool): Whether the initial process was searched, so that its level is right if it is below the bar, and it
            needs more than luck to leave it. Defaults to False.

    Raises:
        ArgumentError: If ``confirmations``, ``has_level`` or ``known`` is out of range.
    """
    differentiates = False
    minimum_rounds = 1
    candidate = Trial

    def __init__(self, initial: Tensor, references: dict[str, Tensor], rounds: int, logits: Sequence[int] = (),
                 others: int = 0, guessing: float = math.inf, has_level: bool = True, factor: float = 4.0,
                 max_divisions: int = 5, seed: int = 0, off: float = -math.inf, confirmations: int = 3,
                 other_shape: Tensor | None = None, known: bool = False) -> None:
        super().__init__()
        check_whole('confirmations', confirmations, least=0)
        check_choice('has_level', has_level, FLAG)
        check_choice('known', known, FLAG)
        if not rounds:
            self.differentiates = False
        self.off, self.confirmations, self.other_shape, self.known = off, confirmations, other_shape, known
        self.initial, self.references, self.rounds = initial.detach().clone(), references, rounds
        self.logits, self.guessing, self.factor, self.seed = list(logits), guessing, factor, seed
        self.others = list(range(initial.shape[1] - others, initial.shape[1]))
        self.max_divisions = max_divisions if has_level else 0

    def of_kind(self, kind: str) -> list[Trial]:
        """list[Trial]: The finished trials of a kind, in order, without those that confirm a result."""
        return [trial for trial in self._tried if trial.kind == kind]

    @property
    def _tried(self) -> list[Trial]:
        """The finished trials without those that confirm a result."""
        return self._losses.first

    @property
    def bar(self) -> float:
        """float: The loss that a process must beat."""
        reference = lowest([trial for name in self.references for trial in self.of_kind(name)])
        return min(self.guessing, math.inf if reference is None else reference.result)

    @property
    def _losses(self) -> TrialLosses:
        """TrialLosses: Of all finished trials."""
        return TrialLosses(self.history)

    def mean_loss(self, trial: Trial) -> float:
        """float: Mean loss of all trials of the same process that do not confirm a result."""
        return self._losses.mean(trial)

    def decisive_loss(self, trial: Trial) -> float:
        """float: Mean loss of the trials that confirm a process, or of the others if none does."""
        return self._losses.decisive(trial)

    @property
    def scatter(self) -> float | None:
        """float: Largest ratio of the losses of two trials of one process; None if none was tried twice."""
        return self._losses.scatter()

    @property
    def best(self) -> Trial | None:
        """Trial: The process with the lowest mean loss, references included; None if none is finite.

        If the result was confirmed, the trials for that decide among the processes that were repeated. A known initial
        process stays unless another is clearly better.
        """
        confirmation = self._confirmation()
        winner = next(iter(self._losses.lowest_means(self._tried, 1)), None)
        if confirmation is not None and confirmation.asks is None and confirmation.winner is not None:
            winner = confirmation.winner.trial
        initial = next((trial for trial in self._tried if self.is_initial(trial)), None)
        if winner is None or winner.kind in self.references or initial is None or self.mean_loss(initial) >= self.bar:
            return winner
        return initial if known_stays(self._losses, initial, winner) else winner

    def is_initial(self, trial: Trial) -> bool:
        """Whether a trial is of the initial process, and that is known."""
        return self.known and torch.equal(trial.alpha, self.initial)

    def _confirmation(self) -> Confirmation | None:
        """How the result is confirmed; None before the refinement is over, and where the result is clear."""
        if not self.confirmations or self._explore() is not None or self._refines:
            return None
        return confirmation_of(self._losses, list(self.references), self.confirmations)

    @property
    def best_level(self) -> Trial | None:
        """Trial: The trial with the lowest loss before the refinement, without references; None if none is finite."""
        return lowest([trial for kind in EXPLORED for trial in self.of_kind(kind)])

    def _next_level(self) -> Trial | None:
        """The next trial of all weights divided together; None if the level is known."""
        losses = [trial.result if trial.finite else math.inf for trial in self.of_kind('level')]
        rises = [after >= before for before, after in zip(losses, losses[1:])]
        enough = 1 if losses and min(losses) < self.bar else 2  # rises in a row after which lower levels are not tried
        known = not self.max_divisions or len(losses) > self.max_divisions or \
            len(rises) >= enough and all(rises[-enough:]) and min(losses) < math.inf
        return None if known else Trial('level', self.initial + self._divided(len(losses), []))

    def _divided(self, times: int, apart: list[int]) -> Tensor:
        """The change of alpha [knots, N] that divides all weights some times, but not those of the columns apart."""
        change = torch.full_like(self.initial, -times * math.log(self.factor))
        change[:, [*apart, *self.others]] = 0
        return change

    def _next_logits(self) -> Trial | None:
        """The next trial with the logits taken apart; None if there is none."""
        student, kd = (lowest(self.of_kind(name)) for name in ('student', 'kd'))
        base = lowest(self.of_kind('level'))
        if student is None or kd is None or base is None or len(self.logits) + len(self.others) == self.initial.shape[1]:
            return None
        alpha = base.alpha.clone()
        alpha[:, self.logits] = self.references['kd' if kd.result < student.result else 'student'][:, self.logits]
        return self._next_variant('logits', alpha, self.logits)

    def _next_shape(self) -> Trial | None:
        """The next trial with the other course over time; None if there is none."""
        base = lowest(self.of_kind('level') + self.of_kind('logits'))
        if self.other_shape is None or base is None:
            return None
        apart = self.logits if base.kind == 'logits' else []
        change = self.other_shape - self.initial
        change[:, [*apart, *self.others]] = 0
        return self._next_variant('shape', self.shift(base.alpha, change), apart)

    def _next_variant(self, kind: str, alpha: Tensor, apart: list[int]) -> Trial | None:
        """The next trial of a kind: its first, then divided on without the columns apart while that is the best so far."""
        done = self.of_kind(kind)
        if not self.max_divisions or done and (len(done) > self.max_divisions or done[-1] is not self.best_level):
            return None
        return Trial(kind, self.shift(alpha, self._divided(len(done), apart)))

    @property
    def steps_left(self) -> int:
        """int: Refinements that are still to come, the present one included."""
        return self.rounds - len(self.of_kind('step'))

    def propose(self) -> Trial | None:
        """Trial: The next trial, with its kind; None if there is none before an open one is told."""
        if any(trial.kind != 'step' or trial.confirms for trial in self.open):
            return self._independent([*self.history, *self.open])
        trial = None if self.open else self._explore()
        if trial is not None:
            return trial
        if self._refines:
            return self._next_refinement()
        confirmation = None if self.open else self._confirmation()
        if confirmation is None or confirmation.asks is None:
            return None
        first = confirmation.asks.trial
        return Trial(first.kind, first.alpha.clone(), confirms=True)

    def _independent(self, trials: Sequence[Trial]) -> Trial | None:
        """The next of those that depend on no other, the references and the first level; None if these trials have all."""
        asked = {trial.kind for trial in trials}
        for name, alpha in self.references.items():
            if name not in asked:
                return Trial(name, alpha.clone())
        return Trial('level', self.initial.clone()) if self.max_divisions and 'level' not in asked else None

    def _next_refinement(self) -> Trial | None:
        """The next refinement; None if it depends on the result of an open one."""
        told = len(self.of_kind('step'))
        step = told + len(self.open)
        if step >= self.rounds or told < step - step % self.parallel:
            return None
        return refined(self, step)

    def _explore(self) -> Trial | None:
        """The next trial of the references and the levels; None if these are over."""
        independent = self._independent(self._tried)
        if independent is not None or self._good_already:
            return independent
        return self._next_level() or self._next_logits() or self._next_shape()

    @property
    def _good_already(self) -> bool:
        """Whether the initial process is known and has a loss below the bar."""
        return self.known and self.rounds > 0 and any(trial.result < self.bar for trial in self.of_kind('level')[:1])

    @property
    def _refines(self) -> bool:
        """Whether refinements are left, once the levels are over."""
        blind = self.scatter is not None and self.scatter > SCATTER
        return self._start() is not None and self.steps_left > 0 and not blind

    @property
    def base(self) -> Tensor:
        """Tensor: alpha [knots, N] that the refinement starts from."""
        start = self._start()
        if start is None:
            raise SearchError('no level comes near the bar, so there is nothing to refine')
        return start

    def _start(self) -> Tensor | None:
        """alpha [knots, N] that the refinement starts from; None if no level comes near the bar."""
        if not self.max_divisions:
            return self.initial
        best = self.best_level
        return None if best is None or best.result >= SCATTER * self.bar else best.alpha

    @property
    def best_alpha(self) -> Tensor:
        """Tensor: alpha [knots, N] of the refinement with the lowest loss, or :attr:`base` if none is finite yet."""
        best = lowest(self.of_kind('step'))
        return self.base if best is None else best.alpha

    def shift(self, alpha: Tensor, change: Tensor) -> Tensor:
        """Tensor: alpha [knots, N] with a change added; a pathway that is switched off stays so."""
        return torch.where(alpha > self.off, alpha + change.to(alpha), alpha)

    def refine(self, step: int) -> Tensor:
        """Tensor: alpha [knots, N] of a refinement, counted from 0."""
        raise NotImplementedError(f'{type(self).__name__} must define refine(step), the alpha [knots, N] of a refinement')

    def wants_gradient(self, trial: Trial, loss: float) -> bool:
        """Whether the gradient of the held-out loss is wanted of a trial, given its loss."""
        return False

    def tell(self, trial: Trial, loss: float, gradient: Tensor | None = None) -> None:
        """Report the result of a trial.

        Args:
            trial (Trial): The trial, as of :meth:`ask`; its ``loss`` is set.
            loss (float): Its held-out loss; NaN if its training diverged.
            gradient (Tensor, optional): The loss's gradient with respect to alpha [knots, N].
        """
        super().tell(trial, loss)
