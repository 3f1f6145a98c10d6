"""A teacher that expects other images than the student: another normalisation, colour order or size."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError

KEYS = ('mean', 'std', 'to_rgb', 'size')
# Where a preprocessor keeps whether it swaps colours: mmpretrain's; mmengine's and mmdet's; mmseg's.
SWAPS = ('to_rgb', '_channel_conversion', 'channel_conversion')


class TeacherInput(nn.Module):
    """Makes of images that were prepared for the student those that the teacher expects; a forward pre-hook of the teacher.

    Args:
        student (dict): How images are prepared: 'mean' and 'std' of each channel in the order that comes out, and 'to_rgb',
            whether the channels were swapped.
        teacher (dict): How the teacher wants them; and, maybe, 'size' [H, W].

    Raises:
        ConfigError: If the numbers of channels differ, or an entry is out of range.
    """

    def __init__(self, student: dict, teacher: dict) -> None:
        super().__init__()
        channels = [len(side[entry]) for side in (student, teacher) for entry in ('mean', 'std') if side[entry] is not None]
        self.swap = bool(student['to_rgb']) != bool(teacher['to_rgb'])
        if len(set(channels)) > 1 or self.swap and channels and channels[0] != 3:
            raise ConfigError(f"model.teacher_input={teacher}: the student's images are prepared by {student}: the numbers "
                              'of channels must be the same, and three where colours are swapped')
        if any(value <= 0 for side in (student, teacher) for value in side['std'] or ()):
            raise ConfigError(f'model.teacher_input: every std must be above 0, got {teacher["std"]} and {student["std"]}')
        count = channels[0] if channels else 1
        mean, std = (torch.tensor(student[entry] or [start] * count, dtype=torch.float64)
                     for entry, start in (('mean', 0.), ('std', 1.)))
        if self.swap:
            mean, std = mean.flip(0), std.flip(0)
        wanted_mean, wanted_std = (torch.tensor(teacher[entry] or [start] * count, dtype=torch.float64)
                                   for entry, start in (('mean', 0.), ('std', 1.)))
        self.register_buffer('factor', (std / wanted_std).float()[:, None, None], persistent=False)
        self.register_buffer('offset', ((mean - wanted_mean) / wanted_std).float()[:, None, None], persistent=False)
        self.size: Optional[Tuple[int, int]] = tuple(teacher['size']) if teacher.get('size') else None

    @property
    def changes(self) -> bool:
        """bool: Whether anything is another than for the student."""
        normalises = not torch.equal(self.factor, torch.ones_like(self.factor)) or bool(self.offset.any())
        return normalises or self.swap or self.size is not None

    def hook(self, module: nn.Module, inputs: tuple) -> tuple:
        """The forward pre-hook: the images are the first of the teacher's positional arguments."""
        return (self(inputs[0]), *inputs[1:])

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] as the student has them to [B, C, H', W'] as the teacher wants them."""
        if self.swap:
            images = images.flip(1)
        images = images * self.factor.to(images) + self.offset.to(images)
        if self.size is not None and self.size != tuple(images.shape[2:]):
            images = F.interpolate(images, self.size, mode='bilinear', antialias=True)
        return images


def teacher_input(student: nn.Module, own: Optional[nn.Module], given: Optional[dict]) -> Optional[TeacherInput]:
    """What the teacher's images need, if anything.

    Args:
        student (nn.Module): The preprocessor of the training.
        own (nn.Module, optional): The teacher's own preprocessor, if its config has one.
        given (dict, optional): What the config says besides: any of 'mean', 'std', 'to_rgb' and 'size'.

    Returns:
        TeacherInput: None where both expect the same.

    Raises:
        ConfigError: If ``given`` has other keys, or the sides do not fit.
    """
    unknown = set(given or {}) - set(KEYS)
    if unknown:
        raise ConfigError(f'model.teacher_input has {sorted(unknown)}; it may have {", ".join(KEYS)}')
    prepared = _prepared(student)
    convert = TeacherInput(prepared, {**(prepared if own is None else _prepared(own)), **(given or {})})
    return convert if convert.changes else None


def _prepared(preprocessor: nn.Module) -> dict:
    mean, std = (getattr(preprocessor, entry, None) for entry in ('mean', 'std'))
    swaps = [getattr(preprocessor, name) for name in SWAPS if hasattr(preprocessor, name)]
    return dict(mean=None if mean is None else mean.flatten().tolist(), std=None if std is None else std.flatten().tolist(),
                to_rgb=any(swaps))
