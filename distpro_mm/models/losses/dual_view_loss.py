import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import check_choice

from ...errors import ConfigError

VIEWS = ('spatial', 'frequency')


@MODELS.register_module()
class DualViewLoss(nn.Module):
    r"""One of the two losses of ScaleKD (NeurIPS 2024, section 3.3): directions of the channels at each position.

    .. math:: \frac{1}{B} \sum_{i, p} \lVert \hat{s}_{ip} - \hat{t}_{ip} \rVert^2

    where the hat divides the channels of an image i at a position p by their norm. For the view 'spatial' these are the
    maps; for 'frequency', the maps without their constant component.

    Args:
        view (str): 'spatial' or 'frequency'.
        loss_weight (float): Factor of the loss. Defaults to 1. The release has 0.08 ('spatial') and 0.06 ('frequency').

    Raises:
        ConfigError: If ``view`` is neither.

    Note:
        The release transforms both maps by a two-dimensional DCT-II, sets the first coefficient to 0, and transforms back.
        The first basis function is constant, so this subtracts each channel's mean over the positions, which is done here.
        Maps of one position then have no frequency left, and a loss of 0.
    """

    def __init__(self, view: str = 'spatial', loss_weight: float = 1.0) -> None:
        super().__init__()
        check_choice('DualViewLoss.view', view, VIEWS, ConfigError)
        self.view, self.loss_weight = view, loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's projected map [B, C, H, W].
            t_feature (Tensor): The teacher's map, of the same shape.

        Returns:
            Tensor: The loss, a scalar; at most 4 H W times the weight.
        """
        if self.view == 'frequency':
            s_feature, t_feature = (feature - feature.mean((2, 3), keepdim=True) for feature in (s_feature, t_feature))
        error = F.normalize(s_feature, dim=1) - F.normalize(t_feature, dim=1)
        return self.loss_weight * error.square().sum() / len(error)
