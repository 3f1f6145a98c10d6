"""Checks of a config that come before the toolbox reads it, and its errors as one message that names the key."""
import contextlib
import difflib
import re
import traceback
from typing import Any, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmpretrain.registry import OPTIMIZERS

from distpro.errors import ArgumentError, first_line, is_number

from ..config_types import name_of
from ..errors import ConfigError, DataError

# What must be a number, by its key: the test, and what would do.
NUMBERS = {
    r'optim_wrapper\.(\w+\.)?optimizer\.(lr|momentum|weight_decay)': (lambda value: value >= 0, 'a number, 0 or more'),
    r'(train|val|test)_dataloader\.batch_size|train_cfg\.(max_epochs|max_iters|val_interval|val_begin)':
        (lambda value: isinstance(value, int) and value > 0, 'a whole number from 1'),
    r'(train|val|test)_dataloader\.num_workers':
        (lambda value: isinstance(value, int) and value >= 0, 'a whole number from 0'),
}
NUMERIC_PARTS = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'default_hooks', 'custom_hooks', 'auto_scale_lr',
                 'randomness')
NUMBER = re.compile(r'\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*')


def check_optimizers(cfg: Config) -> None:
    """Refuse an optimiser that there is not, of which mmengine says that None is not callable.

    Raises:
        ConfigError: Names the key and the nearest names.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    for key, value in [('', wrapper), *((f'{name}.', part) for name, part in wrapper.items() if isinstance(part, dict))]:
        kind = (value.get('optimizer') or {}).get('type') if isinstance(value.get('optimizer'), dict) else None
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            known = sorted({name for registry in (OPTIMIZERS, OPTIMIZERS.parent) for name in registry.module_dict})
            nearest = difflib.get_close_matches(kind, known, n=3, cutoff=0)
            raise ConfigError(f"optim_wrapper.{key}optimizer.type='{kind}': there is no such optimizer; nearest: "
                              f'{", ".join(nearest)}')


def check_numbers(cfg: Config) -> None:
    """Refuse numbers that are written as words: by --cfg-options "lr='0.1'", or 1e-3 in YAML.

    Raises:
        ConfigError: Names the first such key, its value and what would do.
    """
    for key, value in items(cfg):
        for pattern, (fits, wanted) in NUMBERS.items():
            if re.fullmatch(pattern, key) and value is not None and not (is_number(value) and fits(value)):
                raise ConfigError(f'{key}={value!r} must be {wanted}')
        if isinstance(value, str) and key.partition('.')[0] in NUMERIC_PARTS and NUMBER.fullmatch(value):
            raise ConfigError(f'{key}={value!r} must be a number: write {value.strip()} without quotes')


def items(value: Any, key: str = '') -> Iterator[Tuple[str, Any]]:
    """Every value of a config that is no dict or list, with its dotted key."""
    pairs = value.items() if hasattr(value, 'items') else enumerate(value)
    for name, item in pairs:
        inner = f'{key}.{name}' if key else str(name)
        if isinstance(item, (dict, list, tuple)):
            yield from items(item, inner)
        else:
            yield inner, item


@contextlib.contextmanager
def config_errors(cfg: Config) -> Iterator[None]:
    """Turn what a class of the toolbox says of its arguments into a :class:`ConfigError` that names the key.

    Args:
        cfg (Config): The config that is being built.

    Raises:
        ConfigError: In place of an error of a class that a registry was building; that error is its cause.
    """
    try:
        yield
    except (ArgumentError, DataError):
        raise
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError, NotImplementedError, OSError) as error:
        built = _built(error)
        if built is None:
            raise
        name, arguments = built
        keys = _keys_of(cfg, name, arguments)
        keys = [key for key in keys if key.startswith('model')] or keys[:1]  # not where a base config defines a network
        told = str(error).strip('\'"') if isinstance(error, KeyError) else first_line(error)
        told = re.sub(r' Please check whether the value.*', '', told)
        listed = ', '.join(f'{key}={value!r}' for key, value in arguments.items()
                           if isinstance(value, (str, int, float, bool, tuple)) and key not in ('type', '_scope_'))
        raise ConfigError(f'{" or ".join(keys) or "the config"}: {name}({listed}) cannot be built: {told} '
                          f'({type(error).__name__})') from error


def _built(error: BaseException) -> Optional[Tuple[str, dict]]:
    """The class that a registry was building when an error arose, by name, and its arguments in the config."""
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in ('build_from_cfg', 'build_scheduler_from_cfg') and 'cfg' in frame.f_locals:
            innermost = frame.f_locals['cfg']
    if not isinstance(innermost, dict) or 'type' not in innermost:
        return None
    kind = innermost['type']
    return name_of(kind), dict(innermost)


def _keys_of(cfg: Any, name: str, arguments: dict, key: str = '') -> List[str]:
    """Where a config has the class with these arguments."""
    found = []
    if isinstance(cfg, (dict, Config)):
        same_class = key and 'type' in cfg and name_of(cfg['type']) == name
        if same_class and all(part in arguments and _same(arguments[part], value) for part, value in cfg.items()
                              if part not in ('type', '_scope_')):
            found.append(key)
    if isinstance(cfg, (dict, Config, list, tuple)):
        pairs = cfg.items() if isinstance(cfg, (dict, Config)) else enumerate(cfg)
        for part, value in pairs:
            found += _keys_of(value, name, arguments, f'{key}.{part}' if key else str(part))
    return found


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict) or type(one) is type(other) and not isinstance(
        one, (int, float, str, bool)) or one == other
