"""What hooks know about a loop that searches a process."""
from typing import Optional

from distpro.process import DistillationProcess
from distpro.searching import Hypergradient, Searcher, Trajectory


class Search:
    """Interface of the search loops to hooks; a loop that does not search is no instance of it.

    Attributes:
        searcher (Searcher, optional): Strategy of a search in rounds; None in a search that updates alpha in every step.
        hypergradient (Hypergradient, optional): One-step derivatives of the held-out loss, if the search uses them.
        trajectory (Trajectory, optional): Derivatives through whole rounds, if the search uses them.
    """
    searcher: Optional[Searcher] = None
    hypergradient: Optional[Hypergradient] = None
    trajectory: Optional[Trajectory] = None

    @property
    def in_rounds(self) -> bool:
        """bool: Whether the search trains the student again and again in rounds."""
        return self.searcher is not None

    def process(self) -> Optional[DistillationProcess]:
        """The process that the search has found so far; None before there is one.

        ``origin`` of the process has what the loop knows of its origin, with ``complete``: whether the search is at its end.
        """
        raise NotImplementedError

    def state_dict(self) -> dict:
        """dict: What a search that is resumed goes on with."""
        raise NotImplementedError

    def load_state_dict(self, state: dict) -> None:
        """Go on with what :meth:`state_dict` gave."""
        raise NotImplementedError
