"""The position in a model where a feature is read."""
import dataclasses
from typing import Any

from torch import Tensor

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
    """
    name: str
    module: str
    side: str = 'output'
    call: int = 0
    element: None | int | str = None
    shape: tuple[int, ...] = ()
    layer: str = ''
    layout: Layout = Layout()

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
        return self.layout(value)

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
