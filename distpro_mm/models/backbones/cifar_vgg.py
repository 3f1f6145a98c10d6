# Imports mmpretrain only, because this file is copied into the export of a student.
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn

CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
POOLED_BEFORE = (1, 2, 3)


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class CIFARVGG(BaseBackbone):
    """VGG with batch norm of the knowledge-distillation literature, for images of about 32 x 32.

    Five stages of 3x3 convolutions with 64, 128, 256, 512 and 512 channels; a pooling halves the map before stages two,
    three and four. The fourth and the fifth have the same size, 4 x 4 pixels for images of 32 x 32. Layers 'auto' has one
    layer per size, so it skips the fourth stage (and the first one of VGG-11). The literature uses all stages,
    ``['backbone.layer1', ..., 'backbone.layer5']``.

    Args:
        depth (int): 8, 11, 13, 16 or 19.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages whose maps are returned. Defaults to (4, ).
        init_cfg (dict, optional): Defaults to Kaiming normal for convolutions.

    Raises:
        ValueError: If ``depth`` is not one of these.

    Note:
        Source: Simonyan and Zisserman (ICLR 2015), table 1, with batch norm and one linear layer as the classifier. VGG-8,
        one convolution per stage, is from the distillation literature.
    """

    def __init__(self,
                 depth: int,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (4, ),
                 init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')) -> None:
        super().__init__(init_cfg)
        if depth not in CONVOLUTIONS:
            raise ValueError(f'CIFARVGG: depth={depth} is not one of {list(CONVOLUTIONS)}')
        self.out_indices = tuple(out_indices)
        width = in_channels
        for index, out_channels in enumerate((64, 128, 256, 512, 512)):
            layers = []
            for _ in range(CONVOLUTIONS[depth][index]):
                layers += [nn.Conv2d(width, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
                width = out_channels
            self.add_module(f'layer{index + 1}', nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, each [B, C, H, W]."""
        outputs = []
        for index in range(5):
            if index in POOLED_BEFORE:
                x = self.pool(x)
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
