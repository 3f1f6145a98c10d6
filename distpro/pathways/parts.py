"""Transforms, distances and losses of a user: what they may be, and a trial of each."""
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..checks import FLAG, accepts, brief, check_choice, check_that, check_whole, is_function, nearest
from ..errors import ArgumentError, first_line
from ..random_state import without_side_effects
from .hcl_loss import HCLLoss
from .names import LABEL, is_label
from .pathway import Pathway

IMAGES = 2  # of a trial
COMPARE_AT = ('teacher', 'smaller')

Distance: TypeAlias = nn.Module | Callable[[Tensor, Tensor], Tensor]


class FunctionLoss(nn.Module):
    """A loss that is a function.

    Args:
        function (Callable): The function of the student's and the teacher's maps or logits.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of the student's and the teacher's maps or logits, a scalar."""
        return self.function(student, teacher)


def as_loss(name: str, given: Any) -> nn.Module:
    """A distance or a loss of logits as a module.

    Args:
        name (str): The argument, for errors.
        given (nn.Module or Callable): A module, or a function of the student's and the teacher's maps or logits.

    Raises:
        ArgumentError: If it is neither, such as a class.
    """
    if isinstance(given, nn.Module):
        return given
    own = f'{given.__name__}()' if isinstance(given, type) else 'torch.nn.MSELoss()'
    check_that(name, given, is_function(given) and accepts(given, None, None),
               f'an nn.Module, such as {own}, or a function of the maps or logits of the student and the teacher')
    return FunctionLoss(given)


def check_comparison(compare_at: Any, map_size: Any, flags: Mapping[str, Any]) -> None:
    """Refuse wrong settings of how maps are compared; ``flags`` are settings that are True or False, by name."""
    check_choice('compare_at', compare_at, COMPARE_AT)
    if map_size is not None:
        check_whole('map_size', map_size)
    for name, flag in flags.items():
        check_choice(name, flag, FLAG)


