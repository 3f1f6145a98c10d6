"""Export of a distilled student as a plain mmpretrain model."""
import inspect
import os
import pprint
import shutil
from typing import Dict, List, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint
from mmpretrain.models.necks import GlobalAveragePooling
from mmpretrain.registry import MODELS
from torch import nn

from .engine.launch import student_config
from .errors import ConfigError
from .models import backbones, necks
from .models.checkpoints import load_whole


def export_student(cfg: Config, checkpoint: str, out_dir: str) -> Dict[str, str]:
    """Write a student so that stock mmpretrain loads it, with neither distpro_mm nor mmrazor.

    ``student.pth`` with the weights, ``student.py`` with the config to build it and prepare its images, and, if backbone
    or neck is one of ours, the single source file that defines it on top of mmpretrain. A neck that was only there to be
    trained with is merged into the classifier first.

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
    # In a distillation the preprocessor stands beside the model, where the runner hands it down.
    preprocessor = model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    if str(preprocessor.get('type')).endswith('BatchPreprocessor'):
        preprocessor['type'] = 'ClsDataPreprocessor'  # it differs in training alone
    model = MODELS.build(model_cfg)
    load_whole(model, checkpoint, 'checkpoint')
    model, model_cfg = _merged(model, model_cfg)
    os.makedirs(out_dir, exist_ok=True)
    paths = {name: os.path.join(out_dir, f'student.{end}') for name, end in (('checkpoint', 'pth'), ('config', 'py'))}
    classes = (_load_checkpoint(checkpoint, map_location='cpu').get('meta', {}).get('dataset_meta') or {}).get('classes')
    meta = dict(dataset_meta=dict(classes=list(classes))) if classes else {}
    torch.save(dict(state_dict=model.state_dict(), meta=meta), paths['checkpoint'])
    dataset = dict(type='CustomDataset', pipeline=_plain(cfg.get('test_pipeline', [])))
    settings = dict(default_scope='mmpretrain', model=_plain(model_cfg), test_dataloader=dict(dataset=dataset))
    imports = []
    for name, parts, package in (('backbone', [model.backbone], backbones), ('neck', _parts(model.neck), necks)):
        for part in parts:
            ours = getattr(package, type(part).__name__, None)  # by name: the class may come from an exported copy
            if ours is not None:
                source = inspect.getsourcefile(ours)
                paths[name] = os.path.join(out_dir, os.path.basename(source))
                shutil.copyfile(source, paths[name])
                imports.append(ours.__module__.rpartition('.')[2])
    with open(paths['config'], 'w') as file:
        if imports:
            settings['custom_imports'] = dict(imports=imports)
            file.write("import sys\n\nsys.path.insert(0, '{{ fileDirname }}')  # its parts' files lie beside this one\n")
        for key, value in settings.items():
            file.write(f'{key} = {pprint.pformat(value, width=110, sort_dicts=False)}\n')
    return paths


def _parts(neck: Optional[nn.Module]) -> List[nn.Module]:
    """The modules of a neck, which a config may write as a list."""
    return list(neck) if isinstance(neck, nn.Sequential) else [neck]


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


def _plain(value):
    """A config without scopes, which a plain mmpretrain config does not need."""
    if isinstance(value, dict):
        plain = {key: _plain(item) for key, item in value.items() if key not in ('_scope_', 'type')}
        kind = value.get('type')
        if isinstance(kind, str):
            plain = {'type': kind.replace('mmpretrain.', ''), **plain}
        elif kind is not None:
            plain = {'type': f'{kind.__module__}.{kind.__qualname__}', **plain}
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if callable(value):
        raise ConfigError(f'model.architecture holds the function {value}, which no exported config can hold: give the '
                          'network by names and numbers')
    return value
