"""What several processes of one training decide together."""
import contextlib
import contextvars
from collections.abc import Iterator

import torch
from torch import Tensor

_ALONE = contextvars.ContextVar('alone', default=False)


def mean_of_processes(tensor: Tensor) -> Tensor:
    """The mean of a tensor over the processes of ``torch.distributed``; the tensor itself where there is one.

    Args:
        tensor (Tensor): Of any shape, the same one in every process; all must ask at the same time.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()) or _ALONE.get():
        return tensor
    only_on_gpu = torch.distributed.get_backend() == 'nccl'
    total = tensor.cuda() if only_on_gpu and not tensor.is_cuda else tensor.clone()
    torch.distributed.all_reduce(total)
    return (total / torch.distributed.get_world_size()).to(tensor.device)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside the context, this process decides by itself: what it does, others may not do."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)
