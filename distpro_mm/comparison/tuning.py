"""Choice of a method's settings by its trials, one axis of its grid after the other."""
import json
from collections.abc import Sequence
from typing import Any

from .grid import Axis, beyond


class Tuning:
    """Chooses the settings of a method.

    The axes are tuned in order. While one is tuned, those before it have the settings that were chosen, and those after it
    the config's. If the best settings of an axis lie at its edge, the axis is continued there, step by step, until
    they do not or ``widen`` settings have been added.

    Args:
        name (str): The method's name.
        axes (Sequence[Axis]): The axes of its grid.
        widen (int): Largest number of settings that are added to an axis, >= 0.

    Attributes:
        chosen (dict): The settings chosen so far, by dotted key.
        tried (list[dict]): What has been tried: 'method', 'settings', 'accuracy', 'chosen', and 'note': whether the
            settings were added, and why the best ones are still at an edge.
    """

    def __init__(self, name: str, axes: Sequence[Axis], widen: int) -> None:
        self.name, self.widen = name, widen
        self.chosen: dict[str, Any] = {}
        self.tried: list[dict] = []
        self._accuracies: dict[str, float] = {}
        self._axes = iter(axes)
        self._next()

    def wanted(self) -> list[dict[str, Any]]:
        """list[dict]: Settings whose accuracy :meth:`tell` needs next; none if the choice is complete."""
        while self._axis is not None:
            if len(self._settings) > 1:
                missing = [trial for trial in map(self._trial, self._settings) if _key(trial) not in self._accuracies]
                if missing:
                    return missing
                if self._widened():
                    continue
                self._record()
            self.chosen = self._trial(self._settings[self._best()] if len(self._settings) > 1 else self._settings[0])
            self._next()
        return []

    def tell(self, settings: dict[str, Any], accuracy: float) -> None:
        """Report the accuracy of settings, in %; -inf if all of their trainings failed."""
        self._accuracies[_key(settings)] = accuracy

    def _next(self) -> None:
        """Begin the next axis."""
        self._axis: Axis | None = next(self._axes, None)
        self._settings = list(self._axis.settings) if self._axis else []
        self._added: list[dict] = []

    def _trial(self, settings: dict[str, Any]) -> dict[str, Any]:
        """All settings of a trial. Of later axes, what equals the config's is left out, so that it is no further trial."""
        own = {option: value for option, value in settings.items()
               if not self.chosen or option not in self._axis.default or value != self._axis.default[option]}
        return {**self.chosen, **own}

    def _best(self) -> int:
        """Place of the best settings; of equally good ones, the place nearest to the middle."""
        middle = (len(self._settings) - 1) / 2
        return max(range(len(self._settings)), key=lambda place: (
            self._accuracies[_key(self._trial(self._settings[place]))], -abs(place - middle)))

    def _at_edge(self) -> bool:
        return self._best() in (0, len(self._settings) - 1)

    def _beyond(self) -> dict | None:
        return beyond(self._settings, self._best() > 0, self._axis.limits)

    def _widened(self) -> bool:
        """Add settings beyond the edge at which the best ones are, if any."""
        if not self._at_edge() or len(self._added) >= self.widen:
            return False
        settings = self._beyond()
        if settings is None:
            return False
        self._added.append(settings)
        self._settings.insert(len(self._settings) if self._best() > 0 else 0, settings)
        return True

    def _record(self) -> None:
        best = self._best()
        for place, settings in enumerate(self._settings):
            notes = ['added'] if settings in self._added else []
            if place == best and self._at_edge():
                notes.append('at the edge, which has no next value' if self._beyond() is None else
                             f'still at the edge after {len(self._added)} more')
            self.tried.append(dict(method=self.name, settings={**self.chosen, **settings}, chosen=place == best,
                                   accuracy=self._accuracies[_key(self._trial(settings))], note=', '.join(notes)))


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)
