"""Means of equal blocks of the pixels of maps."""
import functools

import torch
from torch import Tensor

from .cuda_graph import constant


def block_means(maps: Tensor, block: tuple[int, int]) -> Tensor:
    """Means of equal blocks of maps. A product for each row of blocks is several times faster than ``avg_pool2d`` on a CPU.

    Args:
        maps (Tensor): Maps [B, C, H, W].
        block (tuple[int, int]): Height and width of a block, which divide H and W.

    Returns:
        Tensor: The means [B, C, H / height, W / width].
    """
    if block == (1, 1):
        return maps
    (images, channels, height, width), (rows, columns) = maps.shape, block
    matrix = constant(_row_matrix(block, width, maps.dtype, maps.device))
    return (maps.reshape(-1, rows * width) @ matrix).view(images, channels, height // rows, width // columns)


@functools.lru_cache(maxsize=256)
def _row_matrix(block: tuple[int, int], width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """From a row of blocks [height of a block * width] to their means [width / width of a block]."""
    with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could not be used in a training later
        of_a_row = torch.eye(width // block[1], dtype=torch.float64).repeat_interleave(block[1], 0)
        return (of_a_row.repeat(block[0], 1) / (block[0] * block[1])).to(device, dtype)
