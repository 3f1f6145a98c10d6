"""Export of a distilled student as a plain model of its toolbox."""
import inspect
import os
import pprint
import shutil
from typing import Dict, List, Optional, Tuple, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint
from mmengine.utils import get_object_from_string
from mmpretrain.models.necks import GlobalAveragePooling
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS
from torch import nn

from .config_types import is_a
from .engine.launch import student_config
from .errors import ConfigError
from .models import BatchPreprocessor, backbones, necks
from .models.checkpoints import load_whole


def export_student(cfg: Config, checkpoint: str, out_dir: str) -> Dict[str, str]:
    """Write a student so that its stock toolbox, e.g. mmpretrain, loads it, with neither distpro_mm nor mmrazor.

    ``student.pth`` with the weights, ``student.py`` with the config to build it and prepare its images, and, if backbone
    or neck is one of ours, the single source file that defines it on top of mmpretrain. A neck that was only there to be
    trained with is merged into the classifier first. The toolbox is the scope of ``model.architecture``, else the config's
    ``default_scope``; ``custom_imports`` of the config other than ours go along.

    Args:
        cfg (Config): The config of the training.
        checkpoint (str): Its checkpoint.
        out_dir (str): The folder to write to.

    Returns:
        dict[str, str]: Paths: 'checkpoint', 'config' and, where they were needed, 'backbone' and 'neck'.

    Raises:
        ConfigError: If the checkpoint is missing or does not fit the student.
    """
    cfg = student_config(cfg)
    model_cfg = cfg.model.to_dict()
    model_cfg = _named(model_cfg)
    toolbox = model_cfg.get('_scope_') or _scope_in(model_cfg.get('type')) or cfg.get('default_scope') or 'mmpretrain'
    if cfg.get('data_preprocessor') is not None:
        # In a distillation the preprocessor stands beside the model, where the runner hands it down.
        preprocessor = model_cfg.setdefault('data_preprocessor', _named(cfg.data_preprocessor.to_dict()))
        if is_a(preprocessor.get('type'), BatchPreprocessor):
            preprocessor['type'] = 'ClsDataPreprocessor'  # it differs in training alone
    init_default_scope(toolbox)
    model = MODELS.build(ConfigDict(model_cfg))  # a plain dict is not enough for mmsegmentation
    load_whole(model, checkpoint, 'checkpoint')
    model, model_cfg = _merged(model, model_cfg)
    os.makedirs(out_dir, exist_ok=True)
    paths = {name: os.path.join(out_dir, f'student.{end}') for name, end in (('checkpoint', 'pth'), ('config', 'py'))}
    told = _load_checkpoint(checkpoint, map_location='cpu').get('meta', {}).get('dataset_meta') or {}
    told = {key: list(told[key]) for key in ('classes', 'palette') if told.get(key)}
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=told) if told else {}), paths['checkpoint'])
    settings = dict(default_scope=toolbox, model=_plain(model_cfg, toolbox), **_testing(cfg, toolbox))
    imports = _listed((cfg.get('custom_imports') or {}).get('imports'))
    imports = [name for name in imports if name.split('.')[0] != 'distpro_mm']
    for name, package in (('backbone', backbones), ('neck', necks)):
        for part in _parts(getattr(model, name, None)):
            ours = getattr(package, type(part).__name__, None)  # by name: the class may come from an exported copy
            if ours is not None:
                source = inspect.getsourcefile(ours)
                paths[name] = os.path.join(out_dir, os.path.basename(source))
                shutil.copyfile(source, paths[name])
                imports.append(ours.__module__.rpartition('.')[2])
    with open(paths['config'], 'w') as file:
        if imports:
            settings['custom_imports'] = dict(imports=imports)
        if len(paths) > 2:
            file.write("import sys\n\nsys.path.insert(0, '{{ fileDirname }}')  # its parts' files lie beside this one\n")
        for key, value in settings.items():
            file.write(f'{key} = {pprint.pformat(value, width=110, sort_dicts=False)}\n')
    return paths


