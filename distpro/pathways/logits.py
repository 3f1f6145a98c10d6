"""Pathways between the logits of teachers and student."""
import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError
from ..tracing import FeatureTap
from .names import LOGITS, of_teacher, split_teacher
from .pathway import Pathway


def comparable(taps: Sequence[FeatureTap]) -> tuple[FeatureTap, ...]:
    """Leave out teachers with other classes than the student, with a warning.

    Args:
        taps (Sequence[FeatureTap]): The logits of each teacher, and last those of the student.

    Returns:
        tuple[FeatureTap, ...]: The same without those teachers.

    Raises:
        ArgumentError: If no teacher is left.
    """
    *transmitters, receiver = taps
    left = [tap for tap in transmitters if tap.shape == receiver.shape]
    others = {split_teacher(tap.name)[0]: tap.shape[0] for tap in transmitters if tap.shape != receiver.shape}
    if not left:
        counts = ', '.join(f"the teacher{f' {name!r}' * bool(name)} has {count} classes" for name, count in others.items())
        raise ArgumentError(f'logits: {counts} and the student {receiver.shape[0]}, so their logits cannot be compared; '
                            'pass logits={} (in a config, leave out model.distiller.logits) to compare their features alone')
    for name, count in others.items():
        warnings.warn(f"logits: the teacher '{name}' has {count} classes and the student {receiver.shape[0]}, so only its "
                      'features are compared', stacklevel=3)
    return *left, receiver


def logit_pathways(taps: Sequence[FeatureTap], labels: Sequence[str]) -> list[Pathway]:
    """A pathway between the logits of each teacher and of the student for each label of a loss.

    Args:
        taps (Sequence[FeatureTap]): See :func:`comparable`.
        labels (Sequence[str]): Labels of the losses.
    """
    *transmitters, receiver = taps
    return [Pathway(transmitter, receiver, label) for transmitter in transmitters for label in labels]


def losses_of_teachers(losses: dict[str, nn.Module], taps: Sequence[FeatureTap]) -> nn.ModuleDict:
    """The losses of logits of each teacher, by :func:`loss_key`; each teacher but the first has copies."""
    found = {}
    for place, tap in enumerate(taps[:-1]):
        teacher = split_teacher(tap.name)[0]
        found.update({of_teacher(teacher, label): copy.deepcopy(loss) if place else loss for label, loss in losses.items()})
    return nn.ModuleDict(found)


def loss_key(pathway: Pathway) -> str:
    """str: Key of the loss of a pathway between logits: its label, with several teachers ``<teacher>:<label>``."""
    return of_teacher(split_teacher(pathway.transmitter.name)[0], pathway.transform)


def logits_are_unique(pathways: Sequence[Pathway]) -> bool:
    """Whether no layer of a pathway between maps has the name of the logits."""
    return not any(LOGITS in (split_teacher(pathway.transmitter.name)[1], pathway.receiver.name) for pathway in pathways)


def has_temperature(loss: nn.Module) -> bool:
    """Whether a loss has a temperature, a number ``tau``, as :class:`KLDivergence` and mmrazor's losses of logits have."""
    return isinstance(getattr(loss, 'tau', None), (int, float))


def check_temperature(scheduled: Sequence[str], losses: Iterable[nn.Module]) -> None:
    """Refuse a temperature over time where no loss of logits has one.

    Args:
        scheduled (Sequence[str]): What is scheduled.
        losses (Iterable[nn.Module]): The losses of logits.

    Raises:
        ArgumentError: If 'temperature' is scheduled, and no loss has one.
    """
    if 'temperature' in scheduled and not any(map(has_temperature, losses)):
        raise ArgumentError("scheduled: 'temperature' needs a loss of logits with a temperature as its attribute tau, such "
                            'as KLDivergence; there is none')


def compare_logits(pathway: Pathway, losses: nn.ModuleDict, student: Tensor, teacher: Tensor, factor: Tensor | float,
                   **more: Any) -> Tensor:
    """The loss of a pathway between logits.

    Args:
        pathway (Pathway): The pathway.
        losses (nn.ModuleDict): The losses of :func:`losses_of_teachers`.
        student, teacher (Tensor): Logits [B, K].
        factor (Tensor or float): Of the temperature of the loss, a scalar, whose graph is preserved. 1.0: as it is.
        **more (Any): Further arguments of the loss.

    Returns:
        Tensor: A scalar.
    """
    loss = losses[loss_key(pathway)]
    with _at_temperature(loss, factor):
        return loss(student, teacher, **more)


@contextlib.contextmanager
def _at_temperature(loss: nn.Module, factor: Tensor | float) -> Iterator[None]:
    """Multiply the temperature of a loss, if it has one, by a factor inside the context."""
    if isinstance(factor, float) or not has_temperature(loss):
        yield
        return
    own, loss.tau = loss.tau, loss.tau * factor
    try:
        yield
    finally:
        loss.tau = own
