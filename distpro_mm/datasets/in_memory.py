import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import FUNCTIONS
from mmpretrain.registry import BATCH_AUGMENTS, DATASETS
from mmpretrain.structures import DataSample

from distpro.random_state import preserve_random_states

from ..errors import ConfigError
from .image_identity import inside
from .loading import load_image, seed_loading, watch_random_state

TRIED = 32  # images that are loaded twice if loading draws no random numbers
CACHED = 6  # data sets of a process that trains one job after another: training and test images, complete and in parts


@FUNCTIONS.register_module()
def collate_free(batch: Any) -> Any:
    """Return the batch unchanged: an :class:`InMemoryDataset` returns batches that need no collating."""
    return batch


_cache: dict[str, tuple] = {}  # loaded data sets by their config
_cache_size = 0


def cache_images(count: int) -> None:
    """Cache the images of data sets in this process, for trainings that follow one another on the same files.

    Args:
        count (int): Number of data sets in the cache, of which the oldest is removed first. The initial number is 0, which
            caches none.
    """
    global _cache_size
    _cache_size = count
    if not count:
        _cache.clear()


def build_unloaded(dataset: dict) -> Any:
    """Build a data set for its annotations, without loading images into memory.

    Args:
        dataset (dict): Config of the data set, which may contain an :class:`InMemoryDataset` at any depth.

    Returns:
        BaseDataset or wrapper: The data set without ``InMemoryDataset``.
    """
    def bare(node: Any) -> Any:
        if isinstance(node, (list, tuple)):
            return [bare(part) for part in node]
        if not isinstance(node, dict):
            return node
        kind = node.get('type')
        if kind is InMemoryDataset or isinstance(kind, str) and kind.rpartition('.')[2] == 'InMemoryDataset':
            return bare(node['dataset'])
        return {key: bare(value) if key in ('dataset', 'datasets') else value for key, value in node.items()}

    built = bare(dataset)
    built = DATASETS.build(built) if isinstance(built, dict) else built
    if hasattr(built, 'full_init'):
        built.full_init()
    return built


