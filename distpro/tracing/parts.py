"""The parts of a backbone that return maps, in the order of a forward."""
import dataclasses
import math

from torch import Tensor, nn

from .layout import Layout, element_of
from .trace import Call, Trace

MERGED = 9  # so many tokens may become one at the end of a stage


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A part of a backbone that returns a map."""
    call: Call
    element: None | int | str
    layout: Layout

    @property
    def value(self) -> Tensor:
        """Tensor: The tensor of the map."""
        return element_of(self.call.output, self.element)

    @property
    def size(self) -> tuple[int, int]:
        """tuple[int, int]: The map's height and width."""
        return tuple(self.layout(self.value).shape[2:])

    @property
    def spec(self) -> dict:
        """dict: The part as a layer of the config."""
        return dict(module=self.call.name, **({} if self.element is None else dict(element=self.element)))


def called_parts(traced: Trace, root: str) -> list[Part]:
    """Last calls of the outermost modules under ``root`` that return maps, in the order of the forward.

    The outputs after a global pooling (a module without weights whose output is 1 x 1, or a single token after more than
    :data:`MERGED`) are not maps.

    Args:
        traced (Trace): A forward of the model.
        root (str): Name of a module; empty for the model.

    Returns:
        list[Part]: The parts.
    """
    last = {call.name: (order, call) for order, call in enumerate(traced.calls)}
    found: list[tuple[int, Part]] = []

    def collect(prefix: str) -> None:
        for child, _ in traced.modules[prefix].named_children():
            name = f'{prefix}.{child}' if prefix else child
            if name not in last:
                if name in traced.modules:  # else a second name of the same module
                    collect(name)
                continue
            order, call = last[name]
            places = traced.layouts.maps(call.output)[:1]
            found.extend((order, Part(call, *place)) for place in places)
            if not places:  # e.g. a network inside a network
                collect(name)

    collect(root)
    parts: list[Part] = []
    for _, part in sorted(found, key=lambda entry: entry[0]):
        source = part.call.inputs[0] if part.call.inputs else None
        if part.size == (1, 1) and not any(True for _ in part.call.module.parameters()) and \
                isinstance(source, Tensor) and source.shape[2:] != (1, 1):
            break
        if part.size == (1, 1) and part.layout.kind == 'tokens' and parts and math.prod(parts[-1].size) > MERGED:
            break
        parts.append(part)
    return parts


def matrices_in(module: nn.Module) -> int:
    """Number of weight matrices of a module, without tokens [1, N, C], gains [C, 1, 1] and tables of embeddings."""
    return sum(parameter.dim() >= 2 and 1 < parameter.size(0) < parameter.numel() for inner in module.modules()
               if not isinstance(inner, nn.Embedding) for parameter in inner.parameters(recurse=False))