def distances_of(given: Distance | Mapping[str, Distance] | None, labels: Sequence[str]) -> dict[str, nn.Module]:
    """The distance of each transform.

    Args:
        given (nn.Module, Callable or dict, optional): One for all, or by the label of a transform. Defaults to
            :class:`HCLLoss`.
        labels (Sequence[str]): The labels of all transforms.

    Raises:
        ArgumentError: If a distance is neither a module nor a function, or belongs to no transform.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(labels, HCLLoss() if given is None else as_loss('distance', given))
    for label in given:
        if label not in labels:
            raise ArgumentError(f"distance: '{label}' is not the label of a transform, {', '.join(labels)}"
                                f'{nearest(str(label), labels)}')
    others = HCLLoss()
    return {label: as_loss(f'distance: {label}', given[label]) if label in given else others for label in labels}


def check_labels(name: str, given: Any, least: int, such_as: str) -> None:
    """Refuse what is not a dict by label.

    Args:
        name (str): The argument, for errors.
        given (dict): Its value.
        least (int): Least number of labels.
        such_as (str): An example, for errors.

    Raises:
        ArgumentError: If it is no dict, or a label is no text without separators.
    """
    check_that(name, given, isinstance(given, dict) and len(given) >= least,
               f'a dict by labels of your own, such as {such_as}')
    for label in given:
        check_that(f'{name}: the label', label, is_label(label), LABEL)


def check_transforms(given: Any) -> None:
    """Refuse transforms that are not classes or functions by label.

    Args:
        given (dict[str, Callable]): See :class:`PathwayGrid`.

    Raises:
        ArgumentError: If they are not.
    """
    check_labels('transforms', given, 1, 'dict(pointwise=PointwiseTransform)')
    for label, build in given.items():
        check_that(f'transforms: {label}', build, callable(build) and not isinstance(build, nn.Module)
                   and accepts(build, in_channels=1, out_channels=1),
                   'a class or function build(in_channels, out_channels) that gives a module; give other arguments of it by '
                   'functools.partial')


def built(build: Callable[..., nn.Module], pathway: Pathway) -> nn.Module:
    """The transform of a pathway.

    Raises:
        ArgumentError: If it cannot be built, or is no module.
    """
    channels = dict(in_channels=pathway.receiver.shape[0], out_channels=pathway.transmitter.shape[0])
    try:
        transform = build(**channels)
    except ArgumentError as error:
        raise type(error)(f"{error} (pathway '{pathway.name}')") from error
    check_that(f'transforms: {pathway.transform}', transform, isinstance(transform, nn.Module),
               f"a class or function that gives an nn.Module from {channels} (pathway '{pathway.name}')")
    return transform


def try_maps(pathways: Sequence[Pathway], transforms: nn.ModuleDict, distances: nn.ModuleDict,
             compared_at: Callable[[Tensor, Tensor], Sequence[int]], builds: dict[str, Callable[..., nn.Module]]) -> None:
    """Run the user's transforms and distance once for maps of each shape; parts of this package are not run.

    Args:
        pathways (Sequence[Pathway]): The pathways between layers.
        transforms (nn.ModuleDict): Their transforms by name.
        distances (nn.ModuleDict): The distances by label of a transform.
        compared_at (Callable): Gives the height and width at which a student's and a teacher's map are compared.
        builds (dict[str, Callable]): What built the transforms.

    Raises:
        ArgumentError: If one fails, or its result has a wrong shape. The message has the pathway.
    """
    tried = set()
    for pathway in pathways:
        shapes = pathway.transform, pathway.receiver.shape, pathway.transmitter.shape
        transform, distance = transforms[pathway.name], distances[pathway.transform]
        known = _is_ours(transform) and not inspect.isfunction(builds[pathway.transform])
        if shapes in tried or known and _is_ours(distance):
            continue
        tried.add(shapes)
        student, teacher = (_images(*tap.shape) for tap in (pathway.receiver, pathway.transmitter))
        mapped = target = _images(len(teacher[0]), *compared_at(student, teacher))
        size = tuple(target.shape[2:])
        if not known:
            mapped = _run(f'transforms: {pathway.transform}', transform, pathway.name, (student, ), dict(size=size),
                          tuple(target.shape), f'the transformed map, {tuple(target.shape)}, for size={size}')
        if not _is_ours(distance):
            _run('distance', distance, pathway.name, (mapped, target), {}, (), 'a scalar, the mean over the batch')


def try_logits(losses: Mapping[str, nn.Module], classes: int) -> None:
    """Run the user's losses of logits once, see :func:`try_maps`; they are called with the logits alone.

    Args:
        losses (Mapping[str, nn.Module]): The losses by label.
        classes (int): Number of logits.

    Raises:
        ArgumentError: If one fails, or its result is no scalar.
    """
    for label, loss in losses.items():
        if not _is_ours(loss):
            logits = _images(classes)
            _run('logits', loss, label, (logits, logits.flip(1)), {}, (), 'a scalar, the mean over the batch')


def _images(*shape: int) -> Tensor:
    """Noise for a trial, without a change of torch's random state."""
    return torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))


def _is_ours(part: nn.Module) -> bool:
    return type(part).__module__.startswith('distpro.') and not isinstance(part, FunctionLoss)


def _run(name: str, part: nn.Module, where: str, args: tuple, kwargs: dict, shape: tuple, wanted: str) -> Tensor:
    kind = type(part).__name__ if not isinstance(part, FunctionLoss) else brief(part.function)
    given = ' and '.join(str(tuple(value.shape)) for value in args)
    like = next(part.parameters(), args[0])
    modes = {module: module.training for module in part.modules()}
    try:
        with without_side_effects(part), torch.no_grad():
            found = part.eval()(*(value.to(like) for value in args), **kwargs)
    except Exception as error:
        raise ArgumentError(f"{name} ({kind}) fails for '{where}', called with {given}: {type(error).__name__}: "
                            f'{first_line(error)}; it must give {wanted}') from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        raise ArgumentError(f"{name} ({kind}) gives {brief(found)} for '{where}', called with {given}; it must give "
                            f'{wanted}')
    return found
