import copy
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS

from distpro.checks import FLAG, MAX_SEED, check_choice, check_number, check_whole

from ..errors import ConfigError, DataError
from .image_identity import digest, image_ids, inside, item_info

PARTS = ('train', 'held_out')
LISTED = 5  # classes in a message
MAX_TRIES = 1000  # images that a pipeline may reject in a row, as in mmengine


class _Rejected(Exception):
    """The pipeline of a data set has rejected an image."""


def _report() -> None:
    raise _Rejected


def _reporting(dataset: Any) -> Any:
    """A copy of a data set and of those that it wraps, which reports a rejected image instead of replacing it.

    A ``BaseDataset`` replaces an image that its pipeline rejects by a random one of all its images, of both parts.
    """
    parts = [name for name in ('dataset', 'datasets') if name in getattr(dataset, '__dict__', {})]
    if not isinstance(dataset, BaseDataset) and not parts:
        return dataset
    dataset = copy.copy(dataset)
    if isinstance(dataset, BaseDataset):
        dataset._rand_another = _report
    elif isinstance(dataset, HeldOutSplit):
        dataset._reports = True
    for name in parts:
        part = getattr(dataset, name)
        setattr(dataset, name, type(part)(map(_reporting, part)) if isinstance(part, (list, tuple)) else _reporting(part))
    return dataset


@DATASETS.register_module()
class HeldOutSplit:
    """One part of a training set that is split in two by image.

    The two parts of a data set have no image in common, however often wrappers (``RepeatDataset``,
    ``ClassBalancedDataset``, ``ConcatDataset``) repeat it; see :func:`image_ids` for what counts as the same image. 'train'
    has every repeat of its images, 'held_out' has each item once. A search trains the student on 'train' and updates alpha
    by the loss on 'held_out'.

    Classes with too few images to hold one out are in 'train' only, and the log lists them.

    Args:
        dataset (dict or BaseDataset): The training set; never a test set.
        part (str): 'train' or 'held_out'.
        ratio (float): Share of the images that is held out, in (0, 1). Defaults to 0.2.
        seed (int): Seed of the split, from 0 to 2 ** 32 - 1. Defaults to 0.
        stratified (bool, optional): Split each class by itself, so that both parts have the same shares of classes; needs
            one label per image. Defaults to None: True if each image has one label, otherwise (segmentation, detection,
            several labels) False, which is logged.

    Raises:
        ConfigError: If an argument is out of range, no image is held out, or ``stratified=True`` and an image has no single
            label.
        DataError: If an image must be loaded for the comparison with others and cannot be, or all images are rejected.
    """

    _reports = False  # whether a rejected image is left to a split around this one

    def __init__(self, dataset: dict | BaseDataset, part: str, ratio: float = 0.2, seed: int = 0,
                 stratified: bool | None = None) -> None:
        check_choice('HeldOutSplit.part', part, PARTS, ConfigError)
        check_choice('train_cfg.held_out.stratified', stratified, (None, *FLAG), ConfigError)
        check_number('train_cfg.held_out.ratio', ratio, above=0, below=1, error=ConfigError)
        check_whole('train_cfg.held_out.seed', seed, least=0, most=MAX_SEED, error=ConfigError)
        dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        if _mixes_images(dataset):  # its items contain other images of the wrapped set, so the wrapped set is split
            below = HeldOutSplit(dataset.dataset, part, ratio, seed, stratified)
            dataset = copy.copy(dataset)
            dataset.dataset, dataset.num_samples = below, len(below)
            self.dataset, self.part, self.indices = dataset, part, np.arange(len(below))
            return
        self._parts = _indices(dataset, ratio, seed, stratified, quiet=part != 'train')  # logged once for both parts
        self._take(dataset, part)

    def _take(self, dataset: Any, part: str) -> None:
        self.dataset, self.part, self.indices = _reporting(dataset), part, self._parts[part]

    def held_out(self) -> 'HeldOutSplit':
        """HeldOutSplit: The held-out part of the same split."""
        other = copy.copy(self)
        if _mixes_images(self.dataset):
            other.dataset = copy.copy(self.dataset)
            other.dataset.dataset = below = self.dataset.dataset.held_out()
            other.dataset.num_samples, other.part, other.indices = len(below), 'held_out', np.arange(len(below))
        else:
            other._take(self.dataset, 'held_out')
        return other

    @property
    def metainfo(self) -> dict:
        """dict: Meta information of the data set before the split."""
        return getattr(self.dataset, 'metainfo', {})

    def full_init(self) -> None:
        """Do nothing: the data set is loaded and split when it is built."""

    def get_data_info(self, index: int) -> dict:
        """dict: Annotation of the image."""
        return self.dataset.get_data_info(int(self.indices[index]))

    def get_cat_ids(self, index: int) -> list[int]:
        """list[int]: Classes of the image."""
        return self.dataset.get_cat_ids(int(self.indices[index]))

    def __getitem__(self, index: int) -> dict:
        for _ in range(MAX_TRIES):
            try:
                return self.dataset[int(self.indices[index])]
            except _Rejected:
                if self._reports:
                    raise  # another image of this part may be in the other part of a split around it
                index = int(np.random.choice(len(self.indices)))
        raise DataError(f"train_dataloader.dataset: the pipeline rejected {MAX_TRIES} images of the part '{self.part}' in a "
                        'row')

    @property
    def __getitems__(self):  # torch looks whether there is one
        load = getattr(self.dataset, '__getitems__', None)
        return load and (lambda indices: load([int(self.indices[index]) for index in indices]))

    def __len__(self) -> int:
        return len(self.indices)


