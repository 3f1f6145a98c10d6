import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import check_number, check_whole

from ...errors import ConfigError
from .annotations import sample_indices
from .class_features import NEEDS_HOOK, LearnsFromTeacher, check_classes


@MODELS.register_module()
class InContextLoss(LearnsFromTeacher):
    r"""In-context sample retrieval (IC-KD, Zhu et al., 2025, arXiv 2501.07040), a reconstruction after the abstract.

    A memory bank has the teacher's features f and logits z of the training images. For an image x, with the teacher's
    feature f(x), the ``positives`` nearest images of its class (without itself) and the ``negatives`` nearest images of
    other classes are retrieved, by the cosine. With z^+ the positives' logits, aggregated with weights
    :math:`\mathrm{softmax}_k(\cos(f(x), f_k) / \rho)`,

    .. math:: L_P = \tau^2\, \mathrm{KL}(\mathrm{softmax}(z^+ / \tau) \,\Vert\, \mathrm{softmax}(z_s / \tau)), \qquad
              L_N = -\log \frac{e^{\cos(z_s, z^+) / \theta}}
                               {e^{\cos(z_s, z^+) / \theta} + \sum_k e^{\cos(z_s, z_k) / \theta}}

    The abstract has the bank, the retrieval, the aggregation and what the two losses compare. The formulas and their numbers
    are ours.

    Args:
        num_classes (int): K, the number of classes.
        positives (int): Number of positives, >= 1; fewer if the class has fewer. Defaults to 8.
        negatives (int): Number of negatives, >= 1. Defaults to 8.
        sharpness (float): rho, > 0. Defaults to 0.1.
        tau (float): Temperature of the first loss, > 0. Defaults to 4.
        temperature (float): theta, > 0. Defaults to 0.1.
        weights (tuple[float, float]): Factors of both losses. Defaults to (1, 1).

    Raises:
        ConfigError: If an argument is out of range.

    Note:
        The bank is not in checkpoints: a resumed run computes it again. The hook limits the number of images of each class,
        and so the bank's memory, 4 (C + K) bytes for an image.
    """

    def __init__(self, num_classes: int, positives: int = 8, negatives: int = 8, sharpness: float = 0.1, tau: float = 4.0,
                 temperature: float = 0.1, weights: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        key = 'model.distiller.loss'
        for name, count in dict(num_classes=num_classes, positives=positives, negatives=negatives).items():
            check_whole(f'{key}.{name}', count, error=ConfigError)
        for name, value in dict(sharpness=sharpness, tau=tau, temperature=temperature).items():
            check_number(f'{key}.{name}', value, above=0, error=ConfigError)
        self.num_classes, self.positives, self.negatives = num_classes, positives, negatives
        self.sharpness, self.tau, self.temperature, self.weights = sharpness, tau, temperature, weights
        for name in ('features', 'logits'):
            self.register_buffer(name, torch.zeros(0, num_classes), persistent=False)
        for name in ('labels', 'indices'):
            self.register_buffer(name, torch.zeros(0, dtype=torch.long), persistent=False)
        # Rows of the bank by class, filled up with -1 to the largest class, so that only these rows are compared.
        self.register_buffer('members', torch.zeros(num_classes, 0, dtype=torch.long), persistent=False)

    @property
    def learned(self) -> bool:
        """bool: Whether there is a memory bank."""
        return len(self.labels) > 0

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor, logits: Tensor, indices: Tensor) -> None:
        """Store the memory bank; arguments as of :class:`LearnsFromTeacher`.

        Raises:
            ConfigError: If a class has fewer than two images, a label is out of range, or an image has no index.
        """
        counts = check_classes(labels, self.num_classes, least=2, key='InContextLoss')
        if int(indices.min()) < 0:
            raise ConfigError('InContextLoss needs the sample_idx of every image: add it to meta_keys of PackInputs')
        device = self.labels.device
        self.features, self.logits = F.normalize(features).to(device), logits.to(device)
        self.labels, self.indices = labels.to(device), indices.to(device)
        rows = labels.argsort(stable=True).split(counts.tolist())
        self.members = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=-1).to(device)

    def forward(self, preds_S: Tensor, t_feature: Tensor, data_samples: list, gt_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Forward.

        Args:
            preds_S (Tensor): The student's logits [B, K].
            t_feature (Tensor): The teacher's features [B, C], also with further dimensions of size 1.
            data_samples (list): Annotations with ``sample_idx``.
            gt_labels (Tensor): Labels [B].

        Returns:
            tuple[Tensor, Tensor]: The losses of the positives and of the negatives, scalars, weighted.

        Raises:
            ConfigError: If there is no memory bank, or an image has no ``sample_idx``.
        """
        if not self.learned:
            raise ConfigError(f'InContextLoss has no memory bank: {NEEDS_HOOK}')
        indices = sample_indices(data_samples, 'InContextLoss').to(gt_labels.device)
        context, others = self._retrieve(t_feature.flatten(1), indices, gt_labels)
        student = preds_S.to(context.dtype)
        log_q, log_p = ((logits / self.tau).log_softmax(1) for logits in (student, context))
        positive = self.tau**2 * F.kl_div(log_q, log_p, reduction='batchmean', log_target=True)
        compared = torch.cat([context[:, None], others], 1)
        cosines = F.cosine_similarity(student[:, None], compared, dim=2) / self.temperature
        return self.weights[0] * positive, -self.weights[1] * cosines.log_softmax(1)[:, 0].mean()

    @torch.no_grad()
    def _retrieve(self, feature: Tensor, indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The aggregated logits of the positives [B, K], and the logits of the negatives [B, negatives, K]."""
        cosines = F.normalize(feature.to(self.features.dtype)) @ self.features.t()
        rows = self.members[labels]  # [B, images of the largest class]
        missing, rows = rows < 0, torch.where(rows < 0, rows[:, :1], rows)
        own = cosines.gather(1, rows).masked_fill(missing | (self.indices[rows] == indices[:, None]), -torch.inf)
        near, places = own.topk(min(self.positives, own.size(1)), 1)
        shares = (near / self.sharpness).softmax(1)  # 0 where the class has fewer images
        context = (shares[:, :, None] * self.logits[rows.gather(1, places)]).sum(1)
        cosines.scatter_(1, rows, -torch.inf)
        others = cosines.topk(min(self.negatives, len(self.labels) - rows.size(1)), 1)[1]
        return context, self.logits[others]
