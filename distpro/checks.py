"""Checks of arguments that are numbers or choices, and the nearest valid name in place of a wrong one."""
import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import ArgumentError, is_number

MAX_SEED = 2**32 - 1  # of numpy
FLAG = (True, False)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A suffix for an error message with the most similar known name; empty if no name is similar."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f' (nearest: {found[0]})' if found else ''


def keywords_of(*functions: Callable) -> list[str]:
    """list[str]: Names of the arguments of functions or classes, without those that collect others."""
    return list(dict.fromkeys(parameter.name for function in functions for parameter in
                              inspect.signature(function).parameters.values()
                              if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)))


def check_keywords(where: str, given: Iterable[str], known: Iterable[str], error: type = ArgumentError) -> None:
    """Refuse keywords that are not known.

    Args:
        where (str): What has the keywords, as the message begins.
        given (Iterable[str]): The keywords.
        known (Iterable[str]): Those that it has.
        error (type): Class of the error. Defaults to :class:`ArgumentError`.

    Raises:
        ArgumentError: If one is not known; of the class ``error``. The message has the nearest one, and all.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise error(f"{where} has no argument '{name}'{nearest(str(name), known)}; it has {', '.join(known)}")


def check_choice(name: str, value: Any, choices: Sequence, error: type = ArgumentError) -> None:
    """Refuse values that are not among the choices. Numbers and strings are not accepted for True and False.

    Args:
        name (str): The argument's name, as the message gives it.
        value (Any): Its value.
        choices (Sequence): Strings, True, False and None; :data:`FLAG` for an argument that is True or False.
        error (type): Class of the error. Defaults to :class:`ArgumentError`.

    Raises:
        ArgumentError: If it is none of them; of the class ``error``.
    """
    if any(value is choice or isinstance(value, str) and isinstance(choice, str) and value == choice for choice in choices):
        return
    hint = nearest(str(value), [choice for choice in choices if isinstance(choice, str)], 0.6)
    raise error(f'{name}={value!r} is not one of {", ".join(map(str, choices))}{hint}')


def check_whole(name: str, value: Any, least: int = 1, most: int | None = None, error: type = ArgumentError) -> None:
    """Refuse what is not a whole number in a range.

    Args:
        name (str): The argument's name, as the message gives it.
        value (Any): Its value.
        least (int): Least value. Defaults to 1.
        most (int, optional): Largest value. Defaults to None: no limit.
        error (type): Class of the error. Defaults to :class:`ArgumentError`.

    Raises:
        ArgumentError: If it is no such number; of the class ``error``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least or most is not None and value > most:
        raise error(f'{name}={value!r} must be a whole number from {least}' + (f' to {most}' if most is not None else ''))


def check_number(name: str, value: Any, least: float | None = None, above: float | None = None, most: float | None = None,
                 below: float | None = None, error: type = ArgumentError) -> None:
    """Refuse what is not a finite number in a range.

    Args:
        name (str): The argument's name, as the message gives it.
        value (Any): Its value.
        least (float, optional): Least value. Defaults to None: no limit.
        above (float, optional): Limit that must be exceeded. Defaults to None.
        most (float, optional): Largest value. Defaults to None.
        below (float, optional): Limit that must not be reached. Defaults to None.
        error (type): Class of the error. Defaults to :class:`ArgumentError`.

    Raises:
        ArgumentError: If it is no such number; of the class ``error``.
    """
    if is_number(value) and not (least is not None and value < least or above is not None and value <= above or
                                 most is not None and value > most or below is not None and value >= below):
        return
    limits = [f'{words} {limit}' for words, limit in
              (('at least', least), ('above', above), ('at most', most), ('below', below)) if limit is not None]
    raise error(f'{name}={value!r} must be a number' + ' ' * bool(limits) + ' and '.join(limits))
