"""Find every block of a backbone, between and at the ends of its stages."""
from ..errors import ArgumentError
from .parts import called_parts
from .stages import blocks_of, opened, opens
from .trace import Trace


def find_blocks(traced: Trace, root: str, key: str) -> list[dict]:
    """Find the blocks of a backbone: as :func:`find_stages`, but each stage is replaced by its blocks.

    A part is replaced by its own parts as long as it is a sequence of blocks with maps of several sizes, or of repeated
    blocks with maps of one size. Blocks have at least two weight matrices; if there are fewer than two blocks, every part
    with weights is one.

    Args:
        traced (Trace): A forward of the model.
        root (str): Name of the backbone within the model; the model itself if there is no such module.
        key (str): The config key, for errors.

    Returns:
        list[dict]: Layers in the format of the config, from shallow to deep.

    Raises:
        ArgumentError: If fewer than two blocks are found.
    """
    parts = opened(called_parts(traced, root if root in traced.modules else ''), traced, 2)
    while True:
        found = next((part for part in parts if opens(part, traced, 2, len(parts) == 1, True)), None)
        if found is None:
            break
        place = parts.index(found)
        parts = [*parts[:place], *called_parts(traced, found.call.name), *parts[place + 1:]]
    blocks = blocks_of(parts, 2)
    if len(blocks) < 2:
        blocks = blocks_of(parts, 1)
    if len(blocks) < 2:
        raise ArgumentError(f"{key}: {len(blocks)} block(s) found in '{root or 'the model'}': list the layers instead")
    return [block.spec for block in blocks]
