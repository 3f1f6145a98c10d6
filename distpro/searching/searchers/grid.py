"""Discrete settings, each chosen from a list."""
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...checks import MAX_SEED, check_whole
from ...errors import ArgumentError
from .ask_tell import AskTell
from .trial import SettingsTrial, lowest


class GridSearcher(AskTell[SettingsTrial]):
    """Tries combinations of settings: all of them in order, or some of them at random, each once.

    Args:
        choices (dict[str, Sequence]): The values of each setting by its name, such as
            ``dict(tau=[2, 4], loss=['kl', 'dkd'])``.
        trials (int, optional): Combinations that are tried, drawn at random without repetition, from 1 to their number.
            Defaults to None: all, the last setting changing first.
        seed (int): Seed of the draw, from 0 to 2 ** 32 - 1. Defaults to 0.

    Raises:
        ArgumentError: If an argument is out of range, or a setting has no values.

    Example:
        >>> search = GridSearcher(dict(tau=[2, 4], lr=[0.1, 0.05]))
        >>> while not search.finished:
        ...     trial = search.ask()
        ...     search.tell(trial, train(**trial.settings))
        >>> search.best.settings
    """
    parallel = math.inf
    candidate = SettingsTrial

    def __init__(self, choices: dict[str, Sequence[Any]], trials: int | None = None, seed: int = 0) -> None:
        super().__init__()
        self.choices = check_choices(choices)
        check_whole('seed', seed, least=0, most=MAX_SEED)
        count = math.prod(map(len, self.choices.values()))
        self.places = np.arange(count)
        if trials is not None:
            check_whole('trials', trials, most=count)
            self.places = np.random.RandomState(seed).permutation(count)[:trials]

    def propose(self) -> SettingsTrial | None:
        """SettingsTrial: The next combination; None after the last one."""
        place = len(self.history) + len(self.open)
        if place >= len(self.places):
            return None
        lengths = [len(values) for values in self.choices.values()]
        chosen = np.unravel_index(self.places[place], lengths)
        return SettingsTrial({name: values[index] for (name, values), index in zip(self.choices.items(), chosen)})

    @property
    def best(self) -> SettingsTrial | None:
        """SettingsTrial: The one with the lowest loss so far, the first of equals; None if none is finite."""
        return lowest(self.history)


def check_choices(choices: dict[str, Sequence[Any]]) -> dict[str, list]:
    """The values of settings as lists.

    Raises:
        ArgumentError: If a setting has no values, or ``choices`` is no dict of lists.
    """
    if not isinstance(choices, dict) or not choices or not all(
            isinstance(values, (list, tuple)) and values for values in choices.values()):
        raise ArgumentError(f'choices={choices!r} must be a dict of lists with one or more values')
    return {name: list(values) for name, values in choices.items()}
