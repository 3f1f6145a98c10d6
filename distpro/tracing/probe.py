"""Random images to probe a model."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def probe_input(model: nn.Module, shape: Sequence[int] | None = None) -> Tensor:
    """A small batch of random images to probe a model.

    Args:
        model (nn.Module): The model. Its first convolution gives the channels, and an ``img_size`` the height and width.
        shape (Sequence[int], optional): [C, H, W] of the images. Defaults to None: C is the number of input channels of the
            first convolution, and H and W are ``img_size``, or 64.

    Returns:
        Tensor: Images [2, C, H, W], the same in every call.
    """
    if shape is None:
        channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
        size = next((m.img_size for m in model.modules() if hasattr(m, 'img_size')), 64)
        shape = (channels, *(size if isinstance(size, (tuple, list)) else (size, size)))
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return images.to(parameter.device, parameter.dtype)
