"""Convert normalised images for a network that expects other ones."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..checks import check_that, named_arguments
from ..errors import ArgumentError, argument_prefix
from .input import ModelInput


class InputConversion(nn.Module):
    """Converts images [B, C, H, W] as one network takes them into those of another.

    Args:
        given (ModelInput): The images that are given.
        wanted (ModelInput): The images to make. A ``size`` of None does not resize.

    Raises:
        ArgumentError: If the numbers of channels differ, or are not three where the colour order differs.
    """

    def __init__(self, given: ModelInput, wanted: ModelInput) -> None:
        super().__init__()
        channels = {len(values) for side in (given, wanted) for values in (side.mean, side.std) if values is not None}
        self.swap = given.rgb != wanted.rgb
        if len(channels) > 1 or self.swap and channels and channels != {3}:
            raise ArgumentError(f'{wanted} cannot be made of {given}: the numbers of channels must be equal, and three if '
                                'the colour order differs')
        count = channels.pop() if channels else 1
        mean, std, wanted_mean, wanted_std = (
            torch.tensor(values or [start] * count, dtype=torch.float64)
            for values, start in ((given.mean, 0.), (given.std, 1.), (wanted.mean, 0.), (wanted.std, 1.)))
        if self.swap:
            mean, std = mean.flip(0), std.flip(0)
        self.register_buffer('factor', (std / wanted_std).float()[:, None, None], persistent=False)
        self.register_buffer('offset', ((mean - wanted_mean) / wanted_std).float()[:, None, None], persistent=False)
        self.size = wanted.size

    @property
    def changes(self) -> bool:
        """bool: Whether the images differ."""
        normalises = not torch.equal(self.factor, torch.ones_like(self.factor)) or bool(self.offset.any())
        return normalises or self.swap or self.size is not None

    def hook(self, module: nn.Module, inputs: tuple) -> tuple:
        """A forward pre-hook of the network that wants the images: they are its first positional argument."""
        return (self(inputs[0]), *inputs[1:])

    def forward(self, images: Tensor) -> Tensor:
        """Convert images [B, C, H, W] to [B, C, H', W']."""
        if self.swap:
            images = images.flip(1)
        images = images * self.factor.to(images) + self.offset.to(images)
        if self.size is not None and self.size != tuple(images.shape[2:]):
            images = F.interpolate(images, self.size, mode='bilinear', antialias=True)
        return images


def convert_input(network: nn.Module, given: ModelInput | dict[str, Any],
                  wanted: ModelInput | dict[str, Any] | None = None) -> RemovableHandle:
    """Convert the images of every forward of a network, from those that are given to those that it was trained with.

    Args:
        network (nn.Module): The network, called with the images as its first positional argument.
        given (ModelInput or dict): The images of the training, as the loader gives them.
        wanted (ModelInput or dict, optional): The network's own images. Defaults to None: those of its published weights,
            see :func:`model_input`.

    Returns:
        RemovableHandle: Ends the conversion by ``remove()``.

    Raises:
        ArgumentError: If the network's own images are not known, or cannot be made of those given.

    Example:
        >>> teacher = distpro.build_network('timm:resnet50', pretrained=True)
        >>> distpro.convert_input(teacher, dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)))
    """
    check_that('network', network, isinstance(network, nn.Module), 'an nn.Module')
    known = getattr(network, 'model_input', None) if wanted is None else wanted
    if known is None:
        raise ArgumentError('wanted=None: the images that this network was trained with are not known, because its weights '
                            'are not published ones: pass ModelInput(mean=..., std=..., size=...)')
    sides = []
    for name, side in (('given', given), ('wanted', known)):
        check_that(name, side, isinstance(side, (dict, ModelInput)), 'a ModelInput or a dict, such as dict(mean=...)')
        with argument_prefix(f'{name}: '):
            sides.append(named_arguments()(ModelInput)(**side) if isinstance(side, dict) else side)
    return network.register_forward_pre_hook(InputConversion(*sides).hook)
