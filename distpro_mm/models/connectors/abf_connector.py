
import torch
import torch.nn.functional as F
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import FLAG, check_choice

from ...errors import ConfigError


@MODELS.register_module()
class ABFConnector(BaseConnector):
    """Attention-based fusion of ReviewKD (CVPR 2021, section 3.3): fuses a student's map with the deeper fused map.

    A 1x1 convolution projects the student's map to the common width, and the deeper map is enlarged to its size. Two
    attention maps, predicted from both, weight the two maps per pixel, and the results are added. A 3x3 convolution of the
    sum is compared with the teacher's map. The sum is the input of the next shallower fusion.

    Args:
        in_channels (int): The student's channels.
        mid_channels (int): The common width.
        out_channels (int): The teacher's channels.
        fuse (bool): Whether there is a deeper map; False for the deepest map.
        init_cfg (dict, optional): Initialisation. Defaults to None: the release's for convolutions.

    Raises:
        ConfigError: If ``fuse`` is neither True nor False.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, fuse: bool,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        check_choice('ABFConnector.fuse', fuse, FLAG, ConfigError)
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, 1, bias=False), nn.BatchNorm2d(mid_channels))
        self.expand = nn.Sequential(
            nn.Conv2d(mid_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels))
        self.attention = nn.Conv2d(2 * mid_channels, 2, 1) if fuse else None
        for conv in (self.reduce[0], self.expand[0]):
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, feature: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Fuse a map with the deeper one.

        Args:
            feature (Tensor): The student's map [B, C_s, H_s, W_s].
            deeper (Tensor, optional): The sum of the next deeper fusion [B, C, H, W].
            size (tuple[int, int]): H_t and W_t of the teacher's map.

        Returns:
            tuple[Tensor, Tensor]: The map to compare [B, C_t, H_t, W_t], and the sum [B, C, H_t, W_t].
        """
        return self.forward_train(feature, deeper, size)

    def forward_train(self, feature: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """See :meth:`forward`."""
        x = self.reduce(feature)
        if self.attention is not None:
            deeper = F.interpolate(deeper, x.shape[-2:], mode='nearest')
            own, others = self.attention(torch.cat([x, deeper], dim=1)).sigmoid().split(1, dim=1)
            x = x * own + deeper * others
        if x.shape[-2:] != tuple(size):
            x = F.interpolate(x, tuple(size), mode='nearest')
        return self.expand(x), x
