"""Images in a folder: finding, checking, splitting and loading them."""
import collections
import concurrent.futures
import functools
import hashlib
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distpro.errors import ArgumentError, first_line
from distpro.files import nearest_path
from distpro.networks import ModelInput
from distpro.networks.library import import_library

INSTALL = "pip install 'distpro_mm[app]'"
STORED_MARGIN = 1.25  # stored training images are at most this much larger than the crops
NAMED = 5  # unreadable images in a message
MOST = 65535  # of 16 bits
LEVELS = 17  # 12 bits in 16 bits leave 16
PARTS = dict(train=('train', 'training'), val=('val', 'valid', 'validation'), test=('test', 'testing'))  # names of folders
SPLIT = 'held_out.txt'  # in the folder of a run
Report = Callable[[str], Any]


class Images(NamedTuple):
    """Images of a folder.

    Args:
        train (list[tuple[str, int]]): Paths and labels of training images; labels are 0 without classes.
        held_out (list[tuple[str, int]]): The same of the held-out images.
        classes (list[str]): Names of the classes; empty without labels.
    """
    train: list[tuple[str, int]]
    held_out: list[tuple[str, int]]
    classes: list[str]

    def fingerprint(self) -> str:
        """str: A hash of all paths, labels and the split."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def find_images(data: str, labels: bool, held_out: float, seed: int, report: Report = print) -> Images:
    """Find the images of a folder, and split them if the folder is not split.

    Args:
        data (str): The folder, see :class:`distpro_app.settings.FolderSettings`.
        labels (bool): Whether folders are classes.
        held_out (float): Share that is held out without a folder ``val``, of each class.
        seed (int): Seed of the split.
        report (Callable): Is given a line about what is left out. Defaults to ``print``.

    Returns:
        Images: Sorted by path.

    Raises:
        ArgumentError: If there are no images, too few, or classes in ``val`` that ``train`` does not have.
    """
    if not os.path.isdir(data):
        raise ArgumentError(f"data='{data}': there is no such folder{nearest_path(data)}")
    train, val = _parts(data, report)
    classes = _classes(train) if labels else []
    found = _listed(train, classes, report)
    if val is None:
        return Images(*_split(found, held_out, seed, classes, data), classes)
    if not labels:
        return Images(found, _listed(val, [], report), [])
    present = _classes(val, least=1)
    others = [name for name in present if name not in classes]
    if others:
        raise ArgumentError(f"data='{data}': {os.path.basename(val)} has the class '{others[0]}', which "
                            f'{os.path.basename(train)} does not have; it has {len(classes)}: '
                            f'{", ".join(classes[:NAMED])}{", ..." * (len(classes) > NAMED)}')
    return Images(found, [(path, classes.index(present[label])) for path, label in _listed(val, present, report)], classes)


def _parts(data: str, report: Report) -> tuple[str, str | None]:
    """The folder of the training images, and that of the held-out ones, if the data are split."""
    folders = _folders(data)
    parts = {part: next((name for name in folders if name.lower() in names), None) for part, names in PARTS.items()}
    train, val = parts['train'], parts['val']
    if train is None:
        return data, None
    others = [name for name in folders if name not in parts.values()
              and any(map(_is_image, _files(os.path.join(data, name))))]
    if val is None and others:  # a class may have such a name
        return data, None
    if others:
        report(f"data: of '{data}', '{train}' and '{val}' are used, and not {', '.join(map(repr, others[:NAMED]))}"
               f'{", ..." * (len(others) > NAMED)}')
    return os.path.join(data, train), None if val is None else os.path.join(data, val)


def is_run(folder: str) -> bool:
    """Whether a folder has the results of a run."""
    return os.path.exists(os.path.join(folder, SPLIT))


def _folders(folder: str) -> list[str]:
    """Names of the folders in a folder, without hidden ones and the results of runs."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith('.')
                  and not is_run(entry.path))