def split(labels: np.ndarray, ratio: float, seed: int, stratified: bool, images: np.ndarray | None = None
          ) -> dict[str, np.ndarray]:
    """Split items in two parts, with all items of an image in the same part.

    Args:
        labels (np.ndarray): Class of each item [M].
        ratio (float): Share of the images that is held out, in (0, 1).
        seed (int): Seed.
        stratified (bool): Split each class by itself. An image is held out only if its class has a further image.
        images (np.ndarray, optional): Number of each item's image [M]. Defaults to None: each item is a different image.

    Returns:
        dict[str, np.ndarray]: Ascending indices of 'train' and of 'held_out'. Every class has an image in 'train'.

    Raises:
        ConfigError: If no image is held out.
    """
    images = np.arange(len(labels)) if images is None else images
    generator = np.random.RandomState(seed)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)] if stratified else [np.arange(len(labels))]
    held_out = np.zeros(images.max(initial=-1) + 1, dtype=bool)  # by image
    for group in groups:
        drawn = images[generator.permutation(group)]
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # each image once, at its first position
        held_out[drawn[:min(int(round(ratio * len(drawn))), len(drawn) - 1)]] = True
    for label in np.unique(labels):
        of_class = images[labels == label]
        if held_out[of_class].all():
            held_out[of_class[0]] = False
    if not held_out.any():
        raise ConfigError(f'train_cfg.held_out.ratio={ratio} holds out none of the {len(np.unique(images))} images'
                          + (f' of {len(groups)} classes, each split by itself' if len(groups) > 1 else '')
                          + '; use a higher ratio or more images')
    held_out = held_out[images]
    return dict(train=np.flatnonzero(~held_out), held_out=np.flatnonzero(held_out))


def _indices(dataset: Any, ratio: float, seed: int, stratified: bool | None, quiet: bool) -> dict[str, np.ndarray]:
    """The indices of both parts of a data set."""
    labels, images = _labels(dataset), image_ids(dataset)[0]
    if labels is None and stratified:
        raise ConfigError(f'train_cfg.held_out.stratified=True needs one label per image, which {type(dataset).__name__} '
                          'does not have; remove it, or set it to False')
    if labels is None and stratified is None and not quiet:
        print_log(f'train_cfg.held_out: {type(dataset).__name__} does not have one label per image, so it is split without '
                  'regard to classes (stratified=False)', 'current')
    known = labels is not None
    labels = labels if known else np.zeros(len(dataset), dtype=int)
    parts = split(labels, ratio, seed, known and stratified is not False, images)
    if known and not quiet:
        _log_classes_not_held_out(dataset, labels, images, parts['held_out'], ratio)
    parts['held_out'] = _each_once(dataset, parts['held_out'], images)
    return parts


def _labels(dataset: Any) -> np.ndarray | None:
    """The class of each item [M]; None if an item has no single class."""
    found = [item_classes(dataset, index) for index in range(len(dataset))]
    return np.array(found)[:, 0] if found and all(len(classes) == 1 for classes in found) else None


def item_classes(dataset: Any, index: int) -> tuple[int, ...]:
    """tuple[int, ...]: The classes of an item of a data set, wrapped at any depth; empty if they are not known."""
    try:
        classes = dataset.get_cat_ids(index)
    except (NotImplementedError, AttributeError, KeyError, TypeError):  # mmengine's RepeatDataset and ConcatDataset lack it
        classes = (item_info(dataset, index) or {}).get('gt_label')
    if classes is None or isinstance(classes, dict):
        return ()
    return tuple(np.atleast_1d(classes).tolist())


def _each_once(dataset: Any, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Indices without repeats of the same item; items of one image with different annotations are different items."""
    numbers = np.bincount(images[indices])
    seen, unique = set(), []
    for index in indices:
        if numbers[images[index]] > 1:
            info = item_info(dataset, int(index)) or {}
            item = images[index], digest({key: value for key, value in info.items() if key not in ('img_path', 'img')})
            if item in seen:
                continue
            seen.add(item)
        unique.append(index)
    return np.array(unique, dtype=int)


def _log_classes_not_held_out(dataset: Any, labels: np.ndarray, images: np.ndarray, held_out: np.ndarray,
                              ratio: float) -> None:
    missing = sorted(set(labels.tolist()) - set(labels[held_out].tolist()))
    if not missing:
        return
    names = getattr(dataset, 'metainfo', {}).get('classes') or ()
    listed = []
    for label in missing[:LISTED]:
        name = f"'{names[label]}'" if 0 <= label < len(names) else label
        listed.append(f'{name} ({len(np.unique(images[labels == label]))} images)')
    more = ' and others' * (len(missing) > LISTED)
    print_log(f'train_cfg.held_out: ratio={ratio} holds out no image of {len(missing)} of the {len(np.unique(labels))} '
              f'classes: {", ".join(listed)}{more}. They are trained on, and the held-out loss does not include them',
              'current', 30)


def _mixes_images(dataset: Any) -> bool:
    """Whether an item contains further images, like those of a ``MultiImageMixDataset``.

    Raises:
        ConfigError: If such a data set is wrapped by another one.
    """
    def mixes(part: Any) -> bool:
        steps = getattr(part, 'pipeline', None)
        steps = getattr(steps, 'transforms', steps)
        return isinstance(steps, (list, tuple)) and any(hasattr(step, 'get_indices') for step in steps)

    if any(mixes(part) for part in inside(dataset)):
        raise ConfigError(f'train_dataloader.dataset: {type(dataset).__name__} contains a data set that mixes several '
                          'images into one, so held-out images would be trained on: make the mixing data set the outermost')
    return hasattr(dataset, 'dataset') and mixes(dataset)
