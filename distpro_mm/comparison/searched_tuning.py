"""Choice of a method's settings by a search over the lists of its grid, all keys together."""
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from distpro.checks import check_arguments, check_choice
from distpro.errors import argument_prefix
from distpro.pathways import FormLoss, problem_of
from distpro.searching import EvolutionSearcher, GridSearcher, SettingsTrial, TreeSearcher

from ..errors import ConfigError

SEARCHERS = {kind.__name__: kind for kind in (EvolutionSearcher, GridSearcher, TreeSearcher)}
OURS = {'choices', 'reject'}  # arguments that the comparison gives


def check_searcher(searcher: Any, grid: Any, name: str) -> dict[str, Any]:
    """Check the ``searcher`` of a method, and copy it.

    Args:
        searcher (dict): ``type``, a name in :data:`SEARCHERS`, and its arguments; ``choices`` is the method's grid.
        grid (dict or list): The checked grid.
        name (str): The method's name in errors.

    Raises:
        ConfigError: If the type or an argument is unknown or out of range, or the grid is not one of lists of values.
    """
    if not isinstance(searcher, dict):
        raise ConfigError(f"{name}: searcher={searcher!r} must be a dict such as dict(type='EvolutionSearcher', trials=30)")
    given = dict(searcher)
    kind = given.pop('type', None)
    check_choice(f'{name}: searcher.type', kind, tuple(SEARCHERS), ConfigError)
    if not isinstance(grid, dict) or not grid or not all(set(entry) == {'values'} for entry in grid.values()):
        raise ConfigError(f'{name}: a searcher needs a grid that is a dict of lists of values')
    taken = sorted(OURS & set(given))
    if taken:
        raise ConfigError(f'{name}: searcher has {", ".join(taken)}, which the comparison sets itself: leave it out')
    check_arguments(SEARCHERS[kind], ['choices', *given], f'{name}: searcher', ConfigError)
    with argument_prefix(f'{name}: searcher.', ConfigError):
        SEARCHERS[kind](choices=_choices(grid), **given)
    return dict(searcher)


class SearchedTuning:
    """Chooses the settings of a method by a search, as :class:`.tuning.Tuning` does one axis after the other.

    The loss of settings is their error on the held-out images in %. Forms of losses (:class:`.FormLoss`) that cannot train a
    student are not tried.

    Args:
        name (str): The method's name.
        grid (dict): By dotted key, a dict with its ``values``.
        searcher (dict): ``type`` and arguments of the search, see :func:`check_searcher`.
        config (Callable): The method's config with settings.

    Attributes:
        chosen (dict): The best settings by dotted key, {} until the search is finished.
        tried (list[dict]): As of :class:`.tuning.Tuning`.
    """

    def __init__(self, name: str, grid: dict[str, Any], searcher: dict[str, Any],
                 config: Callable[[dict[str, Any]], Config]) -> None:
        self.name = name
        arguments = dict(searcher)
        kind = SEARCHERS[arguments.pop('type')]
        if kind is not GridSearcher:
            arguments['reject'] = lambda settings: problem_of_form(config(settings)) is not None
        self._searcher = kind(choices=_choices(grid), **arguments)

    def wanted(self) -> list[dict[str, Any]]:
        """list[dict]: Settings whose accuracy :meth:`tell` needs next; none if the search is finished."""
        search = self._searcher
        while len(search.open) < search.parallel and not search.waits and not search.finished:
            search.ask()
        return [trial.settings for trial in search.open]

    def tell(self, settings: dict[str, Any], accuracy: float) -> None:
        """Report the accuracy of settings, in %; -inf if all of their trainings failed."""
        trial = next(trial for trial in self._searcher.open if trial.settings == settings)
        self._searcher.tell(trial, 100 - accuracy)

    @property
    def chosen(self) -> dict[str, Any]:
        """dict: The best settings."""
        best = self._searcher.best
        return dict(best.settings) if best and self._searcher.finished else {}

    @property
    def tried(self) -> list[dict]:
        """list[dict]: What has been tried, in order."""
        best: SettingsTrial | None = self._searcher.best
        return [dict(method=self.name, settings=dict(trial.settings), accuracy=100 - trial.loss, note='',
                     chosen=best is not None and trial.number == best.number) for trial in self._searcher.history]


def problem_of_form(cfg: Config) -> str | None:
    """Why the loss of a config's distiller cannot train a student, see :func:`distpro.pathways.problem_of`.

    Returns:
        str: The problem. None if there is none, or the loss is not a :class:`FormLoss`.
    """
    loss = dict(cfg.model.get('distiller', {}).get('loss') or {})
    return problem_of(FormLoss(**loss)) if loss.pop('type', None) == 'FormLoss' else None


def _choices(grid: dict[str, Any]) -> dict[str, list]:
    return {option: list(entry['values']) for option, entry in grid.items()}
