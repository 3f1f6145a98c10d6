import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import ConfigError
from .class_features import NEEDS_HOOK, LearnsFromTeacher, check_classes


@MODELS.register_module()
class NormDirectionLoss(LearnsFromTeacher):
    r"""The ND loss of KD++ (Wang et al., 2023; ECCV 2024): direction of the teacher's class mean, and a large norm.

    .. math:: \frac{1}{B} \sum_i 1 - \frac{s_i^\top e_{y_i}}{\max(\lVert s_i \rVert, \lVert t_i \rVert)},
              \qquad e_k = c_k / \lVert c_k \rVert

    with s and t the features that the classifiers are given, and c_k the mean of the teacher's features of class k over the
    training set. :class:`TeacherClassesHook` computes the means once, and checkpoints have them.

    Args:
        num_classes (int): K, the number of classes.
        channels (int): The teacher's channels.
        loss_weight (float): Factor of the loss. Defaults to 1.
    """

    def __init__(self, num_classes: int, channels: int, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.register_buffer('directions', torch.zeros(num_classes, channels))
        self.register_buffer('learned', torch.tensor(False))

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor, logits: Tensor, indices: Tensor) -> None:
        """Compute the directions of the class means; arguments as of :class:`LearnsFromTeacher`.

        Raises:
            ConfigError: If the channels differ, a class has no image, or a label is out of range.
        """
        classes, channels = self.directions.shape
        if features.size(1) != channels:
            raise ConfigError(f"NormDirectionLoss.channels={channels}: the teacher's classifier is given "
                              f'{features.size(1)} channels; compare the layer before it')
        counts = check_classes(labels, classes, least=1, key='NormDirectionLoss')
        sums = torch.zeros(classes, channels, dtype=torch.float64, device=features.device)
        sums.index_add_(0, labels.to(features.device), features.double())
        means = sums / counts.to(features.device)[:, None]
        self.directions.copy_(nn.functional.normalize(means))
        self.learned.fill_(True)

    def forward(self, s_feature: Tensor, t_feature: Tensor, gt_labels: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feature (Tensor): The student's features [B, C], also with further dimensions of size 1.
            t_feature (Tensor): The teacher's features, in the same shapes.
            gt_labels (Tensor): Labels [B].

        Returns:
            Tensor: The loss, a scalar.

        Raises:
            ConfigError: If the class means have not been computed.
        """
        if not self.learned:
            raise ConfigError(f'NormDirectionLoss has no class means: {NEEDS_HOOK}')
        student, teacher = s_feature.flatten(1), t_feature.flatten(1)
        norm = torch.maximum(student.norm(dim=1), teacher.norm(dim=1)).clamp(min=1e-12)
        along = (student * self.directions[gt_labels].to(student.dtype)).sum(1)
        return self.loss_weight * (1 - along / norm).mean()
