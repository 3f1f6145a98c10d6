"""Resolve layers of a config into taps, with a trace of the model."""
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..errors import ArgumentError
from .activation import activation_of
from .calls import calls_of
from .layout import Layout, element_of
from .stages import find_stages
from .tap import FeatureTap
from .trace import Trace

LAST_CALL = -1


def resolve_taps(config: str | Sequence[str | dict], traced: Trace, key: str, root: str = 'backbone',
                 trained: bool = False) -> list[FeatureTap]:
    """Resolve a list of layers into taps, with a traced forward.

    Args:
        config (str or Sequence): 'auto', or a list of module names and dicts with the keys ``module``,
            ``before_activation`` (default False), ``call`` (default: the last), ``element`` and ``name``. In the list,
            ``'auto'`` or ``dict(module='auto', before_activation=True)`` stands for all layers of 'auto', the latter
            before their activations, where they end in one.
        traced (Trace): A forward of the model that the layers belong to.
        key (str): The config key, for errors.
        root (str): The module in which 'auto' finds stages; the model itself if there is no such module.
        trained (bool): Refuse layers without trained parameters up to them, and skip them in 'auto'. Defaults to
            False.

    Returns:
        list[FeatureTap]: From shallow to deep, with their shapes.

    Raises:
        ArgumentError: If a layer does not exist, is not called, returns no map, or its map is overwritten in place.
    """
    if isinstance(config, str):
        if config != 'auto':
            raise ArgumentError(f"{key}='{config}' is neither 'auto' nor a list of layer names")
        config = ['auto']
    if not config:
        raise ArgumentError(f"{key} is empty: give at least one layer, or {key}='auto'")
    if not isinstance(config, (list, tuple)) or not all(isinstance(item, (str, dict)) for item in config):
        raise ArgumentError(f"{key}={config!r} is neither 'auto' nor a list of layer names or dicts")
    taps = []
    for item in config:
        spec = dict(module=item) if isinstance(item, str) else dict(item)
        several = spec.get('module') == 'auto'
        for layer in _auto_layers(spec, traced, key, root, trained) if several else [spec]:
            taps.append(_resolve(layer, traced, key, root, trained, optional=several))
    names = [tap.name for tap in taps]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"{key} has two layers called '{name}': rename one of them with name=")
    return taps


def _auto_layers(spec: dict, traced: Trace, key: str, root: str, trained: bool) -> list[dict]:
    """The layers of an entry 'auto', with its ``before_activation``."""
    if not set(spec) <= {'module', 'before_activation'}:
        raise ArgumentError(f"{key}: module='auto' stands for several layers and allows before_activation only, "
                            f'got {spec}')
    where = dict(before_activation=spec.get('before_activation', False))
    return [{**layer, **where} for layer in find_stages(traced, root if root in traced.modules else '', key, trained)]


def _resolve(spec: dict, traced: Trace, key: str, root: str, trained: bool, optional: bool) -> FeatureTap:
    """Resolve one layer; ``optional``: one that does not end in an activation is read as it is."""
    known = {'module', 'before_activation', 'call', 'element', 'name'}
    if not set(spec) <= known or 'module' not in spec:
        raise ArgumentError(f"{key}: a layer needs 'module' and may have {sorted(known - {'module'})}, got {spec}")
    name = spec['module']
    for entry, kinds in (('module', (str, )), ('name', (str, )), ('call', (int, )), ('element', (int, str))):
        if not isinstance(spec.get(entry, kinds[0]()), kinds):
            raise ArgumentError(f'{key}: {entry}={spec[entry]!r} of a layer must be of type '
                              f'{" or ".join(kind.__name__ for kind in kinds)}')
    if set('.>:') & set(spec.get('name', '')):
        raise ArgumentError(f"{key}: name='{spec['name']}' of a layer may not contain '.', '>' or ':', which separate the "
                            'parts of pathway names')
    calls = calls_of(name, traced, key)
    position = spec.get('call', LAST_CALL)
    if not -len(calls) <= position < len(calls):
        raise ArgumentError(f"{key}: layer '{name}' is called {len(calls)} times in a forward, so call={position} does "
                         'not exist')
    call = calls[position]
    short = spec.get('name') or (name[len(root) + 1:] if name.startswith(root + '.') else name).replace('.', '_')
    element, layout = _map_in(call.output, spec, traced, f"{key}: layer '{name}'")
    tap = FeatureTap(short, name, 'output', call.index, element, layer=name, layout=layout)
    value, version = tap.pick(call.inputs, call.output), call.output_version
    if spec.get('before_activation', False):
        activation = activation_of(value, traced)
        if activation is not None:
            tap = dataclasses.replace(tap, module=activation.name, side='input', call=activation.index, element=None)
            value, version = activation.inputs[0], activation.input_version
        elif not optional:
            raise ArgumentError(f"{key}: the output of layer '{name}' is not that of an activation module, so "
                                'there is no feature before it; remove before_activation')
    if version is not None and value._version != version:
        raise ArgumentError(f"{key}: the output of layer '{name}' is overwritten in place later in the forward; set "
                            'inplace=False in the layer that overwrites it, or give a different layer')
    if trained and not value.requires_grad:
        raise ArgumentError(f"{key}: no parameter up to layer '{name}' is trained (frozen_stages?), so the student "
                            "cannot learn from its feature; remove the layer, or use 'auto'")
    return dataclasses.replace(tap, shape=tuple(layout(value).shape[1:]))


def _map_in(output: Any, spec: dict, traced: Trace, layer: str) -> tuple[None | int | str, Layout]:
    """The element of a layer's output to read, and its layout."""
    several = isinstance(output, (tuple, list, dict))
    places = list(output) if isinstance(output, dict) else list(range(len(output))) if several else [0]
    element = spec.get('element')
    found = traced.layouts.maps(output)
    if element is None and len(found) == 1:
        return found[0]
    if element is None and (len(found) > 1 or several and len(places) > 1):
        raise ArgumentError(f'{layer} returns {len(places)} values: choose one with element=, one of {places}')
    if element is not None and element not in places and not (isinstance(element, int) and -len(places) <= element < 0):
        raise ArgumentError(f'{layer} returns {len(places)} value(s), so element={element!r} does not exist; '
                            f'valid are {places}')
    value = element_of(output, element)
    layout = traced.layouts.layout(value)
    if layout is None:
        seen = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(f'{layer} returns {seen}, which is not a map: neither [B, C, H, W] nor [B, H, W, C] nor '
                            'tokens [B, L, C] of a grid with the aspect ratio of the images')
    return (element if several else None), layout
