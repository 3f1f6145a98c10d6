"""Convert images for a teacher whose normalisation, colour order or size differs from the student's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distpro.checks import FLAG, check_choice

from ...errors import ConfigError

KEYS = ('mean', 'std', 'to_rgb', 'size')
# Attributes of a preprocessor for the swap of colours: mmpretrain's; mmengine's and mmdet's; mmseg's.
SWAPS = ('to_rgb', '_channel_conversion', 'channel_conversion')


class TeacherInput(nn.Module):
    """Converts the student's preprocessed images into the teacher's; used in a forward pre-hook of the teacher.

    Args:
        student (dict): The student's preprocessing: 'mean' and 'std' of each output channel, and 'to_rgb', whether the
            channels are swapped.
        teacher (dict): The teacher's preprocessing, with the same keys and optionally 'size' [H, W].

    Raises:
        ConfigError: If the numbers of channels differ, or a value is out of range.
    """

    def __init__(self, student: dict, teacher: dict) -> None:
        super().__init__()
        channels = [len(side[entry]) for side in (student, teacher) for entry in ('mean', 'std') if side[entry] is not None]
        self.swap = bool(student['to_rgb']) != bool(teacher['to_rgb'])
        if len(set(channels)) > 1 or self.swap and channels and channels[0] != 3:
            raise ConfigError(f"model.teacher_input={teacher}: the student's preprocessing is {student}: the numbers of "
                              'channels must be equal, and three if to_rgb differs')
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
        self.size: tuple[int, int] | None = tuple(teacher['size']) if teacher.get('size') else None

    @property
    def changes(self) -> bool:
        """bool: Whether the teacher's images differ from the student's."""
        normalises = not torch.equal(self.factor, torch.ones_like(self.factor)) or bool(self.offset.any())
        return normalises or self.swap or self.size is not None

    def hook(self, module: nn.Module, inputs: tuple) -> tuple:
        """The forward pre-hook: the images are the first of the teacher's positional arguments."""
        return (self(inputs[0]), *inputs[1:])

    def forward(self, images: Tensor) -> Tensor:
        """Convert the student's images [B, C, H, W] to the teacher's [B, C, H', W']."""
        if self.swap:
            images = images.flip(1)
        images = images * self.factor.to(images) + self.offset.to(images)
        if self.size is not None and self.size != tuple(images.shape[2:]):
            images = F.interpolate(images, self.size, mode='bilinear', antialias=True)
        return images


def teacher_input(student: nn.Module, own: nn.Module | None, given: dict | None) -> TeacherInput | None:
    """Build the conversion of the teacher's images.

    Args:
        student (nn.Module): The preprocessor of the training.
        own (nn.Module, optional): The teacher's own preprocessor, if its config has one.
        given (dict, optional): ``model.teacher_input``: any of 'mean', 'std', 'to_rgb' and 'size'.

    Returns:
        TeacherInput: The conversion; None if both networks take the same images.

    Raises:
        ConfigError: If ``given`` has other keys, ``to_rgb`` is neither True nor False, or the preprocessing of the two
            networks is not compatible.
    """
    unknown = set(given or {}) - set(KEYS)
    if unknown:
        raise ConfigError(f'model.teacher_input has {sorted(unknown)}; valid keys are {", ".join(KEYS)}')
    if 'to_rgb' in (given or {}):
        check_choice('model.teacher_input.to_rgb', given['to_rgb'], FLAG, ConfigError)
    prepared = _prepared(student)
    convert = TeacherInput(prepared, {**(prepared if own is None else _prepared(own)), **(given or {})})
    return convert if convert.changes else None


def _prepared(preprocessor: nn.Module) -> dict:
    mean, std = (getattr(preprocessor, entry, None) for entry in ('mean', 'std'))
    swaps = [getattr(preprocessor, name) for name in SWAPS if hasattr(preprocessor, name)]
    return dict(mean=None if mean is None else mean.flatten().tolist(), std=None if std is None else std.flatten().tolist(),
                to_rgb=any(swaps))
