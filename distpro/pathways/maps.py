"""Sizes of maps [B, C, H, W]."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def averaged(target: Tensor, size: tuple[int, ...]) -> Tensor:
    """A teacher's map at a size that is no larger; logits as they are."""
    return target if tuple(target.shape[2:]) == size else adaptive_average(target, size)


def adaptive_average(x: Tensor, size: Sequence[int]) -> Tensor:
    """Average maps [B, C, H, W] to ``size``, like ``F.adaptive_avg_pool2d``.

    That function has no deterministic derivative on a GPU, and raises if torch is to be deterministic. In this case, the
    means are computed bin by bin.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return F.adaptive_avg_pool2d(x, tuple(size))
    for dim, count in zip((-2, -1), size):
        length = x.shape[dim]
        bins = [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
        x = torch.stack([x.narrow(dim, start, end - start).mean(dim) for start, end in bins], dim)
    return x
