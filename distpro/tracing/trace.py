"""A trace of one forward of a model, with every call of every module.

Layers, their outputs and the ends of stages are found in the trace, for any network.
"""
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..random_state import gpus
from .layout import LayoutDetector


@dataclasses.dataclass
class Call:
    """One call of one module during a traced forward."""
    name: str
    module: nn.Module
    index: int
    inputs: tuple
    output: Any
    input_version: int | None  # of the first input before the call; in-place operations increase a tensor's version
    output_version: int | None  # after the call


class Trace:
    """Every module call of one forward, in the order in which the calls ended.

    Args:
        calls (list[Call]): The calls.
        model (nn.Module): The traced model.
        output (Any): Output of the forward.
    """

    def __init__(self, calls: list[Call], model: nn.Module, output: Any) -> None:
        self.calls = calls
        self.output = output
        self.modules = dict(model.named_modules())
        self.layouts = LayoutDetector(calls)

    def of(self, name: str) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.name == name]


def in_place_off(model: nn.Module) -> None:
    """Disable in-place operations, so that later modules do not overwrite recorded features."""
    for module in model.modules():
        if getattr(module, 'inplace', False) is True:
            module.inplace = False


def trace(model: nn.Module, forward: Callable[[], Any]) -> Trace:
    """Run ``forward`` once and record every module call of ``model``.

    The model is in eval mode. Modes, buffers and random states are the same afterwards. Gradients are
    enabled, so that outputs show whether they depend on trained parameters.

    Args:
        model (nn.Module): The model to trace.
        forward (Callable): Runs the model once.

    Returns:
        Trace: The calls.
    """
    calls: list[Call] = []
    counts: dict[str, int] = {}
    entered: list[int | None] = []

    def version_of(value):
        return value._version if isinstance(value, Tensor) else None

    def before(module, inputs):
        entered.append(version_of(inputs[0]) if inputs else None)

    def after(name):

        def hook(module, inputs, output):
            index = counts.get(name, 0)
            counts[name] = index + 1
            calls.append(Call(name, module, index, inputs, output, entered.pop(), version_of(output)))

        return hook

    modes = {module: module.training for module in model.modules()}
    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after(name))]
    try:
        model.eval()
        with torch.enable_grad(), torch.random.fork_rng(devices=gpus(model)):
            output = forward()
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Trace(calls, model, output)
