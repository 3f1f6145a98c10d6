"""What a process may hold beside the weights of pathways: the temperature of logits and the weight of the cross-entropy."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import check_that
from ..errors import ProcessError, is_number
from ..pathways.weights import SCHEDULED


def scheduled_values(given: Any, knots: int) -> dict[str, list[float]]:
    """The values of a process at its knots.

    Args:
        given (dict[str, Sequence[float]], optional): By name, a value at each knot: of 'temperature' a factor > 0, of
            'cross_entropy' a weight >= 0. None: nothing is scheduled.
        knots (int): Number of knots of the process.

    Raises:
        ProcessError: If a name is unknown, or its values are not as many numbers in this range.
    """
    check_that('scheduled', given, given is None or isinstance(given, dict), f'a dict of lists by {" and ".join(SCHEDULED)}',
               ProcessError)
    found: dict[str, list[float]] = {}
    for name, values in (given or {}).items():
        if name not in SCHEDULED:
            raise ProcessError(f"scheduled has '{name}'; it may have {', '.join(SCHEDULED)}")
        fits = isinstance(values, (Sequence, np.ndarray)) and len(values) == knots and all(is_number(v) for v in values)
        if not fits or not all(value > 0 or name == 'cross_entropy' and value == 0 for value in values):
            range_ = 'above 0' if name == 'temperature' else 'from 0 on'
            raise ProcessError(f'scheduled: {name}={values} must be {knots} numbers {range_}, one for each knot')
        found[name] = [float(value) for value in values]
    return found
