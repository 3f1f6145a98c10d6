
import torch
from mmrazor.models.losses import CRDLoss
from mmrazor.registry import MODELS
from torch import Tensor

from ...errors import ConfigError
from .annotations import sample_indices


@MODELS.register_module()
class SupervisedCRDLoss(CRDLoss):
    """Contrastive representation distillation (ICLR 2020) with negatives of other classes, on any mmpretrain data set.

    The loss is mmrazor's ``CRDLoss`` without its limitations: mmrazor's class ignores ``loss_weight``, needs special data
    sets and image packing (which imports the retired package mmcls), otherwise draws negatives of the image's own class, and
    stores the first batch's graph in a buffer, which makes a copy of the model fail.

    An image's index in the memory bank is its ``sample_idx`` from mmpretrain's ``PackInputs``. Negatives are drawn from
    previously seen images of other classes. If there are not enough of them, unseen images are used too, whose embeddings
    in the memory bank are still random.

    Args:
        sample_n (int): Number of training images; for a subset, the number of images of the full data set.
        neg_num (int): Negatives per image; drawn without replacement if there are enough. Defaults to 16384.
        **kwargs: ``loss_weight``, ``temperature``, ``dim_out``, ``momentum`` and ``eps`` of mmrazor's ``CRDLoss``.

    Note:
        The memory bank is per process. In a distributed run, torch overwrites it with that of the first process.
    """

    def __init__(self, sample_n: int, neg_num: int = 16384, **kwargs) -> None:
        super().__init__(sample_n=sample_n, neg_num=neg_num, **kwargs)
        self.register_buffer('labels', torch.full((sample_n, ), -1))

    def forward(self, s_feats: Tensor, t_feats: Tensor, data_samples: list, gt_labels: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feats (Tensor): The student's embeddings of norm 1 [B, D].
            t_feats (Tensor): The teacher's embeddings of norm 1 [B, D].
            data_samples (list): Annotations with ``sample_idx``.
            gt_labels (Tensor): Labels [B].

        Returns:
            Tensor: The loss [1].

        Raises:
            ConfigError: If an image's ``sample_idx`` is missing, not below ``sample_n``, or the index of an image
                of another class.
        """
        indices = sample_indices(data_samples, 'SupervisedCRDLoss').to(s_feats.device)
        if int(indices.max()) >= len(self.labels):
            raise ConfigError(f'SupervisedCRDLoss.sample_n={len(self.labels)} is too small: an image has sample_idx='
                              f'{int(indices.max())}; set sample_n to the number of images of the data set')
        self._store(indices, gt_labels)
        negatives = self._negatives(gt_labels)
        out_s, out_t = self.contrast(s_feats, t_feats, indices, torch.cat([indices[:, None], negatives], dim=1))
        # mmrazor writes the first batch's normalisation with its graph into this buffer.
        self.contrast.params = self.contrast.params.detach()
        return self.loss_weight * (self.criterion_s_t(out_s) + self.criterion_s_t(out_t))

    def _store(self, indices: Tensor, gt_labels: Tensor) -> None:
        """Store the labels of the images [B]."""
        before = self.labels[indices]
        self.labels[indices] = gt_labels
        other = ((before >= 0) & (before != gt_labels)) | (self.labels[indices] != gt_labels)
        if other.any():
            raise ConfigError(f'SupervisedCRDLoss: images of different classes have sample_idx={indices[other][0].item()}. '
                              'ConcatDataset numbers the images of each data set from 0; '
                              "train_cfg.type='mmrazor.ReproducibleTrainLoop' numbers all images. An image must not have "
                              'two labels')

    def _negatives(self, gt_labels: Tensor) -> Tensor:
        """Indices of images of other classes [B, neg_num]."""
        others = self.labels[None] != gt_labels[:, None]
        count = int(self.contrast.neg_sample)
        seen = others & (self.labels >= 0)
        if count <= seen.sum(1).min():
            others = seen
        return torch.multinomial(others.float(), count, replacement=bool(count > others.sum(1).min()))
