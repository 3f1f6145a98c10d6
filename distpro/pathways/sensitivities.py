"""Derivatives of the pathways' losses with respect to the student's features, from a backward pass that is made anyway."""
import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .pathway import Pathway


class SensitivityRecorder:
    """Records the gradients of one backward pass."""

    def __init__(self) -> None:
        self._gradients: dict[str, Tensor] = {}  # by pathway
        self._names: list[str] = []  # pathways that were computed
        self._factors = torch.zeros(0)  # what their losses were multiplied by

    def view_of(self, name: str, feature: Tensor) -> Tensor:
        """Tensor: A view of a feature for one pathway alone, to separate its gradient."""
        view = feature.view_as(feature)
        view.register_hook(functools.partial(self._gradients.__setitem__, name))
        return view

    def watch(self, names: Sequence[str], losses: Tensor) -> None:
        """Record what the unweighted losses [n] of these pathways are multiplied by."""
        self._names = list(names)
        losses.register_hook(functools.partial(setattr, self, '_factors'))

    def derivatives(self, pathways: Sequence[Pathway], dtype: torch.dtype) -> Iterator[tuple[str, Tensor | None]]:
        """Derivatives of the unweighted losses, see :meth:`PathwayGrid.sensitivities`."""
        # The recorded gradients are multiplied by the pathway's weight, and by the loss scale if there is one.
        factors = dict(zip(self._names, self._factors.tolist()))
        for pathway in pathways:
            gradient, factor = self._gradients.get(pathway.name), factors.get(pathway.name, 0)
            if gradient is None or factor == 0:
                yield pathway.receiver.name, None
            else:
                yield pathway.receiver.name, gradient.to(dtype) / factor
