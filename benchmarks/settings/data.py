"""Images of the settings: made-up shapes, CIFAR-100 and digits, prepared once as arrays in the work_dir."""
import functools
import os
from collections.abc import Sequence

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import numpy as np
from mmpretrain.datasets.base_dataset import BaseDataset
from mmpretrain.registry import DATASETS
from PIL import Image, ImageDraw

SHAPES = ('circle', 'cross', 'square', 'stripes', 'triangle')
PARTS = ('train', 'val', 'test', 'teacher')


def draw_shape(shape: str, side: int, random: np.random.RandomState) -> np.ndarray:
    """Draw one shape among lines on noise.

    Args:
        shape (str): One of :data:`SHAPES`.
        side (int): Height and width of the result in pixels.
        random (RandomState): Source of size, place and colours.

    Returns:
        np.ndarray: The image [side, side, 3], uint8, blue first like an image that OpenCV reads.
    """
    size = 96
    background = random.randint(20, 120, 3) + random.normal(0, 30, (size, size, 3))
    image = Image.fromarray(background.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)

    def colour() -> tuple:
        return tuple(int(value) for value in random.randint(90, 256, 3))

    for _ in range(3):  # clutter
        draw.line([tuple(int(value) for value in random.randint(0, size, 2)) for _ in range(2)], fill=colour(), width=4)
    fill = colour()
    length = int(size * random.uniform(0.3, 0.7))
    left, top = (int(value) for value in random.randint(0, size - length, 2))
    right, bottom = left + length, top + length
    if shape == 'circle':
        draw.ellipse([left, top, right, bottom], fill=fill)
    elif shape == 'square':
        draw.rectangle([left, top, right, bottom], fill=fill)
    elif shape == 'triangle':
        draw.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=fill)
    elif shape == 'cross':
        bar, middle = length // 8, length // 2
        draw.rectangle([left + middle - bar, top, left + middle + bar, bottom], fill=fill)
        draw.rectangle([left, top + middle - bar, right, top + middle + bar], fill=fill)
    else:
        bar = max(2, length // 7)
        for begin in range(0, length, 2 * bar):
            draw.rectangle([left, top + begin, right, min(top + begin + bar, bottom)], fill=fill)
    return np.asarray(image.resize((side, side), Image.BILINEAR))[..., ::-1]


def make_shapes(side: int, counts: Sequence[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of five shapes, ``counts`` in all of 'train', 'val', 'test' and 'teacher'."""
    parts = {}
    for seed, (part, count) in enumerate(zip(PARTS, counts)):
        random = np.random.RandomState(seed)
        labels = np.arange(count) % len(SHAPES)
        parts[part] = np.stack([draw_shape(SHAPES[label], side, random) for label in labels]), labels
    return parts


@functools.cache
def _read_cifar(folder: str, part: str, side: int, classes: int, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    step = 100 // classes
    names = sorted(os.listdir(os.path.join(folder, part)))[::step][:classes]
    for label, name in enumerate(names):
        files = sorted(os.listdir(os.path.join(folder, part, name)))[:per_class]
        for file in files:
            with Image.open(os.path.join(folder, part, name, file)) as image:
                images.append(np.asarray(image.convert('RGB').resize((side, side), Image.BOX))[..., ::-1])
        labels += [label] * len(files)
    return np.stack(images), np.array(labels)


def make_cifar(folder: str, side: int, classes: int, train_per_class: int, val_per_class: int = 50
               ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """CIFAR-100's images of every (100 / classes)-th class, made smaller; 'val' are unused training images.

    Args:
        folder (str): Has ``train/<class>/*.png`` and ``test/<class>/*.png``.
        side (int): Height and width in pixels, at most 32.
        classes (int): A divisor of 100.
        train_per_class (int): Training images of each class.
        val_per_class (int): Validation images of each class. Defaults to 50.
    """
    both = _read_cifar(folder, 'train', side, classes, train_per_class + val_per_class)
    place = np.arange(len(both[1])) % (train_per_class + val_per_class)
    parts = {part: (both[0][chosen], both[1][chosen])
             for part, chosen in (('train', place < train_per_class), ('val', place >= train_per_class))}
    return {**parts, 'test': _read_cifar(folder, 'test', side, classes, 100)}


def make_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The demo's digits; 'val' are 200 unused training images."""
    def read(**arguments) -> BaseDataset:
        return DATASETS.build(dict(type='SklearnDigits', pipeline=[], **arguments))

    def arrays(items: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([item['img'] for item in items]), np.array([item['gt_label'] for item in items])

    train, test = ([item for item in read(**part)] for part in (dict(images_per_class=30), dict(split='test')))
    used = {item['digits_index'] for item in train}
    return dict(train=arrays(train), test=arrays(test),
                val=arrays([item for item in read() if item['digits_index'] not in used][:200]))


def save(parts: dict[str, tuple[np.ndarray, np.ndarray]], file: str) -> None:
    """Write the arrays of all parts to one file atomically."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    arrays = {f'{part}_{name}': array for part, pair in parts.items() for name, array in zip(('images', 'labels'), pair)}
    np.savez(f'{file}.tmp.npz', **arrays)
    os.replace(f'{file}.tmp.npz', file)


@DATASETS.register_module()
class ArrayImages(BaseDataset):
    """One part of a file written by :func:`save`.

    Args:
        file (str): The file.
        part (str): 'train', 'val' or 'test'; of shapes also 'teacher', which a teacher is trained on.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``, for example ``pipeline``.
    """

    def __init__(self, file: str, part: str, **kwargs) -> None:
        self.file, self.part = file, part
        with np.load(file) as arrays:
            self.images, self.labels = arrays[f'{part}_images'], arrays[f'{part}_labels']
        super().__init__(ann_file='', metainfo=dict(classes=[str(label) for label in np.unique(self.labels)]),
                         serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        """list[dict]: ``img`` [H, W, C] uint8 and ``gt_label``."""
        return [dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], gt_label=int(label),
                     img_path=f'{self.file}:{self.part}:{index}')
                for index, (image, label) in enumerate(zip(self.images, self.labels))]
