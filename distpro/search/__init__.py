"""How a process is learned: derivatives of the held-out loss, and searchers."""
from .hypergradient import METHODS, Hypergradient
from .searcher import SEARCHERS, Searcher, Trial, register_searcher
from .second_derivative import twice_differentiable
from .trajectory import Step, Trajectory
from .unrolled import unrolled

__all__ = [
    'METHODS', 'SEARCHERS', 'Hypergradient', 'Searcher', 'Step', 'Trajectory', 'Trial', 'register_searcher',
    'twice_differentiable', 'unrolled'
]
