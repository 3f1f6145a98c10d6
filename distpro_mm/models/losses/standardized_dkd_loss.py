from mmrazor.registry import MODELS
from torch import Tensor

from .decoupled_kd_loss import DecoupledKDLoss
from .standardized_kl_divergence import standardized


@MODELS.register_module()
class StandardizedDKDLoss(DecoupledKDLoss):
    """Decoupled knowledge distillation of standardised logits (Sun et al., CVPR 2024): their DKD + logit standardisation.

    Args:
        eps (float): Added to the standard deviation. Defaults to 1e-7, the release's.
        **kwargs: Arguments of :class:`DecoupledKDLoss`; ``tau`` is the base temperature.
    """

    def __init__(self, eps: float = 1e-7, **kwargs) -> None:
        super().__init__(**kwargs)
        self.eps = eps

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """Forward.

        Args:
            preds_S (Tensor): The student's logits [B, K].
            preds_T (Tensor): The teacher's logits [B, K].
            gt_labels (Tensor): Labels [B].

        Returns:
            Tensor: The loss, a scalar unless ``reduction`` is 'none'.
        """
        return super().forward(standardized(preds_S, self.eps), standardized(preds_T, self.eps), gt_labels)
