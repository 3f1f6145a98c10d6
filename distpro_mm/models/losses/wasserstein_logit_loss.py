import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor

from ...errors import ConfigError
from .class_features import NEEDS_HOOK, LearnsFromTeacher, check_classes


@MODELS.register_module()
class WassersteinLogitLoss(LearnsFromTeacher):
    r"""WKD-L (Lv et al., NeurIPS 2024): Wasserstein distance of predictions, by how much the teacher relates the classes.

    .. math:: -w\, p^T_y \log p^S_y + \lambda\, \min_{Q} \sum_{ij} q_{ij} c_{ij}, \qquad
              c_{ij} = 1 - \exp(-\kappa\, (1 - \mathrm{CKA}(X_i, X_j)))

    The first term is of the label y at temperature 1. The second one is the transport of the student's softened
    predictions of all other classes to the teacher's, with an entropic regularisation of ``epsilon`` and a fixed number of
    Sinkhorn iterations. CKA compares the teacher's features of two classes, with a linear kernel.

    Args:
        num_classes (int): K, the number of classes.
        tau (float): Temperature of the transported predictions. Defaults to 8, the release's for resnet32x4-resnet8x4.
        sharpness (float): kappa. Defaults to 1, the release's.
        epsilon (float): Entropic regularisation, > 0. Defaults to 0.05, the release's.
        iterations (int): Sinkhorn iterations, >= 1. Defaults to 10, the release's.
        target_weight (float): w, factor of the label's term. Defaults to 1, the release's.
        loss_weight (float): lambda, factor of the transport. Defaults to 600, the release's for resnet32x4-resnet8x4.

    Note:
        :class:`TeacherClassesHook` computes the costs once, from the features that the teacher's classifier is given, and
        checkpoints have them. The release's costs for CIFAR-100 compare the last map position by position. Both
        pair the n-th image of a class with the n-th of the other.
    """

    def __init__(self, num_classes: int, tau: float = 8.0, sharpness: float = 1.0, epsilon: float = 0.05,
                 iterations: int = 10, target_weight: float = 1.0, loss_weight: float = 600.0) -> None:
        super().__init__()
        self.tau, self.sharpness, self.epsilon, self.iterations = tau, sharpness, epsilon, iterations
        self.target_weight, self.loss_weight = target_weight, loss_weight
        self.register_buffer('costs', torch.zeros(num_classes, num_classes))
        self.register_buffer('learned', torch.tensor(False))

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor, logits: Tensor, indices: Tensor) -> None:
        """Compute the costs of all pairs of classes; arguments as of :class:`LearnsFromTeacher`.

        Raises:
            ConfigError: If a class has fewer than two images, or a label is out of range.
        """
        classes = len(self.costs)
        counts = check_classes(labels, classes, least=2, key='WassersteinLogitLoss')
        kernels = []
        for label in range(classes):
            rows = features[labels == label][:int(counts.min())].double()
            rows = rows - rows.mean(0)
            kernel = (rows @ rows.T).flatten()
            kernels.append(kernel / kernel.norm().clamp(min=torch.finfo(kernel.dtype).tiny))
        products = torch.stack(kernels)
        alignment = (products @ products.T).clamp(0, 1).fill_diagonal_(1)
        self.costs.copy_(1 - torch.exp(-self.sharpness * (1 - alignment)))
        self.learned.fill_(True)

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """Forward.

        Args:
            preds_S (Tensor): The student's logits [B, K].
            preds_T (Tensor): The teacher's logits [B, K].
            gt_labels (Tensor): Labels [B].

        Returns:
            Tensor: The loss, a scalar.

        Raises:
            ConfigError: If the costs have not been computed.
        """
        if not self.learned:
            raise ConfigError(f'WassersteinLogitLoss has no costs of the classes: {NEEDS_HOOK}')
        preds_S, preds_T = (preds.float() if preds.dtype in (torch.half, torch.bfloat16) else preds
                            for preds in (preds_S, preds_T))
        labels = gt_labels[:, None]
        target = -(F.softmax(preds_T, dim=1) * F.log_softmax(preds_S, dim=1)).gather(1, labels).mean()
        student, teacher = (F.softmax((logits / self.tau).scatter(1, labels, -torch.inf), dim=1)
                            for logits in (preds_S, preds_T))
        with torch.autocast(student.device.type, enabled=False):
            distance = self._distance(student, teacher, labels).mean()
        return self.target_weight * target + self.loss_weight * distance

    def _distance(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Cost [B] of the transport between distributions [B, K] that are 0 at the labels [B, 1]."""
        costs = self.costs.to(student.dtype)
        kernel = torch.exp(-costs / self.epsilon)
        tiny = torch.finfo(student.dtype).tiny**0.5  # the release's 1e-8 is too much for a smaller epsilon
        left = torch.full_like(student, 1 / (student.size(1) - 1)).scatter(1, labels, 0)
        for _ in range(self.iterations):
            right = teacher / (left @ kernel + tiny)
            left = student / (right @ kernel.T + tiny)
        return ((left @ (kernel * costs)) * right).sum(1)
