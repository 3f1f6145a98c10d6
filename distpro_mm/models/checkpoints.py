"""Strict loading of a network's checkpoint."""
import os
import re
from collections.abc import Iterable
from typing import Any

from mmengine.logging import print_log
from mmengine.runner.checkpoint import _load_checkpoint
from torch import Tensor, nn

from distpro.errors import argument_prefix, first_line
from distpro.files import nearest_path
from distpro.networks.weights import load_state

from ..errors import ConfigError
from .classifiers import ModuleClassifier

ENTRIES = ('state_dict', 'model', 'model_state_dict', 'net')  # keys of the weights in a checkpoint


def read_weights(path: str, key: str) -> dict:
    """Read the weights of one network from a checkpoint.

    Args:
        path (str): File or URL. The student's weights are read from the checkpoint of a distillation.
        key (str): Name of the path in errors, e.g. 'model.teacher_ckpt'.

    Returns:
        dict[str, Tensor]: Weights by name.

    Raises:
        ConfigError: If the file does not exist or is not a checkpoint.
    """
    key = f"{key}='{path}'"
    if '://' not in path and not os.path.isfile(path):
        raise ConfigError(f'{key}: there is no such file{nearest_path(path)}; correct the path, or train that network first')
    try:
        checkpoint = _load_checkpoint(path, map_location='cpu')
    except Exception as error:
        raise ConfigError(f'{key} cannot be read as a checkpoint ({type(error).__name__}: '
                          f'{first_line(error)}): the file is incomplete or not a checkpoint') from error
    state = weights_of(checkpoint)
    if state is None:
        raise ConfigError(f'{key} has no weights under {", ".join(map(repr, ENTRIES))} or at the top level')
    if any(name.startswith('architecture.') for name in state):
        state = {name[len('architecture.'):]: value for name, value in state.items() if name.startswith('architecture.')}
    return state


def weights_of(checkpoint: Any) -> dict[str, Tensor] | None:
    """The weights in a loaded checkpoint of mmengine, timm, torchvision's references, DeiT or RepDistiller.

    Args:
        checkpoint (Any): Content of the file.

    Returns:
        dict[str, Tensor]: Weights by name, without the prefix ``module.`` of distributed training; None if there are none.
    """
    if not isinstance(checkpoint, dict):
        return None
    state = next((checkpoint[entry] for entry in ENTRIES if isinstance(checkpoint.get(entry), dict)), checkpoint)
    state = {re.sub(r'^module\.', '', name): value for name, value in state.items() if isinstance(value, Tensor)}
    return state or None


def with_names_of(weights: dict[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Weights under the names of a network, where these differ by the prefixes ``architecture.`` and ``module.`` alone.

    Args:
        weights (dict[str, Tensor]): Weights by name.
        own (Iterable[str]): Names of the network's parameters and buffers.

    Returns:
        dict[str, Tensor]: The same weights; under their own names if some of these are the network's.
    """
    own = set(own)
    if own & set(weights):
        return weights
    by_name = {_without_prefixes(name): name for name in own}
    return {by_name.get(_without_prefixes(name), name): value for name, value in weights.items()}


def _without_prefixes(name: str) -> str:
    return re.sub(r'^(architecture\.)?(module\.)?', '', name)


def load_strict(model: nn.Module, path: str, key: str) -> None:
    """Load a checkpoint that must have all weights of the network.

    Args:
        model (nn.Module): The network.
        path (str): File or URL, see :func:`read_weights`.
        key (str): Name of the path in errors.

    Raises:
        ConfigError: If the checkpoint cannot be read, or weights are missing or have other shapes.
    """
    state = read_weights(path, key)
    if isinstance(model, ModuleClassifier):  # the file may be of the network alone
        with argument_prefix('', ConfigError):
            load_state(model.module, state, f"{key}='{path}'", report=lambda line: print_log(line, 'current'))
        return
    inside = set(state)  # loading removes entries that some networks compute themselves
    key, network = f"{key}='{path}'", f'{type(getattr(model, "backbone", model)).__name__} of the config'
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        mismatches = [line.strip() for line in str(error).splitlines() if 'size mismatch' in line] or [str(error)]
        raise ConfigError(f'{key} does not fit the {network}: {len(mismatches)} weights have other shapes, first '
                          f'"{mismatches[0]}"; give a checkpoint of this network') from error
    missing = [name for name in missing if name not in inside]
    if missing and not inside & set(model.state_dict()):
        raise ConfigError(f'{key}: its names differ from those of the {network}, first {sorted(inside)[:2]} and not '
                          f'{sorted(model.state_dict())[:2]}: convert it with tools/convert_teacher.py for teachers of '
                          "RepDistiller and mdistiller, or with mmpretrain's tools/model_converters")
    if missing:
        raise ConfigError(f'{key} fits the {network} only partly: {len(missing)} of its {len(model.state_dict())} weights '
                          f'are not in the file, first {missing[:3]}, and the file has {len(unexpected)} others, first '
                          f'{unexpected[:3]}; give a checkpoint of this network')
    if unexpected:
        print_log(f'{key} has {len(unexpected)} weights that the {network} does not use, first {unexpected[:3]}',
                  'current', 30)
