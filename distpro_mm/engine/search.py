"""What hooks know about a loop that searches a process."""
from typing import Optional

from distpro.process import DistillationProcess
from distpro.search import Hypergradient, Searcher, Trajectory


class Search:
    """Interface of the search loops to hooks; a loop that does not search is no instance of it.

    Attributes:
        searcher (Searcher, optional): Strategy of a search in rounds; None in a search that updates alpha in every step.
        hypergradient (Hypergradient, optional): One-step derivatives of the held-out loss, if the search uses them.
        trajectory (Trajectory, optional): Derivatives through whole rounds, if the search uses them.
        moves_alpha (bool): Whether the present iteration updates alpha.
    """
    searcher: Optional[Searcher] = None
    hypergradient: Optional[Hypergradient] = None
    trajectory: Optional[Trajectory] = None
    moves_alpha = False

    @property
    def in_rounds(self) -> bool:
        """bool: Whether the search trains the student again and again in rounds."""
        return self.searcher is not None

    def process(self) -> Optional[DistillationProcess]:
        """The best process so far, of a search in rounds."""
        raise NotImplementedError
