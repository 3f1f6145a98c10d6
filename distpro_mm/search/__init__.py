"""HOW the process is learned: the bi-level gradient, in torch alone."""
from .hypergradient import METHODS, Hypergradient, untouched
from .searcher import SEARCHERS, Searcher, Trial, register_searcher
from .trajectory import Step, Trajectory
from .unrolled import unrolled

__all__ = [
    'METHODS', 'SEARCHERS', 'Hypergradient', 'Searcher', 'Step', 'Trajectory', 'Trial', 'register_searcher', 'unrolled',
    'untouched'
]
