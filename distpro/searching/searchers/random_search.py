"""Refinement by chance, as a control."""
import math

import numpy as np
import torch
from torch import Tensor

from .searcher import Searcher, register_searcher


@register_searcher
class RandomSearcher(Searcher):
    """A control: normal numbers of standard deviation 1 added to the best level.

    One number for each knot, each pathway, and both.
    """
    parallel = math.inf

    def refine(self, step: int) -> Tensor:
        """Tensor: The best level and a random change."""
        knots, pathways = self.initial.shape
        random = np.random.RandomState([self.seed, step])
        change = random.randn(knots, 1) + random.randn(1, pathways) + random.randn(knots, pathways)
        return self.shift(self.base, torch.from_numpy(change))
