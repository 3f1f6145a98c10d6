"""The best of two constant weights."""
import math
from collections.abc import Callable

Weights = tuple[float, float]


def climb(accuracy: Callable[[Weights], float | None], start: Weights) -> dict:
    """Go to the best neighbour by factors of three, one weight at a time, until there is none that is better.

    Args:
        accuracy (Callable): Accuracy in % with weights of features and logits; None if the training failed. Called once for
            each pair of weights.
        start (tuple[float, float]): The first pair.

    Returns:
        dict: The ``best`` pair, and all ``trials`` [features, logits, accuracy].
    """
    found: dict[Weights, float | None] = {}

    def value(weights: Weights) -> float:
        if weights not in found:
            found[weights] = accuracy(weights)
        known = found[weights]
        return -math.inf if known is None else known

    best, before = start, None
    while best != before:
        before = best
        features, logits = best
        best = max([best, (features * 3, logits), (features / 3, logits), (features, logits * 3), (features, logits / 3)],
                   key=value)
    return dict(best=best, trials=[[*weights, value] for weights, value in found.items()])
