"""Errors for users. Each message names the setting to change, so the tools print it without a traceback."""
from distpro.errors import ArgumentError


class ConfigError(ArgumentError):
    """An invalid config, or an invalid file named in it. The message has the config key, the value and the valid values."""


class DataError(RuntimeError):
    """An image that cannot be loaded."""


class TrainingError(RuntimeError):
    """A training or search that cannot continue. Checkpoints written before the error stay on disk."""


class NotLearnedError(TrainingError):
    """A finished training whose network predicts its training images no better than guessing."""