@DATASETS.register_module()
class InMemoryDataset:
    """Holds small images of one size in memory and returns batches without a loop over images.

    A batch contains the augmentations, which :class:`~distpro_mm.models.BatchPreprocessor` applies on the device of the
    training. The loader needs ``collate_fn=dict(type='collate_free')``, and no workers.

    Args:
        dataset (dict or BaseDataset): The data set. Its pipelines, those of wrapped data sets included, load and pack an
            image without random steps.
        augments (Sequence[dict]): Augmentations of batches: ``BatchRandomCrop``, ``BatchRandomFlip`` or any other class in
            mmpretrain's BATCH_AUGMENTS that maps images [B, C, H, W] to images. Defaults to none.

    Raises:
        ConfigError: If the images differ in size, or loading them is random.
        DataError: If an image cannot be loaded; names the file.

    Example:
        >>> train_dataloader = dict(
        ...     batch_size=128, num_workers=0, collate_fn=dict(type='collate_free'),
        ...     sampler=dict(type='DefaultSampler', shuffle=True),
        ...     dataset=dict(
        ...         type='InMemoryDataset',
        ...         dataset=dict(type='CIFAR100', data_root='data/cifar100', pipeline=[dict(type='PackInputs')]),
        ...         augments=[dict(type='BatchRandomCrop', padding=4), dict(type='BatchRandomFlip')]))
        >>> data_preprocessor = dict(type='mmrazor.BatchPreprocessor', mean=..., std=...)
    """

    def __init__(self, dataset: dict | BaseDataset, augments: Sequence[dict] = ()) -> None:
        key = None
        if isinstance(dataset, dict):
            key = json.dumps(dataset, sort_keys=True, default=str) if _cache_size else None
        self.augments = [BATCH_AUGMENTS.build(augment) for augment in augments]
        if key in _cache:
            self.dataset, self.images, self.labels = _cache[key]
        else:
            self._load(dataset)
            if key is not None:
                _cache[key] = self.dataset, self.images, self.labels
                while len(_cache) > _cache_size:
                    del _cache[next(iter(_cache))]

    def _load(self, dataset: dict | BaseDataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.dataset.full_init()
        items = self._load_items()
        sizes = {tuple(item['inputs'].shape) for item in items}
        if len(sizes) != 1:
            raise ConfigError(f'InMemoryDataset holds images of one size, and {type(self.dataset).__name__} has '
                              f'{sorted(sizes)[:3]}; resize them in dataset.pipeline, or use the data set as it is')
        self.images = torch.stack([item['inputs'] for item in items])
        self.labels = torch.cat([item['data_samples'].gt_label for item in items])

    @property
    def CLASSES(self) -> Sequence[str] | None:  # noqa: N802
        """Sequence[str], optional: Names of the classes, as mmpretrain's data sets give them to its hooks."""
        return self.metainfo.get('classes')

    def _load_items(self) -> list[dict]:
        """All items.

        Raises:
            ConfigError: If loading them is random.
        """
        count = len(self.dataset)
        with preserve_random_states():
            seed_loading(0)
            with watch_random_state() as drawn:
                items = [load_image(self.dataset, index) for index in range(count)]
            # A step may have random numbers of its own, which are not watched, or draw numbers that it does not use.
            again = [(1, index) for index in np.linspace(0, count - 1, min(TRIED, count), dtype=int).tolist()]
            if drawn():
                again += [(seed, index) for seed in (2, 3, 4) for index in range(count)]
            for seed, index in again:
                seed_loading(seed, index)
                if _differ(items[index], load_image(self.dataset, index)):
                    steps = ', '.join(random_steps(self.dataset, index)) or 'a step'
                    raise ConfigError(f'InMemoryDataset.dataset: {steps} in the pipeline of {type(self.dataset).__name__} '
                                      'is random, and images in memory are loaded only once: write augments=[...], e.g. '
                                      'BatchRandomCrop and BatchRandomFlip, instead, or use the data set as it is')
        return items

    def full_init(self) -> None:
        """Do nothing: all images are loaded when the data set is built."""

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A batch: ``inputs`` [B, C, H, W] as loaded, ``data_samples`` [B], and the ``augments`` to apply."""
        indices = [int(index) for index in indices]
        return dict(inputs=self.images[indices], data_samples=self._samples(indices), augments=self.augments)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f'{index} of {len(self)} images')
        batch = self.__getitems__([index])
        return dict(inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])

    def _samples(self, indices: list[int]) -> list[DataSample]:
        samples = []
        for index, label in zip(indices, self.labels[indices].split(1)):
            sample = DataSample()
            sample.gt_label = label
            sample.set_field(index, 'sample_idx', field_type='metainfo')  # as PackInputs gives it
            samples.append(sample)
        return samples

    def __len__(self) -> int:
        return len(self.images)

    @property
    def metainfo(self) -> dict:
        """dict: Meta information of the data set."""
        return self.dataset.metainfo

    def get_data_info(self, index: int) -> dict:
        """dict: Annotation of the image."""
        return self.dataset.get_data_info(index)

    def get_cat_ids(self, index: int) -> list[int]:
        """list[int]: Classes of the image."""
        return self.dataset.get_cat_ids(index)


def random_steps(dataset: Any, index: int) -> list[str]:
    """list[str]: Types of the pipeline steps, of wrapped data sets too, that draw random numbers for an image."""
    found = []
    for part in (dataset, *inside(dataset)):
        steps = getattr(getattr(part, 'pipeline', None), 'transforms', None)
        if not steps or not len(part):
            continue
        data = part.get_data_info(index % len(part))
        for step in steps:
            with watch_random_state() as drawn:
                try:
                    data = step(data)
                except Exception:  # a wrapper's steps may need entries that only the wrapper adds
                    break
            if drawn():
                found.append(type(step).__name__)
    return list(dict.fromkeys(found))


def _differ(one: dict, other: dict) -> bool:
    """Whether two loads of an item differ in pixels or label."""
    pairs = (one['inputs'], other['inputs']), (one['data_samples'].gt_label, other['data_samples'].gt_label)
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs)
