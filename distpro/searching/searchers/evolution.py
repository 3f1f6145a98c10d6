"""Evolution of settings that are chosen from lists."""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...checks import FLAG, MAX_SEED, check_choice, check_number, check_whole
from .ask_tell import AskTell
from .grid import check_choices
from .trial import SettingsTrial, lowest

DRAWS = 1000  # candidates drawn for one that is accepted and new


class EvolutionSearcher(AskTell[SettingsTrial]):
    """Searches settings by crossover and mutation, as KD-Zero (NeurIPS 2023) does for the forms of losses.

    The first generation is drawn at random. A child of later ones has two parents among the best quarter of all before its
    generation: each setting is that of one of them, at random, and is drawn anew with the probability ``mutation``.
    Candidates that are rejected, or were tried before, are drawn again.

    Args:
        choices (dict[str, Sequence]): The values of each setting by its name.
        trials (int): Number of candidates, >= 1.
        population (int): Candidates of a generation, which may be open together, >= 2. Defaults to 10.
        mutation (float): In [0, 1]. Defaults to 0.25.
        reject (Callable, optional): Called with settings; whether they are not worth a training, see
            :func:`distpro.pathways.problem_of`. Defaults to None: none is rejected.
        seed (int): From 0 to 2 ** 32 - 1. Defaults to 0.
        shrink (bool): Whether values are not drawn any more that were tried before a generation, but by none of the better
            half of the candidates. Defaults to False.

    Raises:
        ArgumentError: If an argument is out of range, or a setting has no values.

    Note:
        A reconstruction after the abstract: sizes and probabilities are ours. Candidates are compared by their held-out
        losses, and not by KD-Zero's gaps of sharpness and representation.
    """
    candidate = SettingsTrial

    def __init__(self, choices: dict[str, Sequence[Any]], trials: int, population: int = 10, mutation: float = 0.25,
                 reject: Callable[[dict], bool] | None = None, seed: int = 0, shrink: bool = False) -> None:
        super().__init__()
        self.choices = check_choices(choices)
        check_whole('trials', trials)
        check_whole('population', population, least=2)
        check_number('mutation', mutation, least=0, most=1)
        check_choice('shrink', shrink, FLAG)
        check_whole('seed', seed, least=0, most=MAX_SEED)
        self.trials, self.parallel, self.mutation, self.reject, self.seed = trials, population, mutation, reject, seed
        self.shrink = shrink

    def propose(self) -> SettingsTrial | None:
        """SettingsTrial: The next candidate; None after the last one, while a generation is open, or if none is new."""
        number = len(self.history) + len(self.open)
        generation = number // int(self.parallel) * int(self.parallel)
        if number >= self.trials or any(trial.number < generation for trial in self.open):
            return None
        before = [trial for trial in self.history if trial.number < generation]
        told = sorted((trial for trial in before if trial.finite), key=lambda trial: (trial.result, trial.number))
        parents = [trial.settings for trial in told[:max(2, len(told) // 4)]]
        choices = self._shrunk(told[:-(-len(told) // 2)], before) if self.shrink else self.choices
        random = np.random.RandomState([self.seed, number])
        tried = [trial.settings for trial in (*self.history, *self.open)]
        for _ in range(DRAWS):
            settings = self._child(parents, choices, random) if len(parents) > 1 else _drawn(choices, random)
            if settings not in tried and not (self.reject and self.reject(settings)):
                return SettingsTrial(settings)
        return None

    def _shrunk(self, good: list[SettingsTrial], tried: list[SettingsTrial]) -> dict[str, list]:
        """The choices without the values that were tried, but by no good candidate."""
        def is_left(name: str, value: Any) -> bool:
            return any(trial.settings[name] == value for trial in good) or \
                all(trial.settings[name] != value for trial in tried)

        left = {name: [value for value in values if is_left(name, value)] for name, values in self.choices.items()}
        return {name: left[name] or list(values) for name, values in self.choices.items()}

    def _child(self, parents: list[dict], choices: dict[str, list], random: np.random.RandomState) -> dict:
        pair = [parents[place] for place in random.permutation(len(parents))[:2]]
        fresh = _drawn(choices, random)
        return {name: fresh[name] if random.rand() < self.mutation else pair[random.randint(2)][name]
                for name in self.choices}

    @property
    def best(self) -> SettingsTrial | None:
        """SettingsTrial: The one with the lowest loss so far, the first of equals; None if none is finite."""
        return lowest(self.history)


def _drawn(choices: dict[str, list], random: np.random.RandomState) -> dict:
    return {name: values[random.randint(len(values))] for name, values in choices.items()}
