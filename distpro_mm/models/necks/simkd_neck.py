# Stands alone on mmpretrain: an exported student takes this file along.
from typing import Tuple, Union

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module(force=True)  # an exported copy of this file may meet the original
class SimKDNeck(BaseModule):
    """The projector of SimKD (Chen et al., CVPR 2022), which brings a student's last map to the teacher's channels.

    1x1, 3x3 and 1x1 convolutions, each with batch norm and ReLU; the inner maps have ``1 / factor`` of the teacher's
    channels. It stays in the student, which predicts with the teacher's classifier behind it.

    Args:
        in_channels (int): Channels of the student's last map.
        out_channels (int): Channels of the teacher's last map.
        factor (int): Defaults to 2, the release's.
        init_cfg (dict, optional): Initialisation. Defaults to None: PyTorch's own, the release's.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2, init_cfg=None) -> None:
        super().__init__(init_cfg)
        mid = out_channels // factor
        self.layers = nn.Sequential(*[
            layer for width, wanted, side in ((in_channels, mid, 1), (mid, mid, 3), (mid, out_channels, 1))
            for layer in (nn.Conv2d(width, wanted, side, padding=side // 2, bias=False), nn.BatchNorm2d(wanted), nn.ReLU())])

    def forward(self, inputs: Union[Tensor, Tuple[Tensor, ...]]) -> Tuple[Tensor]:
        """The last map [B, C_s, H, W] to one [B, C_t, H, W]."""
        return (self.layers(inputs[-1] if isinstance(inputs, tuple) else inputs), )
