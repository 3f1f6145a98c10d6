# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

import torch
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class ShuffleUnit(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions, concatenated with a second path; then the channels are shuffled.

    With stride 1, the convolutions take half of the channels, and the other half is the second path. With stride 2, both
    paths take all channels, and the second path is a depthwise 3x3 and a 1x1 convolution.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels; equal to the input channels if the stride is 1.
        stride (int): 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 2
        self.shortcut = None
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, in_channels, 3, 2, 1, groups=in_channels, bias=False), nn.BatchNorm2d(in_channels),
                nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.conv1 = nn.Conv2d(in_channels if stride == 2 else width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]; the input must not be negative."""
        second, y = x.chunk(2, 1) if self.shortcut is None else (self.shortcut(x), x)
        y = self.relu(self.bn1(self.conv1(y)))
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        # The paper applies ReLU to each path before the concatenation. ReLU after it is equivalent, because the second
        # path at stride 1 is not negative, and gives the unit a map before its activation.
        return self.relu(torch.stack([second, y], 2).flatten(1, 2))


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARShuffleNetV2(BaseBackbone):
    """ShuffleNetV2 of the knowledge-distillation literature, for images of about 32 x 32.

    A 1x1 stem, three stages of 4, 8 and 4 units, each of which halves the map, and a 1x1 convolution to the classifier's
    channels.

    Args:
        channels (Sequence[int]): Channels of the three stages. Defaults to (116, 232, 464), the literature's.
        last_channels (int): Channels of the last convolution. Defaults to 1024.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned; 3 is the last convolution. Defaults to (3, ).
        init_cfg (dict, optional): Defaults to None: PyTorch's default, as in the literature.

    Note:
        Source: Ma et al. (ECCV 2018), table 5. As in the distillation literature, and unlike mmpretrain's
        ``ShuffleNetV2``: a 1x1 stem without stride or pooling.
    """

    def __init__(self,
                 channels: Sequence[int] = (116, 232, 464),
                 last_channels: int = 1024,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (3, ),
                 init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.relu1 = nn.ReLU(inplace=True)
        width = 24
        for index, (out_channels, number) in enumerate(zip(channels, (4, 8, 4))):
            units = []
            for unit in range(number):
                units.append(ShuffleUnit(width, out_channels, 1 if unit else 2))
                width = out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*units))
        self.conv2 = nn.Conv2d(width, last_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last_channels)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.relu1(self.bn1(self.conv1(x)))
        outputs = []
        for index in range(3):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(x)
        if 3 in self.out_indices:
            outputs.append(self.relu2(self.bn2(self.conv2(x))))
        return tuple(outputs)
