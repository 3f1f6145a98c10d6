"""Pathways by the depths of their layers."""
import numpy as np

from distpro.process import DistillationProcess
from distpro.weighting import Weighting

ALL, NOT_SHALLOWER, SAME = (lambda t, s: True), (lambda t, s: s >= t - 1e-9), (lambda t, s: abs(t - s) < 1e-9)


def places(count):
    return [place / max(count - 1, 1) for place in range(count)] if count > 1 else [1.0]


def grid(teachers, students, keep=ALL):
    """Points of the pathways of a pair, ordered by the teacher's layers first."""
    return [(t, s) for t in places(teachers) for s in places(students) if keep(t, s)]


def pair(teachers, students, keep=ALL, transforms=('wide', ), letters='ts'):
    """Names of the pathways, and the layers."""
    layers = dict(transmitters=[f'{letters[0]}{i}' for i in range(teachers)],
                  receivers=[f'{letters[1]}{j}' for j in range(students)])
    names = [f'{t}>{s}:{transform}' for t, x in zip(layers['transmitters'], places(teachers))
             for s, y in zip(layers['receivers'], places(students)) if keep(x, y) for transform in transforms]
    return names, layers


def make(names, weights, layers=None, unit='loss'):
    """A process with these weights [K, N] and irregular knots."""
    weights = np.asarray(weights, dtype=float)
    progress = np.linspace(0, 0.9, len(weights)) ** 2
    return DistillationProcess(names, Weighting('exponential', unit=unit), progress, np.log(weights), dict(seed=3), layers)


def drawn(names, layers=None, seed=0, knots=4):
    return make(names, np.random.RandomState(seed).uniform(0.1, 2, (knots, len(names))), layers)


def with_total(values, process):
    """Values [K, N], scaled at each knot to the process's total."""
    return values * process.weights.sum(axis=1, keepdims=True) / values.sum(axis=1, keepdims=True)
