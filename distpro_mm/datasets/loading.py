"""Loading single images, and the random numbers that it uses."""
import contextlib
import random
from typing import Any, Callable, Iterator

import numpy as np
import torch

from distpro.errors import first_line

from ..errors import DataError


def seed_all(*moment: int) -> None:
    """Seed Python's, numpy's and torch's random numbers by a moment, e.g. (seed, rank, iteration)."""
    seed = int(np.random.SeedSequence(moment).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Leave the global random numbers of Python, numpy and torch (CPU) as they are."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextlib.contextmanager
def watched_random_numbers() -> Iterator[Callable[[], bool]]:
    """Watch whether the global random numbers of Python, numpy or torch (CPU) are drawn from.

    Yields:
        Callable: Whether any was drawn since the block began.
    """
    def states() -> tuple:
        name, keys, *rest = np.random.get_state()
        return random.getstate(), name, keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes()

    before = states()
    yield lambda: states() != before


def load_image(dataset: Any, index: int) -> Any:
    """An image of a data set.

    Raises:
        DataError: If it cannot be loaded; names the file.
    """
    try:
        return dataset[index]
    except Exception as error:
        raise DataError(f'{describe(dataset, index)} cannot be loaded ({type(error).__name__}: '
                        f'{first_line(error)})') from error


def describe(dataset: Any, index: int) -> str:
    """str: An image of a data set for a message: its path if it has one."""
    try:
        return f"image '{dataset.get_data_info(index)['img_path']}'"
    except Exception:
        return f'image {index} of {type(dataset).__name__}'
