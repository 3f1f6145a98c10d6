"""Monte-Carlo tree search over settings that are chosen from lists."""
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...checks import MAX_SEED, check_number, check_whole
from .ask_tell import AskTell
from .grid import check_choices
from .trial import SettingsTrial, lowest

Path = tuple[int, ...]  # places of the values of the first settings


class TreeSearcher(AskTell[SettingsTrial]):
    r"""Searches settings by a tree with one level for each, as Auto-KD (ICCV 2023) does for the forms of losses.

    From the root, values without a trial are tried first. Then the value is chosen with the largest

    .. math:: \bar r + c \sqrt{\log N / n}

    (UCT, Kocsis and Szepesvari, 2006), with n the trials with this value, N those of its level, and :math:`\bar r` the mean
    reward of the n: 1 for the lowest loss so far, 0 for the largest and for one that is not finite, linear between. Below a
    value without a trial, the other settings are drawn at random. No candidate is tried twice.

    Args:
        choices (dict[str, Sequence]): The values of each setting by its name. The first ones should matter most.
        trials (int): Number of candidates, >= 1.
        exploration (float): c, >= 0. Defaults to the square root of 2.
        reject (Callable, optional): See :class:`EvolutionSearcher`. Rejected candidates do not count as trials.
        seed (int): From 0 to 2 ** 32 - 1. Defaults to 0.

    Raises:
        ArgumentError: If an argument is out of range, or a setting has no values.

    Note:
        A reconstruction after the abstract. The reward is the held-out loss, without Auto-KD's gap of representations.
    """
    candidate = SettingsTrial

    def __init__(self, choices: dict[str, Sequence[Any]], trials: int, exploration: float = 2**0.5,
                 reject: Callable[[dict], bool] | None = None, seed: int = 0) -> None:
        super().__init__()
        self.choices = check_choices(choices)
        check_whole('trials', trials)
        check_number('exploration', exploration, least=0)
        check_whole('seed', seed, least=0, most=MAX_SEED)
        self.trials, self.exploration, self.reject, self.seed = trials, exploration, reject, seed
        self._lengths = [len(values) for values in self.choices.values()]
        self._known: dict[Path, bool] = {}  # whether it is rejected, which depends on the settings alone

    def propose(self) -> SettingsTrial | None:
        """SettingsTrial: The next candidate; None after the last one, while one is open, or if none is left."""
        if self.open or len(self.history) >= self.trials:
            return None
        random, rewards = np.random.RandomState([self.seed, len(self.history)]), self._rewards()
        rejected: set[Path] = set()
        while len(rewards) + len(rejected) < math.prod(self._lengths):
            path = self._descend(rewards, rejected, random)
            settings = {name: values[place] for (name, values), place in zip(self.choices.items(), path)}
            if not self._is_rejected(path, settings):
                return SettingsTrial(settings)
            rejected.add(path)
        return None

    def _is_rejected(self, path: Path, settings: dict) -> bool:
        if path not in self._known:
            self._known[path] = self.reject is not None and bool(self.reject(settings))
        return self._known[path]

    def _rewards(self) -> dict[Path, float]:
        """The reward of each trial by its path."""
        losses = np.array([trial.loss for trial in self.history], float)
        finite = losses[np.isfinite(losses)]
        least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        rewards = np.where(np.isfinite(losses), (most - losses) / max(most - least, 1e-300), 0.0)
        if most == least:
            rewards = np.isfinite(losses).astype(float)
        paths = [tuple(values.index(trial.settings[name]) for name, values in self.choices.items())
                 for trial in self.history]
        return dict(zip(paths, rewards.tolist()))

    def _descend(self, rewards: dict[Path, float], rejected: set[Path], random: np.random.RandomState) -> Path:
        """The path to a candidate that was neither tried nor rejected."""
        path: Path = ()
        for level, length in enumerate(self._lengths):
            below = math.prod(self._lengths[level + 1:])
            found: list[list[float]] = [[] for _ in range(length)]
            for other, reward in rewards.items():
                found[other[level]].append(reward)
            gone = [sum(other[level] == place for other in rejected) for place in range(length)]
            free = [place for place in range(length) if len(found[place]) + gone[place] < below]
            fresh = [place for place in free if not found[place]]
            if fresh:
                chosen = fresh[random.randint(len(fresh))]
            else:
                total = math.log(sum(map(len, found)))
                scores = [np.mean(found[place]) + self.exploration * math.sqrt(total / len(found[place])) for place in free]
                chosen = free[int(np.argmax(scores))]
            path = (*path, chosen)
            rewards = {other: reward for other, reward in rewards.items() if other[level] == chosen}
            rejected = {other for other in rejected if other[level] == chosen}
        return path

    @property
    def best(self) -> SettingsTrial | None:
        """SettingsTrial: The one with the lowest loss so far, the first of equals; None if none is finite."""
        return lowest(self.history)
