"""What a loss of two features wants beside them."""
import inspect
from typing import Dict, List, Optional

import torch
from torch import nn

from ...errors import ConfigError


def annotations_for(loss: nn.Module, data_samples: Optional[List], key: str) -> Dict[str, object]:
    """The annotations that a loss asks for by the names of its forward's arguments.

    Args:
        loss (nn.Module): The loss. ``data_samples`` stands for the annotations as they are, ``gt_labels`` for the
            labels [B].
        data_samples (list, optional): Annotations of the batch.
        key (str): The config key of the loss, for errors.

    Returns:
        dict: Keyword arguments of the loss; empty if it asks for nothing.

    Raises:
        ConfigError: If it asks for labels and the images have none, or are mixed.
    """
    names = inspect.signature(loss.forward).parameters
    wanted: Dict[str, object] = {}
    if 'data_samples' in names:
        wanted['data_samples'] = data_samples
    if 'gt_labels' in names:
        if not data_samples or any('gt_label' not in sample or 'gt_score' in sample for sample in data_samples):
            raise ConfigError(f'{key}: {type(loss).__name__} needs one label an image, which these images do not have; '
                              'remove what mixes images (batch_augments, train_cfg.augments), or take another loss')
        wanted['gt_labels'] = torch.cat([sample.gt_label for sample in data_samples])
    return wanted
