"""Errors that name the argument to change, and helpers for their messages."""
import contextlib
import math
import numbers
from collections.abc import Iterator
from typing import Any, TypeGuard


class ArgumentError(ValueError):
    """An invalid argument, or an invalid file given by one. The message has the argument, the value and the valid values.

    Args:
        message (str): The message. If it is about an argument, it starts with the argument's name.
    """


class ProcessError(ArgumentError):
    """A process that cannot be read or does not fit the pathways."""


class SearchError(RuntimeError):
    """A search that cannot continue, because the student does not learn."""


@contextlib.contextmanager
def argument_prefix(prefix: str, kind: type = ArgumentError) -> Iterator[None]:
    """Prepend a prefix to the message of an :class:`ArgumentError`, and raise it as an error of class ``kind``.

    Args:
        prefix (str): The prefix, e.g. ``'model.distiller.'``.
        kind (type): Class of the raised error, a subclass of :class:`ArgumentError`. Errors of this class are not
            changed. Defaults to :class:`ArgumentError`.
    """
    try:
        yield
    except ArgumentError as error:
        if kind is not ArgumentError and isinstance(error, kind):
            raise
        raise kind(f'{prefix}{error}') from error


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for use in another message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else 'no details'
