"""What several processes of one training decide together."""
import contextlib
import contextvars
from collections.abc import Iterator

import torch
from torch import Tensor

_ALONE = contextvars.ContextVar('alone', default=False)


def mean_of_processes(tensor: Tensor) -> Tensor:
    """Average a tensor over the processes of ``torch.distributed`` in place; nothing where there is one.

    Args:
        tensor (Tensor): Of any shape, the same one in every process; all must ask at the same time.

    Returns:
        Tensor: The same tensor.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized() and not _ALONE.get():
        torch.distributed.all_reduce(tensor)
        tensor /= torch.distributed.get_world_size()
    return tensor


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside the context, this process decides by itself: what it does, others may not do."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)
