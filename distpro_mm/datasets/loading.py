"""Loading of single images, and the random state that it depends on."""
import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from distpro.errors import first_line

from ..errors import DataError


def seed_all(*key: int) -> None:
    """Seed the random numbers of Python, numpy and torch by a key of numbers, e.g. (seed, rank, iteration)."""
    torch.manual_seed(seed_loading(*key))


def seed_loading(*key: int) -> int:
    """Seed the random numbers of Python, numpy and torch on the CPU, which images are loaded with; returns the seed.

    The random numbers of a GPU belong to the training: loading an image must not change them.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    return seed


@contextlib.contextmanager
def watch_random_state() -> Iterator[Callable[[], bool]]:
    """Watch the global random state of Python, numpy and torch (CPU).

    Yields:
        Callable: Returns whether a random number has been drawn since the block began.
    """
    def states() -> tuple:
        name, keys, *rest = np.random.get_state()
        return random.getstate(), name, keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes()

    before = states()
    yield lambda: states() != before


def load_image(dataset: Any, index: int) -> Any:
    """Load an item of a data set.

    Raises:
        DataError: If it cannot be loaded; names the file.
    """
    try:
        return dataset[index]
    except Exception as error:
        raise DataError(f'{describe(dataset, index)} cannot be loaded ({type(error).__name__}: '
                        f'{first_line(error)})') from error


def describe(dataset: Any, index: int) -> str:
    """str: Description of an image of a data set for a message: its path, if it has one."""
    try:
        return f"image '{dataset.get_data_info(index)['img_path']}'"
    except Exception:
        return f'image {index} of {type(dataset).__name__}'
