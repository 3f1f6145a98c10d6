import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SRDLoss(nn.Module):
    r"""The simple recipe of Miles and Mikolajczyk (AAAI 2024): log of a sum of powers of normalised features' errors.

    .. math:: \log \sum_{ic} \lvert \hat{s}_{ic} - \hat{t}_{ic} \rvert^\alpha

    where the hat is a batch norm without parameters, of the student's projected features and of the teacher's.

    Args:
        channels (int): The teacher's channels.
        power (float): alpha. Defaults to 4, the paper's.
        eps (float): Added to the variances. Defaults to 1e-4, the release's.
        loss_weight (float): Factor of the loss. Defaults to 2, the release's for ResNets on ImageNet.

    Note:
        The release for ResNets takes the log of the sum over channels and images, so that the loss grows with the log of the
        batch, and its gradient does not change with the number of images. Its code for transformers compares correlations.
    """

    def __init__(self, channels: int, power: float = 4.0, eps: float = 1e-4, loss_weight: float = 2.0) -> None:
        super().__init__()
        self.norm_s, self.norm_t = (nn.BatchNorm1d(channels, eps=eps, affine=False) for _ in 'st')
        self.power, self.loss_weight = power, loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's projected features [B, C], also with further dimensions of size 1.
            t_feature (Tensor): The teacher's features, in the same shapes.

        Returns:
            Tensor: The loss, a scalar.
        """
        error = (self.norm_s(s_feature.flatten(1)) - self.norm_t(t_feature.flatten(1))).abs()
        return self.loss_weight * torch.log(error.pow(self.power).sum().clamp(min=1e-12))
