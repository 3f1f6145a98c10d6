"""The weights of pathways that are in force, and what else changes over a training."""
import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import check_choice, check_that
from ..errors import ArgumentError
from ..weighting import UNITS, Weighting

SCHEDULED = ('temperature', 'cross_entropy')  # 1 leaves the training as it is


class PathwayWeights(nn.Module):
    """Weights of N pathways, from alpha or set from outside.

    The weights come from alpha through ``weighting`` (in a search, and by default), or from the last call of
    :meth:`set_weights` (in a replay). alpha is neither a parameter nor a buffer, so the student's optimiser, weight
    decay, clipping, averaging and gradient buckets do not affect it. A subclass saves it as extra state.

    Args:
        weighting (Weighting): From alpha to weights.

    Attributes:
        alpha (Tensor): Free parameters [N], a leaf tensor that requires a gradient.
        unit (str): Unit of the current weights, see :class:`distpro.Weighting`.
        scheduled (tuple[str, ...]): What is set with the weights, some of :data:`SCHEDULED`; see :meth:`schedule`.
        active (list[int]): Indices of the active pathways, whose losses are computed.
    """

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.weighting, self.unit = weighting, weighting.unit
        self._weights: Tensor | None = None
        self.scheduled: tuple[str, ...] = ()
        self._values: Tensor | None = None  # of what is scheduled [S]

    def schedule(self, names: Sequence[str]) -> None:
        """Let :meth:`set_weights` set further numbers.

        Args:
            names (Sequence[str]): Some of :data:`SCHEDULED`: 'temperature', which multiplies that of the losses of logits,
                and 'cross_entropy', which multiplies the student's own loss.

        Raises:
            ArgumentError: If it is not a list or tuple with some of them, each once.
        """
        known = isinstance(names, (list, tuple)) and all(name in SCHEDULED for name in names)
        check_that('scheduled', names, known and len(set(names)) == len(names),
                   f'a list with some of {", ".join(SCHEDULED)}')
        self.scheduled, self._values = tuple(names), None

    def scheduled_value(self, name: str) -> Tensor | float:
        """Tensor or float: The present value of something scheduled, a scalar; 1 if it is not."""
        return 1.0 if self._values is None or name not in self.scheduled else self._values[self.scheduled.index(name)]

    def _start_weights(self, count: int) -> None:
        """Set the initial alpha of a number of pathways, all of them active."""
        self.alpha = self.weighting.start(count).requires_grad_()
        self.active = list(range(count))

    def set_weights(self, weights: None | Sequence[float] | np.ndarray, skip_below: float = 0.0,
                    unit: str | None = None) -> None:
        """Set the pathways' weights instead of taking them from alpha.

        Args:
            weights (Sequence[float], optional): Weights [N], >= 0, and after them a value for each entry of
                :attr:`scheduled` [S]; None: from alpha again, with 1 for all that is scheduled.
            skip_below (float): Pathways with a lower weight, or with weight 0, are not computed. Defaults to 0.
            unit (str, optional): Unit of the weights, see :class:`distpro.Weighting`. Defaults to None: the unit of
                ``weighting``.

        Raises:
            ArgumentError: If the weights are not N + S numbers >= 0, or the unit is unknown.
        """
        check_choice('unit', unit, (None, *UNITS))
        self.unit = unit or self.weighting.unit
        if weights is None:
            self._weights, self._values, self.active = None, None, list(range(len(self.alpha)))
            return
        given = torch.as_tensor(weights, dtype=self.alpha.dtype)
        values = given.tolist()  # before they are moved: to read them back would wait for the GPU
        count = len(self.alpha)
        if given.shape != (count + len(self.scheduled), ) or any(value < 0 for value in values):
            more = f', and one for each of {", ".join(self.scheduled)}' if self.scheduled else ''
            raise ArgumentError(f'the weights of pathways must be {count} numbers of 0 or more{more}, got {values}')
        given = given.to(self.alpha.device)
        self._weights, self._values = given[:count], given[count:] if self.scheduled else None
        # A weight of NaN stays active, so that it shows in the loss.
        self.active = [index for index, weight in enumerate(values[:count]) if not (weight == 0 or weight < skip_below)]

    @contextlib.contextmanager
    def using_weights(self, weights: Tensor) -> Iterator[None]:
        """Use weights [N + S], as in :meth:`set_weights`, whose graph is preserved, inside the context."""
        own = self._weights, self._values, self.active, self.unit
        self.set_weights(weights, unit=self.unit)
        try:
            yield
        finally:
            self._weights, self._values, self.active, self.unit = own

    def weights(self) -> Tensor:
        """Tensor: The current weights [N], detached from alpha, because the student's training does not update alpha."""
        if self._weights is not None:
            return self._weights
        with torch.no_grad():
            return self.weighting(self.alpha)

    def weighted_sum(self, losses: Tensor, weights: Tensor | None = None) -> Tensor:
        """Tensor: Sum of weight times loss over the active pathways; weights [N] replace the current ones if given."""
        weights = self.weights() if weights is None else weights
        if len(self.active) < len(weights):
            weights = torch.stack([weights[index] for index in self.active])
        return (weights * losses).sum()

    def _apply(self, fn, *args, **kwargs):
        """Move alpha to a device with the module; the leaf tensor stays the same object."""
        super()._apply(fn, *args, **kwargs)
        self.alpha.data = fn(self.alpha.data)
        if self._weights is not None:
            self._weights = fn(self._weights)
        if self._values is not None:
            self._values = fn(self._values)
        return self
