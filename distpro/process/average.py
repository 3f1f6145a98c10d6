"""The average of several processes, in relative depths: what searches of different pairs have in common."""
from collections.abc import Sequence

import numpy as np

from ..errors import ProcessError
from ..weighting import Weighting, log_weights
from .process import DistillationProcess
from .teacher_parts import parsed
from .transfer import PathwayDepths, map_process


def average_processes(processes: Sequence[DistillationProcess], layers: int = 4, knots: int = 4,
                      name: str = 'layer') -> DistillationProcess:
    """The geometric mean of the weights of several processes, for a pair with evenly spaced layers.

    Each process is mapped to the pair by depth (:func:`map_process`), with the mean over its transforms. Then the
    logarithms of the weights are averaged at each knot. All count alike.

    Args:
        processes (Sequence[DistillationProcess]): The processes [P], in the unit 'variance', each with pathways between
            layers and one between logits.
        layers (int): Layers of teacher and student, >= 2. A student's layer learns from the teacher's layers of at most its
            own depth. Defaults to 4.
        knots (int): Evenly spaced points of the training, >= 2. Defaults to 4.
        name (str): Name of the layers, followed by a number from 1 on. Defaults to 'layer'.

    Returns:
        DistillationProcess: The average, with the transform 'pointwise' and the logits 'kl'.

    Raises:
        ProcessError: If there is no process, or one has another unit, no pathway between layers, or not one between logits.
    """
    if not processes or layers < 2 or knots < 2:
        raise ProcessError(f'an average needs one process or more and at least 2 layers and knots, got {len(processes)} '
                           f'processes, layers={layers}, knots={knots}')
    own = [f'{name}{number + 1}' for number in range(layers)]
    names = [f'{transmitter}>{receiver}:pointwise' for place, transmitter in enumerate(own) for receiver in own[place:]]
    names.append('logits>logits:kl')
    sides = dict(transmitters=own, receivers=list(own))
    progress = np.linspace(0, 1, knots)
    logarithms = [log_weights(map_process(one_transform(process), names, sides).weights_at(progress.tolist()))
                  for process in processes]
    return DistillationProcess(names, Weighting('exponential', unit='variance'), progress, np.mean(logarithms, axis=0),
                               layers=sides)


def one_transform(process: DistillationProcess) -> DistillationProcess:
    """A process with one pathway for each pair of layers, which has the mean weight of its transforms.

    Args:
        process (DistillationProcess): A process in the unit 'variance', with pathways between layers and one of logits.

    Raises:
        ProcessError: If it is not such a process.
    """
    if process.weighting.unit != 'variance':
        raise ProcessError(f"an average needs processes in the unit 'variance', got one in '{process.weighting.unit}', "
                           'which depends on the networks')
    if process.scheduled:
        raise ProcessError(f'an average needs processes of weights alone, got one with {", ".join(process.scheduled)}')
    teachers = {parsed(name, 'the process').teacher: None for name in process.names}
    if len(teachers) > 1:
        raise ProcessError(f'an average needs processes of one teacher, got one of {", ".join(teachers)}')
    depths = PathwayDepths(process.names, process.layers, 'the process')
    if len(depths.logits) != 1 or not depths.points:
        raise ProcessError('an average needs processes with pathways between layers and one pathway between logits, got '
                           f'{len(process.names) - len(depths.logits)} and {len(depths.logits)}')
    columns: dict[str, list[int]] = {}
    for points in depths.points.values():
        for column in points:
            columns.setdefault(process.names[column].rsplit(':', 1)[0], []).append(column)
    columns['logits>logits'] = list(depths.logits.values())
    weights = np.stack([process.weights[:, chosen].mean(axis=1) for chosen in columns.values()], axis=1)
    names = [f'{pair}:{"kl" if pair == "logits>logits" else "pointwise"}' for pair in columns]
    return DistillationProcess(names, Weighting('absolute', unit='variance'), process.progress, weights,
                               layers=depths.layers)
