"""A search strategy from its name, its class, or a dict with its arguments."""
import inspect
from typing import Any

from ...checks import brief, check_arguments, check_that, nearest
from ...errors import ArgumentError
from .searcher import SEARCHERS, Searcher

# Of any strategy; the search gives them.
BASE_ARGUMENTS = [name for name in inspect.signature(Searcher).parameters if name != 'confirmations']


def strategy_of(searcher: Any, rounds: int) -> tuple[type[Searcher], dict[str, Any]]:
    """The class of a strategy and its arguments.

    Args:
        searcher (str, type or dict): A name in :data:`SEARCHERS`, a subclass of :class:`Searcher`, or a dict with one of
            these as ``type`` and with arguments of the strategy.
        rounds (int): Refinements, >= 0.

    Raises:
        ArgumentError: If it is none of these, an argument is unknown, or the strategy cannot have this number of rounds.
    """
    given = dict(searcher) if isinstance(searcher, dict) else dict(type=searcher)
    kind = given.pop('type', None)
    kind = SEARCHERS.get(kind, kind) if isinstance(kind, str) else kind
    if not (inspect.isclass(kind) and issubclass(kind, Searcher)):
        raise ArgumentError(f'searcher.type={brief(kind)} is not one of {", ".join(SEARCHERS)}'
                            f'{nearest(str(kind), SEARCHERS)}, nor a subclass of Searcher; register a strategy of your own '
                            'with register_searcher (for configs in a module that custom_imports names)')
    taken = sorted(set(given) & set(BASE_ARGUMENTS))
    if taken:
        raise ArgumentError(f'searcher has {", ".join(taken)}, which the search sets itself: leave it out')
    check_arguments(kind, [*BASE_ARGUMENTS, *given], 'searcher')
    refines = kind.refine is not Searcher.refine or kind.propose is not Searcher.propose
    check_that('searcher.type', kind, refines or not rounds, 'a strategy that defines refine(step), the alpha [knots, '
               'N] of the next refinement')
    if 0 < rounds < kind.minimum_rounds:
        raise ArgumentError(f'rounds={rounds} is too few for searcher.type={kind.__name__!r}, which needs '
                            f'{kind.minimum_rounds} or more, such as 22')
    return kind, given
