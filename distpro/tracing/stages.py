"""Find the stages of a backbone."""
import dataclasses
import math

from torch import Tensor

from ..errors import ArgumentError
from .layout import Layout, element_of
from .trace import Call, Trace

DEPTHS = 4  # layers of 'auto' if all maps have the same size


def find_stages(traced: Trace, root: str, key: str, trained: bool = False) -> list[dict]:
    """Find the stages of a backbone, whose features can be compared.

    The parts of the backbone are its children that are called, including those inside lists. Parts with at least two weight
    matrices are blocks (if there are fewer than two, every part with weights is a block). A stage is a sequence of blocks
    with maps of the same size, and is read at its last block. The stem is the part before the first block. If all blocks
    have maps of the same size, as in a plain transformer, :data:`DEPTHS` blocks at even depths are read.

    Args:
        traced (Trace): A forward of the model.
        root (str): Name of the backbone within the model.
        key (str): The config key, for errors.
        trained (bool): Skip layers without trained parameters up to them. Defaults to False.

    Returns:
        list[dict]: Layers in the format of the config, from shallow to deep.

    Raises:
        ArgumentError: If fewer than two layers are found.
    """
    parts = _called_parts(traced, root)
    while len(parts) == 1:
        parts = _called_parts(traced, parts[0].call.name)
    matrices = {part.call.name: sum(p.dim() >= 2 for p in part.call.module.parameters()) for part in parts}
    blocks = [part for part in parts if matrices[part.call.name] >= 2]
    if len(blocks) < 2:
        blocks = [part for part in parts if matrices[part.call.name] >= 1]
    plain = len({block.size for block in blocks}) == 1
    if plain:
        count = min(DEPTHS, len(blocks))
        layers = [blocks[math.ceil(len(blocks) * (place + 1) / count) - 1] for place in range(count)]
    else:
        layers = [block for block, following in zip(blocks, blocks[1:] + [None])
                  if following is None or block.size != following.size]
    if trained:
        layers = [layer for layer in layers if layer.value.requires_grad]
    if len(layers) < 2:
        raise ArgumentError(f"{key}='auto' found {len(layers)} layer(s) in '{root or 'the model'}': list the layers, e.g. "
                         f"{key}=['backbone.layer1', 'backbone.layer2']")
    before = [part for part in parts[:parts.index(blocks[0])] if not plain and (part.value.requires_grad or not trained)]
    stem = [{**before[-1].spec, 'name': 'stem'}] if before else []
    return stem + [layer.spec for layer in layers]


@dataclasses.dataclass(frozen=True)
class _Part:
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


def _called_parts(traced: Trace, root: str) -> list[_Part]:
    """Last calls of the outermost modules under ``root`` that return maps, in the order of the forward.

    The outputs after a global pooling (a module without weights whose output is 1 x 1) are not maps.
    """
    last = {call.name: (order, call) for order, call in enumerate(traced.calls)}
    found: list[tuple[int, _Part]] = []

    def collect(prefix: str) -> None:
        for child, _ in traced.modules[prefix].named_children():
            name = f'{prefix}.{child}' if prefix else child
            if name not in last:
                if name in traced.modules:  # else a second name of the same module
                    collect(name)
                continue
            order, call = last[name]
            places = traced.layouts.maps(call.output)[:1]
            found.extend((order, _Part(call, *place)) for place in places)
            if not places:  # e.g. a network inside a network
                collect(name)

    collect(root)
    parts = []
    for _, part in sorted(found, key=lambda entry: entry[0]):
        source = part.call.inputs[0] if part.call.inputs else None
        if part.size == (1, 1) and not any(True for _ in part.call.module.parameters()) and \
                isinstance(source, Tensor) and source.shape[2:] != (1, 1):
            break
        parts.append(part)
    return parts
