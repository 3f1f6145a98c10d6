"""Refinement without derivatives, by an evolution strategy."""
import numpy as np
import torch
from torch import Tensor

from .searcher import Searcher, register_searcher

POPULATION = 7  # trials of a generation


@register_searcher
class CMAESSearcher(Searcher):
    """CMA-ES from the best level, over one number for each knot and one for each pathway, which are added."""
    minimum_rounds = POPULATION + 1
    parallel = POPULATION

    def refine(self, step: int) -> Tensor:
        """Tensor: The next member of a generation; all generations are gone through anew, so no state is needed."""
        from cmaes import CMA  # an extra

        knots, pathways = self.initial.shape
        evolution = CMA(np.zeros(knots + pathways), 1.0, population_size=POPULATION, seed=self.seed % 2**32)
        told = self.of_kind('step')
        for first in range(0, step - step % POPULATION, POPULATION):
            generation = [(evolution.ask(), trial.result if trial.finite else np.finfo(np.float64).max)
                          for trial in told[first:first + POPULATION]]
            evolution.tell(generation)
        members = [evolution.ask() for _ in range(step % POPULATION + 1)]
        return self.shift(self.base, torch.from_numpy(members[-1][:knots, None] + members[-1][knots:]))
