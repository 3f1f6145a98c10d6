"""Loading of images with random numbers that depend only on the seed and the position in the training."""
import collections
import itertools
from collections.abc import Callable, Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info, get_world_size
from mmengine.registry import DATA_SAMPLERS
from mmpretrain.registry import DATASETS
from torch.utils.data import Sampler

from ..errors import ConfigError
from .image_identity import image_ids, inside
from .loading import load_image, seed_loading


class SeededIndex(int):
    """An index into a data set with the seed for loading the item; workers receive both.

    Args:
        index (int): The index.
        key (tuple[int, ...]): Key for :func:`seed_loading`: seed, epoch, index and, of a repeated index, its repeat.
    """

    def __new__(cls, index: int, key: tuple[int, ...]) -> 'SeededIndex':  # noqa: D102
        seeded = super().__new__(cls, index)
        seeded.key = key
        return seeded

    def __reduce__(self):
        return SeededIndex, (int(self), self.key)


@DATA_SAMPLERS.register_module()
class ReproducibleSampler(Sampler):
    """The indices of a sampler as :class:`SeededIndex`, from any position in an epoch.

    Args:
        dataset (Sized): The data set.
        sampler (dict): Config of the sampler that defines the order.
        seed (int, optional): Seed, given by the runner.

    Raises:
        ConfigError: If the sampler is infinite.
    """

    def __init__(self, dataset: Sized, sampler: dict, seed: int = None) -> None:
        self.dataset = dataset  # for batch samplers that read it
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        if isinstance(self.sampler, InfiniteSampler):
            raise ConfigError(f"train_dataloader.sampler.type='{type(self.sampler).__name__}' never ends, and a search, "
                             "like ReproducibleTrainLoop, goes by epochs: use dict(type='DefaultSampler', shuffle=True) "
                             'and train_cfg.max_epochs')
        self.seed = getattr(self.sampler, 'seed', None) or seed or 0
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[SeededIndex]:
        return itertools.islice(map(self.seeder(), self.sampler), self.start, None)

    def seeder(self) -> Callable[[int], SeededIndex]:
        """Callable: Makes an index of this epoch a :class:`SeededIndex`; repeats of an index get different seeds."""
        repeats = collections.Counter()
        # mmengine's own samplers assign each image to one process; other samplers may assign repeats to several.
        rank, processes = (0, 1) if isinstance(self.sampler, DefaultSampler) else get_dist_info()

        def seeded(index: int) -> SeededIndex:
            index = int(index)
            repeat = repeats[index] * processes + rank
            repeats[index] += 1
            return SeededIndex(index, (self.seed, self.epoch, index, repeat) if repeat else (self.seed, self.epoch, index))

        return seeded

    def __len__(self) -> int:
        return len(self.sampler)


@DATA_SAMPLERS.register_module()
class ReproducibleBatchSampler(Sampler):
    """The batches of a custom batch sampler, which may group images in any way, from any batch of an epoch.

    Args:
        sampler (Sampler): The sampler, given by the runner.
        batch_size (int): Images per batch, given by the runner.
        batch_sampler (dict): Config of the batch sampler. Its ``drop_last`` is applied here, so that an epoch has as many
            batches as ``len`` says.
    """

    def __init__(self, sampler: ReproducibleSampler, batch_size: int, batch_sampler: dict) -> None:
        batch_sampler = dict(batch_sampler)
        self.drop_last = batch_sampler.pop('drop_last', False)
        self.batch_sampler = DATA_SAMPLERS.build(batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size))
        self.sampler, self.batch_size = sampler, batch_size
        self.start = 0

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        batches = (batch for batch in self.batch_sampler if not self.drop_last or len(batch) == self.batch_size)
        seeded = self.sampler.seeder()  # applied here, because a batch sampler may repeat images or return plain indices
        for position, batch in enumerate(batches):
            batch = [seeded(index) for index in batch]
            if position >= self.start:
                yield batch

    def __len__(self) -> int:
        return len(self.batch_sampler) - int(self.drop_last and len(self.sampler) % self.batch_size > 0)


@DATA_SAMPLERS.register_module()
class EvenBatchSampler(Sampler):
    """Batches of nearly equal size that use every index of the sampler, with the same number of batches in each process.

    Args:
        sampler (Sampler): The sampler of this process, with a ``dataset`` whose images the processes share evenly.
        batch_size (int): Largest number of images in a batch; one or two more if a batch of a single image is left over.
    """

    def __init__(self, sampler: Sampler, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        indices, count = list(self.sampler), len(self)
        for batch in range(count):
            yield indices[len(indices) * batch // count:len(indices) * (batch + 1) // count]

    def __len__(self) -> int:
        images, processes = len(self.sampler.dataset), get_world_size()
        least, most = images // processes, -(-images // processes)  # images of a process
        return min(-(-most // self.batch_size), least // min(2, self.batch_size))  # one image is too few for batch norm


@DATASETS.register_module()
class ReproducibleDataset:
    """A data set whose augmentations depend on the :class:`SeededIndex` alone, not on the worker or earlier images.

    Concatenated data sets number their images from 0 each. Their ``sample_idx`` is replaced by the number of the image in
    the concatenation, so that a loss with a memory of all images (``SupervisedCRDLoss``) has one entry per image.

    Args:
        dataset (dict or BaseDataset): The data set.
    """

    def __init__(self, dataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.numbers: np.ndarray | None = None

    def full_init(self) -> None:
        """Load the data set."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        if self.numbers is None and any(hasattr(part, 'datasets') for part in (self.dataset, *inside(self.dataset))):
            self.numbers = image_ids(self.dataset)[0]

    def __getitem__(self, index: int) -> Any:
        """Load an image.

        Raises:
            DataError: If it cannot be loaded; names the file.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f'{int(index)} of {len(self)} images')
        if isinstance(index, SeededIndex):
            seed_loading(*index.key)
        item = load_image(self.dataset, int(index))
        if self.numbers is not None and isinstance(item, dict) and 'sample_idx' in item.get('data_samples', ()):
            item['data_samples'].set_field(int(self.numbers[index]), 'sample_idx', field_type='metainfo')
        return item

    @property
    def __getitems__(self):  # torch looks whether there is one
        return getattr(self.dataset, '__getitems__', None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # mmpretrain's SwitchRecipeHook sets the pipeline of the innermost data set, and stops at the first that has one.
        if name in ('dataset', 'datasets', 'pipeline') or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)


def reproducible(dataloader: dict) -> dict:
    """Wrap the data set, the sampler and the batch sampler, if any, in the config of a loader.

    Args:
        dataloader (dict): Config with ``dataset``, ``sampler`` and optionally ``batch_sampler``.

    Returns:
        dict: A copy.
    """
    dataloader = dict(dataloader)
    dataloader['dataset'] = dict(type=ReproducibleDataset, dataset=dataloader['dataset'])
    dataloader['sampler'] = dict(type=ReproducibleSampler, sampler=dataloader['sampler'])
    if dataloader.get('batch_sampler'):
        dataloader['batch_sampler'] = dict(type=ReproducibleBatchSampler, batch_sampler=dataloader['batch_sampler'])
    return dataloader