def _classes(folder: str, least: int = 2) -> list[str]:
    names = _folders(folder)
    if len(names) < least:
        raise ArgumentError(f"data: '{folder}' has {len(names)} class folders, and {least} or more are needed: "
                            'CLASS/IMAGE.jpg; for images without classes pass --no-labels')
    return names


@functools.cache
def _endings() -> tuple[str, ...]:
    return import_library('torchvision.datasets.folder', INSTALL, 'data').IMG_EXTENSIONS


def _is_image(path: str) -> bool:
    return path.lower().endswith(_endings())


def _listed(folder: str, classes: Sequence[str], report: Report) -> list[tuple[str, int]]:
    found, others = [], collections.Counter[str]()
    for label, name in enumerate(classes or ['']):
        files = sorted(_files(os.path.join(folder, name)))
        paths = list(filter(_is_image, files))
        others.update(os.path.splitext(path)[1].lower() or 'no ending' for path in set(files) - set(paths))
        if not paths:
            raise ArgumentError(f"data: '{os.path.join(folder, name)}' has no images, which end in one of "
                                f'{" ".join(_endings())}')
        found += [(path, label) for path in paths]
    if others:
        report(f"data: of '{folder}', {others.total()} files are no images that can be read: "
               f'{", ".join(f"{count} {ending}" for ending, count in others.most_common(NAMED))}')
    return found


def _files(folder: str) -> Iterator[str]:
    """Paths of the files in a folder and below, without hidden ones; links are followed, but not to a folder above."""
    for root, folders, files in os.walk(folder, followlinks=True):
        above = os.path.join(os.path.realpath(root), '')
        folders[:] = [name for name in folders if not name.startswith('.')
                      and not above.startswith(os.path.join(os.path.realpath(os.path.join(root, name)), ''))]
        yield from (os.path.join(root, file) for file in files if not file.startswith('.'))


