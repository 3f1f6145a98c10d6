"""Checks of a config before the toolbox reads it; the toolbox's errors as one message with the config key."""
import contextlib
import difflib
import functools
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config
from mmpretrain.registry import OPTIMIZERS
from mmrazor.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS, VISUALIZERS

from distpro.checks import arguments_of, check_number, check_whole, nearest
from distpro.errors import ArgumentError, first_line

from ..config_types import class_of, name_of
from ..errors import ConfigError, DataError

# Pattern of keys that must be numbers, and the check of key and value.
NUMBERS: dict[str, Callable[..., None]] = {
    r'optim_wrapper\.(\w+\.)?optimizer\.(lr|momentum|weight_decay)': functools.partial(check_number, least=0),
    r'(train|val|test)_dataloader\.batch_size|train_cfg\.(max_epochs|max_iters|val_interval|val_begin)': check_whole,
    r'(train|val|test)_dataloader\.num_workers|randomness\.seed': functools.partial(check_whole, least=0),
}
NUMERIC_PARTS = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'default_hooks', 'custom_hooks', 'auto_scale_lr',
                 'randomness')
TYPELESS = "{} has no type: give {}"
PREPROCESSORS = ("that of the student's toolbox, such as 'mmpretrain.ClsDataPreprocessor', 'mmseg.SegDataPreProcessor' or "
                 "'mmdet.DetDataPreprocessor'")
REGISTRIES = (LOOPS, HOOKS, DATASETS, TRANSFORMS, PARAM_SCHEDULERS, METRICS, VISUALIZERS)
NUMBER = re.compile(r'\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*')


def check_optimizers(cfg: Config) -> None:
    """Refuse an unknown optimiser. mmengine's own error is "None is not callable".

    Raises:
        ConfigError: If the optimiser is not registered. The message has the key and the nearest names.
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
    """Refuse numbers given as strings, e.g. by --cfg-options "lr='0.1'" or 1e-3 in YAML.

    Raises:
        ConfigError: If a value is not a number in the valid range. The message has the first such key.
    """
    for key, value in items(cfg):
        for pattern, check in NUMBERS.items():
            if re.fullmatch(pattern, key) and value is not None:
                check(key, value, error=ConfigError)
        if isinstance(value, str) and key.partition('.')[0] in NUMERIC_PARTS and NUMBER.fullmatch(value):
            raise ConfigError(f'{key}={value!r} must be a number: write {value.strip()} without quotes')


def items(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Yield every value of a config, except dicts and lists, with its dotted key."""
    pairs = value.items() if hasattr(value, 'items') else enumerate(value)
    for name, item in pairs:
        inner = f'{key}.{name}' if key else str(name)
        if isinstance(item, (dict, list, tuple)):
            yield from items(item, inner)
        else:
            yield inner, item


@contextlib.contextmanager
def config_errors(cfg: Config) -> Iterator[None]:
    """Turn errors of the toolbox's classes about their arguments into a :class:`ConfigError` with the config key.

    Args:
        cfg (Config): The config that is being built.

    Raises:
        ConfigError: If building a registered class fails; the original error is its cause.
    """
    try:
        yield
    except (ArgumentError, DataError):
        raise
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError, NotImplementedError, OSError) as error:
        arguments = _built(error)
        if arguments is None:
            raise
        if 'type' not in arguments:  # or it is given by the caller, and something else is wrong
            if 'must contain the key "type"' not in str(error):
                raise
            places = _places_of(cfg, arguments) or ['the config: the part']
            raise ConfigError(TYPELESS.format(f'{" or ".join(places)}={arguments}', PREPROCESSORS if places[0].endswith(
                'data_preprocessor') else 'the name of its class')) from error
        name = name_of(arguments['type'])
        keys = _keys_of(cfg, name, arguments)
        keys = [key for key in keys if key.startswith('model')] or keys[:1]  # skip definitions of networks in base configs
        reason = str(error).strip('\'"') if isinstance(error, KeyError) else first_line(error)
        reason = re.sub(r' Please check whether the value.*', '', reason)
        listed = ', '.join(f'{key}={value!r}' for key, value in arguments.items()
                           if isinstance(value, (str, int, float, bool, tuple)) and key not in ('type', '_scope_'))
        raise ConfigError(f'{" or ".join(keys) or "the config"}: {name}({listed}) cannot be built: {reason} '
                          f'({type(error).__name__}){_hint(error, arguments["type"])}') from error


def _hint(error: BaseException, kind: Any) -> str:
    """The nearest argument or type in place of one that a class or a registry does not know."""
    argument = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if argument:
        classes = [class_of(kind, registry) for registry in (MODELS, *REGISTRIES)]
        known = [name for found in map(arguments_of, classes) if found for name in found[0]]
        return nearest(argument[1], known)
    if isinstance(error, KeyError) and 'registry' in str(error):
        named = re.search(r'in the (\w+::)?([\w ]+?) registry', str(error))
        roots = {registry.root for registry in (MODELS, *REGISTRIES) if named is None or registry.name == named[2]}
        parts = [part for root in roots for part in (root, *root.children.values())]
        scope = next((part.scope for part in parts if isinstance(kind, str) and kind in part.module_dict), None)
        if scope is not None:
            return f": it is {scope}'s, so write '{scope}.{kind}', or set default_scope='{scope}'"
        return nearest(name_of(kind), [name for part in parts for name in part.module_dict])
    return ''


def _built(error: BaseException) -> dict | None:
    """The config of the class whose build raised an error; None if no registry was building."""
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in ('build_from_cfg', 'build_scheduler_from_cfg') and 'cfg' in frame.f_locals:
            innermost = frame.f_locals['cfg']
    return dict(innermost) if isinstance(innermost, dict) else None


def _places_of(cfg: Any, wanted: dict, key: str = '') -> list[str]:
    """Config keys of a dict."""
    found = [key] if key and isinstance(cfg, dict) and cfg == wanted else []
    if isinstance(cfg, (dict, Config, list, tuple)):
        for part, value in cfg.items() if isinstance(cfg, (dict, Config)) else enumerate(cfg):
            found += _places_of(value, wanted, f'{key}.{part}' if key else str(part))
    return found


def _keys_of(cfg: Any, name: str, arguments: dict, key: str = '') -> list[str]:
    """Config keys at which the class has these arguments."""
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
