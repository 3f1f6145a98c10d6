"""The four transforms of DistPro's release.

A transform is a trainable block that maps a student's feature to the shape of a teacher's. The release (ECCV 2022) defines
all four but uses only the last. Parameter counts in the docstrings are for 64 teacher and 32 student channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import accepts, check_that
from ..errors import ArgumentError


class SpatialAttention(nn.Module):
    """Multiplies a map by a one-channel 1x1 convolution of itself; no sigmoid, as in the release.

    Args:
        channels (int): Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weight a map [B, C, H, W]; the shape does not change."""
        return x * self.conv(x)


def conv_bn(in_channels: int, out_channels: int, kernel_size: int) -> list[nn.Module]:
    """A convolution without bias that preserves the map's size, and a batch norm."""
    return [nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels)]


def resize(x: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Nearest-neighbour resize of [B, C, H, W] to ``size``; None does not resize."""
    if size is None:
        return x
    factors = _factors(x, size)
    if factors is None:
        return F.interpolate(x, size=tuple(size), mode='nearest')
    # Same result as interpolate, which converts the memory format twice on a CPU.
    for factor, dim in zip(factors, (-2, -1)):
        x = x.repeat_interleave(factor, dim) if factor > 1 else x
    return x


def resize_and_convolve(x: Tensor, size: tuple[int, int] | None, conv: nn.Module) -> Tensor:
    """``conv(resize(x, size))``; for a plain 3x3 convolution and an integer scale factor, without computing the large map.

    Enlarging a map by a factor a and convolving it equals one transposed convolution of the small map with stride a. Its
    kernel of side a + 2 has the sums of the weights that are applied to the same small pixel. It needs (a + 2)^2 / (9 a^2)
    of the operations. Of the a output pixels of one small pixel, all but the first and the last are equal. For a > 3, the
    result is therefore computed with a = 3, and the inner pixels are repeated.

    Args:
        x (Tensor): Map [B, C_in, H, W].
        size (tuple[int, int], optional): Height and width to resize to.
        conv (nn.Module): Any module of a map. Only a plain 3x3 convolution (see :func:`_is_plain`) is accelerated.

    Returns:
        Tensor: The result [B, C_out, *size].
    """
    factors = _factors(x, size)
    if factors is None or max(factors) == 1 or not _is_plain(conv):
        return conv(resize(x, size))
    distinct = [min(factor, 3) for factor in factors]
    sums = torch.kron(*(_weight_sums(factor, conv.weight) for factor in distinct))
    kernel = (conv.weight.transpose(0, 1).flatten(2) @ sums.t()).unflatten(2, [factor + 2 for factor in distinct])
    x = F.conv_transpose2d(x, kernel, conv.bias, stride=distinct, padding=1)
    for factor, dim in zip(factors, (2, 3)):
        x = _spread(x, factor, dim) if factor > 3 else x
    return x


def _is_plain(conv: nn.Module) -> bool:
    """Whether a module is torch's 3x3 convolution with stride 1, zero padding 1, no dilation, one group and no hooks."""
    return (type(conv) is nn.Conv2d and conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1)
            and conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == 'zeros'
            and not conv._forward_pre_hooks and not conv._forward_hooks)  # torch's old weight_norm is a hook


def _weight_sums(factor: int, like: Tensor) -> Tensor:
    """Which of the 3 weights each kernel entry sums along one side, 0 or 1: [factor + 2, 3]."""
    place, weight = torch.arange(factor + 2, device=like.device)[:, None], torch.arange(2, -1, -1, device=like.device)
    return ((place >= weight) & (place < weight + factor)).to(like.dtype)


def _spread(x: Tensor, factor: int, dim: int) -> Tensor:
    """Repeat the second of every three entries along ``dim`` to ``factor`` entries."""
    first, inner, last = x.unflatten(dim, (-1, 3)).split(1, dim + 1)
    return torch.cat([first, inner.repeat_interleave(factor - 2, dim + 1), last], dim + 1).flatten(dim, dim + 1)


def _factors(x: Tensor, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Integer scale factors of height and width; None if they are not integers."""
    if size is None:
        return 1, 1
    height, width = x.shape[-2:]
    return None if size[0] % height or size[1] % width else (size[0] // height, size[1] // width)


class Transform(nn.Module):
    """Base class of the transforms: layers ``before`` a nearest-neighbour resize, then ``conv``, the first layer after it,
    and the other layers ``after``.

    A subclass defines :meth:`build`. The layers may be any modules from map to map. The result must have the shape of the
    teacher's map. A plain 3x3 convolution directly after the resize is computed together with it, which is faster.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map.
        size (tuple[int, int], optional): Default height and width to resize to. Defaults to None: no resize.
    """

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.size = size
        arguments = in_channels, out_channels, min(512, in_channels, out_channels)
        layers = self.build(*(arguments if accepts(self.build, *arguments) else arguments[:2]))
        check_that(f'{type(self).__name__}.build', layers, isinstance(layers, (tuple, list)) and len(layers) == 2 and all(
            isinstance(part, (tuple, list)) and all(isinstance(layer, nn.Module) for layer in part) for part in layers),
            'two lists of modules: those before the resize and those after it; either may be empty')
        before, after = layers
        self.before = nn.Sequential(*before)
        self.conv = after[0] if after else None
        self.after = nn.Sequential(*after[1:])

    def build(self, in_channels: int, out_channels: int, mid: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Build the layers before and after the resize.

        Args:
            in_channels (int): Channels of the student's map.
            out_channels (int): Channels of the teacher's map.
            mid (int): The release's width of the inner maps, ``min(512, in_channels, out_channels)``. A subclass may leave
                this argument out.

        Returns:
            tuple[list[nn.Module], list[nn.Module]]: Layers from map to map; either list may be empty. Those before the
            resize may change height and width, those after it must preserve them.
        """
        raise ArgumentError(f'{type(self).__name__} must define build(self, in_channels, out_channels)')

    def forward(self, feature: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Transform a student's map.

        Args:
            feature (Tensor): The student's map [B, C_s, H_s, W_s].
            size (tuple[int, int], optional): The teacher's H_t and W_t. Defaults to None: ``self.size``.

        Returns:
            Tensor: The transformed map [B, C_t, H_t, W_t].
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
    norm. The transform that the release uses. 37,152 parameters."""

    def build(self, in_channels, out_channels, mid):
        return ([*conv_bn(in_channels, mid, 3), nn.ReLU(), SpatialAttention(mid), *conv_bn(mid, mid, 3), nn.ReLU()],
                conv_bn(mid, out_channels, 3))