def _split(found: list[tuple[str, int]], share: float, seed: int, classes: Sequence[str], data: str
           ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Training and held-out images, with a share of each class held out."""
    generator = torch.Generator().manual_seed(seed)
    held_out: set[int] = set()
    for label in range(max(1, len(classes))):
        places = [place for place, item in enumerate(found) if item[1] == label]
        if len(places) < 2:
            name = classes[label] if classes else data
            raise ArgumentError(f"data: '{name}' has {len(places)} image, and two or more are needed to hold one out")
        count = min(len(places) - 1, max(1, round(share * len(places))))
        held_out |= {places[place] for place in torch.randperm(len(places), generator=generator)[:count].tolist()}
    return ([item for place, item in enumerate(found) if place not in held_out],
            [item for place, item in enumerate(found) if place in held_out])


def read_image(path: str) -> Tensor:
    """Decode an image of any mode, upright.

    Args:
        path (str): The file.

    Returns:
        Tensor: Red, green and blue [3, H, W], uint8. Transparency is dropped.

    Raises:
        OSError: If it cannot be read.
    """
    from PIL import Image, ImageOps
    functional = import_library('torchvision.transforms.v2.functional', INSTALL, 'data')
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode == 'F' or upright.mode.startswith('I') and upright.getextrema()[1] > MOST:
                raise ValueError(f'its mode is {upright.mode}, whose numbers have no known range: convert it to 8 or 16 '
                                 'bits')
            if upright.mode.startswith('I'):  # 16 bits, of which convert would cut the upper ones
                upright = upright.point(lambda value: value * (1 / 256)).convert('L')
            return functional.pil_to_tensor(upright.convert('RGB'))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # of broken files
        raise OSError(first_line(error)) from error


def check_readable(images: Images, skip: bool, report: Report) -> tuple[Images, int]:
    """Decode every image once.

    Args:
        images (Images): The images.
        skip (bool): Leave out those that cannot be read.
        report (Callable): Is given a line if images are left out.

    Returns:
        tuple[Images, int]: The readable images, and the median of their shorter sides in pixels.

    Raises:
        ArgumentError: If images cannot be read, or none is left.
    """
    paths = [path for path, _ in images.train + images.held_out]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders work without the interpreter's lock
        sizes = list(pool.map(_side, paths))
    sides = [size[0] for size in sizes if isinstance(size, tuple)]
    broken = {path: size for path, size in zip(paths, sizes) if isinstance(size, str)}
    flat = [path for path, size in zip(paths, sizes) if isinstance(size, tuple) and size[1] < LEVELS]
    if 2 * len(flat) > len(paths):
        report(f'warning: {len(flat)} of {len(paths)} images have fewer than {LEVELS} of 256 levels of brightness, such as '
               f'{flat[0]}: images of 16 bits must use all of them')
    if broken:
        named = '; '.join(f'{path} ({why})' for path, why in list(broken.items())[:NAMED])
        message = f'{len(broken)} images cannot be read: {named}{"; ..." * (len(broken) > NAMED)}'
        if not skip:
            raise ArgumentError(f'data: {message}; repair or delete them, or pass --skip-unreadable')
        report(f'left out: {message}')
    train, held_out = ([item for item in part if item[0] not in broken] for part in (images.train, images.held_out))
    lost = [name for label, name in enumerate(images.classes) if not any(item[1] == label for item in train)]
    if not train or not held_out or lost:
        raise ArgumentError(f'data: no readable images are left{f" of the class {lost[0]}" if lost else ""}')
    return Images(train, held_out, images.classes), int(statistics.median(sides))


def _side(path: str) -> tuple[int, int] | str:
    """The shorter side of an image and the range of its values, or why it cannot be read."""
    try:
        image = read_image(path)
    except OSError as error:
        return str(error)
    return min(image.shape[1:]), int(image.max()) - int(image.min())


class ImageSet(torch.utils.data.Dataset):
    """Images with labels, decoded once if they fit in memory.

    Args:
        items (Sequence[tuple[str, int]]): Paths and labels.
        given (ModelInput): Mean, standard deviation and size of the images to return.
        memory (float): GiB that decoded images may take. Defaults to 0: they are not stored.
        min_crop (float): Least share of the area in a random crop. Defaults to 0: the same images each time, with
            the shorter side resized and the centre cut out.
        flip (bool): Flip half of the images, with ``min_crop``. Defaults to False.
    """

    def __init__(self, items: Sequence[tuple[str, int]], given: ModelInput, memory: float = 0, min_crop: float = 0,
                 flip: bool = False) -> None:
        v2 = import_library('torchvision.transforms.v2', INSTALL, 'data')
        assert given.size is not None
        size = given.size[0]
        fixed = [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
        random = [v2.RandomResizedCrop(size, (min_crop, 1), antialias=True)] + [v2.RandomHorizontalFlip()] * flip
        self.normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(given.mean, given.std)])
        self.items = items
        self.stored_side = int(size * STORED_MARGIN)
        needed = len(items) * 3 * (self.stored_side if min_crop else size)**2 / 2**30
        self.is_stored = needed <= memory
        self.before = v2.Compose(fixed) if not min_crop else self._shrink
        self.random = v2.Compose(random) if min_crop else None
        self.resize = v2.functional.resize
        self.stored: dict[int, Tensor] = {}

    def _shrink(self, image: Tensor) -> Tensor:
        """Make an image smaller that would take much memory."""
        if not self.is_stored or min(image.shape[1:]) <= self.stored_side:
            return image
        return self.resize(image, [self.stored_side], antialias=True)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        image = self.stored.get(index)
        if image is None:
            try:
                image = self.before(read_image(path))
            except OSError as error:
                raise ArgumentError(f"data: '{path}' cannot be read any more ({first_line(error)})") from error
            if self.is_stored:
                self.stored[index] = image
        if self.random is not None:
            image = self.random(image)
        return self.normalise(image), label


def loader(images: ImageSet, batch_size: int, workers: int, shuffle: bool) -> torch.utils.data.DataLoader:
    """A loader of batches: shuffled and of equal size for training, else in order."""
    return torch.utils.data.DataLoader(images, min(batch_size, len(images)), shuffle=shuffle, drop_last=shuffle,
                                       num_workers=0 if images.is_stored else workers)
