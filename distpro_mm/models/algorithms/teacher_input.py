"""Convert images for a teacher whose normalisation, colour order or size differs from the student's."""
from torch import nn

from distpro.checks import FLAG, check_choice
from distpro.errors import ArgumentError
from distpro.networks import InputConversion, ModelInput

from ...errors import ConfigError

KEYS = ('mean', 'std', 'to_rgb', 'size')
# Attributes of a preprocessor for the swap of colours: mmpretrain's; mmengine's and mmdet's; mmseg's.
SWAPS = ('to_rgb', '_channel_conversion', 'channel_conversion')


def teacher_input(student: nn.Module, own: nn.Module | ModelInput | None, given: dict | None) -> InputConversion | None:
    """Build the conversion of the teacher's images, a forward pre-hook of the teacher.

    Args:
        student (nn.Module): The preprocessor of the training.
        own (nn.Module or ModelInput, optional): The teacher's own preprocessor, if its config has one; or the input of its
            published weights, whose colour order is taken for the student's.
        given (dict, optional): ``model.teacher_input``: any of 'mean', 'std', 'to_rgb' and 'size'.

    Returns:
        InputConversion: The conversion; None if both networks take the same images.

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
    if isinstance(own, ModelInput):
        wanted = dict(_in_bytes(own), to_rgb=prepared['to_rgb'])
    else:
        wanted = prepared if own is None else _prepared(own)
    wanted = {**wanted, **(given or {})}
    try:
        convert = InputConversion(_as_input(prepared), _as_input(wanted))
    except ArgumentError as error:
        raise ConfigError(f"model.teacher_input: {error}; the teacher's preprocessing is {wanted} and the student's "
                          f'{prepared}') from error
    return convert if convert.changes else None


def _as_input(preprocessing: dict) -> ModelInput:
    """The images of a preprocessing, in its own unit: the conversion needs only that both have the same."""
    mean, std, size = (preprocessing.get(name) for name in ('mean', 'std', 'size'))
    return ModelInput(mean or None, std or None, tuple(size) if size else None, bool(preprocessing['to_rgb']))


def _in_bytes(expected: ModelInput) -> dict:
    """The preprocessing that makes these images of those in [0, 255]."""
    mean, std = ([255 * value for value in values or (start, ) * len(expected.mean or expected.std or (0, ) * 3)]
                 for values, start in ((expected.mean, 0.), (expected.std, 1.)))
    return dict(mean=mean, std=std, size=expected.size)


def _prepared(preprocessor: nn.Module) -> dict:
    mean, std = (getattr(preprocessor, entry, None) for entry in ('mean', 'std'))
    swaps = [getattr(preprocessor, name) for name in SWAPS if hasattr(preprocessor, name)]
    return dict(mean=None if mean is None else mean.flatten().tolist(), std=None if std is None else std.flatten().tolist(),
                to_rgb=any(swaps))
