"""Errors that name what to change, and small helpers for their messages."""
import contextlib
import math
from typing import Any, Iterator


class ArgumentError(ValueError):
    """An argument, or a file that it names, that cannot be used. Names the argument, the value seen and what would do.

    Args:
        message (str): The message. If it is about an argument, it starts with the argument's name.
    """


class ProcessError(ArgumentError):
    """A process that cannot be read or does not fit."""


class SearchError(RuntimeError):
    """A search that cannot go on, because the student does not learn."""


@contextlib.contextmanager
def argument_prefix(prefix: str, kind: type = ArgumentError) -> Iterator[None]:
    """Put a prefix before the argument that an :class:`ArgumentError` names, and raise the error as another class.

    Args:
        prefix (str): Such as ``'model.distiller.'``.
        kind (type): Class of the error that is raised, derived from :class:`ArgumentError`. Errors that are of this class
            already pass unchanged. Defaults to :class:`ArgumentError`.
    """
    try:
        yield
    except ArgumentError as error:
        if kind is not ArgumentError and isinstance(error, kind):
            raise
        raise kind(f'{prefix}{error}') from error


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, to be quoted in another message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else 'no more is known'
