"""Checks of arguments: numbers, choices, functions, names of arguments."""
import difflib
import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch

from .errors import ArgumentError, is_number

MAX_SEED = 2**32 - 1  # of numpy
FLAG = (True, False)
Function = TypeVar('Function', bound=Callable)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A suffix for an error message with the most similar known name; empty if no name is similar."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f' (nearest: {found[0]})' if found else ''


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
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least or most is not None and value > most:
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


def check_that(name: str, value: Any, holds: Any, wanted: str, error: type = ArgumentError) -> None:
    """Refuse what is not of the wanted kind: a function, a module, a dict, a loader.

    Args:
        name (str): The argument's name, as the message gives it.
        value (Any): Its value.
        holds (Any): True if the value is of this kind.
        wanted (str): What would do.
        error (type): Class of the error. Defaults to :class:`ArgumentError`.

    Raises:
        ArgumentError: If it is not; of the class ``error``.
    """
    if not holds:
        raise error(f'{name}={brief(value)} must be {wanted}')


def brief(value: Any) -> str:
    """str: A value for a message, on one line."""
    if inspect.isclass(value):
        return f'the class {value.__name__}'
    if isinstance(getattr(value, 'shape', None), tuple):
        return f'a {type(value).__name__} of shape {tuple(value.shape)}'
    text = repr(value)
    if len(text) <= 100 and '\n' not in text and ' object at 0x' not in text and ' at 0x' not in text:
        return text
    return f'the function {value.__name__}' if inspect.isroutine(value) else f'a {type(value).__name__}'


def is_function(value: Any) -> bool:
    """Whether a value can be called and is not a class, which would give an object in place of a result."""
    return callable(value) and not inspect.isclass(value)


def accepts(function: Callable, *args: Any, **kwargs: Any) -> bool:
    """Whether a function can be called with these arguments, as far as its signature says."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # without a signature, as some functions in C
        return True
    return True


def named_arguments(*others: str) -> Callable[[Function], Function]:
    """Refuse unknown and missing arguments of a function with an :class:`ArgumentError`; a decorator.

    Args:
        *others (str): Names of further arguments, which the function takes as ``**kwargs``.
    """
    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        known = [name for name, parameter in signature.parameters.items()
                 if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name != 'self']
        known += [name for name in others if name not in known]
        called = function.__qualname__.removesuffix('.__init__')

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check_keywords(called, kwargs, known)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise ArgumentError(f'{called}: {error}') from None
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]  # it has the signature of the function

    return decorate


def arguments_of(kind: Any) -> tuple[list[str], list[str]] | None:
    """Names of all arguments of a class and of the required ones; None if it accepts any argument, or is no class."""
    if not inspect.isclass(kind):
        return None
    known: dict[str, None] = {}
    needed = None
    for parent in kind.__mro__:  # a class with **kwargs passes them to its parent
        if parent is object or parent.__module__.startswith('torch.') and not issubclass(kind, torch.optim.Optimizer):
            break
        if '__init__' not in vars(parent):
            continue
        parameters = list(inspect.signature(vars(parent)['__init__']).parameters.values())[1:]
        named = [parameter for parameter in parameters if parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)]
        known.update({parameter.name: None for parameter in named})
        if needed is None:
            needed = [parameter.name for parameter in named if parameter.default is parameter.empty]
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return list(known), needed
    return ([], []) if needed is None else None


def check_arguments(kind: Callable, given: Iterable[str], key: str, error: type = ArgumentError) -> None:
    """Refuse unknown and missing arguments of a class.

    Args:
        kind (type): The class. The arguments of a function are not checked.
        given (Iterable[str]): Names of the arguments.
        key (str): Name of the dict with the arguments, for errors.
        error (type): Class of the error. Defaults to :class:`ArgumentError`.

    Raises:
        ArgumentError: If an argument is unknown or missing; of the class ``error``. The message lists the valid arguments.
    """
    found = arguments_of(kind)
    if found is None:
        return
    known, needed = found
    given = list(given)
    name = getattr(kind, '__name__', str(kind))
    for argument in given:
        if argument not in known:
            raise error(f"{key} has no argument '{argument}'{nearest(argument, known)}; {name} has {', '.join(known)}")
    missing = [argument for argument in needed if argument not in given]
    if missing:
        raise error(f'{key} lacks {", ".join(missing)}, required by {name}')


def register(registry: dict[str, Any], item: Any) -> None:
    """Add a function or class to a registry under its name. The same definition, run again, replaces the first.

    Args:
        registry (dict[str, Any]): The registry.
        item (Any): The function or class.

    Raises:
        ArgumentError: If the name belongs to a different one.
    """
    name = item.__name__
    known = registry.get(name, item)
    if (known.__module__, known.__qualname__) != (item.__module__, item.__qualname__):
        raise ArgumentError(f"the name '{name}' is registered already, by {known.__module__}.{known.__qualname__}: give "
                            f'{item.__module__}.{item.__qualname__} a different name')
    registry[name] = item
