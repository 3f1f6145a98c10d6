import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ArgumentError
from .maps import adaptive_average


class HCLLoss(nn.Module):
    r"""Hierarchical context loss of ReviewKD (CVPR 2021), the distance of DistPro (ECCV 2022).

    The mean squared error of the full maps and, for each l of ``levels`` smaller than the map, of the maps averaged
    to l x l. The full maps have weight 1, each used level half the weight of the previous one. The
    result is divided by the sum of the weights:

    .. math:: \frac{\sum_k 2^{-k}\, \mathrm{mse}\bigl(\mathrm{pool}_k(S), \mathrm{pool}_k(T)\bigr)}{\sum_k 2^{-k}}

    On a map that is not square, a level is used if it is smaller than the longer side, and a side of at most l pixels does
    not change: 7 x 3 is averaged to 4 x 3, 2 x 2 and 1 x 1. A level is therefore always coarser than the map, and a
    transposed map has the same loss. The releases compare with the height only: they average a 3 x 7 map to 2 x 2 and 1 x 1
    only, and enlarge the 3 columns of a 7 x 3 map to 4.

    Args:
        levels (Sequence[int]): Sides of the averaged maps, each 1 or more. Defaults to (4, 2, 1).
        loss_weight (float): Factor of the loss. Defaults to 1.

    Raises:
        ArgumentError: If ``levels`` are not such numbers.
    """

    def __init__(self, levels=(4, 2, 1), loss_weight: float = 1.0) -> None:
        super().__init__()
        self.levels = tuple(levels)
        if not all(isinstance(level, int) and level >= 1 for level in self.levels):
            raise ArgumentError(f'levels={levels!r} must be whole numbers from 1')
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's map, already transformed [B, C, H, W].
            t_feature (Tensor): The teacher's map [B, C, H, W].

        Returns:
            Tensor: The loss, a scalar.

        Raises:
            ArgumentError: If the shapes differ.
        """
        if s_feature.shape != t_feature.shape:
            raise ArgumentError(f'HCLLoss compares maps of one shape, got {tuple(s_feature.shape)} from the student and '
                             f'{tuple(t_feature.shape)} from the teacher')
        # Averaging is linear, so the difference is pooled instead of both maps. Bins of equal size nest, so a
        # smaller map can be averaged from a larger one.
        difference = nested = s_feature - t_feature
        if difference.dtype in (torch.float16, torch.bfloat16):
            difference = nested = difference.float()
        loss = _mean_square(difference)
        weight = total = 1.0
        for size in self._sizes(*difference.shape[-2:]):
            bins = [side / part for side, part in zip(nested.shape[-2:], size)]
            if all(side.is_integer() for side in bins):
                pooled = nested = F.avg_pool2d(nested, [int(side) for side in bins])
            else:
                pooled = adaptive_average(difference, size)
            weight /= 2
            total += weight
            loss = loss + weight * _mean_square(pooled)
        return self.loss_weight * loss / total

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sizes of the averaged maps."""
        return [(min(level, height), min(level, width)) for level in self.levels if level < max(height, width)]

    def levels_of(self, height: int, width: int) -> list[tuple[tuple[int, int], float]]:
        """Sizes of the compared maps, the full one first, and the weights of their mean squares, which sum to 1."""
        sizes = [(height, width), *self._sizes(height, width)]
        total = sum(0.5**level for level in range(len(sizes)))
        return [(size, 0.5**level / total) for level, size in enumerate(sizes)]


def _mean_square(difference: Tensor) -> Tensor:
    """Mean of the squares. ``mse_loss`` has one fused pass backward, and a second derivative at 0, which a norm lacks."""
    return F.mse_loss(difference, difference.new_zeros(()).expand_as(difference))
