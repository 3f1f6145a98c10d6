"""What a step of a distillation returns."""
import dataclasses
from typing import Any

from torch import Tensor


@dataclasses.dataclass
class DistillationOutput:
    """What :class:`distpro.Distillation` returns.

    Args:
        logits (Tensor): The student's logits [B, K].
        loss (Tensor): Weighted sum of the pathways' losses, a scalar; 0 without gradients.
        pathways (dict[str, Tensor]): Unweighted loss of each computed pathway by name, detached.
        output (Any): What the student returned.
        cross_entropy (Tensor or float): What the loop multiplies its own loss by. 1 unless the process has a weight of the
            cross-entropy over time.
    """
    logits: Tensor
    loss: Tensor
    pathways: dict[str, Tensor]
    output: Any
    cross_entropy: Tensor | float = 1.0
