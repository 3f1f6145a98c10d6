"""A place in a model where a feature is read."""
import dataclasses
from typing import Any, Tuple, Union

from torch import Tensor

from ..errors import ArgumentError
from .layout import Layout, element_of


@dataclasses.dataclass(frozen=True)
class FeatureTap:
    """One place in a model where a feature map is read.

    Args:
        name (str): Short name without ".", used in the names of pathways.
        module (str): Name of the module as in ``model.named_modules()``.
        side (str): 'output' or 'input' of that module.
        call (int): Which call of the module within one forward, from 0; a module may be called several times.
        element (int or str, optional): Which element, if the module puts out (takes in) several values.
        shape (tuple): Shape [C, H, W] of the map when the model was probed; [K] of logits.
        layer (str): The layer as the config names it; the module is another where a feature before the activation that
            ends the layer is read.
        layout (Layout): How what is read there holds the map. Defaults to a map as it is.
    """
    name: str
    module: str
    side: str = 'output'
    call: int = 0
    element: Union[None, int, str] = None
    shape: Tuple[int, ...] = ()
    layer: str = ''
    layout: Layout = Layout()

    def pick(self, inputs: Tuple, output: Any) -> Any:
        """Pick the value out of what a forward hook sees, as the network holds it."""
        if self.side == 'input':
            return element_of(inputs, self.element)
        return output if self.element is None else element_of(output, self.element)

    def read(self, inputs: Tuple, output: Any) -> Tensor:
        """The feature as a map [B, C, H, W], out of what a forward hook sees; logits as they are.

        Raises:
            ArgumentError: If it is no tensor: some modules put out other values in training than in evaluation.
        """
        value = self.pick(inputs, output)
        if not isinstance(value, Tensor):
            raise ArgumentError(f"layer '{self.layer}' puts out a {type(value).__name__} here, and a tensor "
                              "where the model was probed, in eval mode: name a layer that puts out the same in training")
        return self.layout(value)
