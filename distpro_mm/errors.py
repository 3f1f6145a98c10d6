"""The errors that users are meant to read: each names what to change, so tools show them without a traceback."""


class ConfigError(ValueError):
    """A config, or a file it names, that cannot be used; names the key, the value seen and what would do."""


class ProcessError(ConfigError):
    """A process that cannot be read or does not fit."""


class SearchError(RuntimeError):
    """A search that cannot go on; what it has learned is on disk."""
