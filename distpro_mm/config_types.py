"""Resolve the ``type`` of a config: a class, its registered name with or without a scope, or its import path."""
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from mmengine.registry import Registry
from mmrazor.registry import MODELS
from torch import nn

from distpro.checks import check_arguments, nearest
from distpro.errors import argument_prefix

from .errors import ConfigError

SCOPE = 'mmrazor'  # registry scope of the distillers' parts


def class_of(kind: Any, registry: Registry = MODELS) -> Callable | None:
    """Return the class of a ``type``.

    Args:
        kind (str or type): The value of ``type``.
        registry (Registry): Registry in which a name is looked up first, before that of the current default scope, in which
            mmengine looks. Defaults to mmrazor's models.

    Returns:
        type: The class or function; None if the name is not registered, or belongs to another toolbox and lacks its scope.
    """
    if not isinstance(kind, str):
        return kind
    try:
        found = registry.get(kind)
        if found is None:
            with registry.switch_scope_and_registry(None) as current:
                found = current.get(kind)
        return found
    except RuntimeError:  # a path that cannot be imported
        return None


def is_a(kind: Any, parent: type | tuple[type, ...], registry: Registry = MODELS) -> bool:
    """Whether a ``type`` is ``parent``, or one of several, or a subclass of it."""
    found = class_of(kind, registry)
    return inspect.isclass(found) and issubclass(found, parent)


def name_of(kind: Any) -> str:
    """The class name of a ``type``, without scope or module."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def checked(cfg: Any, key: str, given: Iterable[str] = ()) -> dict:
    """Check the config of a part of the distiller.

    Args:
        cfg (dict): The config.
        key (str): Its config key, for errors.
        given (Iterable[str]): Names of further arguments that are passed when the part is built. Defaults to none.

    Returns:
        dict: The config, with the ``_scope_`` in which its type is looked up; mmrazor's by default.

    Raises:
        ConfigError: If the type is missing or not registered, an argument is unknown, or a required argument is missing.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ConfigError(f'{key}={cfg!r} must be a dict with the key type')
    cfg = {'_scope_': SCOPE, **cfg}
    with MODELS.switch_scope_and_registry(cfg['_scope_']) as registry:
        kind = class_of(cfg['type'], registry)
        if kind is None:
            known = [*registry.module_dict, *MODELS.module_dict]
            raise ConfigError(f"{key}.type='{cfg['type']}' is not registered{nearest(name_of(cfg['type']), known)}; correct "
                              'the name, or add the module that registers it to custom_imports')
    check_arguments(kind, [*(name for name in cfg if name not in ('type', '_scope_')), *given], key,
                    ConfigError)
    return cfg


def build(cfg: Any, key: str, **given: Any) -> nn.Module:
    """Build a part of the distiller.

    Args:
        cfg (dict): The config.
        key (str): Its config key, for errors.
        **given (Any): Further arguments of the part.

    Raises:
        ConfigError: See :func:`checked`; also if the part rejects an argument.
    """
    cfg = checked(cfg, key, given)
    with argument_prefix(f'{key}: {name_of(cfg["type"])}.', ConfigError):
        return MODELS.build({**cfg, **given})
