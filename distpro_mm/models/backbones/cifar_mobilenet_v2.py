# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn

# Per stage: expansion, channels at full width, number of blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection; added to the input if the shape is the same.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        stride (int): Stride of the depthwise convolution.
        expansion (int): Ratio of the inner channels to the input channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        return x + self.conv(x) if self.residual else self.conv(x)


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARMobileNetV2(BaseBackbone):
    """MobileNetV2 of the knowledge-distillation literature, for images of about 32 x 32.

    A stem of stride 2, seven stages of inverted residuals, which end without an activation, and a 1x1 convolution to the
    classifier's 1280 channels. At 32 x 32, stages 2, 3, 5 and 7 are the last with maps of 16, 8, 4 and 2 pixels.

    Args:
        widen_factor (float): Multiplies the channels of the stem and the stages, rounded down. Defaults to 0.5, the
            literature's.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned; 7 is the last convolution. Defaults to (7, ).
        init_cfg (dict, optional): Defaults to Kaiming normal for convolutions.

    Note:
        Source: Sandler et al. (CVPR 2018), table 2. As in the distillation literature, and unlike mmpretrain's
        ``MobileNetV2``: ReLU instead of ReLU6, stride 1 in the second stage, an expansion convolution in the first stage
        too, and channels not rounded to multiples of 8.
    """

    def __init__(self,
                 widen_factor: float = 0.5,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (7, ),
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        width = int(32 * widen_factor)
        self.conv1 = nn.Conv2d(in_channels, width, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        for index, (expansion, channels, number, stride) in enumerate(STAGES):
            blocks = []
            for block in range(number):
                blocks.append(InvertedResidual(width, int(channels * widen_factor), 1 if block else stride, expansion))
                width = int(channels * widen_factor)
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))
        self.conv2 = nn.Conv2d(width, max(1280, int(1280 * widen_factor)), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(self.conv2.out_channels)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.relu1(self.bn1(self.conv1(x)))
        outputs = []
        for index in range(len(STAGES)):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(x)
        if len(STAGES) in self.out_indices:
            outputs.append(self.relu2(self.bn2(self.conv2(x))))
        return tuple(outputs)
