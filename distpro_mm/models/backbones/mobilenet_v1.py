# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn

# Per stage: channels and number of blocks.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


def separable_convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 convolution, each with batch norm and ReLU.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        stride (int): Stride of the depthwise convolution.

    Returns:
        nn.Sequential: [B, C_in, H, W] to [B, C_out, H / stride, W / stride].
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False), nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class MobileNetV1(BaseBackbone):
    """MobileNet, the student of the distillation literature on ImageNet.

    A 3x3 stem of stride 2 and five stages of depthwise separable convolutions; each but the first halves the map. The maps
    are 112, 56, 28, 14 and 7 pixels wide for images of 224.

    Args:
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned. Defaults to (4, ).
        init_cfg (dict, optional): Defaults to Kaiming normal for convolutions.

    Note:
        Source: Howard et al. (arXiv 1704.04861), table 1, except for the stride of 2 in its last row, which is a
        misprint: the map stays at 7 x 7.
    """

    def __init__(self,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (4, ),
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(in_channels, 32, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        width = 32
        for index, (out_channels, number) in enumerate(STAGES):
            blocks = []
            for block in range(number):
                blocks.append(separable_convolution(width, out_channels, 2 if index and not block else 1))
                width = out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        x = self.relu(self.bn1(self.conv1(x)))
        outputs = []
        for index in range(len(STAGES)):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
