"""HOW the process is learned: the bi-level gradient, in torch alone."""
from .hypergradient import METHODS, Hypergradient, untouched
from .trajectory import Step, Trajectory
from .unrolled import unrolled

__all__ = ['METHODS', 'Hypergradient', 'Step', 'Trajectory', 'unrolled', 'untouched']
