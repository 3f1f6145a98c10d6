"""The best of a few constant weights."""
import math
from collections.abc import Callable

Weights = tuple[float, ...]


def climb(accuracy: Callable[[Weights], float | None], start: Weights) -> dict:
    """Go to the best neighbour by factors of three, one weight at a time, until there is none that is better.

    Args:
        accuracy (Callable): Accuracy in % with some weights; None if the training failed. Called once for each.
        start (tuple[float, ...]): The first weights.

    Returns:
        dict: The ``best`` weights, and all ``trials`` [*weights, accuracy].
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
        best = max([best, *neighbours(best)], key=value)
    return dict(best=best, trials=[[*weights, value] for weights, value in found.items()])


def neighbours(weights: Weights) -> list[Weights]:
    """The weights with one of them changed, rounded so that there and back is the same number."""
    return [(*weights[:place], float(f'{weights[place] * factor:.6g}'), *weights[place + 1:])
            for place in range(len(weights)) for factor in (3, 1 / 3)]
