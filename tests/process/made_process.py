"""A process with drawn knots."""
import numpy as np

from distpro.process import DistillationProcess
from distpro.weighting import Weighting

NAMES = ['stem>stem:pointwise', 'stem>layer1:pointwise', 'layer1>layer2:wide', 'layer3>layer3:pointwise']
ORIGIN = dict(config='search.py', seed=3, epochs=40, versions=dict(torch='2.13.0'), note='Straße')


def make(knots=6, seed=0, weighting=None, names=NAMES):
    """A process with irregular knots from 0.05 to 0.9 and random alpha."""
    generator = np.random.RandomState(seed)
    progress = np.sort(np.concatenate([[0.05, 0.9], generator.uniform(0.06, 0.89, knots - 2)]))
    return DistillationProcess(names, weighting or Weighting('biased_softmax', scale='num_pathways', kd_weight=0.8),
                               progress, generator.randn(knots, len(names)), ORIGIN)
