"""Read a config file, with the pair of networks and the settings that a command gives."""
import contextlib
import difflib
import logging
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from distpro.errors import first_line
from distpro.files import nearest_path

from ..errors import ConfigError
from .config_keys import check_keys
from .hub_models import expand_hub_models


def load_config(path: str, options: dict | None = None, pair: str | None = None) -> Config:
    """Read a config file and override settings.

    Args:
        path (str): The config file.
        options (dict, optional): Settings by dotted key. Defaults to None.
        pair (str, optional): Name of a pair of networks in ``_base_/pairs``. Defaults to None: the environment variable
            ``PAIR``, else the pair of the config.

    Returns:
        Config: The config, with networks that it gives by ``cfg_path`` written out. ``work_dir`` defaults to
        ``work_dirs/<pair>/<name of the file>``, or to ``work_dirs/<name of the file>`` for a config without a pair.

    Raises:
        ConfigError: If the file or the pair does not exist, the config does not support pairs or does not fit its base
            configs, or its toolbox is not installed.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"there is no config file '{path}'{nearest_path(path)}; the project's configs are in configs/")
    with _pair_in_environment(pair):
        try:
            cfg = Config.fromfile(path)
        except FileNotFoundError as error:
            raise _no_such_pair(error, pair) or error
        except TypeError as error:
            if 'cannot inherit from base' not in str(error):  # mmengine's message if a list overrides a dict
                raise
            raise ConfigError(f"'{path}'{f' with --pair {pair}' if pair else ''}: {first_line(error)} A pair with a "
                              'list as param_scheduler needs lists in search_stage, ab_stage and ft_stage '
                              'too') from error
        except ModuleNotFoundError as error:
            if 'please install' not in str(error):  # mmengine's message for _base_='toolbox::...'
                raise
            raise ConfigError(f"'{path}' is based on a config of a toolbox: {error}; mmsegmentation and mmdetection come "
                              "with pip install '.[dense]'") from error
    if pair is not None and cfg.get('pair') != pair:
        raise ConfigError(f"--pair {pair}: '{path}' " + (f"is of the pair '{cfg.pair}' alone" if 'pair' in cfg else
                                                         'is of no pair') + '; leave --pair out')
    check_keys(cfg, options or {})
    cfg.merge_from_dict(options or {})
    _drop_delete(cfg._cfg_dict)
    expand_hub_models(cfg)
    if cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', cfg.get('pair', ''), os.path.splitext(os.path.basename(path))[0])
    return cfg


def passed_config(entries: dict, filename: str | None) -> Config:
    """A config that another process has read; imports the modules that it names.

    Args:
        entries (dict): Its entries.
        filename (str, optional): The file that they were read from.

    Returns:
        Config: The config.
    """
    cfg = Config(entries, filename=filename)
    import_modules_from_strings(**(cfg.get('custom_imports') or dict(imports=None)))
    return cfg


def _drop_delete(value: Any) -> None:
    """Drop ``_delete_`` keys that mmengine leaves if the base config has nothing to delete."""
    if isinstance(value, dict):
        value.pop('_delete_', None)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _drop_delete(item)


@contextlib.contextmanager
def _pair_in_environment(pair: str | None) -> Iterator[None]:
    """Set the environment variable ``PAIR`` for the configs, and restore it afterwards."""
    if pair is None:
        yield
        return
    before, quiet = os.environ.get('PAIR'), logging.root.manager.disable
    os.environ['PAIR'] = pair
    logging.disable(logging.INFO)  # mmengine logs every variable that it reads
    try:
        yield
    finally:
        logging.disable(quiet)
        os.environ.pop('PAIR')
        if before is not None:
            os.environ['PAIR'] = before


def _no_such_pair(error: FileNotFoundError, pair: str | None) -> ConfigError | None:
    """The error for a missing file of a pair; None for other files."""
    pair, named = (os.environ.get('PAIR'), 'PAIR=') if pair is None else (pair, '--pair ')
    folder, name = os.path.split(error.filename or '')
    folder = os.path.realpath(folder)
    if pair is None or name != f'{pair}.py' or not folder.endswith(os.path.join('_base_', 'pairs')) or \
            not os.path.isdir(folder):
        return None
    pairs = sorted(name[:-3] for name in os.listdir(folder) if name.endswith('.py'))
    nearest = difflib.get_close_matches(pair, pairs, n=3, cutoff=0)
    return ConfigError(f"{named}{pair}: there is no such pair; nearest: {', '.join(nearest)}; a pair is a file in "
                       f"'{os.path.relpath(folder)}'")
