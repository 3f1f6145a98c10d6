"""What losses share that learn something of the teacher's features of each class before the training."""
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...errors import ConfigError

NEEDS_HOOK = "add dict(type='mmrazor.TeacherClassesHook') to custom_hooks"


class LearnsFromTeacher(nn.Module, ABC):
    """A loss that learns something of the teacher before the training, from :class:`TeacherClassesHook`.

    A subclass has ``learned``: whether :meth:`learn` was called, by this training or the one that it resumes. As a buffer
    it is in checkpoints.
    """
    learned: bool | Tensor

    @abstractmethod
    def learn(self, features: Tensor, labels: Tensor, logits: Tensor, indices: Tensor) -> None:
        """Learn from the training images, which are not augmented.

        Args:
            features (Tensor): What the teacher's classifier is given [N, C].
            labels (Tensor): Classes of the images [N].
            logits (Tensor): The teacher's logits [N, K].
            indices (Tensor): Indices of the images in the data set [N], -1 where unknown.

        Raises:
            ConfigError: If the loss cannot be computed with these images.
        """


def check_classes(labels: Tensor, classes: int, least: int, key: str) -> Tensor:
    """Count the images of each class.

    Args:
        labels (Tensor): Classes of the images [N].
        classes (int): Number of classes.
        least (int): Least number of images of a class.
        key (str): Name of the loss, for errors.

    Returns:
        Tensor: Number of images of each class [K].

    Raises:
        ConfigError: If a label is out of range, or a class has too few images.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ConfigError(f'{key}.num_classes={classes}: the training set has labels from {int(labels.min())} to '
                          f'{int(labels.max())}; set it to the number of classes')
    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) < least:
        raise ConfigError(f'{key}.num_classes={classes}: the training set has {int(counts.min())} images of class '
                          f'{int(counts.argmin())}; each class needs at least {least}')
    return counts
