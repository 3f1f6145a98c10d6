import math

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class VIDLoss(nn.Module):
    r"""Variational information distillation (Ahn et al., CVPR 2019, eq. 5 and 6): Gaussian likelihood of the teacher's map.

    .. math:: \mathrm{mean}\Bigl( \frac{(T - \mu)^2}{2 \sigma_c^2} + \log \sigma_c \Bigr)

    A connector predicts the mean mu from the student's map. The variance of every channel c is a parameter of the loss.

    Args:
        channels (int): The teacher's channels.
        initial_variance (float): Initial variance, > ``eps``. Defaults to 5, the authors'.
        eps (float): Minimum of the variance. Defaults to 1e-5.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Note:
        mdistiller's VID does not train the variances; this class does.
    """

    def __init__(self, channels: int, initial_variance: float = 5.0, eps: float = 1e-5, loss_weight: float = 1.0) -> None:
        super().__init__()
        # softplus(scale) + eps is the variance.
        self.scale = nn.Parameter(torch.full((channels, 1, 1), math.log(math.expm1(initial_variance - eps))))
        self.eps = eps
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The predicted mean [B, C, H, W].
            t_feature (Tensor): The teacher's map [B, C, H, W].

        Returns:
            Tensor: The loss, a scalar.
        """
        variance = F.softplus(self.scale) + self.eps
        return self.loss_weight * 0.5 * ((s_feature - t_feature).square() / variance + variance.log()).mean()
