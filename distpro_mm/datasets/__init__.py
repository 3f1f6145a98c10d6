# A worker started by spawn imports this package afresh and with it the mends that mmpretrain needs.
from .held_out_split import HeldOutSplit, split
from .reproducible import ReproducibleDataset, ReproducibleSampler, reproducible, seed_all
from .sklearn_digits import SklearnDigits

__all__ = [
    'HeldOutSplit', 'ReproducibleDataset', 'ReproducibleSampler', 'SklearnDigits', 'reproducible', 'seed_all', 'split'
]
