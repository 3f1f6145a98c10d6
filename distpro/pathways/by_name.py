"""Modules by the names of pathways."""
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..errors import ArgumentError


class ByName(nn.ModuleDict):
    """Modules by the names of pathways or pairs, whose parameters are named by number.

    Names of pathways contain names of layers. In a parameter's name these would be mistaken for the layers themselves, for
    example by mmengine's ``paramwise_cfg.custom_keys``, which searches parameters' names: ``custom_keys=dict(layer1=...)``
    would apply to the transforms of layer1 too.

    The names are saved as extra state, so that loading detects a number that belongs to a different name.

    Args:
        modules (dict[str, nn.Module]): The modules.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__()
        self.numbers = {name: str(number) for number, name in enumerate(modules)}
        for name, module in modules.items():
            self[name] = module

    def __getitem__(self, name: str) -> nn.Module:
        return super().__getitem__(self.numbers[name])

    def __setitem__(self, name: str, module: nn.Module) -> None:
        super().__setitem__(self.numbers[name], module)

    def __contains__(self, name: str) -> bool:
        return name in self.numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def get_extra_state(self) -> Tensor:
        """Tensor: The names as bytes, since mmengine's weight averaging accepts only tensors in a state."""
        return torch.tensor(list('\n'.join(self.numbers).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare the names with those of a checkpoint.

        Raises:
            ArgumentError: If the names or their order differ.
        """
        names = bytes(state.tolist()).decode().split('\n') if len(state) else []
        if names != list(self.numbers):
            raise ArgumentError(f'the checkpoint has {len(names)} pathways or pairs {names} and the model has '
                                f'{len(self.numbers)}, {list(self.numbers)}: use the transmitters, receivers, connections '
                                'and transforms of the checkpoint')

    def keys(self) -> Iterable[str]:
        """Iterable[str]: The names."""
        return self.numbers.keys()

    def items(self) -> Iterable[tuple[str, nn.Module]]:
        """Iterable[tuple[str, nn.Module]]: Names and modules."""
        return zip(self.numbers, self.values())
