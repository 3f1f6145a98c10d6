from typing import List

import torch
from mmrazor.models.losses import CRDLoss
from mmrazor.registry import MODELS
from torch import Tensor

from ...errors import ConfigError


@MODELS.register_module()
class SupervisedCRDLoss(CRDLoss):
    """Contrastive representation distillation (ICLR 2020) with negatives of other classes, on stock data sets.

    The contrast is mmrazor's ``CRDLoss``, which ignores ``loss_weight``, wants a data set and an image packing of its own
    (the packing needs the retired package mmcls), draws negatives of the image's own class where those are not used, and
    keeps the first batch's graph alive in a buffer, so that the model cannot be copied.

    Here the place of an image in the memory is its ``sample_idx``, which mmpretrain's ``PackInputs`` carries along, and
    negatives are drawn from the images of other classes that have been seen. Until there are enough of them, the places of
    images that have not been seen serve too: they still hold the random vectors that they were filled with, which are of no
    class.

    Args:
        sample_n (int): Number of training images; of the whole data set, where the training images are a part of one.
        neg_num (int): Negatives an image; drawn without repetition where there are as many. Defaults to 16384.
        **kwargs: ``loss_weight``, ``temperature``, ``dim_out``, ``momentum`` and ``eps`` of mmrazor's ``CRDLoss``.

    Note:
        The memory belongs to one process: in a distributed run torch overwrites it by that of the first.
    """

    def __init__(self, sample_n: int, neg_num: int = 16384, **kwargs) -> None:
        super().__init__(sample_n=sample_n, neg_num=neg_num, **kwargs)
        self.register_buffer('labels', torch.full((sample_n, ), -1))

    def forward(self, s_feats: Tensor, t_feats: Tensor, data_samples: List, gt_labels: Tensor) -> Tensor:
        """Forward.

        Args:
            s_feats (Tensor): The student's embeddings of length 1 [B, D].
            t_feats (Tensor): The teacher's embeddings of length 1 [B, D].
            data_samples (list): Annotations with ``sample_idx``.
            gt_labels (Tensor): Labels [B].

        Returns:
            Tensor: The loss [1].

        Raises:
            ConfigError: If an image's ``sample_idx`` is missing or beyond ``sample_n``.
        """
        places = self._places(data_samples).to(s_feats.device)
        self.labels[places] = gt_labels
        negatives = self._negatives(gt_labels)
        out_s, out_t = self.contrast(s_feats, t_feats, places, torch.cat([places[:, None], negatives], dim=1))
        # mmrazor writes the first batch's normalisation, graph and all, into this buffer.
        self.contrast.params = self.contrast.params.detach()
        return self.loss_weight * (self.criterion_s_t(out_s) + self.criterion_s_t(out_t))

    def _places(self, data_samples: List) -> Tensor:
        """Places of the images in the memory [B]."""
        places = [sample.get('sample_idx') for sample in data_samples]
        size = len(self.labels)
        if None in places:
            raise ConfigError('SupervisedCRDLoss needs the sample_idx of every image: keep it in meta_keys of PackInputs')
        if max(places) >= size:
            raise ConfigError(f'SupervisedCRDLoss.sample_n={size} is less than the number of training images: image '
                              f'{max(places)} is one of them')
        return torch.tensor(places)

    def _negatives(self, gt_labels: Tensor) -> Tensor:
        """Places of images of other classes [B, neg_num]."""
        others = self.labels[None] != gt_labels[:, None]
        count = int(self.contrast.neg_sample)
        seen = others & (self.labels >= 0)
        if count <= seen.sum(1).min():
            others = seen
        return torch.multinomial(others.float(), count, replacement=bool(count > others.sum(1).min()))
