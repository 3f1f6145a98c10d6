"""A trace of one forward of a model, with every call of every module.

Layers, their outputs and the ends of stages are found in the trace, for any network.
"""
import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..checks import brief
from ..errors import ArgumentError, first_line
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
        uses (Counter): How often each tensor was an argument of a function that returned tensors, by id.
    """

    def __init__(self, calls: list[Call], model: nn.Module, output: Any, uses: collections.Counter[int]) -> None:
        self.calls = calls
        self.output = output
        self._uses = uses
        self.modules = dict(model.named_modules())
        self.layouts = LayoutDetector(calls)

    def of(self, name: str) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.name == name]

    def uses(self, tensor: Tensor) -> int:
        """How often the output of a module was used: as an argument of torch's functions, and as output of the model."""
        return self._uses[id(tensor)] + sum(output is tensor for output in tensors_in(self.output))


class _Uses(TorchFunctionMode):
    """Counts how often each tensor is an argument of a function that returns tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[int] = collections.Counter()
        self.returned: list[Tensor] = []  # as long as a tensor lives, no other one has its id

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        returned = list(tensors_in(result))
        if returned:
            self.returned += returned
            self.counts.update({id(tensor) for tensor in tensors_in((args, kwargs or {}))})
        return result


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))


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
        with (torch.enable_grad(), torch.random.fork_rng(devices=gpus(model)), torch.compiler.set_stance('force_eager'),
              _Uses() as uses):
            output = forward()
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Trace(calls, model, output, uses.counts)


def trace_example(network: nn.Module, example: Any, which: str) -> Trace:
    """Trace a network's forward of an example.

    Args:
        network (nn.Module): The network.
        example (Tensor, tuple or dict): Two or more images [B, C, H, W], or all arguments of the forward. Equal images, such
            as ``torch.zeros(2, 3, 32, 32)``, are given noise.
        which (str): Name of the network, for errors.

    Raises:
        ArgumentError: If there is one image only, or the forward fails.
    """
    args: list[Any] = list(example) if isinstance(example, (tuple, list)) else []
    kwargs = dict(example) if isinstance(example, dict) else {}
    if not args and not kwargs:
        args = [example]
    if isinstance(args[0] if args else None, Tensor) and len(args[0]) < 2:
        raise ArgumentError(f'example: {len(args[0])} image is given, and layers are found by comparing two or more')
    if args and isinstance(args[0], Tensor) and args[0].is_floating_point() and not (args[0] - args[0][:1]).any():
        # Layers are found by how they differ between images.
        args[0] = args[0] + torch.randn(args[0].shape, generator=torch.Generator().manual_seed(0)).to(args[0])
    try:
        return trace(network, lambda: network(*args, **kwargs))
    except Exception as error:
        given = ', '.join([*map(brief, args), *(f'{name}={brief(value)}' for name, value in kwargs.items())])
        raise ArgumentError(f'example: the {which} fails when it is called with {given}: {type(error).__name__}: '
                            f'{first_line(error)}; give two or more images [B, C, H, W] as both networks take them (in a '
                            'search: in train_loader), or a dict with all arguments') from error
