"""Read features as maps [B, C, H, W]: maps, maps with the channels last, and sequences of tokens.

The layout of a feature is determined from its shape and from the traced forward, not from the network's name.
"""
import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a tensor represents a map.

    Args:
        kind (str): 'map': [B, C, H, W]; 'channels_last': [B, H, W, C]; 'tokens': [B, before + H W + after, C], row by
            row.
        size (tuple[int, int]): H and W in probing. For 'tokens' only.
        before (int): Tokens before those of the image: class tokens, registers. Defaults to 0.
        after (int): Tokens after those of the image. Defaults to 0.
    """
    kind: str = 'map'
    size: tuple[int, int] = (1, 1)
    before: int = 0
    after: int = 0

    def __call__(self, value: Tensor) -> Tensor:
        """The map [B, C, H, W] of a tensor, usually a view.

        Raises:
            ArgumentError: If the number of tokens does not fit a grid with the aspect ratio of probing.
        """
        if self.kind == 'map':
            return value
        if self.kind == 'channels_last':
            return value.permute(0, 3, 1, 2)
        count = value.size(1) - self.before - self.after
        height, width = self.size
        if count != height * width:
            height = round(math.sqrt(count * height / width))
            if height < 1 or count % height or round(height * self.size[1] / self.size[0]) != count // height:
                raise ArgumentError(f'{count} tokens of an image do not fit a grid with the aspect ratio '
                                    f'{self.size[0]} x {self.size[1]} of probing: probe the model with '
                                    'images of the training size')
            width = count // height
        tokens = value[:, self.before:self.before + count]
        return tokens.transpose(1, 2).unflatten(2, (height, width))

    def write(self, value: Tensor, feature: Tensor) -> Tensor:
        """The tensor that represents another map; the inverse of a call.

        Args:
            value (Tensor): A tensor with this layout. Its tokens before and after those of the image remain.
            feature (Tensor): The other map [B, C, H, W].

        Returns:
            Tensor: A new tensor with this layout.
        """
        if self.kind == 'map':
            return feature
        if self.kind == 'channels_last':
            return feature.permute(0, 2, 3, 1)
        tokens = feature.flatten(2).transpose(1, 2)
        return torch.cat([value[:, :self.before], tokens, value[:, value.size(1) - self.after:]], 1)


def element_of(value: Any, element: Any) -> Any:
    """The first element of a module's output or input if none is given; non-containers are returned unchanged."""
    return value[element or 0] if isinstance(value, (tuple, list, dict)) else value


class LayoutDetector:
    """Determines how the tensors of one forward represent maps.

    Args:
        calls (Sequence): All module calls of the forward, of two different images, in the order in which they ended.
    """

    def __init__(self, calls: Sequence) -> None:
        self.calls = calls
        images = next((call.inputs[0] for call in calls if call.inputs and _is(call.inputs[0], 4)), None)
        self.count: int | None = None if images is None else len(images)
        self.image: tuple[int, ...] | None = None if images is None else tuple(images.shape[2:])

    def layout(self, value: Any) -> Layout | None:
        """Layout: How a tensor of the forward represents a map of each image; None if it does not."""
        if isinstance(value, Tensor) and len(value.shape) and len(value) != self.count:
            return None
        if _is(value, 4):
            _, first, second, third = value.shape
            if self.image and self.image[0] == self.image[1] and first != second != third:
                return None  # neither order is a map of square images, e.g. heads, tokens and channels of an attention
            if not self.fits(first, second) or self.fits(second, third) and not self._has_last_channels(value):
                return Layout()
            return Layout('channels_last')
        if _is(value, 3):
            return self._tokens(value)
        return None

    def maps(self, output: Any) -> list[tuple[None | int | str, Layout]]:
        """The elements of a module's output (or input) that are maps: key (None if not a container) and layout."""
        if isinstance(output, dict):
            entries: Iterable = output.items()
        elif isinstance(output, (tuple, list)):
            entries = enumerate(output)
        else:
            entries = [(None, output)]
        found = [(place, self.layout(value)) for place, value in entries]
        return [(place, layout) for place, layout in found if layout is not None]

    def fits(self, height: int, width: int) -> bool:
        """Whether some stride gives maps of this size for the images, rounded up or down."""
        if self.image is None:
            return False
        tall, wide = self.image
        if tall == wide:
            return height == width <= tall
        smallest = max(tall / (height + 1), wide / (width + 1))
        largest = min(tall / (height - 1) if height > 1 else math.inf, wide / (width - 1) if width > 1 else math.inf)
        return smallest < largest and height <= tall and width <= wide

    def _has_last_channels(self, value: Tensor) -> bool:
        """Whether the module of a tensor has layers on the last dimension of this shape, and no convolutions."""
        maker = next((call.name for call in reversed(self.calls) if call.output is value), '')
        inside = [call.module for call in self.calls if f'{call.name}.'.startswith(f'{maker}.') and call.inputs and
                  any(_is(seen, 4) and seen.shape == value.shape for seen in (call.inputs[0], call.output))]
        return any(isinstance(module, (nn.Linear, nn.LayerNorm)) for module in inside) and not any(
            isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) for module in inside)

    def _tokens(self, value: Tensor) -> Layout | None:
        """Layout of tokens. Extra tokens before and after those of the image are equal for all images in the first layer.

        Later layers mix them with the image, but their number stays the same.
        """
        elsewhere = [fixed for fixed in self._fixed.values() if sum(fixed) <= 16]
        for before, after in dict.fromkeys([self._fixed.get(value.size(1), (0, 0)), *elsewhere, (0, 0)]):
            size = self._grid(value.size(1) - before - after)
            if size is not None:
                return Layout('tokens', size, before, after)
        return None

    @functools.cached_property
    def _fixed(self) -> dict[int, tuple[int, int]]:
        """By length: how many tokens at both ends of the first sequence of this length are equal for both images."""
        fixed: dict[int, tuple[int, int]] = {}
        for call in self.calls:
            for value in (*call.inputs[:1], call.output):
                if _is(value, 3) and len(value) > 1 and value.size(1) not in fixed:
                    differ = (value[0] != value[1]).any(1).nonzero().flatten()
                    ends = (int(differ[0]), value.size(1) - 1 - int(differ[-1])) if len(differ) else (0, 0)
                    fixed[value.size(1)] = ends
        return fixed

    def _grid(self, count: int) -> tuple[int, int] | None:
        """Height and width of ``count`` tokens with the images' aspect ratio."""
        if self.image is None or count < 1:
            return None
        grids = [(height, count // height) for height in range(1, count + 1) if count % height == 0]
        wanted = math.log(self.image[0] / self.image[1])
        grids = [grid for grid in grids if self.fits(*grid)]
        return min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1]) - wanted), default=None)


def _is(value: Any, dims: int) -> bool:
    return isinstance(value, Tensor) and value.dim() == dims and torch.is_floating_point(value)
