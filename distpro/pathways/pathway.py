"""Pathways: which teacher layer is compared with which student layer, through which transform."""
import dataclasses
from collections.abc import Sequence

from ..checks import nearest
from ..errors import ArgumentError
from ..tracing import FeatureTap
from .names import split_teacher

CONNECTIONS = ('all', 'student_not_shallower', 'nearest_depth')


@dataclasses.dataclass(frozen=True)
class Pathway:
    """A connection of a transmitting and a receiving layer with one transform.

    Args:
        transmitter (FeatureTap): The teacher's layer.
        receiver (FeatureTap): The student's layer.
        transform (str): Label of the transform.
    """
    transmitter: FeatureTap
    receiver: FeatureTap
    transform: str

    @property
    def name(self) -> str:
        """str: ``<transmitter>><receiver>:<transform>``, the pathway's name in logs and in process files."""
        return f'{self.transmitter.name}>{self.receiver.name}:{self.transform}'


def connect(transmitters: Sequence[FeatureTap], receivers: Sequence[FeatureTap],
            connections: str | Sequence[tuple]) -> list[tuple[FeatureTap, FeatureTap]]:
    """Choose the pairs of layers to compare.

    The depth of a layer is its relative position in its list, from 0 for the first to 1 for the last, so that lists of
    different lengths are comparable. With several teachers, a word selects pairs of each teacher by itself.

    Args:
        transmitters (Sequence[FeatureTap]): The teacher's layers, from shallow to deep; of several teachers one after the
            other, named ``<teacher>:<layer>``.
        receivers (Sequence[FeatureTap]): The student's layers, from shallow to deep.
        connections (str or Sequence): 'all'; 'student_not_shallower': the student's layer at least as deep as the
            teacher's; 'nearest_depth': each student's layer with the teacher's layer of the nearest depth, the shallower
            one of two; or explicit pairs (transmitter, receiver), each a name or an index in its list,
            which may be negative.

    Returns:
        list[tuple[FeatureTap, FeatureTap]]: At least one pair.

    Raises:
        ArgumentError: If ``connections`` is invalid, has an unknown layer, or selects no pair.
    """
    key = 'connections'
    if not isinstance(connections, (str, list, tuple)):
        raise ArgumentError(f'{key}={connections!r} is neither one of {", ".join(CONNECTIONS)} nor a list of pairs of '
                            'layer names')
    if not isinstance(connections, str):
        pairs = []
        for pair in connections:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ArgumentError(f'{key}: {pair!r} is not a pair (transmitter, receiver)')
            pairs.append((_named(transmitters, pair[0], key, 'transmitters'),
                          _named(receivers, pair[1], key, 'receivers')))
        if len(set(pairs)) < len(pairs):
            raise ArgumentError(f'{key} has a pair twice: {list(connections)}')
    elif connections not in CONNECTIONS:
        raise ArgumentError(f"{key}='{connections}' is not one of {', '.join(CONNECTIONS)} or a list of pairs"
                            f'{nearest(connections, CONNECTIONS)}')
    else:
        teachers: dict[str, list[FeatureTap]] = {}
        for tap in transmitters:
            teachers.setdefault(split_teacher(tap.name)[0], []).append(tap)
        pairs = [pair for layers in teachers.values() for pair in _selected(layers, receivers, connections)]
    if not pairs:
        raise ArgumentError(f"{key}={connections!r} selects no pair of {[t.name for t in transmitters]} and "
                         f'{[r.name for r in receivers]}')
    return pairs


def _selected(transmitters: Sequence[FeatureTap], receivers: Sequence[FeatureTap],
              connections: str) -> list[tuple[FeatureTap, FeatureTap]]:
    """The pairs of one teacher's and the student's layers that a word selects."""
    teacher_depth, student_depth = depths(len(transmitters)), depths(len(receivers))
    closest = [min(range(len(transmitters)), key=lambda i: round(abs(teacher_depth[i] - depth), 9), default=0)
               for depth in student_depth]
    selected = {'all': lambda i, j: True,
                'student_not_shallower': lambda i, j: student_depth[j] >= teacher_depth[i] - 1e-9,
                'nearest_depth': lambda i, j: i == closest[j]}[connections]
    return [(t, s) for i, t in enumerate(transmitters) for j, s in enumerate(receivers) if selected(i, j)]


def span(pairs: Sequence[tuple[FeatureTap, FeatureTap]], transforms: Sequence[str]) -> list[Pathway]:
    """Every pair with every transform: K transforms give K pathways per pair."""
    return [Pathway(transmitter, receiver, transform) for transmitter, receiver in pairs for transform in transforms]


def depths(count: int) -> list[float]:
    """Relative depths in [0, 1] of ``count`` layers, from shallow to deep; a single layer has depth 1."""
    return [index / (count - 1) if count > 1 else 1.0 for index in range(count)]


def _named(taps: Sequence[FeatureTap], name: str | int, key: str, where: str) -> FeatureTap:
    """The tap with this name, layer or index."""
    if isinstance(name, int) and -len(taps) <= name < len(taps):
        return taps[name]
    for tap in taps:
        if name in (tap.name, tap.layer):
            return tap
    names = [tap.name for tap in taps]
    raise ArgumentError(f"{key}: '{name}' is not one of the {where} {names}{nearest(str(name), names)}")
