"""Convert published teachers of RepDistiller and mdistiller into checkpoints of this library's networks.

Both share one set of CIFAR-100 networks and weight names. The networks here compute the same functions, so only the names of
the weights change.
"""
import argparse
import os
import re
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from distpro.errors import first_line
from distpro.files import atomic_write, nearest_path

from ..errors import ConfigError

_CLASSIFIER = r'^(fc|linear|classifier(\.0)?)\.'
# By backbone class: substitutions in a published name, in order.
RENAMES: dict[str, list[tuple[str, str]]] = {
    'CIFARResNet': [],
    'CIFARShuffleNetV1': [],
    'CIFARWideResNet': [(r'^block(\d)\.layer\.', r'layer\1.'), (r'\.convShortcut\.', '.shortcut.')],
    'CIFARVGG': [(rf'^block{stage}\.', f'layer{stage + 1}.') for stage in range(5)],
    'CIFARMobileNetV2': [
        *((rf'^blocks\.{stage}\.', f'layer{stage + 1}.') for stage in range(7)),
        (r'^conv([12])\.0\.', r'conv\1.'), (r'^conv([12])\.1\.', r'bn\1.')],
    # The published unit of stride 2 numbers its convolutions from the second path on.
    'CIFARShuffleNetV2': [
        (r'^(layer\d\.0)\.conv1\.', r'\1.shortcut.0.'), (r'^(layer\d\.0)\.bn1\.', r'\1.shortcut.1.'),
        (r'^(layer\d\.0)\.conv2\.', r'\1.shortcut.2.'), (r'^(layer\d\.0)\.bn2\.', r'\1.shortcut.3.'),
        *((rf'^(layer\d\.0)\.(conv|bn){number + 2}\.', rf'\1.\g<2>{number}.') for number in (1, 2, 3))],
    'ResNet_CIFAR': [(r'\.shortcut\.', '.downsample.')],
}


class Renamed(NamedTuple):
    """One weight of a converted checkpoint: its published name, the name here, and its shape."""
    published: str
    ours: str
    shape: tuple[int, ...]


def convert_teacher(cfg: Config, checkpoint: str, out: str) -> list[Renamed]:
    """Convert a published checkpoint for ``teacher_ckpt`` and ``tools/test.py``.

    Args:
        cfg (Config): A config whose ``model`` is the network, or a distillation with it as the teacher.
        checkpoint (str): The published file.
        out (str): The file to write.

    Returns:
        list[Renamed]: Every weight, in the network's order.

    Raises:
        ConfigError: If the file cannot be read safely, or its weights are not exactly those of the network.
    """
    if 'model' not in cfg:
        raise ConfigError(f"the config '{cfg.filename}' has no model: set model=dict(...) to the network of "
                          f"checkpoint='{checkpoint}'")
    model = MODELS.build(cfg.model.get('teacher', cfg.model))
    state = read_published(checkpoint)
    names = match_names(state, model, f"checkpoint='{checkpoint}'")
    with atomic_write(out) as path:
        torch.save(dict(state_dict={ours: state[published] for ours, published in names.items()},
                        meta=dict(converted_from=os.path.basename(checkpoint))), path)
    return [Renamed(published, ours, tuple(state[published].shape)) for ours, published in names.items()]


def read_published(path: str) -> dict[str, Tensor]:
    """Read the weights from a file of RepDistiller or mdistiller without running code from it.

    The weights are under 'model', under 'state_dict' or at the top level. The file may also have an optimiser and the run's
    options, an ``argparse.Namespace``.

    Args:
        path (str): The file.

    Returns:
        dict[str, Tensor]: Weights by published name.

    Raises:
        ConfigError: If the file does not exist, needs other classes, or has no weights.
    """
    key = f"checkpoint='{path}'"
    if not os.path.isfile(path):
        raise ConfigError(f'{key}: there is no such file{nearest_path(path)}')
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        needed = re.search(r'Unsupported global: GLOBAL ([\w.]+)', str(error))
        if needed:
            raise ConfigError(f"{key} needs '{needed[1]}', and loading this class could run code: save only the weights "
                              'of the network') from error
        raise ConfigError(f'{key} cannot be read as a checkpoint ({type(error).__name__}: {first_line(error)}): the file is '
                          'incomplete or not a checkpoint') from error
    state = checkpoint
    for entry in ('model', 'state_dict'):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(entry), dict):
            state = checkpoint[entry]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{key} has no weights under 'model', under 'state_dict' or at the top level")
    return {re.sub(r'^module\.', '', name): value for name, value in state.items()}


def match_names(state: dict[str, Tensor], model: nn.Module, key: str) -> dict[str, str]:
    """Find each weight of a network in a published checkpoint.

    Args:
        state (dict[str, Tensor]): Weights by published name.
        model (nn.Module): An mmpretrain classifier with one of the backbones in :data:`RENAMES`.
        key (str): Name of the checkpoint in errors.

    Returns:
        dict[str, str]: Published name by the network's name, in the network's order.

    Raises:
        ConfigError: If no published names are known for the backbone, or weights are unused, missing or of another shape.
    """
    backbone = type(getattr(model, 'backbone', model)).__name__
    if backbone not in RENAMES:
        raise ConfigError(f"model.backbone.type='{backbone}': its published names are not known; supported are "
                          f"{', '.join(RENAMES)}")
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found: dict[str, str] = {}
    left_over = []
    for published in state:
        ours = _rename(published, RENAMES[backbone])
        if ours in own and ours not in found:
            found[ours] = published
        else:
            left_over.append(published)
    missing = [name for name in own if name not in found]
    reshaped = [f"'{published}' {tuple(state[published].shape)} for '{ours}' {own[ours]}"
                for ours, published in found.items() if tuple(state[published].shape) != own[ours]]
    wrong = [f'{len(names)} {what}, first {names[0]}' for names, what in (
        ([f"'{name}'" for name in left_over], 'of its weights are not in that network'),
        ([f"'{name}'" for name in missing], 'of the weights of that network are not in the file'),
        (reshaped, 'have another shape')) if names]
    if wrong:
        raise ConfigError(f"{key} does not fit the {backbone} of the config: {'; '.join(wrong)}; give a checkpoint of "
                          'this network')
    return {ours: found[ours] for ours in own}


def _rename(published: str, rules: list[tuple[str, str]]) -> str:
    """The name here of a published weight."""
    if re.match(_CLASSIFIER, published):
        return re.sub(_CLASSIFIER, 'head.fc.', published)
    for pattern, replacement in rules:
        published = re.sub(pattern, replacement, published)
    return f'backbone.{published}'
