"""Names in a config that are misspelt or missing: refused before any data are read."""
import difflib
import inspect
from collections.abc import Iterable

from mmengine.config import Config
from mmengine.runner import Runner
from mmrazor.registry import LOOPS, OPTIMIZERS, PARAM_SCHEDULERS

from distpro.checks import check_arguments, nearest

from ..config_types import class_of
from ..errors import ConfigError

# Keys that a runner reads, with those of mmengine's and of this package's that are no argument of it.
KEYS = [*(name for name in inspect.signature(Runner.__init__).parameters if name not in ('self', 'cfg')), 'compile',
        'auto_scale_lr', 'activation_checkpointing', 'efficient_conv_bn_eval', 'find_unused_parameters', 'model_wrapper_cfg',
        'custom_imports', 'runner_type', 'strategy', 'data_preprocessor', 'env_cfg', 'pair']
SIMILAR = 0.88  # of two names, from which one is taken for a misspelling of the other
EXAMPLE = 'train_cfg.max_epochs=10'


def check_keys(cfg: Config, options: Iterable[str] = ()) -> None:
    """Refuse names of parts of a config that are no such names, but similar to one.

    Args:
        cfg (Config): The config as its file has it.
        options (Iterable[str]): Dotted keys of settings that are to override it. Defaults to none.

    Raises:
        ConfigError: If the first part of an option is neither in the config nor a key of mmengine's runner, or if the
            config has a dict whose name is nearly one of these.
    """
    known = [*cfg, *KEYS]
    for option in options:
        first = option.partition('.')[0]
        if first not in known:
            raise ConfigError(f"'{option}': the config has no '{first}'{nearest(first, known)}; give the key of a setting, "
                              f'such as {EXAMPLE}')
    for name, value in cfg.items():
        similar = difflib.get_close_matches(name, KEYS, n=1, cutoff=SIMILAR)
        if isinstance(value, dict) and name not in KEYS and similar and not name.startswith('_'):
            raise ConfigError(f"'{cfg.filename}' has '{name}', which nothing reads (nearest: {similar[0]}); if it is a "
                              f"variable of your own, begin its name with '_'")


def require_model(cfg: Config) -> None:
    """Refuse a config without a model.

    Raises:
        ConfigError: If it has none, or one without a type.
    """
    model = cfg.get('model')
    if not isinstance(model, dict) or 'type' not in model:
        lacks = 'has no model' if model is None else f'has model={model}, without a type'
        raise ConfigError(f"the config '{cfg.filename}' {lacks}: give model=dict(type=..., ...), a network, or "
                          "type='DistPro' with architecture, teacher and distiller")


def require_keys(cfg: Config, keys: Iterable[str], purpose: str) -> None:
    """Refuse a config without what a training or an evaluation needs.

    Raises:
        ConfigError: If a key is missing or None. The message has the missing ones.
    """
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise ConfigError(f"the config '{cfg.filename}' has no {', '.join(missing)}, which {purpose} needs: add them, or "
                          'give the config of a training')


def check_late_parts(cfg: Config) -> None:
    """Refuse unknown arguments of parts that the runner builds after it has read the data: loop, optimisers, schedules.

    Raises:
        ConfigError: If one is unknown. The message has the key, the nearest argument and all of them.
    """
    loop = cfg.get('train_cfg') or {}
    if 'type' in loop:
        check_arguments(class_of(loop['type'], LOOPS), [*_names(loop), 'runner', 'dataloader'], 'train_cfg',
                        ConfigError)
    wrapper = cfg.get('optim_wrapper') or {}
    for key, part in [('', wrapper), *((f'{name}.', part) for name, part in wrapper.items() if isinstance(part, dict))]:
        optimizer = part.get('optimizer')
        if isinstance(optimizer, dict) and 'type' in optimizer:
            check_arguments(class_of(optimizer['type'], OPTIMIZERS), [*_names(optimizer), 'params'],
                            f'optim_wrapper.{key}optimizer', ConfigError)
    schedules = cfg.get('param_scheduler') or []
    listed = [('param_scheduler', schedules)] if isinstance(schedules, dict) else [
        (f'param_scheduler.{place}', schedule) for place, schedule in enumerate(schedules)]
    for key, schedule in listed:
        if isinstance(schedule, dict) and 'type' in schedule:
            names = [name for name in _names(schedule) if name != 'convert_to_iter_based']
            check_arguments(class_of(schedule['type'], PARAM_SCHEDULERS), [*names, 'optimizer', 'param_name'], key,
                            ConfigError)


def _names(part: dict) -> list[str]:
    """Names of the arguments in the config of a part."""
    return [name for name in part if name not in ('type', '_scope_')]
