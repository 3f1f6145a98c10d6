"""Export of a distilled student as a plain model of its toolbox."""
import inspect
import os
import pprint
import shutil

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint
from mmengine.utils import get_object_from_string
from mmpretrain.models.necks import GlobalAveragePooling
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS
from torch import nn

from .config_types import is_a
from .datasets import pipeline_of
from .engine.launch import student_config
from .errors import ConfigError
from .models import BatchPreprocessor, NamedClassifier, backbones, necks
from .models.checkpoints import load_strict


def export_student(cfg: Config, checkpoint: str, out_dir: str) -> dict[str, str]:
    """Export a student that its toolbox, e.g. mmpretrain, loads without distpro_mm and mmrazor.

    ``student.pth`` has the weights and ``student.py`` the config of the model and of its test pipeline. For a backbone or
    neck of distpro_mm, its source file, which depends on mmpretrain only, is copied. A neck that is used in training only
    is merged into the classifier first. The toolbox is the scope of ``model.architecture``, else the config's
    ``default_scope``. ``custom_imports`` of the config are included, except those of distpro_mm. For a
    :class:`NamedClassifier`, the weights have the names of the network in its own library, and ``student.py`` has only
    ``network``, the arguments of ``distpro.build_network``.

    Args:
        cfg (Config): The config of the training.
        checkpoint (str): Its checkpoint.
        out_dir (str): The folder to write to.

    Returns:
        dict[str, str]: Paths: 'checkpoint', 'config' and, if a source file was copied, 'backbone' or 'neck'.

    Raises:
        ConfigError: If the checkpoint is missing or does not fit the student.
    """
    model, model_cfg, toolbox = built_student(cfg, checkpoint)
    cfg = student_config(cfg)
    if isinstance(model, NamedClassifier):
        return _export_named(model, out_dir)
    os.makedirs(out_dir, exist_ok=True)
    paths = {name: os.path.join(out_dir, f'student.{end}') for name, end in (('checkpoint', 'pth'), ('config', 'py'))}
    meta = _load_checkpoint(checkpoint, map_location='cpu').get('meta', {}).get('dataset_meta') or {}
    meta = {key: list(meta[key]) for key in ('classes', 'palette') if meta.get(key)}
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta) if meta else {}), paths['checkpoint'])
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
            file.write("import sys\n\nsys.path.insert(0, '{{ fileDirname }}')  # for the files of the network\n")
        for key, value in settings.items():
            file.write(f'{key} = {pprint.pformat(value, width=110, sort_dicts=False)}\n')
    return paths


def built_student(cfg: Config, checkpoint: str) -> tuple[nn.Module, dict, str]:
    """Build the student of a distillation with the weights of a checkpoint, as it is exported.

    Args:
        cfg (Config): The config of the training.
        checkpoint (str): Its checkpoint.

    Returns:
        tuple[nn.Module, dict, str]: The model, its config, and the toolbox that it is of.

    Raises:
        ConfigError: If the checkpoint is missing or does not fit the student.
    """
    cfg = student_config(cfg)
    model_cfg = _named(cfg.model.to_dict())
    toolbox = model_cfg.get('_scope_') or _scope_in(model_cfg.get('type')) or cfg.get('default_scope') or 'mmpretrain'
    if cfg.get('data_preprocessor') is not None and not is_a(model_cfg.get('type'), NamedClassifier):
        # A distillation config has the preprocessor at the top level; the runner passes it to the model.
        preprocessor = model_cfg.setdefault('data_preprocessor', _named(cfg.data_preprocessor.to_dict()))
        if is_a(preprocessor.get('type'), BatchPreprocessor):
            preprocessor['type'] = 'ClsDataPreprocessor'  # both are the same at test time
    init_default_scope(toolbox)
    model = MODELS.build(ConfigDict(model_cfg))  # a plain dict is not enough for mmsegmentation
    load_strict(model, checkpoint, 'checkpoint')
    if not isinstance(model, NamedClassifier):
        model, model_cfg = _merged(model, model_cfg)
    return model, model_cfg, toolbox


