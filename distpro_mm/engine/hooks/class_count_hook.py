import numpy as np
from mmengine.hooks import Hook
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import HOOKS

from ...errors import ConfigError
from ..unwrap import unwrap


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Refuses, before training, a classifier with fewer classes than the training set.

    torch fails at the first label out of range, on a GPU with an unclear error. The tools add this hook to every training.
    A head with more classes than the data set is accepted.

    Raises:
        ConfigError: If the head of the trained network has fewer classes than the training set.
    """

    def before_train(self, runner) -> None:
        """Compare the numbers of classes."""
        model = unwrap(runner.model)
        distilled = isinstance(model, BaseAlgorithm)
        count = getattr(getattr(model.architecture if distilled else model, 'head', None), 'num_classes', None)
        if not isinstance(count, int):
            return
        key, dataset = 'model.architecture.head' if distilled else 'model.head', runner.train_dataloader.dataset
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if classes is not None and count < len(classes):
            named = ', '.join(map(str, list(classes)[:5])) + (', ...' if len(classes) > 5 else '')
            raise ConfigError(f'{key}.num_classes={count} is less than the {len(classes)} classes of the training set '
                              f'({named}): set it to {len(classes)}, or, if the pipeline maps the labels to fewer classes, '
                              'set metainfo=dict(classes=[...]) of the data set')
        if classes is None and count <= (largest := _largest_label(dataset)):
            raise ConfigError(f'{key}.num_classes={count}, and the training set has the label {largest}: set it to '
                              f'{largest + 1} or more')


def _largest_label(dataset) -> int:
    """The largest label of a data set without names of classes; -1 if it cannot be known."""
    try:
        return int(np.max(dataset.get_gt_labels()))
    except (AttributeError, KeyError, TypeError, ValueError):  # a wrapper, or no single label per image
        return -1
