"""The images that a network with published weights was trained on."""
import dataclasses
from collections.abc import Sequence

from torch import nn

from ..checks import check_that
from ..errors import ArgumentError, is_number


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """The normalisation, size and colour order of a network's images.

    Args:
        mean (tuple, optional): Mean of each channel, of images in [0, 1]. Defaults to None: 0.
        std (tuple, optional): Standard deviation of each channel, > 0. Defaults to None: 1.
        size (tuple[int, int], optional): Height and width. Defaults to None: any.
        rgb (bool): Whether the channels are red, green and blue; otherwise blue, green and red. Defaults to True.

    Raises:
        ArgumentError: If a value is out of range.
    """
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    rgb: bool = True

    def __post_init__(self) -> None:
        for name in ('mean', 'std'):
            values = getattr(self, name)
            if values is None:
                continue
            if not isinstance(values, (tuple, list)) or not values or not all(map(is_number, values)):
                raise ArgumentError(f'{name}={values!r} must be a number for each channel')
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if any(value <= 0 for value in self.std or ()):
            raise ArgumentError(f'every std must be above 0, got {list(self.std or ())}')
        if self.size is not None:
            object.__setattr__(self, 'size', pair(self.size))


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """tuple[int, int]: Height and width."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size, size
    if isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
        return size[0], size[1]
    raise ArgumentError(f'size={size!r} must be height and width in pixels')


def model_input(network: nn.Module) -> ModelInput | None:
    """The input that a network's published weights were trained with.

    Args:
        network (nn.Module): A network of :func:`build_network`.

    Returns:
        ModelInput: The input; None if the weights are random or of a file, which does not say.
    """
    check_that('network', network, isinstance(network, nn.Module), 'an nn.Module')
    return getattr(network, 'model_input', None)
