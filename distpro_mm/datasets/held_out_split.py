import difflib
from typing import Dict, List, Optional, Union

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS

from ..errors import ConfigError, is_number

PARTS = ('train', 'held_out')


@DATASETS.register_module()
class HeldOutSplit:
    """One part of a training set that is split in two.

    Two of these with the same arguments but ``part`` are disjoint and together the whole set. A search trains the
    student on 'train' and moves alpha by the loss on 'held_out'.

    Args:
        dataset (dict or BaseDataset): The training set; never a test set.
        part (str): 'train' or 'held_out'.
        ratio (float): Share of the images that is held out, in (0, 1). Defaults to 0.2.
        seed (int): Seed of the split, from 0 to 2 ** 32 - 1. Defaults to 0.
        stratified (bool, optional): Split each class by itself, so that both parts have its share; needs one label an
            image. Defaults to None: where each image has one, else (segmentation, detection, several labels) all images
            together, which is said.

    Raises:
        ConfigError: If an argument is out of range, the split leaves a class without images in one part, or
            ``stratified=True`` and an image has not one label.
    """

    def __init__(self, dataset: Union[dict, BaseDataset], part: str, ratio: float = 0.2, seed: int = 0,
                 stratified: Optional[bool] = None) -> None:
        if part not in PARTS:
            nearest = difflib.get_close_matches(str(part), PARTS, n=1, cutoff=0) or PARTS[:1]
            raise ConfigError(f"HeldOutSplit.part='{part}' is not one of {', '.join(PARTS)} (nearest: {nearest[0]})")
        if not is_number(ratio) or not 0 < ratio < 1:
            raise ConfigError(f'train_cfg.held_out.ratio={ratio!r} must be between 0 and 1')
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ConfigError(f'train_cfg.held_out.seed={seed!r} must be a whole number from 0 to 2 ** 32 - 1')
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.part = part
        self.dataset.full_init()
        labels = self._labels()
        if labels is None and stratified:
            raise ConfigError(f'train_cfg.held_out.stratified=True needs one label an image, which '
                              f'{type(self.dataset).__name__} does not give; leave it out, or set it to False')
        if labels is None and stratified is None and part == 'train':  # said once for both parts
            print_log(f'train_cfg.held_out: {type(self.dataset).__name__} does not give one label an image, so it is split '
                      'without regard to classes (stratified=False)', 'current')
        stratified = labels is not None and stratified is not False
        labels = np.zeros(len(self.dataset), dtype=int) if labels is None else labels
        self.indices = split(labels, ratio, seed, stratified)[part]

    @property
    def metainfo(self) -> dict:
        """dict: Of the whole set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Nothing: everything is loaded and split when it is built."""

    def _labels(self) -> Optional[np.ndarray]:
        """The class of each image, if the data set gives each image one."""
        try:
            classes = [self.dataset.get_cat_ids(index) for index in range(len(self.dataset))]
        except (NotImplementedError, AttributeError, KeyError, TypeError):
            return None
        return np.array(classes)[:, 0] if classes and all(len(found) == 1 for found in classes) else None

    def get_data_info(self, index: int) -> dict:
        """dict: What the whole set knows of the image."""
        return self.dataset.get_data_info(int(self.indices[index]))

    def get_cat_ids(self, index: int) -> List[int]:
        """list[int]: Classes of the image."""
        return self.dataset.get_cat_ids(int(self.indices[index]))

    def __getitem__(self, index: int) -> dict:
        return self.dataset[int(self.indices[index])]

    @property
    def __getitems__(self):  # torch looks whether there is one
        whole = getattr(self.dataset, '__getitems__', None)
        return whole and (lambda indices: whole([int(self.indices[index]) for index in indices]))

    def __len__(self) -> int:
        return len(self.indices)


def split(labels: np.ndarray, ratio: float, seed: int, stratified: bool) -> Dict[str, np.ndarray]:
    """Split indices in two.

    Args:
        labels (np.ndarray): Class of each image [M].
        ratio (float): Share that is held out, in (0, 1).
        seed (int): Seed.
        stratified (bool): Split each class by itself.

    Returns:
        dict[str, np.ndarray]: Rising indices of 'train' and of 'held_out'.

    Raises:
        ConfigError: If a class is left without images in one part.
    """
    generator = np.random.RandomState(seed)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)] if stratified else [np.arange(len(labels))]
    held_out = np.zeros(len(labels), dtype=bool)
    for group in groups:
        held_out[generator.permutation(group)[:int(round(ratio * len(group)))]] = True
    classes = np.unique(labels)
    for label in classes:
        count = int(held_out[labels == label].sum())
        total = int((labels == label).sum())
        if not 0 < count < total:
            raise ConfigError(f'train_cfg.held_out: ratio={ratio}, stratified={stratified} holds out {count} of the '
                             f'{total} images of class {label}, so one part has none of it; '
                             + ('use stratified=True' if not stratified and len(classes) > 1 else
                                'choose another ratio or more images'))
    return dict(train=np.flatnonzero(~held_out), held_out=np.flatnonzero(held_out))
