"""The position in a model where a feature is read."""
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..block_means import block_means
from ..errors import ArgumentError
from .layout import Layout, element_of


@dataclasses.dataclass(frozen=True)
class FeatureTap:
    """A position in a model where a feature map is read.

    Args:
        name (str): Short name without ".", used in the names of pathways.
        module (str): Name of the module as in ``model.named_modules()``.
        side (str): 'output' or 'input' of that module.
        call (int): Index of the module's call in a forward, from 0; a module may be called several times.
        element (int or str, optional): Index or key of the element, if the output (or input) has several.
        shape (tuple): Shape [C, H, W] of the map in probing; [K] for logits.
        layer (str): The layer in the config. It differs from the module if the feature is read before the activation that
            ends the layer.
        layout (Layout): How the tensor represents the map. Defaults to [B, C, H, W].
        map_size (int, optional): Read the map at a lower resolution, see :func:`halvings`. Defaults to None: as it is.
    """
    name: str
    module: str
    side: str = 'output'
    call: int = 0
    element: None | int | str = None
    shape: tuple[int, ...] = ()
    layer: str = ''
    layout: Layout = Layout()
    map_size: int | None = None

    def at(self, map_size: int | None) -> 'FeatureTap':
        """FeatureTap: This tap at a lower resolution; the shape is changed too."""
        block = halvings(self.shape[1:], map_size)
        shape = *self.shape[:1], *(side // block for side in self.shape[1:])
        return dataclasses.replace(self, map_size=map_size, shape=shape)

    def pick(self, inputs: tuple, output: Any) -> Any:
        """The tensor at this tap, from the arguments of a forward hook."""
        if self.side == 'input':
            return element_of(inputs, self.element)
        return output if self.element is None else element_of(output, self.element)

    def read(self, inputs: tuple, output: Any) -> Tensor:
        """The feature as a map [B, C, H, W], or logits [B, K], from the arguments of a forward hook.

        Raises:
            ArgumentError: If the value is not a tensor. Some modules return other types in training than in evaluation.
        """
        value = self.pick(inputs, output)
        if not isinstance(value, Tensor):
            raise ArgumentError(f"layer '{self.layer}' returns a {type(value).__name__} here, but a tensor in probing, in "
                                "eval mode: give a layer that returns a tensor in training too")
        value = self.layout(value)
        block = halvings(value.shape[2:], self.map_size)
        return block_means(value, (block, block))

    def write(self, output: Any, feature: Tensor) -> Any:
        """The output of the tap's module with another map at this tap.

        Args:
            output (Any): The module's output.
            feature (Tensor): The other map [B, C, H, W].

        Returns:
            Any: A new output; what is not the map remains.
        """
        value = self.layout.write(self.pick((), output), feature)
        if self.element is None:
            return value
        if isinstance(output, dict):
            return type(output)({**output, self.element: value})
        place = range(len(output))[self.element]  # type: ignore[index]
        parts = [value if index == place else part for index, part in enumerate(output)]
        return type(output)(*parts) if hasattr(output, '_fields') else type(output)(parts)


MAP_SIZE = 4  # at which classifiers are as accurate as at full size


def halvings(sides: Sequence[int], map_size: int | None) -> int:
    """How many pixels of a side become one if both sides are halved as often as ``map_size`` pixels or more are left.

    Layers of one network often differ by powers of two, so that most of them get one size: with 4, maps of 56, 28, 14 and 7
    pixels a side become maps of 7, and those of 32, 16, 8 and 4 become maps of 4.

    Args:
        sides (Sequence[int]): Height and width in pixels; empty for logits.
        map_size (int, optional): The number of pixels, >= 1. None: no halving.

    Returns:
        int: A power of two.
    """
    block = 1
    while map_size is not None and sides and all(side % (2 * block) == 0 and side // (2 * block) >= map_size
                                                  for side in sides):
        block *= 2
    return block
