
import numpy as np
from mmpretrain.datasets.base_dataset import BaseDataset
from mmpretrain.registry import DATASETS

from distpro.checks import check_choice

from ..errors import ConfigError

_TEST_PER_CLASS = 70


@DATASETS.register_module()
class SklearnDigits(BaseDataset):
    """The digits that come inside scikit-learn: 1,797 scans of handwritten digits, 8 x 8, one channel.

    Nothing is downloaded. The test set is always the same 700 images, 70 a class, drawn once with a fixed seed; the
    other 1,097 are the training set.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        images_per_class (int, optional): Take only that many training images of each class. Defaults to None: all.
        **kwargs: Of mmpretrain's ``BaseDataset``; ``ann_file`` is not used.

    Raises:
        ConfigError: If ``split`` is neither, or a class has fewer images than asked for.

    Note:
        Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998, as packaged by
        scikit-learn. Grey values 0 to 16 are scaled to 0 to 255.
    """

    METAINFO = {'classes': tuple('zero one two three four five six seven eight nine'.split())}

    def __init__(self, split: str = 'train', images_per_class: int | None = None, **kwargs) -> None:
        check_choice('SklearnDigits.split', split, ('train', 'test'), ConfigError)
        self.split = split
        self.images_per_class = images_per_class
        kwargs.setdefault('serialize_data', False)  # saves the memory of many workers, which so small a set does not need
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """list[dict]: ``img`` [8, 8, 1] uint8, ``gt_label`` and ``digits_index``, its place in scikit-learn's set."""
        from sklearn.datasets import load_digits
        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        generator = np.random.RandomState(0)
        chosen = []
        for label in range(10):
            order = generator.permutation(np.flatnonzero(digits.target == label))
            if self.split == 'test':
                chosen.extend(order[:_TEST_PER_CLASS])
                continue
            order = order[_TEST_PER_CLASS:]
            wanted = len(order) if self.images_per_class is None else self.images_per_class
            if not 0 < wanted <= len(order):
                raise ConfigError(f'SklearnDigits.images_per_class={wanted} is not between 1 and the {len(order)} '
                                 f'training images of class {label}')
            chosen.extend(order[:wanted])
        return [dict(img=images[i], img_shape=images[i].shape[:2], ori_shape=images[i].shape[:2],
                     gt_label=int(digits.target[i]), digits_index=int(i)) for i in sorted(chosen)]

    def extra_repr(self) -> list[str]:
        """list[str]: Lines for ``repr``."""
        return [f'Split: \t{self.split}', f'Images per class: \t{self.images_per_class or "all"}']
