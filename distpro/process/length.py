"""A process of short searches in a longer training."""
import numpy as np

from ..checks import check_whole
from ..pathways.names import is_logits, parse_name
from ..weighting import Weighting, log_weights
from .process import DistillationProcess, interpolate

END = 0.5  # share of a long training from which on the weights of features are lowered
FADE = 0.125  # share of the training in which they are lowered to 0
SHORT = 500  # steps of a training that has the process as it is


def fit_length(process: DistillationProcess, steps: int) -> DistillationProcess:
    """Change a process of short searches for a longer training, which makes the training faster.

    The rounds of a search are short, and all weights are low at their end. In a longer training the features have had their
    effect earlier, and the logits still help. So in a training of more than 500 steps,

    * the weights of features are lowered to 0 after half of it, or after 500 steps if that is later;
    * logits continue with their highest weight;
    * the student's first layer, mostly its stem, has weight 0 throughout if it has others.

    A process without logits is not changed.

    Args:
        process (DistillationProcess): A process whose search had rounds of some hundred steps.
        steps (int): Steps of the training, >= 1.

    Returns:
        DistillationProcess: The process for a training of this length, with the same pathways. For 500 steps or fewer, and
        without logits, the given one.

    Raises:
        ArgumentError: If ``steps`` is not a whole number >= 1.
    """
    check_whole('steps', steps)
    end = max(END, SHORT / steps)
    if end >= 1:
        return process
    logits = np.array([is_logits(name) for name in process.names])
    if not process.weights[:, logits].any():  # nothing would be left at the end
        return process
    highest = np.array(process.progress)[process.weights.argmax(0)]  # [N]
    faded = min(end + FADE, 1.0)
    knots = np.unique([*process.progress, end, faded])
    weights = interpolate(process.progress, process.weights, knots)
    after = (knots[:, None] > highest) & logits
    weights = np.where(after, weights.max(0), weights)
    weights[:, ~logits] *= np.clip((faded - knots) / (faded - end), 0, 1)[:, None]
    weights[:, _of_first_layer(process)] = 0
    origin = {**process.origin, 'fit_length': dict(steps=int(steps))}
    return DistillationProcess(process.names, Weighting('exponential', unit=process.weighting.unit), knots,
                               log_weights(weights), origin, process.layers,
                               dict(zip(process.scheduled, process.scheduled_at(knots).T.tolist())))


def is_of_short_rounds(process: DistillationProcess, steps: int) -> bool:
    """Whether a process was found in rounds that are shorter than a training, so that it should be changed for its length.

    Args:
        process (DistillationProcess): The process.
        steps (int): Steps of the training.

    Returns:
        bool: True for a process of a search in rounds of fewer steps, also if it is mapped from other networks, and for an
        average of searches. False for a schedule by hand, and for a search one step ahead.
    """
    origin = process.origin
    found = any(key in origin for key in ('trials', 'average_of', 'transfer'))
    return found and origin.get('iterations', 0) < steps


def _of_first_layer(process: DistillationProcess) -> list[int]:
    """Indices of the pathways to the student's first layer; none if no other has pathways, or the layers are unknown."""
    first = process.layers['receivers'][0] if process.layers else None
    parts = enumerate(map(parse_name, process.names))
    receivers = {index: part.receiver for index, part in parts if part and not part.is_logits}
    found = [index for index, receiver in receivers.items() if receiver == first]
    return found if len(found) < len(receivers) else []
