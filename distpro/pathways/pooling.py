"""Averages of a map over the bins of smaller maps, as one product."""
import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda_graph import constant


@dataclasses.dataclass(frozen=True)
class Pooling:
    """Averages of maps [B, C, h, w] at several smaller sizes, scaled by the root of their weight in a mean of squares.

    The sum of the squares of the result is the weighted sum, over the sizes, of the mean over images and pixels. One product
    with a small matrix is faster than a pooling for each size.

    Args:
        size (tuple[int, int]): h and w.
        factors (tuple[int, int]): The maps stand for maps that are enlarged by these integer factors.
        levels (tuple): Sizes (p, q) of the averaged maps, no larger than the enlarged ones, and their weights.
    """
    size: tuple[int, ...]
    factors: tuple[int, int]
    levels: tuple[tuple[tuple[int, int], float], ...]

    @property
    def aligned(self) -> bool:
        """bool: Whether every bin consists of the same number of entire pixels of the maps before they are enlarged."""
        return all(side % part == 0 for sizes, _ in self.levels for side, part in zip(self.size, sizes))

    @property
    def uneven(self) -> bool:
        """bool: Whether the bins of some size differ or overlap, so that an averaged map has a different mean."""
        return any(side * factor % part for sizes, _ in self.levels
                   for side, factor, part in zip(self.size, self.factors, sizes))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Average maps.

        Args:
            pixels (Tensor): The pixels of maps [C, B, h w].

        Returns:
            Tensor: The averaged pixels [C, B K], K pixels of all sizes for each image.
        """
        matrix = self.matrix_and_ones(pixels)[:, :-1]
        return (pixels @ matrix).flatten(1) / pixels.size(1)**0.5

    def matrix_and_ones(self, like: Tensor) -> Tensor:
        """Tensor: From the pixels of a map to all averaged pixels, and a column of ones [h w, K + 1]."""
        return constant(_matrix(self, like.dtype, like.device))

    def columns(self, like: Tensor, images: int) -> Tensor:
        """Tensor: The averaged pixels [B K] of maps of ones, of the type of ``like``."""
        return constant(_columns(self, images, like.dtype, like.device))


@functools.lru_cache(maxsize=256)
def _matrix(pooling: Pooling, dtype: torch.dtype, device: torch.device) -> Tensor:
    """From the pixels of a map [h w] to all averaged pixels, scaled, and a column of ones [h w, K + 1]."""
    with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could not be used in a training later
        count = pooling.size[0] * pooling.size[1]
        parts = []
        for sizes, weight in pooling.levels:
            sides = [_averages(*side) for side in zip(pooling.size, pooling.factors, sizes)]
            parts.append(torch.kron(*sides) * (weight / (sizes[0] * sizes[1]))**0.5)
        return torch.cat([*parts, torch.ones(count, 1, dtype=torch.float64)], 1).to(device, dtype)


@functools.lru_cache(maxsize=256)
def _columns(pooling: Pooling, images: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The averaged pixels of ``images`` maps of ones, scaled [B K]."""
    with torch.inference_mode(False), torch.no_grad():
        return _matrix(pooling, dtype, device)[:, :-1].sum(0).repeat(images) / images**0.5


def _averages(side: int, factor: int, bins: int) -> Tensor:
    """Adaptive averages along a side that is enlarged by a factor [side, bins]."""
    enlarged = torch.eye(side, dtype=torch.float64).repeat_interleave(factor, 1)
    return F.adaptive_avg_pool1d(enlarged[None], bins)[0]
