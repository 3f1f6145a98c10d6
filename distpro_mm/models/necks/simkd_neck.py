# Imports mmpretrain only: this file is copied into the export of a student.

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module(force=True)  # an exported copy of this file may be imported too
class SimKDNeck(BaseModule):
    """The projector of SimKD (Chen et al., CVPR 2022), from the student's last map to the teacher's channels.

    1x1, 3x3 and 1x1 convolutions, each with batch norm and ReLU. The inner maps have ``1 / factor`` of the teacher's
    channels. The projector stays in the exported student, followed by the teacher's classifier.

    Args:
        in_channels (int): Channels of the student's last map.
        out_channels (int): Channels of the teacher's last map.
        factor (int): Reduction of the inner channels. Defaults to 2, the release's.
        init_cfg (dict, optional): Initialisation. Defaults to None: PyTorch's own, the release's.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2, init_cfg=None) -> None:
        super().__init__(init_cfg)
        mid = out_channels // factor
        self.layers = nn.Sequential(*[
            layer for width, wanted, side in ((in_channels, mid, 1), (mid, mid, 3), (mid, out_channels, 1))
            for layer in (nn.Conv2d(width, wanted, side, padding=side // 2, bias=False), nn.BatchNorm2d(wanted), nn.ReLU())])

    def forward(self, inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        """Project the last map [B, C_s, H, W] to [B, C_t, H, W]."""
        return (self.layers(inputs[-1] if isinstance(inputs, tuple) else inputs), )
