"""HOW the process is learned: the bi-level gradient, in torch alone."""
from .hypergradient import METHODS, Hypergradient, gpus, untouched
from .second_derivative import twice_differentiable
from .trajectory import Step, Trajectory
from .unrolled import unrolled

__all__ = ['METHODS', 'Hypergradient', 'Step', 'Trajectory', 'gpus', 'twice_differentiable', 'unrolled', 'untouched']
