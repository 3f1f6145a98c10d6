"""Decides between processes that single trainings do not tell apart, by training with each of them again."""
import dataclasses
import math
import statistics
from collections.abc import Sequence

from .trial import Trial

LEAST_PASSES = 2  # before a process is dropped
ERRORS = 2.0  # standard errors of a difference that drop a process
TINY = 1e-12  # a loss of 0 has no logarithm


@dataclasses.dataclass(frozen=True)
class Contender:
    """A process that may be the result.

    Args:
        trial (Trial): Its first trial.
        losses (Sequence[float]): Held-out losses of the trials that repeat it; NaN where training diverged.
    """
    trial: Trial
    losses: Sequence[float]

    @property
    def mean(self) -> float:
        """float: The geometric mean of the losses."""
        return math.exp(statistics.fmean(self.logs(len(self.losses))))

    def logs(self, passes: int) -> list[float]:
        """list[float]: Logarithms of the first losses, infinite where training diverged."""
        return [math.log(max(loss, TINY)) if math.isfinite(loss) else math.inf for loss in self.losses[:passes]]


class Confirmation:
    """A race: every process left is tried once in each pass; one that is clearly worse than the best is dropped.

    From the second pass on, a process is dropped if the mean logarithm of its losses is above the lowest one by more than
    two standard errors of the difference, with the variance that all processes left have in common.

    Args:
        contenders (Sequence[Contender]): The processes, at least one.
        passes (int): Trials of each process at most, >= 0.

    Attributes:
        left (list[Contender]): Those that are not dropped.
        asks (Contender, optional): The one to be tried next; None if the race is over.

    Note:
        Source: racing, Maron and Moore, "Hoeffding races: accelerating model selection search", 1994; here with a normal
        approximation in place of Hoeffding's bound.
    """

    def __init__(self, contenders: Sequence[Contender], passes: int) -> None:
        self.left, self.asks = list(contenders), None
        for done in range(1, passes + 1):
            if len(self.left) < 2:
                return
            self.asks = next((contender for contender in self.left if len(contender.losses) < done), None)
            if self.asks is not None:
                return
            self.left = _not_clearly_worse(self.left, done)

    @property
    def winner(self) -> Contender | None:
        """Contender: The one left with the lowest mean of its losses; None if all diverge or were not tried."""
        tried = [contender for contender in self.left if contender.losses]
        best = min(tried, key=lambda contender: contender.mean, default=None)
        return best if best is not None and all(map(math.isfinite, best.losses)) else None


def _not_clearly_worse(contenders: list[Contender], passes: int) -> list[Contender]:
    logs = [contender.logs(passes) for contender in contenders]
    finite = [values for values in logs if all(map(math.isfinite, values))]
    if not finite:
        return contenders[:1]
    lowest = min(map(statistics.fmean, finite))
    margin = math.inf
    if passes >= LEAST_PASSES:
        margin = ERRORS * math.sqrt(2 / passes * statistics.fmean(map(statistics.variance, finite)))
    return [contender for contender, values in zip(contenders, logs)
            if values in finite and statistics.fmean(values) - lowest <= margin]
