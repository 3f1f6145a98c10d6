import json
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import FUNCTIONS
from mmpretrain.registry import BATCH_AUGMENTS, DATASETS
from mmpretrain.structures import DataSample

from ..errors import ConfigError
from .image_identity import inside
from .loading import load_image, random_numbers_kept, seed_all, watched_random_numbers

TRIED = 32  # images that are loaded twice where loading draws no random numbers


@FUNCTIONS.register_module()
def whole_batch(batch: Any) -> Any:
    """Collate nothing: an :class:`InMemoryDataset` gives whole batches."""
    return batch


_kept: Dict[str, tuple] = {}  # by config, what has been loaded
_keep = 0


def keep_loaded(count: int) -> None:
    """Keep the images of the last data sets in this process, for runs that follow one another on the same files.

    Args:
        count (int): How many data sets; 0 keeps none, as does a process that never calls this.
    """
    global _keep
    _keep = count
    if not count:
        _kept.clear()


def build_unloaded(dataset: dict) -> Any:
    """Build a data set for what it knows of its images, without loading images into memory.

    Args:
        dataset (dict): Its config, maybe with an :class:`InMemoryDataset` in it at any depth.

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
    """Small images of one size, loaded once and held in memory; gives whole batches without a loop over images.

    The augmentations travel with a batch and are made by :class:`~distpro_mm.models.BatchPreprocessor` on the device
    that trains. The loader needs ``collate_fn=dict(type='whole_batch')``, and no workers.

    Args:
        dataset (dict or BaseDataset): The data set; its pipeline loads and packs an image and does nothing random, in
            wrapped data sets too.
        augments (Sequence[dict]): Augmentations of whole batches: ``BatchRandomCrop``, ``BatchRandomFlip`` or what else
            is registered in mmpretrain's BATCH_AUGMENTS and takes and gives images [B, C, H, W]. Defaults to none.

    Raises:
        ConfigError: If the images differ in size, or are other ones when they are loaded with other random numbers.
        DataError: If an image cannot be loaded; names the file.

    Example:
        >>> train_dataloader = dict(
        ...     batch_size=128, num_workers=0, collate_fn=dict(type='whole_batch'),
        ...     sampler=dict(type='DefaultSampler', shuffle=True),
        ...     dataset=dict(
        ...         type='InMemoryDataset',
        ...         dataset=dict(type='CIFAR100', data_root='data/cifar100', pipeline=[dict(type='PackInputs')]),
        ...         augments=[dict(type='BatchRandomCrop', padding=4), dict(type='BatchRandomFlip')]))
        >>> data_preprocessor = dict(type='mmrazor.BatchPreprocessor', mean=..., std=...)
    """

    def __init__(self, dataset: Union[dict, BaseDataset], augments: Sequence[dict] = ()) -> None:
        key = None
        if isinstance(dataset, dict):
            key = json.dumps(dataset, sort_keys=True, default=str) if _keep else None
        self.augments = [BATCH_AUGMENTS.build(augment) for augment in augments]
        if key in _kept:
            self.dataset, self.images, self.labels = _kept[key]
        else:
            self._load(dataset)
            if key is not None:
                _kept[key] = self.dataset, self.images, self.labels
                while len(_kept) > _keep:
                    del _kept[next(iter(_kept))]

    def _load(self, dataset: Union[dict, BaseDataset]) -> None:
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
    def CLASSES(self) -> Optional[Sequence[str]]:  # noqa: N802
        """Sequence[str], optional: Names of the classes, as mmpretrain's data sets give them to its hooks."""
        return self.metainfo.get('classes')

    def _load_items(self) -> List[dict]:
        """All items.

        Raises:
            ConfigError: If loading them is random.
        """
        count = len(self.dataset)
        with random_numbers_kept():
            seed_all(0)
            with watched_random_numbers() as drawn:
                items = [load_image(self.dataset, index) for index in range(count)]
            # What draws no random numbers may still have some of its own; what draws some may not use them.
            again = [(1, index) for index in np.linspace(0, count - 1, min(TRIED, count), dtype=int).tolist()]
            if drawn():
                again += [(seed, index) for seed in (2, 3, 4) for index in range(count)]
            for seed, index in again:
                seed_all(seed, index)
                if _differ(items[index], load_image(self.dataset, index)):
                    steps = ', '.join(random_steps(self.dataset, index)) or 'a step'
                    raise ConfigError(f'InMemoryDataset.dataset: {steps} in the pipeline of {type(self.dataset).__name__} '
                                      'is random, and images in memory are loaded only once: write augments=[...], e.g. '
                                      'BatchRandomCrop and BatchRandomFlip, instead, or use the data set as it is')
        return items

    def full_init(self) -> None:
        """Nothing: everything is loaded when it is built."""

    def __getitems__(self, indices: Sequence[int]) -> Dict[str, Any]:
        """A batch: ``inputs`` [B, C, H, W] as loaded, ``data_samples`` [B], and the ``augments`` that are due."""
        indices = [int(index) for index in indices]
        return dict(inputs=self.images[indices], data_samples=self._samples(indices), augments=self.augments)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f'{index} of {len(self)} images')
        batch = self.__getitems__([index])
        return dict(inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])

    def _samples(self, indices: List[int]) -> List[DataSample]:
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
        """dict: Of the data set."""
        return self.dataset.metainfo

    def get_data_info(self, index: int) -> dict:
        """dict: What the data set knows of the image."""
        return self.dataset.get_data_info(index)

    def get_cat_ids(self, index: int) -> List[int]:
        """list[int]: Classes of the image."""
        return self.dataset.get_cat_ids(index)


def random_steps(dataset: Any, index: int) -> List[str]:
    """list[str]: The types of the steps of a data set's pipelines, at any depth, that draw random numbers for an image."""
    found = []
    for part in (dataset, *inside(dataset)):
        steps = getattr(getattr(part, 'pipeline', None), 'transforms', None)
        if not steps or not len(part):
            continue
        data = part.get_data_info(index % len(part))
        for step in steps:
            with watched_random_numbers() as drawn:
                try:
                    data = step(data)
                except Exception:  # a wrapper's steps may need what only the wrapper adds
                    break
            if drawn():
                found.append(type(step).__name__)
    return list(dict.fromkeys(found))


def _differ(one: dict, other: dict) -> bool:
    """Whether an item loaded twice has other pixels or another label."""
    pairs = (one['inputs'], other['inputs']), (one['data_samples'].gt_label, other['data_samples'].gt_label)
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs)
