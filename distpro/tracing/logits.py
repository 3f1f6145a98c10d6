"""Find the logits in what a network returns, and the layer that returns them."""
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .calls import calls_of
from .parts import matrices_in
from .tap import FeatureTap
from .trace import Call, Trace


def find_logits(output: Any) -> Tensor:
    """The logits [B, K] in what a network returns.

    Raises:
        ArgumentError: If there is no such tensor.
    """
    found = output
    if isinstance(output, dict):
        found = output.get('logits')
    elif hasattr(output, 'logits'):
        found = output.logits
    elif isinstance(output, (tuple, list)) and output:
        found = output[0]
    if not isinstance(found, Tensor) or found.dim() != 2:
        pixels = ('; for the classes of each pixel, lambda logits: logits.movedim(1, -1).flatten(0, -2)'
                  if isinstance(found, Tensor) and found.dim() == 4 else '')
        raise ArgumentError(f'get_logits: the network returns {_seen(output)}, in which no logits [B, K] are found: pass a '
                            f'function that gives them{pixels}')
    return found


def is_headless(traced: Trace, logits: Tensor | None) -> bool:
    """Whether a network returns features and no logits.

    Args:
        traced (Trace): A forward of the network.
        logits (Tensor, optional): What is taken for its logits; None if nothing is.

    Returns:
        bool: True if there is nothing, or if an ``nn.Identity`` in place of a classifier returns it and no layer with
        weights computed it: pooled features, as of a model of timm with ``num_classes=0``.
    """
    if logits is None:
        return True
    calls = [call for call in traced.calls if call.output is logits]
    return any(isinstance(call.module, nn.Identity) for call in calls) and not matrices_in(calls[0].module)


def resolve_logits(traced: Trace, key: str, layer: str | dict | None = None) -> FeatureTap:
    """The tap at a classifier's output.

    Args:
        traced (Trace): A forward of the model.
        key (str): The config key, for errors.
        layer (str or dict, optional): The layer whose last output are the logits, or ``dict(module=..., element=...)`` if
            it returns several values. Defaults to None: the layer that returns the model's output, the same tensor or an
            equal one.

    Returns:
        FeatureTap: The tap 'logits', of shape [K] for K classes.

    Raises:
        ArgumentError: If the output is not logits [B, K], or no layer returns the model's output (e.g. if it is the mean of
            two classifiers).
    """
    if layer is None:
        logits = _returned(traced.output)
        if logits is None:
            raise ArgumentError(f"{key}: the model returns {_seen(traced.output)}, not logits [B, K]; give the layer of the "
                                "logits, e.g. layer='head'")
        found = _call_with_output(logits, traced)
        if found is None:
            last = traced.calls[-1].name
            raise ArgumentError(f"{key}: no layer returns the model's output, which is computed from several layers (the "
                                f"last one is '{last}'): give the layer to compare, e.g. layer='{last}', or write a head "
                                'module that returns the output')
        call, element = found
    else:
        spec = dict(layer) if isinstance(layer, dict) else dict(module=layer)
        call, element = calls_of(spec['module'], traced, key)[-1], spec.get('element')
        places = dict(_entries(call.output))
        if element is None and not isinstance(call.output, Tensor) and 'logits' in places:
            element = 'logits'
        logits = places.get(element)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise ArgumentError(f"{key}: layer '{call.name}' returns {_seen(call.output)}, not logits [B, K]; give "
                                "the layer of the logits, e.g. layer='head', or dict(module='head', element=0)")
    return FeatureTap('logits', call.name, 'output', call.index, element, shape=tuple(logits.shape[1:]), layer=call.name)


def _returned(output: Any) -> Tensor | None:
    """The logits in the model's output; None if there are none, or several without names."""
    several = [value for _, value in _entries(output) if isinstance(value, Tensor) and value.dim() == 2]
    if isinstance(output, (tuple, list)) and not hasattr(output, 'logits') and len(several) > 1:
        return None
    try:
        return find_logits(output)
    except ArgumentError:
        return None


def _call_with_output(logits: Tensor, traced: Trace) -> tuple[Call, None | int | str] | None:
    """The last call that returned this tensor, alone or among others, else the last that returned an equal one."""
    returned = [(call, element, value) for call in reversed(traced.calls) for element, value in _entries(call.output)
                if isinstance(value, Tensor) and value.shape == logits.shape]
    same = [(call, element) for call, element, value in returned if value is logits]
    alone = [found for found in same if found[1] is None]
    equal = ((call, element) for call, element, value in returned if torch.equal(value, logits))
    return next(iter(alone or same), None) or next(equal, None)


def _entries(output: Any) -> Iterator[tuple[None | int | str, Any]]:
    """The values that a module returns, with their places; None for a value alone."""
    if isinstance(output, dict):
        yield from output.items()
    elif isinstance(output, (tuple, list)):
        yield from enumerate(output)
    else:
        yield None, output


def _seen(output: Any) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
