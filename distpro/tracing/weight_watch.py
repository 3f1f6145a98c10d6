"""Notices weights that change without torch's notice."""
import functools
import math

import torch
from torch import Tensor, nn

from ..cuda_graph import addresses, versions

FIRST = 5  # runs of the network before each of which its weights are compared with those before the last one
EVERY = 100  # runs between two comparisons later
is_close = functools.partial(math.isclose, rel_tol=1e-6)  # another number of threads adds in another order


class WeightWatch:
    """Whether the weights of a network change while torch counts no change, as by ``parameter.data.mul_(0.9)``.

    Args:
        network (nn.Module): The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._runs = 0
        self._state: tuple | None = None
        self._norms: list[float] = []

    def changed_unseen(self) -> bool:
        """Whether they have changed unnoticed since the last comparison; called before each run."""
        self._runs += 1
        if self._runs > FIRST and self._runs % EVERY:
            return False
        state, norms = (addresses(self.network), versions(self.network)), self._norms_now()
        changed = state == self._state and not all(map(is_close, norms, self._norms))
        self._state, self._norms = state, norms
        return changed

    @torch.no_grad()
    def _norms_now(self) -> list[float]:
        """Norms of the parameters and buffers."""
        tensors: list[Tensor] = [*self.network.parameters(), *self.network.buffers()]
        norms = [tensor.float().norm() for tensor in tensors]
        return torch.stack(norms).tolist() if norms else []
