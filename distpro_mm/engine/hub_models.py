"""Replace the networks that a config gives by ``cfg_path`` with the model configs that they name."""
import importlib.util
import re
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from distpro.errors import first_line

from ..errors import ConfigError

TEACHER = re.compile(r'model\.teacher(\.\w+)?')  # or one of several
EXAMPLE = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'


def expand_hub_models(cfg: Config) -> None:
    """Replace every network with ``cfg_path`` in ``cfg.model`` by its model config, as mmrazor reads it.

    mmrazor builds ``dict(cfg_path='mmpretrain::...', pretrained=True)`` by ``mmengine.hub.get_model``. The model config has
    the same effect, and export, evaluation, comparisons and checks can read it:

    - ``_scope_`` is the toolbox.
    - ``pretrained=True`` becomes the ``init_cfg`` that loads the published checkpoint when the weights are initialised.
    - Other keys beside ``cfg_path`` are arguments that the toolbox's config does not set.
    - ``data_preprocessor`` is that of the toolbox's config. If the config has its own, the student has none besides it, and
      the teacher has one only with ``pretrained=True``.

    Args:
        cfg (Config): The config; modified in place.

    Raises:
        ConfigError: If a ``cfg_path`` cannot be read, has no published checkpoint for ``pretrained=True``, or sets what is
            given beside it.
    """
    if not isinstance(cfg.get('model'), dict):
        return
    own = bool(cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor'))
    _expand_in(cfg, ['model'], '', own)


def _expand_in(node: Any, names: Any, prefix: str, own: bool) -> None:
    for name in list(names):
        value, key = node[name], f'{prefix}{name}'
        if isinstance(value, dict) and value.get('cfg_path') and not value.get('type'):  # mmrazor's condition
            node[name] = _expanded(value, key, own)
        elif isinstance(value, dict):
            _expand_in(value, value, f'{key}.', own)
        elif isinstance(value, list):
            _expand_in(value, range(len(value)), f'{key}.', own)


def _expanded(value: dict, key: str, own: bool) -> ConfigDict:
    """The model config of a network that is given by ``cfg_path``."""
    path, pretrained = value['cfg_path'], bool(value.get('pretrained'))
    model, checkpoint = _read(path, pretrained, key)
    if own and not (pretrained and TEACHER.fullmatch(key)):
        model.pop('data_preprocessor', None)
    for name, given in value.items():
        if name in ('cfg_path', 'pretrained', 'type', '_scope_') or name == 'init_cfg' and pretrained:
            continue
        if name in model and model[name] != given:
            raise ConfigError(f"{key}.{name}={given!r} is not used, because the config of cfg_path='{path}' sets it: remove "
                              'it, or write the network out (type, ...) in place of cfg_path')
        model.setdefault(name, given)
    if pretrained:
        model['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint)
    model.setdefault('_scope_', path.partition('::')[0])
    return ConfigDict(model)


def _read(path: Any, pretrained: bool, key: str) -> tuple[dict, str | None]:
    """The model of a toolbox's config, with its preprocessor, and the address of its published checkpoint."""
    named = f'{key}.cfg_path={path!r}'
    toolbox = path.partition('::')[0] if isinstance(path, str) and '::' in path else ''
    if not toolbox.isidentifier():
        raise ConfigError(f"{named} must be '<toolbox>::<config>', such as '{EXAMPLE}'")
    if importlib.util.find_spec(toolbox) is None:  # mmengine would install it
        raise ConfigError(f"{named}: {toolbox} is not installed; install it, or name a config of an installed toolbox, such "
                          f"as '{EXAMPLE}'" + (' (mmpretrain is the successor of mmcls)' if toolbox == 'mmcls' else ''))
    try:
        cfg = get_config(path)
    except (AssertionError, OSError, ValueError, LookupError) as error:
        raise ConfigError(f'{named} cannot be read ({type(error).__name__}: {first_line(error)}); give the path of a '
                          f"config in the toolbox's folder configs, such as '{EXAMPLE}'") from error
    checkpoint = _published(path) if pretrained else None
    if pretrained and checkpoint is None:
        raise ConfigError(f'{key}.pretrained=True: {toolbox} lists no published checkpoint of cfg_path={path!r}; leave it '
                          'out' + (', and give model.teacher_ckpt' if TEACHER.fullmatch(key) else ''))
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise ConfigError(f"{named} has no model: name the config of a training, such as '{EXAMPLE}'")
    model = cfg.model.to_dict()
    if 'data_preprocessor' in cfg:
        model['data_preprocessor'] = cfg.data_preprocessor.to_dict()
    return model, checkpoint


def _published(path: str) -> str | None:
    """The address of the checkpoint that a toolbox lists for a config; None if it lists none."""
    try:
        return get_config(path, pretrained=True).get('model_path')
    except AssertionError:  # mmengine's, for an entry without weights
        return None
