"""Find the stages of a backbone."""
import math
import warnings

from ..errors import ArgumentError
from .parts import Part, called_parts, matrices_in
from .trace import Trace

DEPTHS = 4  # layers of 'auto' if all maps have the same size
FEW = 3  # of so many blocks, each is a stage or a part of one, whatever it consists of


def find_stages(traced: Trace, root: str, key: str, trained: bool = False) -> list[dict]:
    """Find the stages of a backbone, whose features can be compared.

    The parts of the backbone are its children that are called, including those inside lists. Parts with at least two weight
    matrices are blocks (if there are fewer than two, every part with weights is a block). As long as there are fewer than
    :data:`FEW` blocks, one that consists of several stages, or is the only one, is replaced by its own parts. A stage is a
    sequence of blocks with maps of the same size, and is read at its last block. The stem is the part before the first
    block. If all blocks have maps of the same size, as in a plain transformer, :data:`DEPTHS` blocks at even depths are
    read.

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
    parts = opened(called_parts(traced, root), traced, 2)
    found = _layers(parts, trained)
    for least in (2, 1):  # repeated blocks of one size beside others; chains of single convolutions
        if len(found) < FEW:
            found = max(found, _layers(opened(parts, traced, least, few=True), trained), key=len)
    if len(found) < 2:
        network = root or 'the model'
        if trained and len(_layers(parts, trained=False)) > 1:
            raise ArgumentError(f"{key}='auto' found {len(found)} layer(s) in '{network}' with trained parameters up to "
                                'them: more of its parameters must have requires_grad=True (frozen_stages?)')
        raise ArgumentError(f"{key}='auto' found {len(found)} layer(s) in '{network}': list the layers, e.g. "
                            f"{key}=['backbone.layer1', 'backbone.layer2']")
    if len(found) == 2:
        warnings.warn(f"{key}='auto' found only two layers, {' and '.join(layer['module'] for layer in found)}: list the "
                      'layers if the network has more to compare', stacklevel=2)
    return found


def _layers(parts: list[Part], trained: bool) -> list[dict]:
    """The layers to read among the parts of a backbone."""
    blocks = blocks_of(parts, 2)
    if len(blocks) < 2:
        blocks = blocks_of(parts, 1)
    if not blocks:
        return []
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
        return [layer.spec for layer in layers]
    before = [part for part in parts[:parts.index(blocks[0])] if not plain and (part.value.requires_grad or not trained)]
    stem = [{**before[-1].spec, 'name': 'stem'}] if before else []
    return stem + [layer.spec for layer in layers]


def blocks_of(parts: list[Part], least: int) -> list[Part]:
    """The parts with at least so many weight matrices."""
    return [part for part in parts if matrices_in(part.call.module) >= least]


def opened(parts: list[Part], traced: Trace, least: int, few: bool = False) -> list[Part]:
    """The parts; as long as there are few blocks, one that consists of several is replaced by its own parts.

    Args:
        parts (list[Part]): The parts.
        traced (Trace): The forward.
        least (int): Least number of weight matrices of a block.
        few (bool): Also open a block of repeated blocks of one size beside others. Defaults to False.

    Returns:
        list[Part]: The parts, in the order of the forward.
    """
    while True:
        blocks = blocks_of(parts, least)
        if len(blocks) >= FEW:
            return parts
        if len(parts) == 1 and least == 2 and not few:  # a wrapper
            parts = called_parts(traced, parts[0].call.name)
            continue
        for part in sorted(blocks, key=lambda part: -matrices_in(part.call.module)):  # the body before the stem
            if opens(part, traced, least, len(blocks) == 1, few):
                place = parts.index(part)
                parts = [*parts[:place], *called_parts(traced, part.call.name), *parts[place + 1:]]
                break
        else:
            return parts


def opens(part: Part, traced: Trace, least: int, alone: bool, few: bool) -> bool:
    """Whether a part consists of blocks one after the other, with maps of several sizes or, if it is alone, of one.

    Maps that become larger, or a last map of another size than the part's, are those of branches.
    """
    inside = called_parts(traced, part.call.name)
    blocks = blocks_of(inside, least)
    if alone and len(blocks) == 1:
        return opens(blocks[0], traced, least, alone, few)
    sizes = [block.size for block in blocks]
    if len(sizes) < 2 or part.size not in (inside[-1].size, (1, 1)):  # called_parts leaves out a last pooling
        return False
    if any(math.prod(following) > math.prod(size) for size, following in zip(sizes, sizes[1:] + [part.size])):
        return False
    repeated = len({type(block.call.module) for block in blocks}) == 1
    return len(set(sizes)) > 1 or least == 2 and (alone or few and repeated)
