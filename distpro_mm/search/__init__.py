"""HOW the process is learned: the bi-level gradient, in torch alone."""
from .hypergradient import METHODS, Hypergradient, step_transposed, untouched
from .unrolled import unrolled

__all__ = ['METHODS', 'Hypergradient', 'step_transposed', 'unrolled', 'untouched']
