"""Checks of the arguments of a search in rounds."""
from typing import Any

from ..checks import check_number, check_whole
from ..errors import ArgumentError, is_number
from .first_process import REFERENCES

LEAST = dict(rounds=0, knots=2, max_epochs=1, epochs=1, min_iterations=1, max_divisions=0, seed=0)  # of whole numbers
SHARES = ('round_share', 'batch_share')
POSITIVE = ('max_growth', 'memory', 'feature_weight')


def check_references(references: Any) -> None:
    """Refuse what is no list of references.

    Args:
        references (Any): The argument of a search.

    Raises:
        ArgumentError: If it is not a list or tuple with some of :data:`REFERENCES`.
    """
    if not isinstance(references, (list, tuple)) or not all(name in REFERENCES for name in references):
        raise ArgumentError(f'references={references!r} must be a list with some of {", ".join(REFERENCES)}')


def check_numbers(**values: Any) -> None:
    """Refuse numbers that are out of range.

    Args:
        **values (Any): Arguments of a search by name: some of :data:`LEAST`, :data:`POSITIVE` and :data:`SHARES`, and
            ``initial_bump``.

    Raises:
        ArgumentError: If one is out of range.
    """
    for name, value in values.items():
        if name in LEAST:
            check_whole(name, value, LEAST[name])
        if name in POSITIVE:
            check_number(name, value, above=0)
        if name in SHARES:
            check_number(name, value, above=0, most=1)
        if name == 'initial_bump' and not is_number(value):
            raise ArgumentError(f'initial_bump={value!r} must be a finite number, such as 0 for constant weights at first')
