import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import ConfigError


@MODELS.register_module()
class NORMLoss(nn.Module):
    r"""N-to-one representation matching (NORM, ICLR 2023): compares every segment of an expanded map with the teacher's.

    .. math:: \sum_{n=1}^N \mathrm{mse}(S_n, T)

    with S_n the n-th of the N blocks of channels. The larger map is max-pooled to the size of the smaller one.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.

    Note:
        Source: the paper's abstract and its release. The release also standardises all logits and multiplies them by 2.5,
        in the cross-entropy too, and changes the loss weight four times in a run. This class does neither.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's expanded map [B, N C, H_s, W_s].
            t_feature (Tensor): The teacher's map [B, C, H_t, W_t].

        Returns:
            Tensor: The loss, a scalar.

        Raises:
            ConfigError: If the student's channels are not a multiple of the teacher's.
        """
        channels, wanted = s_feature.size(1), t_feature.size(1)
        if channels % wanted:
            raise ConfigError(f'model.architecture.neck: {channels} expanded channels are not a multiple of the {wanted} '
                              f"channels of the teacher's map: set teacher_channels={wanted}")
        size = tuple(map(min, s_feature.shape[-2:], t_feature.shape[-2:]))
        s_feature, t_feature = (x if x.shape[-2:] == size else F.adaptive_max_pool2d(x, size)
                                for x in (s_feature, t_feature))
        segments = s_feature.unflatten(1, (channels // wanted, wanted))
        return self.loss_weight * (segments - t_feature[:, None]).square().mean() * segments.size(1)
