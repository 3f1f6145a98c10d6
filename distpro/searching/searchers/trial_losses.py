"""Losses of trainings of the same process."""
import math
from collections.abc import Sequence

import torch

from .trial import Trial


class TrialLosses:
    """What is known of a process from all its trials.

    Args:
        history (Sequence[Trial]): All finished trials.

    Attributes:
        first (list[Trial]): Those that do not confirm a result.
    """

    def __init__(self, history: Sequence[Trial]) -> None:
        self.history, self.first = history, [trial for trial in history if not trial.confirms]

    def of(self, trial: Trial, confirms: bool) -> list[float]:
        """list[float]: Losses of all trials of the same process; those that confirm a result, or the others."""
        return [other.result for other in self.history
                if other.confirms == confirms and torch.equal(other.alpha, trial.alpha)]

    def mean(self, trial: Trial) -> float:
        """float: Mean loss of all trials of the same process: trainings scatter, and a lucky one must not win by that."""
        losses = self.of(trial, confirms=False)
        return sum(losses) / len(losses)

    def decisive(self, trial: Trial) -> float:
        """float: Mean loss of the trials that confirm a process, or of the others if none does."""
        losses = self.of(trial, confirms=True) or self.of(trial, confirms=False)
        return sum(losses) / len(losses)

    def lowest_means(self, trials: Sequence[Trial], count: int) -> list[Trial]:
        """list[Trial]: The first trials of different processes, lowest mean loss first, without those that diverged."""
        different: list[Trial] = []
        for trial in sorted((trial for trial in trials if math.isfinite(self.mean(trial))), key=self.mean):
            if not any(torch.equal(trial.alpha, other.alpha) for other in different):
                different.append(trial)
        return different[:count]

    def scatter(self, confirms: bool = False) -> float | None:
        """float: Largest ratio of the losses of two trials of one process; None if none was tried twice.

        Args:
            confirms (bool): Whether trials that confirm a result count too. Defaults to False.
        """
        ratios = [ratio_of(self.of(trial, False) + (self.of(trial, True) if confirms else [])) for trial in self.first]
        return max((ratio for ratio in ratios if ratio is not None), default=None)


def ratio_of(losses: Sequence[float]) -> float | None:
    """Ratio of the highest and the lowest loss, of those that are finite and above 0; None if there are less than two."""
    known = [loss for loss in losses if math.isfinite(loss) and loss > 0]
    return max(known) / min(known) if len(known) > 1 else None
