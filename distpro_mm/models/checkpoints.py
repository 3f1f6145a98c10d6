"""Loading a network's checkpoint wholly or not at all."""
import os
import re
from typing import Any, Dict, Optional

from mmengine.logging import print_log
from mmengine.runner.checkpoint import _load_checkpoint
from torch import Tensor, nn

from distpro.errors import first_line

from ..errors import ConfigError

ENTRIES = ('state_dict', 'model', 'model_state_dict', 'net')  # where checkpoints hold their weights


def read_weights(path: str, key: str) -> dict:
    """Read the weights of one network from a checkpoint.

    Args:
        path (str): File or URL. A checkpoint of a distillation is taken for its student.
        key (str): What the path is called in errors, e.g. 'model.teacher_ckpt'.

    Returns:
        dict[str, Tensor]: Weights by name.

    Raises:
        ConfigError: If there is no such file, or it is no checkpoint.
    """
    key = f"{key}='{path}'"
    if '://' not in path and not os.path.isfile(path):
        raise ConfigError(f'{key}: there is no such file; correct the path, or train that network first')
    try:
        checkpoint = _load_checkpoint(path, map_location='cpu')
    except Exception as error:
        raise ConfigError(f'{key} cannot be read as a checkpoint ({type(error).__name__}: '
                          f'{first_line(error)}): it is cut off or is another file') from error
    state = weights_of(checkpoint)
    if state is None:
        raise ConfigError(f'{key} holds no weights, neither under {" nor ".join(map(repr, ENTRIES))} nor at its top level')
    if any(name.startswith('architecture.') for name in state):
        state = {name[len('architecture.'):]: value for name, value in state.items() if name.startswith('architecture.')}
    return state


def weights_of(checkpoint: Any) -> Optional[Dict[str, Tensor]]:
    """The weights in a loaded checkpoint of mmengine, timm, torchvision's references, DeiT or RepDistiller.

    Args:
        checkpoint (Any): What the file holds.

    Returns:
        dict[str, Tensor]: Weights by name, without the ``module.`` of several processes; None if there are none.
    """
    if not isinstance(checkpoint, dict):
        return None
    state = next((checkpoint[entry] for entry in ENTRIES if isinstance(checkpoint.get(entry), dict)), checkpoint)
    state = {re.sub(r'^module\.', '', name): value for name, value in state.items() if isinstance(value, Tensor)}
    return state or None


def load_whole(model: nn.Module, path: str, key: str) -> None:
    """Load a checkpoint that must fit the network entirely.

    Args:
        model (nn.Module): The network.
        path (str): File or URL, see :func:`read_weights`.
        key (str): What the path is called in errors.

    Raises:
        ConfigError: If it cannot be read, or does not fit, or fits only partly.
    """
    state = read_weights(path, key)
    inside = set(state)  # some networks take out of it, while they load, what they compute themselves
    key, network = f"{key}='{path}'", f'{type(getattr(model, "backbone", model)).__name__} of the config'
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        mismatches = [line.strip() for line in str(error).splitlines() if 'size mismatch' in line] or [str(error)]
        raise ConfigError(f'{key} does not fit the {network}: {len(mismatches)} weights have other shapes, first '
                          f'"{mismatches[0]}"; is that the network it was trained as?') from error
    missing = [name for name in missing if name not in inside]
    if missing and not inside & set(model.state_dict()):
        raise ConfigError(f'{key}: its names are not those of the {network}, first {sorted(inside)[:2]} and not '
                          f'{sorted(model.state_dict())[:2]}: convert it, by tools/convert_teacher.py for teachers of '
                          "RepDistiller and mdistiller, or by mmpretrain's tools/model_converters")
    if missing:
        raise ConfigError(f'{key} fits the {network} only partly: {len(missing)} of its {len(model.state_dict())} weights '
                          f'are not in the file, first {missing[:3]}, and the file has {len(unexpected)} others, first '
                          f'{unexpected[:3]}; is that the network it was trained as?')
    if unexpected:
        print_log(f'{key} has {len(unexpected)} weights that the {network} has no use for, first {unexpected[:3]}',
                  'current', 30)
