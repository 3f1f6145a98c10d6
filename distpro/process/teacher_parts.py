"""A transfer of a process, divided by teacher: which pathways of the process serve which teacher, and with what share."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from ..errors import ProcessError
from ..pathways.names import PathwayName, parse_name, teachers_of
from ..weighting import Weighting
from .process import DistillationProcess

Layers = dict[str, list[str]]


@dataclasses.dataclass
class TeacherPart:
    """The transfer to the pathways of one teacher.

    Args:
        teacher (str): The teacher's name in the process; empty if it has one teacher only.
        process (DistillationProcess): The process of that teacher, with names without the teacher's.
        columns (list[int]): Indices [n] of the teacher's pathways among the new ones.
        names (list[str]): Names [n] of these, without the teacher's.
        layers (dict, optional): The new networks' layers, those of this teacher without its name.
        shares (np.ndarray): Factors [n] of the weights that these pathways had if the teacher were the only one.
    """
    teacher: str
    process: DistillationProcess
    columns: list[int]
    names: list[str]
    layers: Layers | None
    shares: np.ndarray


def parts_by_teacher(process: DistillationProcess, names: Sequence[str], layers: Layers | None) -> list[TeacherPart]:
    """Divide a transfer by the new networks' teachers.

    In the unit 'loss' weighted losses are summed, in the unit 'variance' averaged over all pathways of a kind, features or
    logits. The shares account for this: of a process of one teacher, each teacher's loss is divided by the number of
    teachers; of a process of several teachers, each teacher's share stays.

    Args:
        process (DistillationProcess): The process.
        names (Sequence[str]): Names of the new pathways.
        layers (dict, optional): As in :func:`map_process`.

    Raises:
        ProcessError: If a name is invalid, or the process has several teachers and the new networks have others.
    """
    sources = _by_teacher([parsed(name, 'the process') for name in process.names])
    targets = _by_teacher([parsed(name, 'the new pair') for name in names])
    if list(sources) == list(targets) == ['']:
        return [TeacherPart('', process, list(range(len(names))), list(names), layers, np.ones(len(names)))]
    if list(sources) != [''] and set(sources) != set(targets):
        known, asked = (', '.join(side) if list(side) != [''] else 'one without a name' for side in (sources, targets))
        raise ProcessError(f'the process has the teachers {known} and the new networks have {asked}: give the teachers the '
                           'names in the process, or a process of one teacher, which serves several')
    parts = []
    for teacher, own in targets.items():
        source = teacher if teacher in sources else ''
        shares = np.ones(len(own))
        for kind in (False, True):
            chosen = [place for place, name in enumerate(own.values()) if name.is_logits == kind]
            if chosen:
                shares[chosen] = _share(sources, targets, source, teacher, kind, process.weighting.unit)
        alone = [str(name._replace(teacher='')) for name in own.values()]
        parts.append(TeacherPart(source, _of_teacher(process, sources, source), list(own), alone, _layers(layers, teacher),
                                 shares))
    return parts


def parsed(name: str, whose: str) -> PathwayName:
    """The parts of a pathway's name.

    Raises:
        ProcessError: If it does not have the form of one.
    """
    found = parse_name(name)
    if found is None:
        raise ProcessError(f"{whose} has a pathway '{name}', whose depth is not known: its name is not of the form "
                           '<transmitter>><receiver>:<transform>')
    return found


def _by_teacher(names: Sequence[PathwayName]) -> dict[str, dict[int, PathwayName]]:
    """For each teacher, its pathways by index."""
    found: dict[str, dict[int, PathwayName]] = {}
    for column, name in enumerate(names):
        found.setdefault(name.teacher, {})[column] = name
    return found


def _share(sources: dict[str, dict[int, PathwayName]], targets: dict[str, dict[int, PathwayName]], source: str, target: str,
           logits: bool, unit: str) -> float:
    """Factor of the weights of a teacher's pathways between logits, or between features."""
    before, after = ({teacher: sum(name.is_logits == logits for name in own.values()) for teacher, own in side.items()}
                     for side in (sources, targets))
    share = 1.0 if len(sources) > 1 else 1 / sum(count > 0 for count in after.values())
    if unit == 'variance':
        share *= before[source] / sum(before.values()) if len(sources) > 1 else 1
        share *= sum(after.values()) / after[target]
    return share


def _of_teacher(process: DistillationProcess, sources: dict[str, dict[int, PathwayName]], teacher: str
                ) -> DistillationProcess:
    """The pathways of one teacher; the process itself if it has no others."""
    if len(sources) == 1:
        return process
    own = sources[teacher]
    return DistillationProcess([str(name._replace(teacher='')) for name in own.values()],
                               Weighting('absolute', unit=process.weighting.unit), process.progress,
                               process.weights[:, list(own)], layers=_layers(process.layers, teacher))


def _layers(layers: Layers | None, teacher: str) -> Layers | None:
    """All layers, with the transmitters of one teacher alone."""
    if layers is None:
        return None
    return dict(transmitters=teachers_of(layers['transmitters']).get(teacher, []), receivers=layers['receivers'])