def _export_named(model: NamedClassifier, out_dir: str) -> dict[str, str]:
    """Write the weights by the names of the network's own library, and how to build the network."""
    os.makedirs(out_dir, exist_ok=True)
    paths = {name: os.path.join(out_dir, f'student.{end}') for name, end in (('checkpoint', 'pth'), ('config', 'py'))}
    torch.save(dict(state_dict=model.module.state_dict()), paths['checkpoint'])
    with open(paths['config'], 'w') as file:
        file.write(f'# The weights in student.pth have the names of this network.\nnetwork = {model.recipe!r}\n')
    return paths


def _scope_in(kind: None | str | type) -> str:
    """The scope of a type's name; empty if it has none."""
    return kind.partition('.')[0] if isinstance(kind, str) and '.' in kind else ''


def testing_steps(cfg: Config, toolbox: str) -> list[dict]:
    """list[dict]: The test pipeline of a student's config, in plain names of its toolbox."""
    return _plain(_named(list(_test_pipeline(cfg))), toolbox)


def _test_pipeline(cfg: Config) -> list:
    """The pipeline of the test set; without a test set, the config's variable of this name."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    return pipeline_of(dataset) or cfg.get('test_pipeline', [])


def _testing(cfg: Config, toolbox: str) -> dict:
    """The test pipeline under the keys that the toolboxes' inference reads; without paths of this machine."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = _test_pipeline(cfg)
    if toolbox == 'mmpretrain':
        dataset = dict(type='CustomDataset')
    # mmdet reads the classes from the data set, and mmseg reads test_pipeline at the top level.
    described = {key: dataset[key] for key in ('type', 'metainfo') if key in dataset}
    settings = dict(test_pipeline=pipeline, test_dataloader=dict(dataset=dict(described, pipeline=pipeline)))
    settings = _plain(_named(settings), toolbox)
    return settings if toolbox == 'mmseg' else dict(test_dataloader=settings['test_dataloader'])


def _listed(value: None | str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _parts(part: nn.Module | None) -> list[nn.Module]:
    """The modules of a backbone or a neck, whose config may be a list."""
    return list(part) if isinstance(part, nn.Sequential) else [part]


def _merged(model: nn.Module, cfg: dict) -> tuple[nn.Module, dict]:
    """Merge a neck that has ``merge_into`` into the classifier's linear layer; returns the model and its config."""
    if not isinstance(cfg.get('neck'), list) or not hasattr(model.neck[0], 'merge_into'):
        return model, cfg
    first, *others = model.neck
    fc = getattr(model.head, 'fc', None)
    if [type(part) for part in others] != [GlobalAveragePooling] or not isinstance(fc, nn.Linear):
        raise ConfigError(f'model.architecture: {type(first).__name__} can be merged into the classifier only if a '
                          'GlobalAveragePooling and a head with one linear layer follow it')
    first.merge_into(fc)
    cfg = {**cfg, 'neck': cfg['neck'][1]}
    plain = MODELS.build(cfg)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith('neck.')})
    return plain, cfg


def _named(value):
    """Replace classes and import paths in a config's types by registered names with their scope."""
    if isinstance(value, dict):
        return {key: _registered(item) if key == 'type' else _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_named, value))
    return value


def _registered(kind: str | type) -> str:
    """The registered name of a type with its scope, preferably in its package's registry; its path if not registered."""
    if isinstance(kind, str):
        if kind.count('.') < 2:  # a name with or without a scope
            return kind
        try:
            kind = get_object_from_string(kind)
        except Exception:  # the path is of a package that is not installed
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
    """Remove the default toolbox's scope from a config; other scopes stay."""
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
        return type(value)(_plain(item, toolbox) for item in value)  # mmcv's Resize requires tuples
    if callable(value):
        raise ConfigError(f'model.architecture has the function {value}, which cannot be exported: define the network by '
                          'names and numbers')
    return value
