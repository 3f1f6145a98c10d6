"""Annotations for the losses that use them."""
import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...errors import ConfigError

DATA, LABELS = 'data_samples', 'gt_labels'  # arguments of a loss's forward that get annotations


def arguments_of(loss: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Mapping[str, inspect.Parameter]: Arguments of a loss's forward."""
    return inspect.signature(loss.forward).parameters


def has_several_labels(sample) -> bool:
    """Whether an image has labels, and their number is not 1."""
    return 'gt_label' in sample and torch.as_tensor(sample.gt_label).numel() != 1


def has_one_label(sample) -> bool:
    """Whether an image has exactly one label, and is not a mixture of images."""
    return 'gt_label' in sample and 'gt_score' not in sample and not has_several_labels(sample)


def annotations_for(loss: nn.Module, data_samples: list | None, key: str) -> dict[str, object]:
    """The annotations for a loss, by the names of its forward's arguments.

    Args:
        loss (nn.Module): The loss. Its argument ``data_samples`` gets the annotations, ``gt_labels`` the labels [B].
        data_samples (list, optional): Annotations of the batch.
        key (str): The config key of the loss, for errors.

    Returns:
        dict: Keyword arguments of the loss; empty if it uses no annotations.

    Raises:
        ConfigError: If the loss uses labels, and images have none or several, or are mixed.
    """
    names = arguments_of(loss)
    wanted: dict[str, object] = {}
    if DATA in names:
        wanted[DATA] = data_samples
    if LABELS in names:
        if not data_samples or not all(map(has_one_label, data_samples)):
            raise ConfigError(f'{key}: {type(loss).__name__} needs exactly one label per image, but these images have '
                              'none or several; remove augmentations that mix images (batch_augments, '
                              'train_cfg.augments), or use a different loss')
        wanted[LABELS] = torch.cat([sample.gt_label for sample in data_samples])
    return wanted


def sample_indices(data_samples: list, name: str) -> Tensor:
    """Indices of images in their data set.

    Args:
        data_samples (list): Annotations with ``sample_idx``, from mmpretrain's ``PackInputs``.
        name (str): Who needs them, for errors.

    Returns:
        Tensor: The indices [B].

    Raises:
        ConfigError: If an image has none.
    """
    indices = [sample.get('sample_idx') for sample in data_samples]
    if None in indices:
        raise ConfigError(f'{name} needs the sample_idx of every image: add it to meta_keys of PackInputs')
    return torch.tensor(indices)
