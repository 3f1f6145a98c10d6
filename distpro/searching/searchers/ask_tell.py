"""The ask-and-tell interface of all searches, whatever they try."""
import bisect
import dataclasses
from typing import Generic, TypeVar

from ...errors import ArgumentError, SearchError
from .trial import Candidate

T = TypeVar('T', bound=Candidate)


class AskTell(Generic[T]):
    """A search that is asked for candidates and told their losses.

    Use: :meth:`ask` for a candidate, train with it, :meth:`tell` its loss, until :attr:`finished`. Several candidates may be
    open, asked for and not told yet, if the search can propose the next one without the result of the one before; they are
    told in any order. The result does not depend on this order.

    A subclass implements :meth:`propose`, as a function of :attr:`history` and :attr:`open` alone. Then a search that is
    resumed continues identically.

    Attributes:
        parallel (float): Candidates that may be open at a time, where the search permits more than one; infinity: any
            number.
        history (list): The candidates that have been told, by their number.
        open (list): The candidates that have been asked for and not been told yet.
    """
    parallel: float = 1
    candidate: type[T]

    def __init__(self) -> None:
        self.history: list[T] = []
        self.open: list[T] = []
        self._lost: list[T] = []  # open ones of the search that is resumed

    def propose(self) -> T | None:
        """The next candidate; None if there is none, or none before an open one is told."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """bool: Whether there is nothing more to try, and no candidate is open."""
        return not self.open and self.propose() is None

    @property
    def waits(self) -> bool:
        """bool: Whether the next candidate depends on the result of an open one."""
        return bool(self.open) and not self._lost and self.propose() is None

    def ask(self) -> T | None:
        """What to try next; None if the search is finished.

        The open candidates of a search that was interrupted are given out again first.

        Raises:
            SearchError: If the next candidate depends on the result of an open one, see :attr:`waits`.
        """
        if self._lost:
            return self._lost.pop(0)
        found = self.propose()
        if found is not None:
            found.number = len(self.history) + len(self.open)
            self.open.append(found)
        elif self.open:
            raise SearchError(f'{type(self).__name__} proposes nothing more before an open trial is told: of '
                              f'{len(self.open)} open, number {self.open[0].number} is the first')
        return found

    def tell(self, trial: T, loss: float) -> None:
        """Report the result of a candidate.

        Args:
            trial (Candidate): The candidate, as of :meth:`ask`; its ``loss`` is set.
            loss (float): Its held-out loss; NaN if its training diverged.

        Raises:
            ArgumentError: If it is not open.
        """
        if trial.number not in [other.number for other in self.open]:
            raise ArgumentError(f'trial: number {trial.number} is not open; open are '
                                f'{[other.number for other in self.open]}')
        self.open, self._lost = ([other for other in trials if other.number != trial.number]
                                 for trials in (self.open, self._lost))
        trial.loss = float(loss)
        bisect.insort(self.history, trial, key=lambda other: other.number)

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        return {name: [dataclasses.asdict(trial) for trial in trials]
                for name, trials in (('history', self.history), ('open', self.open))}

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave; open candidates are given out again."""
        self.history = [self.candidate(**trial) for trial in state['history']]
        self.open = [self.candidate(**trial) for trial in state['open']]
        self._lost = list(self.open)
