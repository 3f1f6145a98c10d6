"""Finds searches that go wrong, while they run: one warning for each kind, with what to try."""
import math
from collections.abc import Callable, Sequence

from torch import Tensor

from .round_search import RoundSearch
from .searchers import Searcher, Trial

STILL = 0.01  # relative change of the weights below which a search has not moved them
NOTHING = 1e-3  # times the initial weights: the search switches its pathways off
WORSE = 1.25  # times the loss of the first of several refinements that get worse and worse
OVERFITS = 1.5  # times the lowest mean of an epoch's held-out losses
RISES = 3  # refinements, or epochs, that are each worse than the one before
SHARE, STEPS = 0.1, 20  # of a search whose weights are updated at every step: the least that is judged


class RoundWatch:
    """Watches a :class:`RoundSearch`: :meth:`after_trial` after each trial.

    It warns, once each, if the refinements change no weight by 1%, if the best level is a thousandth of the initial weights,
    and if three refinements in a row raise the held-out loss, by 25% in all.

    Args:
        search (RoundSearch): The search.
        prefix (str): Prefix of the arguments in the warnings, such as ``'train_cfg.'``. Defaults to none.
    """

    def __init__(self, search: RoundSearch, prefix: str = '') -> None:
        self._search, self._prefix, self._said = search, prefix, set[str]()

    def after_trial(self) -> list[str]:
        """list[str]: New warnings after a trial."""
        kinds: dict[str, Callable[[Searcher], str | None]] = dict(
            still=self._still, nothing=self._nothing, rising=self._rising)
        found = {name: check(self._search.searcher) for name, check in kinds.items() if name not in self._said}
        self._said |= {name for name, warning in found.items() if warning}
        return [warning for warning in found.values() if warning]

    def _still(self, searcher: Searcher) -> str | None:
        refined = searcher.of_kind('step')
        if len(refined) < 2:
            return None
        change = max(float((trial.alpha - refined[0].alpha).abs().max()) for trial in refined[1:])
        if change >= STILL:
            return None
        return (f'The refinement has changed no weight by more than {math.expm1(change):.2g} times its value in '
                f'{len(refined)} trials: the search does not move. Raise {self._prefix}searcher.step_size or '
                f'{self._prefix}max_growth, or give longer rounds ({self._prefix}min_iterations), in which the weights '
                'have an effect')

    def _nothing(self, searcher: Searcher) -> str | None:
        best = searcher.best_level
        levels = searcher.of_kind('level')
        if best is None or best is not levels[-1] or not searcher.max_divisions:
            return None
        divided = searcher.factor**(len(levels) - 1)
        if divided < 1 / NOTHING:
            return None
        return (f'The best weights so far are the initial ones divided by {divided:g}, the lowest that were tried: the '
                'pathways hardly count. Check that the teacher is better than the student (its checkpoint, its classes, the '
                f'size and normalisation of its images), or start lower ({self._prefix}feature_weight, '
                f'{self._prefix}initial)')

    def _rising(self, searcher: Searcher) -> str | None:
        losses = [_loss(trial) for trial in searcher.of_kind('step')[-RISES:]]
        if len(losses) < RISES or not _rise(losses) or losses[-1] < WORSE * losses[0]:
            return None
        return (f'The held-out loss rises from refinement to refinement: {_listed(losses)}. The '
                f'best process is not affected; lower {self._prefix}searcher.step_size or {self._prefix}max_growth, or give '
                f'longer rounds ({self._prefix}min_iterations)')


class StepWatch:
    """Watches a search that updates the weights at every step: :meth:`after_epoch` after each epoch.

    It warns, once each, if the weights have moved by less than 1% of the largest one in a tenth of the search, if all are
    below a thousandth of the largest initial one, and if the mean held-out losses of three epochs increase, to 1.5 times the
    lowest.

    Args:
        initial (Tensor): The initial weights of the pathways [N].
    """

    def __init__(self, initial: Tensor) -> None:
        self._initial, self._losses, self._said = initial.detach().clone(), list[float](), set[str]()

    def after_epoch(self, progress: float, updates: int, weights: Tensor, loss: float) -> list[str]:
        """New warnings after an epoch.

        Args:
            progress (float): Share of the search that is done, in [0, 1].
            updates (int): Updates of the weights so far.
            weights (Tensor): The weights [N].
            loss (float): Mean held-out loss of the epoch.

        Returns:
            list[str]: The warnings.
        """
        self._losses.append(loss)
        largest = float(self._initial.abs().max())
        change, left = float((weights - self._initial).abs().max()), float(weights.abs().max())
        found = {}
        if progress >= SHARE and updates >= STEPS and change < STILL * largest:
            found['still'] = (f'The weights of the pathways have moved by {change:.2g} at most in {updates} updates; the '
                              f'largest is {left:.4g}: the search does not move. Raise optim_wrapper.alpha.optimizer.lr, or '
                              'check that train_cfg.held_out gives images of all classes')
        if left < NOTHING * largest:
            found['nothing'] = (f'All weights of the pathways go to 0: the largest is {left:.2g}, and was {largest:.4g}. '
                                'Lower optim_wrapper.alpha.optimizer.lr or train_cfg.cost_penalty, and check that the '
                                'teacher is better than the student')
        recent = self._losses[-RISES:]
        if len(recent) == RISES and _rise(recent) and loss > OVERFITS * min(self._losses):
            found['rising'] = (f'The held-out loss rises from epoch to epoch: {_listed(recent)}, and was '
                               f'{min(self._losses):.4g}: the student overfits, or diverges. Lower '
                               'optim_wrapper.optimizer.lr or train_cfg.max_epochs')
        new = [warning for name, warning in found.items() if name not in self._said]
        self._said |= set(found)
        return new


def _loss(trial: Trial) -> float:
    return trial.result if trial.finite else math.inf


def _listed(losses: Sequence[float]) -> str:
    return ', '.join(f'{loss:.4g}' for loss in losses)


def _rise(losses: Sequence[float]) -> bool:
    return all(after > before for before, after in zip(losses, losses[1:]))
