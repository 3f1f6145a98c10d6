import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CurriculumKDLoss(nn.Module):
    r"""Curriculum temperature (CTKD; Li et al., AAAI 2023): KD at a temperature that is trained against the student.

    .. math:: \tau^2\, \mathrm{KL}(P_T \,\Vert\, P_S), \qquad \tau = \tau_0 + \tau_r\, \mathrm{sigmoid}(t)

    with one number t for all images ("global" in the paper). Its gradient is reversed and multiplied by ``reversal``, so the
    optimiser of the student raises the loss with t. :class:`LossScheduleHook` raises ``reversal`` from 0 over the
    first part of the training: the curriculum.

    Args:
        lowest (float): tau_0. Defaults to 1, the release's.
        span (float): tau_r. Defaults to 20, the release's.
        initial (float): Initial t. Defaults to 1, the release's: an initial temperature of 15.6.
        reversal (float): Factor of the reversed gradient, lambda of the paper. Defaults to 1.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Note:
        In the release lambda grows from epoch to epoch, here from iteration to iteration. The paper's temperature per image
        is not implemented.
    """

    def __init__(self, lowest: float = 1.0, span: float = 20.0, initial: float = 1.0, reversal: float = 1.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        self.lowest, self.span, self.reversal = lowest, span, reversal
        self.loss_weight = loss_weight
        self.score = nn.Parameter(torch.tensor(float(initial)))

    @property
    def tau(self) -> Tensor:
        """Tensor: The temperature, a scalar, with the reversed gradient."""
        score = self.score.detach() - self.reversal * (self.score - self.score.detach())
        return self.lowest + self.span * score.sigmoid()

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Forward.

        Args:
            preds_S (Tensor): The student's logits [B, K].
            preds_T (Tensor): The teacher's logits [B, K].

        Returns:
            Tensor: The loss, a scalar.
        """
        tau = self.tau
        divergence = F.kl_div(F.log_softmax(preds_S / tau, dim=1), F.softmax(preds_T.detach() / tau, dim=1),
                              reduction='batchmean')
        return self.loss_weight * tau**2 * divergence
