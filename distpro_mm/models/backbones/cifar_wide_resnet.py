# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after a batch norm and a ReLU, and a shortcut.

    If the channels change, the shortcut is a 1x1 convolution of the activated input; else it is the input.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        stride (int): Stride of the first convolution. If not 1, the channels must change.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        activated = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(self.relu(self.bn2(self.conv1(activated)))) + shortcut


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARWideResNet(BaseBackbone):
    """Wide residual networks for images of about 32 x 32: ``depth=40, widen_factor=2`` is WRN-40-2.

    A 3x3 stem and three stages of ``(depth - 4) / 6`` pre-activation blocks; stages two and three halve the map. A block
    ends with an addition, so the maps of the stages have negative values. The activation of a stage is at the start of the
    next stage, after e.g. ``backbone.layer2.0.bn1``. The map of the last stage is returned after the network's final batch
    norm and ReLU, which is the input of the classifier.

    Args:
        depth (int): 6 n + 4.
        widen_factor (int): The stages have 16, 32 and 64 times ``widen_factor`` channels. Defaults to 1.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned. Defaults to (2, ).
        init_cfg (dict, optional): Defaults to Kaiming normal for convolutions.

    Raises:
        ValueError: If ``depth`` is not 6 n + 4.

    Note:
        Source: Zagoruyko and Komodakis (BMVC 2016), table 1, without dropout.
    """

    def __init__(self,
                 depth: int,
                 widen_factor: int = 1,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (2, ),
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f'CIFARWideResNet: depth={depth} is not 6 n + 4 (10, 16, 22, 28, 40, ...)')
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        width = 16
        for index in range(3):
            out_channels = 16 * 2**index * widen_factor
            blocks = []
            for block in range((depth - 4) // 6):
                blocks.append(PreActivationBlock(width, out_channels, 2 if index and not block else 1))
                width = out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.conv1(x)
        outputs = []
        for index in range(3):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(self.relu(self.bn1(x)) if index == 2 else x)
        return tuple(outputs)