def _scope_in(kind: Union[None, str, type]) -> str:
    """The scope in front of a type's name."""
    return kind.partition('.')[0] if isinstance(kind, str) and '.' in kind else ''


def _testing(cfg: Config, toolbox: str) -> dict:
    """How images are prepared, where the inference of the toolboxes looks for it; no path of a machine."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = cfg.get('test_pipeline', dataset.get('pipeline', []))
    if toolbox == 'mmpretrain':
        dataset = dict(type='CustomDataset')
    # mmdet asks the data set for its classes, and mmseg for a pipeline at the top.
    kept = {key: dataset[key] for key in ('type', 'metainfo') if key in dataset}
    settings = dict(test_pipeline=pipeline, test_dataloader=dict(dataset=dict(kept, pipeline=pipeline)))
    settings = _plain(_named(settings), toolbox)
    return settings if toolbox == 'mmseg' else dict(test_dataloader=settings['test_dataloader'])


def _listed(value: Union[None, str, List[str]]) -> List[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _parts(part: Optional[nn.Module]) -> List[nn.Module]:
    """The modules of a backbone or a neck, which a config may write as a list."""
    return list(part) if isinstance(part, nn.Sequential) else [part]


def _merged(model: nn.Module, cfg: dict) -> Tuple[nn.Module, dict]:
    """The same classifier without a neck that can be merged into its last layer, and its config."""
    if not isinstance(cfg.get('neck'), list) or not hasattr(model.neck[0], 'merge_into'):
        return model, cfg
    first, *others = model.neck
    fc = getattr(model.head, 'fc', None)
    if [type(part) for part in others] != [GlobalAveragePooling] or not isinstance(fc, nn.Linear):
        raise ConfigError(f'model.architecture: {type(first).__name__} can be merged into the classifier only where a '
                          'GlobalAveragePooling and a head with one linear layer follow it')
    first.merge_into(fc)
    cfg = {**cfg, 'neck': cfg['neck'][1]}
    plain = MODELS.build(cfg)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith('neck.')})
    return plain, cfg


def _named(value):
    """A config whose types are names as they are registered, with their scope, where it has classes or their paths."""
    if isinstance(value, dict):
        return {key: _registered(item) if key == 'type' else _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_named, value))
    return value


def _registered(kind: Union[str, type]) -> str:
    """The name of a type in a registry, that of its package first, with the scope; its path where it is in none."""
    if isinstance(kind, str):
        if kind.count('.') < 2:  # a name, maybe with a scope
            return kind
        try:
            kind = get_object_from_string(kind)
        except Exception:  # it is another package's, which need not be installed here
            return kind
        if not callable(kind):
            return kind
    package = kind.__module__.partition('.')[0]
    roots = (MODELS.parent, TRANSFORMS.parent, DATASETS.parent)
    registries = [registry for root in roots for registry in (root, *root.children.values())]
    for registry in sorted(registries, key=lambda registry: registry.scope != package):
        names = [name for name, found in registry.module_dict.items() if found is kind]
        if names:
            return f'{registry.scope}.{kind.__name__ if kind.__name__ in names else names[0]}'
    return f'{kind.__module__}.{kind.__qualname__}'


def _plain(value, toolbox: str):
    """A config without the scope of the toolbox that it is for, which it does not need; other scopes stay."""
    if isinstance(value, dict):
        inside = value.get('_scope_') or toolbox
        plain = {key: _plain(item, inside) for key, item in value.items() if key not in ('_scope_', 'type')}
        if inside != toolbox:
            plain['_scope_'] = inside
        kind = value.get('type')
        if kind is not None:
            plain = {'type': kind[len(inside) + 1:] if kind.startswith(f'{inside}.') else kind, **plain}
        return plain
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, toolbox) for item in value)  # a tuple stays one: mmcv's Resize asks for it
    if callable(value):
        raise ConfigError(f'model.architecture holds the function {value}, which no exported config can hold: give the '
                          'network by names and numbers')
    return value
