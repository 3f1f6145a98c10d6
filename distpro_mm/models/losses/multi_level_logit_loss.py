from collections.abc import Sequence

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MultiLevelLogitLoss(nn.Module):
    r"""Multi-level logit distillation (Jin et al., CVPR 2023, section 3): instances, the batch and the classes.

    The loss is the sum of three terms over several temperatures (prediction augmentation). With P the softened predictions
    [B, K] at temperature tau, the terms are

    .. math:: \tau^2\, \mathrm{KL}(P_T \,\Vert\, P_S) + \frac{1}{B} \lVert P_T P_T^\top - P_S P_S^\top \rVert_F^2
              + \frac{1}{K} \lVert P_T^\top P_T - P_S^\top P_S \rVert_F^2

    Args:
        taus (Sequence[float]): Temperatures. Defaults to (2, 3, 4, 5, 6), the release's.
        instance_weight (float): Factor of the instance term. Defaults to 1.
        batch_weight (float): Factor of the batch term. Defaults to 1.
        class_weight (float): Factor of the class term. Defaults to 1.
        loss_weight (float): Factor of the loss. Defaults to 1.

    Note:
        The release trains on two views of every image, one of them strongly augmented, and computes the batch and class
        terms on the weak view only. It multiplies each term by the share of images (classes) for which the teacher is
        less confident than the median, about a half. Its terms of the strong view use the weak view at temperatures 2
        and 6. Here there is one view and no such factor.
    """

    def __init__(self, taus: Sequence[float] = (2, 3, 4, 5, 6), instance_weight: float = 1.0, batch_weight: float = 1.0,
                 class_weight: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.taus = tuple(taus)
        self.weights = instance_weight, batch_weight, class_weight
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Forward.

        Args:
            preds_S (Tensor): The student's logits [B, K].
            preds_T (Tensor): The teacher's logits [B, K].

        Returns:
            Tensor: The loss, a scalar.
        """
        loss = 0
        for tau in self.taus:
            log_student, teacher = F.log_softmax(preds_S / tau, dim=1), F.softmax(preds_T / tau, dim=1)
            student = log_student.exp()
            terms = (tau**2 * F.kl_div(log_student, teacher, reduction='batchmean'),
                     (teacher @ teacher.T - student @ student.T).square().sum() / len(student),
                     (teacher.T @ teacher - student.T @ student).square().sum() / student.size(1))
            loss = loss + sum(weight * term for weight, term in zip(self.weights, terms))
        return self.loss_weight * loss
