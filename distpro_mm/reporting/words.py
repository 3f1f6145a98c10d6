"""A process in words."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from distpro.pathways import names
from distpro.process import DistillationProcess

POINTS = 101  # points of the training at which weights are compared
HEAVIEST = 5
STEADY = 0.05  # a weight that varies by a smaller share of its largest value is called constant
UNITS = {
    'variance': 'The features of the teacher are divided by their standard deviation, so the weights of feature pathways '
                'can be compared with one another. The loss is the mean over pathways.',
    'loss': 'The weights multiply the losses as they are. The losses of pathways have different sizes, so a larger weight '
            'is not always a larger share of the loss.'}


@dataclasses.dataclass(frozen=True)
class PathwayName:
    """The parts of a pathway's name.

    Args:
        teacher (str): Layer of the teacher; of several with the teacher's name, ``<teacher>:<layer>``.
        student (str): Layer of the student.
        transform (str): Label of the transform, or of the loss of logits.
    """
    teacher: str
    student: str
    transform: str

    @property
    def is_logits(self) -> bool:
        """bool: Whether the pathway is between logits."""
        return names.split_teacher(self.teacher)[1] == self.student == names.LOGITS

    def __str__(self) -> str:
        if self.is_logits:
            return f'{self.teacher} ({self.transform})'
        return f'{self.teacher} → {self.student} ({self.transform})'


def parse_name(name: str) -> PathwayName:
    """The parts of a name ``<teacher's layer>><student's layer>:<transform>``; other names are taken as they are."""
    parts = names.parse_name(name)
    if parts is None:
        return PathwayName(name, name, '')
    return PathwayName(names.of_teacher(parts.teacher, parts.transmitter), parts.receiver, parts.transform)


def number(value: float) -> str:
    """A number with three digits, without an exponent where it is readable."""
    if value == 0 or 0.001 <= abs(value) < 1e6:
        text = f'{value:.3g}' if abs(value) < 1000 else f'{value:,.0f}'
        return text
    return f'{value:.2e}'


def factor_name(scheduled: str) -> str:
    """str: The name of something scheduled beside the weights, in tables."""
    return f'factor of the {scheduled.replace("_", "-")}'


def describe_process(process: DistillationProcess) -> list[str]:
    """Lines of text about a process: the total weight over the training, and the heaviest pathways.

    Args:
        process (DistillationProcess): The process, with at least one knot.
    """
    progress = np.linspace(0, 1, POINTS)
    weights = process.weights_at(progress.tolist())
    means = weights.mean(axis=0)
    total = means.sum()
    if not total:
        return ['All weights are 0: the student is trained without distillation.']
    order = np.argsort(-means, kind='stable')
    half = int(np.searchsorted(np.cumsum(means[order]), total / 2) + 1)
    count = len(means)
    lines = [f'{count} pathways. Half of the total weight is on {half} of them.' if count > 1 else 'One pathway.',
             f'Sum of all weights: {_over_time(progress, weights.sum(axis=1))}.']
    for group in _equal(weights, order)[:HEAVIEST]:
        if means[group[0]]:
            each = ' each' if len(group) > 1 else ''
            lines.append(f'{_named(process.names, group)}: {means[group[0]] / total:.0%} of the total weight{each}. The '
                         f'weight {_over_time(progress, weights[:, group[0]])}.')
    unused = int((weights.max(axis=0) == 0).sum())
    if unused:
        lines.append(f'{unused} of them always have weight 0.')
    for name, values in zip(process.scheduled, process.scheduled_at(progress.tolist()).T):
        of = 'temperature of the logits' if name == 'temperature' else 'weight of the cross-entropy'
        lines.append(f'The factor of the {of} {_over_time(progress, values)}.')
    return lines


def _equal(weights: np.ndarray, order: np.ndarray) -> list[list[int]]:
    """Pathways in order, those with the same weights throughout in one group."""
    groups: list[list[int]] = []
    for index in order.tolist():
        if groups and np.allclose(weights[:, index], weights[:, groups[-1][0]], rtol=1e-3):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _named(names: Sequence[str], group: Sequence[int]) -> str:
    """The pathways of a group; the first two of many."""
    shown = group if len(group) <= 3 else group[:2]
    text = ', '.join(str(parse_name(names[index])) for index in shown)
    return text + f' and {len(group) - len(shown)} others with the same weights' * (len(group) > len(shown))


def _over_time(progress: np.ndarray, values: np.ndarray) -> str:
    highest = int(values.argmax())
    first, last, most = values[0], values[-1], values[highest]
    if most - values.min() <= STEADY * most:
        return f'is constant at {number(float(values.mean()))}'
    if highest == 0:
        return f'falls from {number(first)} at the start to {number(last)} at the end'
    if highest == len(values) - 1:
        return f'rises from {number(first)} at the start to {number(last)} at the end'
    return (f'starts at {number(first)}, is highest at {progress[highest]:.0%} of the training with {number(most)}, and '
            f'ends at {number(last)}')
