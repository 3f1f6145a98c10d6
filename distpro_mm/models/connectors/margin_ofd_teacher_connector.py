from typing import Dict, Optional

import torch
from mmrazor.models.architectures.connectors import OFDTeacherConnector
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class MarginOFDTeacherConnector(OFDTeacherConnector):
    """The margin ReLU of OFD (ICCV 2019) with margins estimated from the teacher's own features, kept in the checkpoint.

    Each channel is cut off below at its margin, the expectation of its negative values, which the paper allows to be
    computed from the features or from the batch norm before the activation. mmrazor's ``OFDTeacherConnector`` does the
    latter, once, when the model is built, by the batch norm that the config names: wrong where a shortcut is added behind
    it, wrong if the teacher's weights come later, and lost on resume, since its margin is no buffer. Here it is the mean
    over all negative values seen in training so far.

    Args:
        channels (int): The teacher's channels.
        init_cfg (dict, optional): Initialisation. Defaults to None.
    """

    def __init__(self, channels: int, init_cfg: Optional[Dict] = None) -> None:
        super().__init__(init_cfg)
        del self.margin
        self.register_buffer('margin', torch.zeros(1, channels, 1, 1))
        self.register_buffer('count', torch.zeros(1, channels, 1, 1, dtype=torch.long))

    def forward_train(self, feature: Tensor) -> Tensor:
        """Cut the teacher's features off at the margins.

        Args:
            feature (Tensor): The teacher's features before the activation [B, C, H, W].

        Returns:
            Tensor: [B, C, H, W].
        """
        if self.training:
            with torch.no_grad():
                found = (feature < 0).sum((0, 2, 3), keepdim=True)
                total = feature.clamp(max=0).sum((0, 2, 3), keepdim=True)
                self.count += found
                self.margin += (total - found * self.margin) / self.count.clamp(min=1)
        return super().forward_train(feature)
