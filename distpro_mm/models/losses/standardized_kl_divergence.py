from mmrazor.models.losses import KLDivergence
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class StandardizedKLDivergence(KLDivergence):
    """Logit standardisation (Sun et al., CVPR 2024, algorithm 1): KL divergence of standardised logits.

    The mean of an image's logits is subtracted, and they are divided by their (unbiased) standard deviation and by the base
    temperature ``tau``. The student therefore need not match the range of the teacher's logits.

    Args:
        eps (float): Added to the standard deviation. Defaults to 1e-7, the release's.
        **kwargs: ``tau``, ``reduction``, ``loss_weight`` and ``teacher_detach`` of mmrazor's ``KLDivergence``.
    """

    def __init__(self, eps: float = 1e-7, **kwargs) -> None:
        super().__init__(**kwargs)
        self.eps = eps

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Forward.

        Args:
            preds_S (Tensor): The student's logits [B, K].
            preds_T (Tensor): The teacher's logits [B, K].

        Returns:
            Tensor: The loss, a scalar.
        """
        return super().forward(standardized(preds_S, self.eps), standardized(preds_T, self.eps))


def standardized(logits: Tensor, eps: float) -> Tensor:
    """Logits [B, K] minus their mean, divided by their unbiased standard deviation plus ``eps``, image by image."""
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + eps)
