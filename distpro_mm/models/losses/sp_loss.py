import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SPLoss(nn.Module):
    r"""Similarity-preserving distillation (Tung and Mori, ICCV 2019, section 3): compares similarities within a batch.

    .. math:: \frac{1}{B^2} \lVert G_T - G_S \rVert_F^2

    with G the Gram matrix [B, B] of the features, each row divided by its norm.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's features [B, ...].
            t_feature (Tensor): The teacher's features [B, ...], of any other shape.

        Returns:
            Tensor: The loss, a scalar.
        """
        student, teacher = (F.normalize(x.flatten(1) @ x.flatten(1).T) for x in (s_feature, t_feature))
        return self.loss_weight * (student - teacher).square().mean()
