import math

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CCLoss(nn.Module):
    r"""Correlation congruence (Peng et al., ICCV 2019, section 3.3): correlations within a batch, by a Gaussian kernel.

    .. math:: \frac{1}{B^2} \lVert K_T - K_S \rVert_F^2, \qquad
              K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} (x_i^\top x_j)^p

    the Taylor series of a Gaussian kernel, for features x divided by their norms.

    Args:
        gamma (float): Width of the kernel. Defaults to 0.4.
        order (int): P, the order of the last term. Defaults to 2.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Note:
        RepDistiller's loss of the same name, whose results are in the tables of many papers, is different: the mean over
        neighbours in a batch of the product of their absolute errors.
    """

    def __init__(self, gamma: float = 0.4, order: int = 2, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.order = order
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's features [B, ...].
            t_feature (Tensor): The teacher's features [B, ...], of any other shape.

        Returns:
            Tensor: The loss, a scalar.
        """
        return self.loss_weight * (self._kernel(s_feature) - self._kernel(t_feature)).square().mean()

    def _kernel(self, feature: Tensor) -> Tensor:
        """Correlations of all pairs [B, B]."""
        x = F.normalize(feature.flatten(1))
        products = x @ x.T
        terms = (products**p * (2 * self.gamma)**p / math.factorial(p) for p in range(self.order + 1))
        return math.exp(-2 * self.gamma) * sum(terms)
