"""Interface of the search loops for hooks."""

from distpro.process import DistillationProcess
from distpro.searching import Hypergradient, Searcher, Trajectory


class Search:
    """Base class of the search loops; hooks use it to recognise a search.

    Attributes:
        searcher (Searcher, optional): Strategy of a search in rounds; None in a search that updates alpha in every step.
        hypergradient (Hypergradient, optional): One-step derivatives of the held-out loss, if the search uses them.
        round_start (int): Iteration at which the present round has started. Defaults to 0.
        iterations (int): Iterations of a round; 0 in a search without rounds. Defaults to 0.
        trajectory (Trajectory, optional): Derivatives through all steps of a round, if the search uses them.
        loss_of_epoch (float, optional): Held-out loss of the trial that has ended in the last epoch, or mean loss of the
            epoch's updates in a search without rounds; None if there is none.
    """
    searcher: Searcher | None = None
    hypergradient: Hypergradient | None = None
    trajectory: Trajectory | None = None
    loss_of_epoch: float | None = None
    round_start: int = 0
    iterations: int = 0

    @property
    def in_rounds(self) -> bool:
        """bool: Whether the search trains the student in rounds, each from the start."""
        return self.searcher is not None

    def process(self) -> DistillationProcess | None:
        """The process that the search has found so far; None if there is none.

        ``origin`` of the process describes the search. Its entry ``complete`` is whether the search has finished.
        """
        raise NotImplementedError

    def state_dict(self) -> dict:
        """dict: State from which a search resumes."""
        raise NotImplementedError

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of :meth:`state_dict`."""
        raise NotImplementedError
