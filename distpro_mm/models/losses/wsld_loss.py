from mmrazor.models.losses import WSLD
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class WSLDLoss(WSLD):
    """Weighted soft labels (ICLR 2021) for as many classes as the logits have.

    mmrazor's ``WSLD`` wants the number of classes in the config, by default ImageNet's, and fails on any other.

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
