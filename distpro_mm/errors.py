"""Errors that users are meant to read: each names what to change, so tools show them without a traceback."""
from distpro.errors import ArgumentError


class ConfigError(ArgumentError):
    """A config, or a file it names, that cannot be used. Names the config key, the value seen and what would do."""


class DataError(RuntimeError):
    """An image that cannot be loaded."""


class TrainingError(RuntimeError):
    """A training or search that cannot go on. Checkpoints written so far are on disk."""


class NotLearnedError(TrainingError):
    """A training that has run to its end, and whose network predicts its training images no better than guessing."""
