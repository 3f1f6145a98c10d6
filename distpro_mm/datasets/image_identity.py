"""Identity of images: which items of data sets are the same image, despite other indices, paths or wrappers."""
import collections
import hashlib
import os
import pickle
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from distpro.random_state import preserve_random_states

from .loading import load_image, seed_loading


def image_ids(*datasets: Any) -> list[np.ndarray]:
    """Number the images of data sets: two items have the same number if and only if they are the same image.

    Images are compared by their file, through links and relative paths; copies of a file are recognized if they have the
    same name. If the data set has pixels in place of files (as CIFAR does), images are compared by their pixels, otherwise
    by the result of loading them with a fixed seed.

    Args:
        *datasets (Sequence): Built data sets, with any wrappers around them.

    Returns:
        list[np.ndarray]: For each data set, the number of each item [M].

    Raises:
        DataError: If an image must be loaded for the comparison and cannot be.
    """
    keys = [[_key(dataset, index) for index in range(len(dataset))] for dataset in datasets]
    files = _files({path for listed in keys for key in listed if key[0] == 'file' for path in key[1:]})
    numbers: dict[Hashable, int] = {}

    def number(key: tuple) -> int:
        key = tuple(files[path] for path in key[1:]) if key[0] == 'file' else key
        return numbers.setdefault(key, len(numbers))

    return [np.array([number(key) for key in listed], dtype=int) for listed in keys]


def item_info(dataset: Any, index: int) -> dict | None:
    """dict or None: The information that a data set has about an item, without its index; None if it has none."""
    try:
        info = dataset.get_data_info(index)
    except (AttributeError, NotImplementedError):
        return None
    return {key: value for key, value in info.items() if key != 'sample_idx'} if isinstance(info, dict) else None


def digest(value: Any) -> bytes:
    """bytes: A hash of an array, a tensor or anything else that can be pickled."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    found = hashlib.sha1()
    if isinstance(value, np.ndarray) and value.dtype != object:
        found.update(f'{value.shape} {value.dtype}'.encode())
        found.update(np.ascontiguousarray(value).data)
    else:
        found.update(pickle.dumps(value, protocol=4))
    return found.digest()


def inside(dataset: Any) -> Iterator[Any]:
    """All data sets wrapped by a data set, at any depth."""
    for part in (getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or ())):
        if part is not None:
            yield part
            yield from inside(part)


def _key(dataset: Any, index: int) -> tuple:
    """The identity of an image: ('file', path, ...) or ('pixels', hash)."""
    info = item_info(dataset, index) or {}
    paths = info.get('img_path')
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    if isinstance(paths, (list, tuple)) and paths and all(isinstance(path, (str, os.PathLike)) for path in paths):
        return ('file', *(os.fspath(path) for path in paths))
    if info.get('img') is not None:
        return 'pixels', digest(np.asarray(info['img']))
    with preserve_random_states():
        seed_loading(0)
        item = load_image(dataset, index)
    if isinstance(item, dict) and 'inputs' in item:
        item = item['inputs']
    elif isinstance(item, (list, tuple)) and item:  # torch's (image, label)
        item = item[0]
    return 'pixels', digest(item)


def _files(paths: Sequence[str]) -> dict[str, Hashable]:
    """The identity of each file by its path: device and inode, or the content if several files have its name and size."""
    found: dict[str, Hashable] = {}
    alike: dict[tuple, dict[tuple, str]] = collections.defaultdict(dict)
    for path in paths:
        try:
            stat = os.stat(path)
        except (OSError, ValueError):  # on another storage, or missing
            found[path] = path if '://' in path else os.path.abspath(path)
            continue
        found[path] = stat.st_dev, stat.st_ino
        alike[os.path.basename(path), stat.st_size].setdefault(found[path], path)
    content: dict[Hashable, Hashable] = {}
    for places in alike.values():
        if len(places) > 1:
            for place, path in places.items():
                with open(path, 'rb') as file:
                    content[place] = hashlib.sha1(file.read()).digest()
    return {path: content.get(place, place) for path, place in found.items()}
