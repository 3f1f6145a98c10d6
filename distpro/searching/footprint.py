"""What a differentiated round stores, and where."""
import dataclasses
import math
import os


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Memory of a round of N steps that is differentiated.

    As many steps as fit in ``memory`` are stored at a time. A longer round has parts of so many steps. The state before each
    part is in main memory, and all parts but the last are trained again on the way back.

    Args:
        iterations (int): N, >= 1.
        step (int): Bytes of a stored step: the parameters before it, the batch, and the optimiser's state if it is not SGD.
        state (int): Bytes of the state of the training.
        memory (float): GiB for stored steps.
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
        """int: Parts of the round, each with its state in main memory."""
        return math.ceil(self.iterations / self.steps)

    @property
    def taken_again(self) -> int:
        """int: Steps that are taken a second time."""
        return (self.parts - 1) * self.steps

    @property
    def states(self) -> int:
        """int: Bytes of the states in main memory."""
        return self.parts * self.state

    @property
    def least(self) -> float:
        """float: ``memory`` in GiB with which stored steps and states are least in sum: sqrt(N step state)."""
        return math.sqrt(self.iterations * self.step * self.state) / 2**30

    @property
    def too_large(self) -> bool:
        """bool: Whether the states need more than half of the machine's main memory."""
        return self.states > os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2

    def __str__(self) -> str:
        text = (f'to differentiate a round of {self.iterations} steps, {self.steps} are stored at a time '
                f'({self.step / 1e6:.3g} MB each)')
        if self.parts > 1:
            text += (f', and the states before {self.parts} parts in main memory ({self.state / 1e6:.3g} MB each, '
                     f'{self.states / 1e9:.3g} GB in all); {self.taken_again} steps are taken twice. With memory='
                     f'{self.least:.2g} steps and states would need least, {2 * self.least * 2**30 / 1e9:.3g} GB in sum')
        return text
