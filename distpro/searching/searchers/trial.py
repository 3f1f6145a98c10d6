"""What a search tries, and its result."""
import dataclasses
import math
from collections.abc import Iterable
from typing import Any, TypeVar

from torch import Tensor

from ...checks import check_that


@dataclasses.dataclass(eq=False)
class Candidate:
    """What a search tries, or is to try.

    Args:
        loss (float, optional): Held-out loss, NaN if training diverged. Defaults to None: not known yet.
        number (int): Its place among all candidates of the search, from 0. Defaults to 0.
    """
    loss: float | None = dataclasses.field(default=None, kw_only=True)
    number: int = dataclasses.field(default=0, kw_only=True)

    @property
    def finite(self) -> bool:
        """bool: Whether it has a finite held-out loss."""
        return math.isfinite(self.result)

    @property
    def result(self) -> float:
        """float: The held-out loss; NaN if training diverged, or if it is not known yet."""
        return math.nan if self.loss is None else self.loss


@dataclasses.dataclass(eq=False)
class Trial(Candidate):
    """A process that was tried, or is to be.

    Args:
        kind (str): Name of a reference; 'level': a total weight; 'logits' or 'shape': a variant of the best level; or
            'step': a refinement.
        alpha (Tensor): Free parameters [knots, N].
        confirms (bool): Whether it repeats an earlier process, to confirm the result. Defaults to False.
        **kwargs: Of :class:`Candidate`.
    """
    kind: str
    alpha: Tensor
    confirms: bool = False

    def to_dict(self) -> dict:
        """dict: Kind and loss, None if it is not finite, for the origin of a process."""
        found = dict(kind=self.kind, loss=self.loss if self.finite else None)
        return {**found, 'confirms': True} if self.confirms else found


def refined(searcher: Any, step: int) -> Trial:
    """The next refinement of a :class:`Searcher`, counted from 0.

    Raises:
        ArgumentError: If its ``refine`` gives no alpha of the initial process's shape.
    """
    alpha = searcher.refine(step)
    check_that(f'{type(searcher).__name__}.refine({step})', alpha,
               isinstance(alpha, Tensor) and alpha.shape == searcher.initial.shape,
               f'alpha [knots, N], a Tensor of shape {tuple(searcher.initial.shape)}')
    return Trial('step', alpha)


@dataclasses.dataclass(eq=False)
class SettingsTrial(Candidate):
    """Settings that were tried, or are to be.

    Args:
        settings (dict[str, Any]): Value of each setting by its name.
        **kwargs: Of :class:`Candidate`.
    """
    settings: dict[str, Any]


T = TypeVar('T', bound=Candidate)


def lowest(trials: Iterable[T]) -> T | None:
    """The candidate with the lowest loss, the first of equals; None if no loss is finite."""
    return min((trial for trial in trials if trial.finite), key=lambda trial: trial.result, default=None)
