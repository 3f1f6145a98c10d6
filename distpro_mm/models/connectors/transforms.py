"""The four transforms of DistPro's release, as connectors.

A transform is the trainable block on the student's side that brings a student's map to the shape of a teacher's. The
release (ECCV 2022) defines all four but wires only the last; parameter counts in the docstrings are for 64 teacher and
32 student channels.
"""
from typing import Optional, Tuple

import torch.nn.functional as F
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
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


def conv_bn(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A bias-free convolution that keeps the map's size, and batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels))


class Transform(BaseConnector):
    """Base of the transforms: ``before`` the nearest-neighbour resize, then ``after`` it.

    Args:
        in_channels (int): Channels of the student's map.
        out_channels (int): Channels of the teacher's map.
        size (tuple[int, int], optional): Height and width to resize to where a call names none. Defaults to None: as
            the map comes.
        init_cfg (dict, optional): Initialisation. Defaults to None: PyTorch's own.
    """

    def __init__(self, in_channels: int, out_channels: int, size: Optional[Tuple[int, int]] = None,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.size = size
        self.before, self.after = self.build(in_channels, out_channels, min(512, in_channels, out_channels))

    def build(self, in_channels: int, out_channels: int, mid: int) -> Tuple[nn.Module, nn.Module]:
        """Build the blocks before and after the resize; ``mid`` is the release's width of inner maps."""
        raise NotImplementedError

    def forward(self, feature: Tensor, size: Optional[Tuple[int, int]] = None) -> Tensor:
        """Transform a student's map.

        Args:
            feature (Tensor): The student's map [B, C_s, H_s, W_s].
            size (tuple[int, int], optional): The teacher's H_t and W_t. Defaults to None: ``self.size``.

        Returns:
            Tensor: [B, C_t, H_t, W_t].
        """
        return self.forward_train(feature, size or self.size)

    def forward_train(self, feature: Tensor, size: Optional[Tuple[int, int]] = None) -> Tensor:
        """See :meth:`forward`."""
        x = self.before(feature)
        if size is not None and x.shape[-2:] != tuple(size):
            x = F.interpolate(x, size=tuple(size), mode='nearest')
        return self.after(x)


@MODELS.register_module()
class PointwiseTransform(Transform):
    """1x1 convolution, batch norm, resize. 2,176 parameters."""

    def build(self, in_channels, out_channels, mid):
        return conv_bn(in_channels, out_channels, 1), nn.Identity()


@MODELS.register_module()
class AttentionTransform(Transform):
    """1x1 convolution, batch norm, attention, resize, 3x3 convolution, batch norm. 19,680 parameters."""

    def build(self, in_channels, out_channels, mid):
        return (nn.Sequential(conv_bn(in_channels, mid, 1), SpatialAttention(mid)), conv_bn(mid, out_channels, 3))


@MODELS.register_module()
class DeepAttentionTransform(Transform):
    """As :class:`AttentionTransform` with two 3x3 convolutions after the resize. 28,960 parameters."""

    def build(self, in_channels, out_channels, mid):
        return (nn.Sequential(conv_bn(in_channels, mid, 1), SpatialAttention(mid)),
                nn.Sequential(conv_bn(mid, mid, 3), conv_bn(mid, out_channels, 3)))


@MODELS.register_module()
class ConvAttentionTransform(Transform):
    """3x3 convolution, batch norm, ReLU, attention, 3x3 convolution, batch norm, ReLU, resize, 3x3 convolution, batch
    norm: the one that the release trains with. 37,152 parameters."""

    def build(self, in_channels, out_channels, mid):
        return (nn.Sequential(conv_bn(in_channels, mid, 3), nn.ReLU(), SpatialAttention(mid), conv_bn(mid, mid, 3),
                              nn.ReLU()), conv_bn(mid, out_channels, 3))
