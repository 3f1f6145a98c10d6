"""What a differentiated round stores, and where."""
import dataclasses
import math
import os
from typing import Any

from ..tracing import tensors_in


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Memory of a round of N steps that is differentiated.

    As many steps as fit in ``memory`` are stored at a time. A longer round has parts of so many steps. The state before each
    part is in main memory, and all parts but the last are trained again on the way back. If the states of all parts need
    more than ``memory``, the parts form groups, about as many as a group has parts. Then only the state before each group is
    stored, and those inside a group are found by training it once more.

    Args:
        iterations (int): N, >= 1.
        step (int): Bytes of a stored step: the parameters before it, the batch, and the optimiser's state if it is not SGD.
        state (int): Bytes of the state of the training.
        memory (float): GiB for stored steps, and for states.
    """
    iterations: int
    step: int
    state: int
    memory: float

    @property
    def steps(self) -> int:
        """int: Steps that are stored at a time, >= 1."""
        return max(1, min(self.iterations, int(self.memory * 2**30 / self.step)))

    @property
    def parts(self) -> int:
        """int: Parts of the round."""
        return math.ceil(self.iterations / self.steps)

    @property
    def group(self) -> int:
        """int: Parts of a group; 1 without groups."""
        return 1 if self.parts * self.state <= self.memory * 2**30 else math.ceil(math.sqrt(self.parts))

    @property
    def states(self) -> int:
        """int: Bytes of the states in main memory at most, that of the end of the round included."""
        return self.state * (math.ceil(self.parts / self.group) + self.group - 1 + (self.parts > 1))

    @property
    def taken(self) -> int:
        """int: How often most steps are taken: once, twice with several parts, three times with groups."""
        return 1 + (self.parts > 1) + (self.group > 1)

    @property
    def enough(self) -> float:
        """float: ``memory`` in GiB, in two digits, with which no step is taken a third time: about sqrt(N step state)."""
        memory = math.sqrt(self.iterations * self.step * self.state) / 2**30
        while dataclasses.replace(self, memory=float(f'{memory:.2g}')).group > 1:
            memory *= 1.02
        return float(f'{memory:.2g}')

    @property
    def too_large(self) -> bool:
        """bool: Whether the states need more than half of the machine's main memory."""
        return self.states > os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2

    def __str__(self) -> str:
        text = (f'to differentiate a round of {self.iterations} steps, {self.steps} are stored at a time '
                f'({self.step / 1e6:.3g} MB each)')
        if self.parts > 1:
            text += (f', and {self.states // self.state} states in main memory ({self.state / 1e6:.3g} MB each, '
                     f'{self.states / 1e9:.3g} GB in all); most steps are taken {["twice", "three times"][self.group > 1]}')
        if self.group > 1:
            text += f', with memory={self.enough:g} twice'
        return text


def bytes_of(values: Any) -> int:
    """int: Bytes of all tensors in nested tuples, lists and dicts."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(values))
