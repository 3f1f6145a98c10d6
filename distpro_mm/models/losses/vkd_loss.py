import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class VkDLoss(nn.Module):
    r"""VkD (Miles et al., CVPR 2024) for classification: projected features against the teacher's, standardised per image.

    The smooth L1 distance (threshold 1) of the student's features, through :class:`OrthogonalConnector`, to the layer norm
    of the teacher's, without parameters. The mean over images and channels.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1, the release's.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's projected features [B, C], also with further dimensions of size 1.
            t_feature (Tensor): The teacher's features, in the same shapes.

        Returns:
            Tensor: The loss, a scalar.
        """
        student, teacher = s_feature.flatten(1), t_feature.flatten(1)
        return self.loss_weight * F.smooth_l1_loss(student, F.layer_norm(teacher, teacher.shape[1:]))
