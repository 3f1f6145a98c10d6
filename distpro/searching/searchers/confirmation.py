"""Decides between processes that single trainings do not tell apart, by training with each of them again."""
import dataclasses
import math
import statistics
from collections.abc import Sequence

from .trial import Trial
from .trial_losses import TrialLosses

SCATTER = 2.0  # factor between held-out losses of two trainings of one process above which a refinement is blind
NEAR_REFERENCE = 1.25  # a reference whose loss is within this factor of the best process's is tried again
CLEAR = 1.1  # factor between all trainings of one process below which one confirmation is enough
BETTER = 0.98  # of the loss of a known process, at which another is no longer luck
CONTENDERS = 3  # processes that are tried again at most
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


def confirmation_of(losses: TrialLosses, references: Sequence[str], passes: int) -> Confirmation | None:
    """The race of the processes and the reference that are close to the best one.

    Args:
        losses (TrialLosses): Losses of all trials.
        references (Sequence[str]): Kinds of trials that are references.
        passes (int): Trials of each process at most, >= 1.

    Returns:
        Confirmation, optional: None where the result is clear.
    """
    processes = losses.lowest_means([trial for trial in losses.first if trial.kind not in references], CONTENDERS - 1)
    reference = losses.lowest_means([trial for trial in losses.first if trial.kind in references], 1)
    ranked, scatter = sorted(processes + reference, key=losses.mean), losses.scatter()
    # Luck between the best process and a reference does most harm, and the lowest of many losses is a lucky one.
    narrow, wide = (1.0, SCATTER) if scatter is None else (scatter, max(scatter**2, NEAR_REFERENCE))
    near = ranked[:1] + [trial for trial in ranked[1:] if losses.mean(trial) < losses.mean(ranked[0]) * (
        wide if trial in processes[:1] + reference else narrow)]
    race = _race(losses, near, passes)
    missed = race is not None and race.asks is None and race.winner is not None and reference and \
        reference[0] not in near and losses.mean(reference[0]) <= race.winner.mean * wide
    return _race(losses, near + reference, passes) if missed else race


def known_stays(losses: TrialLosses, initial: Trial, winner: Trial) -> bool:
    """Whether a search that began from a known process ends with it: no other has a loss that is 2% lower.

    Two trainings of one process differ by 2% to 3% or more, and a known process was right for other pairs.

    Args:
        losses (TrialLosses): Losses of all trials.
        initial (Trial): The first trial of the known process.
        winner (Trial): The process with the lowest loss.
    """
    return math.isfinite(losses.mean(initial)) and losses.decisive(winner) > BETTER * losses.decisive(initial)


def _race(losses: TrialLosses, trials: Sequence[Trial], passes: int) -> Confirmation | None:
    """The race of some processes; None if there are fewer than two."""
    scatter = losses.scatter(confirms=True)
    contenders = [Contender(trial, losses.of(trial, confirms=True)) for trial in trials]
    return Confirmation(contenders, 1 if scatter is not None and scatter < CLEAR else passes) if len(trials) > 1 else None
