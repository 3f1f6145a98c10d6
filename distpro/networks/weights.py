"""Load a network's weights from a file of its library or of another training code."""
import collections
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, first_line
from ..files import nearest_path
from .library import import_library

# Keys of the weights in a checkpoint; averages (EMA) are what timm and others evaluate, so they come first.
EMA = ('state_dict_ema', 'model_ema', 'ema_state_dict')
ENTRIES = (*EMA, 'state_dict', 'model', 'model_state_dict', 'net')
Report = Callable[[str], Any]
State = dict[str, Tensor]


def load_weights(network: nn.Module, path: str, key: str = 'checkpoint', new_classifier: bool = False,
                 report: Report = print) -> None:
    """Load all weights of a network from a file, safely: code in the file does not run.

    The weights are under one of :data:`ENTRIES`, an average (EMA) first, or at the top level. If the names in the file have
    a prefix that the network's do not have (``module.``, ``model.``, ``backbone.``), or the reverse, it is removed or added.

    Args:
        network (nn.Module): The network.
        path (str): The file, of ``torch.save`` or safetensors.
        key (str): The argument of the path, for messages. Defaults to 'checkpoint'.
        new_classifier (bool): Leave out a classifier with another number of classes. Defaults to False: refuse it.
        report (Callable): Is given a line for what was removed, added or left out. Defaults to ``print``.

    Raises:
        ArgumentError: If the file cannot be read, or weights are missing or have other shapes.
    """
    named = f"{key}='{path}'"
    state, entry = read_state(path, named)
    if entry in EMA:
        report(f"{named}: the averaged weights under '{entry}' are loaded")
    load_state(network, state, named, new_classifier, report)


def read_state(path: str | os.PathLike, named: str) -> tuple[State, str]:
    """The weights in a file by name, and the key that they are under; empty for the top level.

    Raises:
        ArgumentError: If the file cannot be read, or has no weights.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ArgumentError(f'{named}: there is no such file{nearest_path(path)}')
    try:
        if path.endswith('.safetensors'):
            content = import_library('safetensors.torch', 'pip install safetensors', named).load_file(path)
        else:
            content = torch.load(path, map_location='cpu', weights_only=True)
    except ArgumentError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise ArgumentError(f'{named} cannot be read as a checkpoint ({first_line(error)}): the file is incomplete, or has '
                            'more than weights; save the state_dict alone') from error
    found = content if isinstance(content, dict) else {}
    entry = next((name for name in ENTRIES if isinstance(found.get(name), dict)), '')
    state = {name: value for name, value in (found[entry] if entry else found).items() if isinstance(value, Tensor)}
    if not state:
        raise ArgumentError(f'{named} has no weights under {", ".join(map(repr, ENTRIES))} or at the top level')
    return state, entry


def load_state(network: nn.Module, state: State, named: str, new_classifier: bool = False, report: Report = print) -> None:
    """Load weights by name; see :func:`load_weights`."""
    own = network.state_dict()
    state, said = _renamed(state, own)
    if said:
        report(f'{named}: {said}')
    missing = [name for name in own if name not in state and not name.endswith('num_batches_tracked')]
    reshaped = [name for name, value in own.items() if name in state and state[name].shape != value.shape]
    if new_classifier:
        left_out = [name for name in reshaped if state[name].shape[1:] == own[name].shape[1:]]
        left_out = left_out if len(left_out) == len(reshaped) else []  # of another network
        reshaped = [name for name in reshaped if name not in left_out]
        state = {name: value for name, value in state.items() if name not in left_out}
        if left_out:
            report(f'{named}: the classifier has another number of classes and starts from random weights '
                   f'({", ".join(left_out)})')
    unexpected = [name for name in state if name not in own]
    kind = type(network).__name__
    if missing or reshaped:
        faults = [f'{len(names)} {what}, first {first}' for names, what, first in (
            (missing, f'of the {len(own)} weights of the network are not in the file', _few(missing)),
            (unexpected, 'weights of the file are not in the network', _few(unexpected)),
            (reshaped, 'have another shape', _few([f'{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}'
                                                   for name in reshaped]))) if names]
        raise ArgumentError(f'{named} does not fit {kind}: {"; ".join(faults)}; give a checkpoint of this network')
    if unexpected:
        warnings.warn(f'{named}: {len(unexpected)} weights of the file are not in {kind}, first {_few(unexpected)}',
                      stacklevel=3)
    network.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)


def _renamed(state: State, own: State) -> tuple[State, str]:
    """The weights by the network's names, and what was done to the names."""
    removed, added = _prefixes(state, own), _prefixes(own, state)
    same = sum(name in own for name in state)
    (shorter, one), (longer, other) = _most(removed), _most(added)
    if max(one, other) <= same:
        return state, ''
    if one >= other:
        inside = {name[len(shorter):]: value for name, value in state.items() if name.startswith(shorter)}
        rest = {name: value for name, value in state.items() if not name.startswith(shorter)}
        return {**rest, **inside}, f"the prefix '{shorter}' of {one} names is removed"
    return {(longer + name if longer + name in own else name): value for name, value in state.items()}, \
        f"the prefix '{longer}' is added to {other} names"


def _prefixes(long: State, short: State) -> collections.Counter[str]:
    """How many names in ``long`` are a prefix, with its dot, and a name in ``short``; the student's come first."""
    counts: collections.Counter[str] = collections.Counter()
    for name in sorted(long, key=lambda name: not name.startswith('architecture.')):
        place = name.find('.') + 1
        while place:
            if name[place:] in short:
                counts[name[:place]] += 1
                break
            place = name.find('.', place) + 1
    return counts


def _most(counts: collections.Counter[str]) -> tuple[str, int]:
    return next(iter(counts.most_common(1)), ('', 0))


def _few(names: list[str]) -> str:
    return ', '.join(names[:3])
