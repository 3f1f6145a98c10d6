from typing import Dict, Iterable, Iterator, Tuple

import torch
from mmengine.model import ModuleDict
from torch import Tensor, nn

from ...errors import ConfigError


class ByName(ModuleDict):
    """Modules by the names of pathways or pairs, whose parameters are called by number.

    Names of pathways hold names of layers. In the names of parameters those would be taken for the layers themselves:
    mmengine's ``paramwise_cfg.custom_keys`` looks for parts of parameters' names, so that ``custom_keys=dict(layer1=...)``
    would be for the transforms of layer1 too. mmengine's container is the base because torch's keeps what init_cfg says
    from the parts.

    The names are saved as extra state, because modules of other names must not be loaded by their numbers.

    Args:
        modules (dict[str, nn.Module]): The modules.
    """

    def __init__(self, modules: Dict[str, nn.Module]) -> None:
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
        """Tensor: The names as bytes: mmengine's averages of a model want nothing but tensors in its state."""
        return torch.tensor(list('\n'.join(self.numbers).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare the names with those of a checkpoint.

        Raises:
            ConfigError: If they differ, in their order too.
        """
        names = bytes(state.tolist()).decode().split('\n') if len(state) else []
        if names != list(self.numbers):
            raise ConfigError(f'the checkpoint has {len(names)} pathways or pairs {names} and model.distiller has '
                              f'{len(self.numbers)}, {list(self.numbers)}: use the transmitters, receivers, connections and '
                              'transforms it was made with')

    def keys(self) -> Iterable[str]:
        """Iterable[str]: The names."""
        return self.numbers.keys()

    def items(self) -> Iterable[Tuple[str, nn.Module]]:
        """Iterable[tuple[str, nn.Module]]: Names and modules."""
        return zip(self.numbers, self.values())
