import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ReconstructionLoss(nn.Module):
    """Reconstruction error of an autoencoder of the teacher's map; first stage of factor transfer (NeurIPS 2018, eq. 2).

    Args:
        autoencoder (dict): Config of the autoencoder, e.g. mmrazor's ``Paraphraser``, whose weights the second stage loads.
        loss_weight (float): Factor of the mean squared error. Defaults to 1.
    """

    def __init__(self, autoencoder: dict, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.autoencoder = MODELS.build(dict(autoencoder))
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's map; not used.
            t_feature (Tensor): The teacher's map [B, C, H, W].

        Returns:
            Tensor: The loss, a scalar.
        """
        return self.loss_weight * F.mse_loss(self.autoencoder(t_feature), t_feature)
