"""Augmentations of batches on the device of the training, with the distributions of mmpretrain's for single images."""
import torch
import torch.nn.functional as F
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor

from distpro.checks import check_number, check_whole

from ..errors import ConfigError


@BATCH_AUGMENTS.register_module()
class BatchRandomCrop:
    """Pads every image and crops it to the original size at a random position: mmpretrain's ``RandomCrop``.

    Args:
        padding (int): Pixels added on each side, > 0.
        pad_val (int): Value of the added pixels. Defaults to 0.
    """

    def __init__(self, padding: int, pad_val: int = 0) -> None:
        check_whole('BatchRandomCrop.padding', padding, error=ConfigError)
        self.padding, self.pad_val = padding, pad_val

    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        count, _, height, width = images.shape
        padded = F.pad(images, [self.padding] * 4, value=self.pad_val)
        places = torch.randint(2 * self.padding + 1, (2, count, 1), device=images.device)
        rows = places[0] + torch.arange(height, device=images.device)
        columns = places[1] + torch.arange(width, device=images.device)
        numbers = torch.arange(count, device=images.device)
        # Separated index tensors put their common shape first: [B, H, W, C]. clone() is needed because contiguous() does not
        # change the strides of a single channel, which torch then treats as channels_last.
        cut = padded[numbers[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        return cut.clone(memory_format=torch.contiguous_format)


@BATCH_AUGMENTS.register_module()
class BatchRandomFlip:
    """Flips each image horizontally with a probability: mmpretrain's ``RandomFlip``.

    Args:
        prob (float): The probability, in [0, 1]. Defaults to 0.5.
    """

    def __init__(self, prob: float = 0.5) -> None:
        check_number('BatchRandomFlip.prob', prob, least=0, most=1, error=ConfigError)
        self.prob = prob

    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < self.prob
        return torch.where(flipped, images.flip(3), images)
