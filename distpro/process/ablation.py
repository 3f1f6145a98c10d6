"""Ablations of a process: what is left of it without one of its properties."""
from collections.abc import Sequence

import numpy as np

from ..checks import check_choice
from ..errors import ProcessError
from .process import DistillationProcess, interpolate

ABLATIONS = ('process', 'uniform', 'last', 'shuffled', 'mean', 'mean_over_pathways', 'random')
RANDOM_KNOTS = 5  # of a random process


def ablation(process: DistillationProcess, name: str, progress: Sequence[float], seed: int = 0) -> np.ndarray:
    """The process, or one of its ablations.

    Args:
        process (DistillationProcess): The process.
        name (str): 'process'; 'uniform': all pathways at the mean weight over pathways and progress; 'last': the last
            weights throughout; 'mean': each pathway at its own mean over progress; 'mean_over_pathways': all pathways
            at the mean weight of the present progress; 'shuffled': the weights in random order of progress; 'random':
            the present total, divided among the pathways at random.
        progress (Sequence[float]): Shares of the training [M], in [0, 1].
        seed (int): Seed of 'shuffled' and 'random'. Defaults to 0.

    Returns:
        np.ndarray: Weights [M, N]. What else is scheduled stays as it is.

    Raises:
        ProcessError: If ``name`` is none of these.
    """
    check_choice('ablation', name, ABLATIONS, ProcessError)
    weights = process.weights_at(progress)
    if name == 'process':
        return weights
    if name == 'uniform':
        return np.full_like(weights, weights.mean())
    if name == 'last':
        return np.repeat(process.weights[-1:], len(weights), axis=0)
    if name == 'mean':
        return np.repeat(weights.mean(axis=0, keepdims=True), len(weights), axis=0)
    if name == 'mean_over_pathways':
        return np.repeat(weights.mean(axis=1, keepdims=True), len(process.names), axis=1)
    if name == 'shuffled':
        return weights[np.random.RandomState(seed).permutation(len(weights))]
    shares = np.random.RandomState(seed).dirichlet(np.ones(len(process.names)), RANDOM_KNOTS)
    return weights.sum(axis=1, keepdims=True) * interpolate(np.linspace(0, 1, RANDOM_KNOTS), shares, progress)
