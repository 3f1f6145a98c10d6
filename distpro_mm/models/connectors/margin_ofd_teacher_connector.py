
import torch
from mmrazor.models.architectures.connectors import OFDTeacherConnector
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class MarginOFDTeacherConnector(OFDTeacherConnector):
    """The margin ReLU of OFD (ICCV 2019), with margins estimated from the teacher's features and saved in checkpoints.

    Each channel is clamped from below at its margin, the expectation of its negative values. According to the paper, the
    margin can be computed from the features, or from the batch norm before the activation. mmrazor's
    ``OFDTeacherConnector`` uses the batch norm given in the config, once, when the model is built. This is wrong if a
    shortcut is added after the batch norm or the teacher's weights are loaded later, and the margin is lost on resume,
    because it is not a buffer. Here the margin is the mean over all negative values seen in training so far.

    Args:
        channels (int): The teacher's channels.
        init_cfg (dict, optional): Initialisation. Defaults to None.
    """

    def __init__(self, channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        del self.margin
        self.register_buffer('margin', torch.zeros(1, channels, 1, 1))
        self.register_buffer('count', torch.zeros(1, channels, 1, 1, dtype=torch.long))

    def forward_train(self, feature: Tensor) -> Tensor:
        """Clamp the teacher's features at the margins.

        Args:
            feature (Tensor): The teacher's features before the activation [B, C, H, W].

        Returns:
            Tensor: The clamped features [B, C, H, W].
        """
        if self.training:
            with torch.no_grad():
                found = (feature < 0).sum((0, 2, 3), keepdim=True)
                total = feature.clamp(max=0).sum((0, 2, 3), keepdim=True)
                self.count += found
                self.margin += (total - found * self.margin) / self.count.clamp(min=1)
        return super().forward_train(feature)
