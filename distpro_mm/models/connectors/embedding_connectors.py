"""Connectors of embeddings: maps averaged over their positions, and projected to the teacher's channels."""
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import FLAG, check_choice

from ...errors import ConfigError


@MODELS.register_module()
class EmbeddingConnector(BaseConnector):
    """Averages a map over its positions and projects the result by one linear layer.

    Args:
        in_channels (int): Channels of the map.
        out_channels (int): Channels of the result.
        if_different (bool): True: no layer if the channels are equal, and batch norm and dropout (0.5) before it if they
            differ (KD++). False: always one linear layer. Defaults to False.
        init_cfg (dict, optional): Initialisation. Defaults to None: PyTorch's.
    """

    def __init__(self, in_channels: int, out_channels: int, if_different: bool = False,
                 init_cfg: dict | None = None) -> None:
        check_choice('EmbeddingConnector.if_different', if_different, FLAG, ConfigError)
        super().__init__(init_cfg)
        if not if_different:
            self.project: nn.Module = nn.Linear(in_channels, out_channels)
        elif in_channels == out_channels:
            self.project = nn.Identity()
        else:
            self.project = nn.Sequential(
                nn.BatchNorm1d(in_channels), nn.Dropout(0.5), nn.Linear(in_channels, out_channels))

    def forward_train(self, feature: Tensor) -> Tensor:
        """The embedding [B, C_out] of a map [B, C_in, H, W]."""
        return self.project(pooled(feature))


@MODELS.register_module()
class OrthogonalConnector(BaseConnector):
    """Averages a map over its positions and projects the result by an orthogonal matrix (VkD, CVPR 2024, section 3.1).

    The matrix has orthonormal columns if the channels grow, and orthonormal rows if they shrink, in every step: it is
    torch's parametrisation ``orthogonal`` of a linear layer without a bias.

    Args:
        in_channels (int): Channels of the map.
        out_channels (int): Channels of the result.
        orthogonal_map (str): 'cayley', 'matrix_exp' or 'householder', torch's map from free parameters to the matrix.
            Defaults to 'cayley'. The release has torch's default, 'householder' unless the matrix is square, which takes
            eight times as long for 1024 to 256 channels.
        init_cfg (dict, optional): Initialisation. Defaults to None: PyTorch's.
    """

    def __init__(self, in_channels: int, out_channels: int, orthogonal_map: str = 'cayley',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.project = nn.utils.parametrizations.orthogonal(
            nn.Linear(in_channels, out_channels, bias=False), orthogonal_map=orthogonal_map)

    def forward_train(self, feature: Tensor) -> Tensor:
        """The embedding [B, C_out] of a map [B, C_in, H, W]."""
        return self.project(pooled(feature))


def pooled(feature: Tensor) -> Tensor:
    """The mean over all positions [B, C] of a map [B, C, ...]."""
    return feature.flatten(2).mean(2) if feature.dim() > 2 else feature
