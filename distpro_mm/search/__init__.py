"""HOW the process is learned: the bi-level gradient, in torch alone."""
from .hypergradient import METHODS, Hypergradient, gpus, untouched
from .searcher import SEARCHERS, Searcher, Trial, register_searcher
from .second_derivative import twice_differentiable
from .trajectory import Step, Trajectory
from .unrolled import unrolled

__all__ = [
    'METHODS', 'SEARCHERS', 'Hypergradient', 'Searcher', 'Step', 'Trajectory', 'Trial', 'gpus', 'register_searcher',
    'twice_differentiable', 'unrolled', 'untouched'
]
