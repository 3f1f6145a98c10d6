from mmrazor.models.losses import WSLD
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class WSLDLoss(WSLD):
    """Weighted soft labels (ICLR 2021), with the number of classes inferred from the logits.

    mmrazor's ``WSLD`` has the number of classes as an argument, 1000 by default, and fails if the logits have another.

    Args:
        **kwargs: ``tau`` and ``loss_weight`` of mmrazor's ``WSLD``.
    """

    def forward(self, student: Tensor, teacher: Tensor, gt_labels: Tensor) -> Tensor:
        """Forward.

        Args:
            student (Tensor): The student's logits [B, K].
            teacher (Tensor): The teacher's logits [B, K].
            gt_labels (Tensor): Labels [B].

        Returns:
            Tensor: The loss, a scalar.
        """
        self.num_classes = student.size(1)
        return super().forward(student, teacher, gt_labels)
