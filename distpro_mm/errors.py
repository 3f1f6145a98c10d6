"""The errors that users are meant to read: each names what to change, so tools show them without a traceback."""
import math
from typing import Any


class ConfigError(ValueError):
    """A config, or a file it names, that cannot be used; names the key, the value seen and what would do."""


class ProcessError(ConfigError):
    """A process that cannot be read or does not fit."""


class DataError(RuntimeError):
    """An image that cannot be loaded."""


class TrainingError(RuntimeError):
    """A training or search that cannot go on; what it has learned is on disk."""


class NotLearnedError(TrainingError):
    """A training that has run to its end, and whose network predicts its training images no better than guessing."""


def is_number(value: Any) -> bool:
    """Whether a config's value is a finite number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, to be quoted in a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else 'no more is known'
