# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

import torch
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class ShuffleUnit(nn.Module):
    """Grouped 1x1, depthwise 3x3 and grouped 1x1 convolutions; the channels are shuffled after the first.

    With stride 1, the input is added. With stride 2, it is average-pooled and concatenated.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        stride (int): 1 or 2.
        groups (int): Groups of the last convolution.
        first_groups (int): Groups of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        out_channels -= in_channels if stride == 2 else 0
        width = out_channels // 4
        self.groups = first_groups
        self.conv1 = nn.Conv2d(in_channels, width, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = y.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + x if self.pool is None else torch.cat([y, self.pool(x)], 1))


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARShuffleNetV1(BaseBackbone):
    """ShuffleNet of the knowledge-distillation literature, for images of about 32 x 32.

    A 1x1 stem and three stages of 4, 8 and 4 units, each of which halves the map.

    Args:
        channels (Sequence[int]): Channels of the three stages. Defaults to (240, 480, 960), the literature's.
        groups (int): Groups of the 1x1 convolutions. Defaults to 3.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned. Defaults to (2, ).
        init_cfg (dict, optional): Defaults to None: PyTorch's default, as in the literature.

    Note:
        Source: Zhang et al. (CVPR 2018), table 1. As in the distillation literature, and unlike mmpretrain's
        ``ShuffleNetV1``: a 1x1 stem without stride or pooling, a ReLU after the depthwise convolution, and in a unit of
        stride 2, a bottleneck with a quarter of the channels of its convolutions (not of all output channels).
    """

    def __init__(self,
                 channels: Sequence[int] = (240, 480, 960),
                 groups: int = 3,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (2, ),
                 init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.relu = nn.ReLU(inplace=True)
        width = 24
        for index, (out_channels, number) in enumerate(zip(channels, (4, 8, 4))):
            units = []
            for unit in range(number):
                # The stem's few channels are not divided into groups (section 3.2).
                units.append(ShuffleUnit(width, out_channels, 1 if unit else 2, groups, groups if index or unit else 1))
                width = out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*units))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.relu(self.bn1(self.conv1(x)))
        outputs = []
        for index in range(3):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
