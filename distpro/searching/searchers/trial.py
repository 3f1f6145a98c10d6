"""A process that a search tries in a round."""
import dataclasses
import math

from torch import Tensor


@dataclasses.dataclass(eq=False)
class Trial:
    """A process that was tried, or is to be.

    Args:
        kind (str): Name of a reference; 'level': a total weight; or 'step': a refinement of the best level.
        alpha (Tensor): Free parameters [knots, N].
        loss (float, optional): Held-out loss, NaN if training diverged. Defaults to None: not known yet.
        confirms (bool): Whether it repeats an earlier process, to confirm the result. Defaults to False.
    """
    kind: str
    alpha: Tensor
    loss: float | None = None
    confirms: bool = False

    @property
    def finite(self) -> bool:
        """bool: Whether it has a finite held-out loss."""
        return self.loss is not None and math.isfinite(self.loss)

    def to_dict(self) -> dict:
        """dict: Kind and loss, None if it is not finite, for the origin of a process."""
        found = dict(kind=self.kind, loss=self.loss if self.finite else None)
        return {**found, 'confirms': True} if self.confirms else found
