import copy
from collections.abc import Iterator

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import HOOKS
from torch import Tensor, nn

from distpro.checks import check_whole
from distpro.random_state import preserve_random_states

from ...datasets import InMemoryDataset, as_evaluated, pipeline_of
from ...datasets.held_out_split import item_classes
from ...datasets.image_identity import inside
from ...errors import ConfigError
from ...models.losses.class_features import LearnsFromTeacher
from ..unwrap import unwrap


@HOOKS.register_module()
class TeacherClassesHook(Hook):
    """Runs the teacher once over the training set before the training, for losses that need its features of each class.

    Such a loss is a :class:`~distpro_mm.models.losses.class_features.LearnsFromTeacher`. Images are prepared as for
    evaluation, without augmentation. If checkpoints have what a loss learns, a resumed run does not repeat it. Each process
    computes it by itself.

    Args:
        images_per_class (int): The first images of each class that are used, >= 1. Defaults to 500, all of CIFAR-100.
        batch_size (int): Images per forward, >= 1. Defaults to 250.

    Raises:
        ConfigError: If no loss of the model needs it, the teacher is no classifier with a head, or an image does not have
            one label.
    """

    def __init__(self, images_per_class: int = 500, batch_size: int = 250) -> None:
        for name, value in (('images_per_class', images_per_class), ('batch_size', batch_size)):
            check_whole(f'custom_hooks: TeacherClassesHook.{name}', value, error=ConfigError)
        self.images_per_class, self.batch_size = images_per_class, batch_size

    def before_train(self, runner) -> None:
        """Compute the features, unless all losses have learned from them."""
        model = unwrap(runner.model)
        losses = [module for module in model.modules() if isinstance(module, LearnsFromTeacher)]
        if not losses or not isinstance(model, SingleTeacherDistill):
            raise ConfigError('custom_hooks: TeacherClassesHook finds no loss that learns classes in model.distiller, such '
                              'as WassersteinLogitLoss or NormDirectionLoss: remove the hook')
        losses = [loss for loss in losses if not loss.learned]
        if not losses:
            return
        head = getattr(model.teacher, 'head', None)
        if not hasattr(head, 'pre_logits'):
            raise ConfigError(f'model.teacher: TeacherClassesHook reads the input of the classifier, and '
                              f'{type(model.teacher).__name__} has no head with pre_logits: use a classifier of mmpretrain')
        print_log('the teacher runs once over the training set for its features of each class', 'current')
        with torch.no_grad(), preserve_random_states():
            found = [self._features(model, head, batch) for batch in self._batches(runner)]
        features, labels, logits, indices = (torch.cat(part) for part in zip(*found))
        for loss in losses:
            loss.learn(features, labels, logits, indices)

    def _features(self, model: SingleTeacherDistill, head: nn.Module, batch: dict) -> tuple[Tensor, ...]:
        """The classifier's inputs [B, C], the labels [B], the logits [B, K] and the indices [B] of a batch."""
        data = model.data_preprocessor(batch, False)
        given: list = []
        hook = head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
        try:
            logits = model.teacher(data['inputs'], data['data_samples'], mode='tensor')
        finally:
            hook.remove()
        labels = [sample.get('gt_label') for sample in data['data_samples']]
        if any(label is None or label.numel() != 1 for label in labels):
            raise ConfigError('custom_hooks: TeacherClassesHook needs exactly one label per image, and an image has none or '
                              'several: use a different method')
        indices = torch.tensor([sample.get('sample_idx', -1) for sample in data['data_samples']])
        return head.pre_logits(given[0]).flatten(1).float(), torch.cat(labels), logits.float(), indices

    def _batches(self, runner) -> Iterator[dict]:
        """Batches of the images that are used."""
        trained = runner.train_dataloader.dataset
        parts = [part for part in (trained, *inside(trained)) if isinstance(part, InMemoryDataset)]
        for dataset in parts or [_as_evaluated(runner, trained)]:
            indices = self._indices(dataset)
            for start in range(0, len(indices), self.batch_size):
                chosen = indices[start:start + self.batch_size]
                if parts:
                    yield {**dataset.__getitems__(chosen), 'augments': []}
                else:
                    yield pseudo_collate([dataset[index] for index in chosen])

    def _indices(self, dataset) -> list[int]:
        """The first images of each class, in the order of the data set."""
        counts: dict[int, int] = {}
        indices = []
        for index in range(len(dataset)):
            labels = [int(dataset.labels[index])] if isinstance(dataset, InMemoryDataset) else item_classes(dataset, index)
            label = labels[0] if labels else -1
            counts[label] = counts.get(label, 0) + 1
            if counts[label] <= self.images_per_class:
                indices.append(index)
        return indices


def _as_evaluated(runner, trained):
    """The training set with the pipeline of the evaluation; as it is trained on if the config has no evaluation."""
    train, val = ((runner.cfg.get(f'{name}_dataloader') or {}).get('dataset') for name in ('train', 'val'))
    if not isinstance(train, dict) or not isinstance(val, dict):
        return trained
    dataset = DATASETS.build(as_evaluated(copy.deepcopy(train), pipeline_of(val)))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    return dataset
