"""References of a config to files that other trainings of a comparison write: ``stage://<stage>/<artefact>``."""
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError
from .config_errors import items

PREFIX = 'stage://'


def stage_references(cfg: Config | dict) -> list[tuple[str, str]]:
    """list[tuple[str, str]]: Dotted key and value of every reference in a config."""
    return [(key, value) for key, value in items(cfg) if isinstance(value, str) and value.startswith(PREFIX)]


def resolve_stage_references(cfg: Config, files: dict[str, str]) -> None:
    """Replace the references in a config by paths.

    Args:
        cfg (Config): The config; changed.
        files (dict[str, str]): Path of the file by reference.
    """
    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            for entry, part in list(value.items()):
                value[entry] = replaced(part)
        elif isinstance(value, (list, tuple)):
            return type(value)(replaced(part) for part in value)
        return files.get(value, value) if isinstance(value, str) else value

    for entry in list(cfg.keys()):
        cfg[entry] = replaced(cfg[entry])


def refuse_stage_references(cfg: Config) -> None:
    """Refuse the references in a config that is trained by itself.

    Raises:
        ConfigError: If there is a reference; names its key.
    """
    for key, value in stage_references(cfg):
        raise ConfigError(f"{key}='{value}' refers to a stage of a comparison, and there are no stages outside of one: give "
                          'the path of the file, or train by tools/compare.py')
