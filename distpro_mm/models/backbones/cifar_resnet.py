# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, with a 1x1 convolution if the shape changes.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        stride (int): Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARResNet(BaseBackbone):
    """The small residual networks of the knowledge-distillation literature, for images of about 32 x 32.

    A 3x3 stem and three stages of ``(depth - 2) / 6`` basic blocks; stages two and three halve the map. resnet20 is
    ``depth=20``; resnet8x4 is ``depth=8, stem_channels=32, channels=(64, 128, 256)``.

    Args:
        depth (int): 6 n + 2.
        stem_channels (int): Channels of the stem. Defaults to 16.
        channels (Sequence[int]): Channels of the three stages. Defaults to (16, 32, 64).
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned. Defaults to (2, ).
        init_cfg (dict, optional): Defaults to Kaiming normal for convolutions.

    Raises:
        ValueError: If ``depth`` is not 6 n + 2.

    Note:
        Source: He et al. (CVPR 2016) section 4.2, with the 1x1 shortcuts that the distillation literature uses.
    """

    def __init__(self,
                 depth: int,
                 stem_channels: int = 16,
                 channels: Sequence[int] = (16, 32, 64),
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (2, ),
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f'CIFARResNet: depth={depth} is not 6 n + 2 (8, 14, 20, 32, 44, 56, 110, ...)')
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, stem_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        width = stem_channels
        for index, out_channels in enumerate(channels):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(BasicBlock(width, out_channels, 2 if index and not block else 1))
                width = out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))
        self.num_stages = len(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.relu(self.bn1(self.conv1(x)))
        outputs = []
        for index in range(self.num_stages):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
