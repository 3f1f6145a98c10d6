# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

import torch.nn.functional as F
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn

EXPANSION = 4


class PyramidBlock(nn.Module):
    """Convolutions with a batch norm before and after each, and a shortcut that has no weights.

    The shortcut is average-pooled if the map is halved, and padded with channels of zeros. There is no activation before
    the first convolution or after the addition.

    Args:
        in_channels (int): Input channels.
        width (int): Channels of the 3x3 convolutions.
        stride (int): Stride of the block.
        bottleneck (bool): Whether the block has 1x1, 3x3 and 1x1 convolutions to four times the width; else it has two 3x3
            convolutions.
    """

    def __init__(self, in_channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.out_channels = width * EXPANSION if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (in_channels, *[width] * (len(kernels) - 1), self.out_channels)
        self.depth, self.stride = len(kernels), stride
        self.bn1 = nn.BatchNorm2d(in_channels)
        for index, kernel in enumerate(kernels):
            halving = stride if index == len(kernels) - 2 else 1
            self.add_module(f'conv{index + 1}', nn.Conv2d(widths[index], widths[index + 1], kernel, halving, kernel // 2,
                                                          bias=False))
            self.add_module(f'bn{index + 2}', nn.BatchNorm2d(widths[index + 1]))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        y = self.bn1(x)
        for index in range(1, self.depth + 1):
            y = getattr(self, f'bn{index + 1}')(getattr(self, f'conv{index}')(y))
            if index < self.depth:
                y = self.relu(y)
        if self.stride != 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARPyramidNet(BaseBackbone):
    """Pyramidal residual networks (additive) for images of about 32 x 32: every block is slightly wider than the last.

    A 3x3 stem and three stages; stages two and three halve the map. The width grows from 16 by ``alpha`` over all blocks;
    the output of a bottleneck has four times as many channels. The map of the last stage is returned after the network's
    final batch norm and ReLU, which is the input of the classifier.

    Args:
        depth (int): 9 n + 2 with bottlenecks, 6 n + 2 without.
        alpha (float): Total growth of the width.
        bottleneck (bool): Whether the blocks are bottlenecks: three convolutions, to four times the width. Defaults to True.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned. Defaults to (2, ).
        init_cfg (dict, optional): Defaults to Kaiming normal for convolutions.

    Raises:
        ValueError: If ``depth`` is not of this form, or ``bottleneck`` is neither True nor False.

    Note:
        Source: Han et al. (CVPR 2017), section 2 and figure 6 (d).
    """

    def __init__(self,
                 depth: int,
                 alpha: float,
                 bottleneck: bool = True,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (2, ),
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        if bottleneck is not True and bottleneck is not False:  # an exported copy of this file is without distpro
            raise ValueError(f'CIFARPyramidNet: bottleneck={bottleneck!r} is not one of True, False')
        layers = 9 if bottleneck else 6
        number = (depth - 2) // layers
        if depth < layers + 2 or (depth - 2) % layers:
            raise ValueError(f'CIFARPyramidNet: depth={depth} is not {layers} n + 2, with bottleneck={bottleneck}')
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for index in range(3):
            blocks = []
            for block in range(number):
                width = round(16 + alpha * (index * number + block + 1) / (3 * number))
                blocks.append(PyramidBlock(channels, width, 2 if index and not block else 1, bottleneck))
                channels = blocks[-1].out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.bn1(self.conv1(x))
        outputs = []
        for index in range(3):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(self.relu(self.bn2(x)) if index == 2 else x)
        return tuple(outputs)
