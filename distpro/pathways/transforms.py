"""The four transforms of DistPro's release.

A transform is the trainable block on the student's side that brings a student's map to the shape of a teacher's. The
release (ECCV 2022) defines all four but wires only the last; parameter counts in the docstrings are for 64 teacher and
32 student channels.
"""
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """Multiplies a map by a one-channel 1x1 convolution of itself; no sigmoid, as in the release.

    Args:
        channels (int): Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return x * self.conv(x)


def conv_bn(in_channels: int, out_channels: int, kernel_size: int) -> List[nn.Module]:
    """A bias-free convolution that keeps the map's size, and batch norm."""
    return [nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels)]


def resize(x: Tensor, size: Optional[Tuple[int, int]]) -> Tensor:
    """Nearest-neighbour resize of [B, C, H, W] to ``size``; None leaves it as it is."""
    factors = _factors(x, size)
    if factors is None:
        return F.interpolate(x, size=tuple(size), mode='nearest')
    # The same numbers as interpolate's, which on a CPU goes through another memory format and back.
    for factor, dim in zip(factors, (-2, -1)):
        x = x.repeat_interleave(factor, dim) if factor > 1 else x
    return x


def resize_and_convolve(x: Tensor, size: Optional[Tuple[int, int]], conv: nn.Module) -> Tensor:
    """``conv(resize(x, size))``, for a plain 3x3 convolution without the large map where its size is a multiple.

    Enlarging a map a times and convolving it is one transposed convolution of the small map with stride a, whose kernel
    of side a + 2 holds the sums of the weights that meet the same small pixel: (a + 2)^2 / (9 a^2) of the operations. Of
    the a pixels that come from a small one, all but the first and the last are the same, so a = 3 tells all that a larger
    one does, and is spread.

    Args:
        x (Tensor): Map [B, C_in, H, W].
        size (tuple[int, int], optional): Height and width to resize to.
        conv (nn.Module): Any module of a map. Only a plain 3x3 convolution (see :func:`_is_plain`) takes the short way.

    Returns:
        Tensor: [B, C_out, *size].
    """
    factors = _factors(x, size)
    if factors is None or max(factors) == 1 or not _is_plain(conv):
        return conv(resize(x, size))
    distinct = [min(factor, 3) for factor in factors]
    sums = torch.kron(*(_met(factor, conv.weight) for factor in distinct))
    kernel = (conv.weight.transpose(0, 1).flatten(2) @ sums.t()).unflatten(2, [factor + 2 for factor in distinct])
    x = F.conv_transpose2d(x, kernel, conv.bias, stride=distinct, padding=1)
    for factor, dim in zip(factors, (2, 3)):
        x = _spread(x, factor, dim) if factor > 3 else x
    return x


def _is_plain(conv: nn.Module) -> bool:
    """Whether a module is torch's 3x3 convolution with stride 1, zero padding 1, no dilation, one group and no hooks."""
    return (type(conv) is nn.Conv2d and conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1)
            and conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == 'zeros'
            and not conv._forward_pre_hooks and not conv._forward_hooks)  # torch's old weight_norm is such a hook


def _met(factor: int, like: Tensor) -> Tensor:
    """Which of the 3 weights a kernel's place sums along one side, 0 or 1: [factor + 2, 3]."""
    place, weight = torch.arange(factor + 2, device=like.device)[:, None], torch.arange(2, -1, -1, device=like.device)
    return ((place >= weight) & (place < weight + factor)).to(like.dtype)


def _spread(x: Tensor, factor: int, dim: int) -> Tensor:
    """Repeat the second of every three entries along ``dim``, so that there are ``factor`` for three."""
    first, inner, last = x.unflatten(dim, (-1, 3)).split(1, dim + 1)
    return torch.cat([first, inner.repeat_interleave(factor - 2, dim + 1), last], dim + 1).flatten(dim, dim + 1)


def _factors(x: Tensor, size: Optional[Tuple[int, int]]) -> Optional[Tuple[int, int]]:
    """By how much height and width grow; None if not by whole numbers."""
    if size is None:
        return 1, 1
    height, width = x.shape[-2:]
    return None if size[0] % height or size[1] % width else (size[0] // height, size[1] // width)


class Transform(nn.Module):
    """Base of the transforms: layers ``before`` a nearest-neighbour resize, and layers after it, of which ``conv`` is the
    first and ``after`` holds the others.

    A subclass defines :meth:`build`. The layers may be any modules from map to map. The result must have the shape of the
    teacher's map. A plain 3x3 convolution right after the resize is computed together with it, which is cheaper.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map.
        size (tuple[int, int], optional): Height and width to resize to where a call names none. Defaults to None: as
            the map comes.
    """

    def __init__(self, in_channels: int, out_channels: int, size: Optional[Tuple[int, int]] = None) -> None:
        super().__init__()
        self.size = size
        before, after = self.build(in_channels, out_channels, min(512, in_channels, out_channels))
        self.before = nn.Sequential(*before)
        self.conv = after[0] if after else None
        self.after = nn.Sequential(*after[1:])

    def build(self, in_channels: int, out_channels: int, mid: int) -> Tuple[List[nn.Module], List[nn.Module]]:
        """Build the layers before and after the resize, either list may be empty; ``mid`` is the release's width of inner
        maps."""
        raise NotImplementedError

    def forward(self, feature: Tensor, size: Optional[Tuple[int, int]] = None) -> Tensor:
        """Transform a student's map.

        Args:
            feature (Tensor): The student's map [B, C_s, H_s, W_s].
            size (tuple[int, int], optional): The teacher's H_t and W_t. Defaults to None: ``self.size``.

        Returns:
            Tensor: [B, C_t, H_t, W_t].
        """
        size = size or self.size
        x = self.before(feature)
        if self.conv is None:
            return resize(x, size)
        return self.after(resize_and_convolve(x, size, self.conv))


class PointwiseTransform(Transform):
    """1x1 convolution, batch norm, resize. 2,176 parameters."""

    def build(self, in_channels, out_channels, mid):
        return conv_bn(in_channels, out_channels, 1), []


class AttentionTransform(Transform):
    """1x1 convolution, batch norm, attention, resize, 3x3 convolution, batch norm. 19,680 parameters."""

    def build(self, in_channels, out_channels, mid):
        return [*conv_bn(in_channels, mid, 1), SpatialAttention(mid)], conv_bn(mid, out_channels, 3)


class DeepAttentionTransform(Transform):
    """As :class:`AttentionTransform` with two 3x3 convolutions after the resize. 28,960 parameters."""

    def build(self, in_channels, out_channels, mid):
        return ([*conv_bn(in_channels, mid, 1), SpatialAttention(mid)],
                [*conv_bn(mid, mid, 3), *conv_bn(mid, out_channels, 3)])


class ConvAttentionTransform(Transform):
    """3x3 convolution, batch norm, ReLU, attention, 3x3 convolution, batch norm, ReLU, resize, 3x3 convolution, batch
    norm: the one that the release trains with. 37,152 parameters."""

    def build(self, in_channels, out_channels, mid):
        return ([*conv_bn(in_channels, mid, 3), nn.ReLU(), SpatialAttention(mid), *conv_bn(mid, mid, 3), nn.ReLU()],
                conv_bn(mid, out_channels, 3))
