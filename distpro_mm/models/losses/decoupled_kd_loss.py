import torch.nn.functional as F
from mmrazor.models.losses import DKDLoss
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class DecoupledKDLoss(DKDLoss):
    """Decoupled knowledge distillation (CVPR 2022, section 3) with every reduction that mmrazor's ``DKDLoss`` offers.

    ``alpha`` times the divergence of the two-class distributions (target, all others), plus ``beta`` times that of the
    distributions over the other classes; both at temperature ``tau``, multiplied by tau squared and summed over
    classes. mmrazor's ``DKDLoss`` treats 'mean' and 'none' as 'sum'.

    Args:
        **kwargs: ``tau``, ``alpha``, ``beta``, ``loss_weight`` and ``reduction`` of mmrazor's ``DKDLoss``. The
            reductions over the images are: 'batchmean' and 'mean', the mean; 'sum'; 'none', which returns [B]. Defaults
            to 'batchmean', the paper's.
    """

    def _kl_loss(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        losses = F.kl_div(preds_S, preds_T, reduction='none').sum(1) * self.tau**2
        if self.reduction == 'none':
            return losses
        return losses.sum() if self.reduction == 'sum' else losses.mean()
