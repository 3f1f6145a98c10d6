"""A process of short searches in a longer training."""
import numpy as np

from ..checks import check_whole
from ..pathways.names import is_logits
from ..weighting import Weighting, log_weights
from .process import DistillationProcess, interpolate

END = 0.5  # share of a long training from which on the weights of features are lowered
FADE = 0.125  # share of the training in which they are lowered to 0
LEAST_STEPS = 500  # before which they are not


def end_features(process: DistillationProcess, steps: int) -> DistillationProcess:
    """Let the features end in the middle of a long training, and the logits continue with their highest weight.

    The rounds of a search are short, and all weights are low at their end. In a longer training the features have had their
    effect earlier, and the logits still help. Steps without features cost no more than those of plain KD. Up to 500 steps,
    nothing changes. In a longer training, the weights of features are lowered to 0 after half of it, or after 500 steps if
    that is later.

    Args:
        process (DistillationProcess): A process whose search had rounds of some hundred steps.
        steps (int): Steps of the training, >= 1.

    Returns:
        DistillationProcess: The process for a training of this length, with the same pathways.

    Raises:
        ArgumentError: If ``steps`` is not a whole number >= 1.
    """
    check_whole('steps', steps)
    end = max(END, LEAST_STEPS / steps)
    if end >= 1:
        return process
    logits = np.array([is_logits(name) for name in process.names])
    highest = np.array(process.progress)[process.weights.argmax(0)]  # [N]
    faded = min(end + FADE, 1.0)
    knots = np.unique([*process.progress, end, faded])
    weights = interpolate(process.progress, process.weights, knots)
    after = (knots[:, None] > highest) & logits
    weights = np.where(after, weights.max(0), weights)
    weights[:, ~logits] *= np.clip((faded - knots) / (faded - end), 0, 1)[:, None]
    return DistillationProcess(process.names, Weighting('exponential', unit=process.weighting.unit), knots,
                               log_weights(weights), {**process.origin, 'end_features': dict(steps=steps)}, process.layers)
