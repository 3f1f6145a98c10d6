# A worker started by spawn imports this package afresh and with it the mends that mmpretrain needs.
from .batch_augments import BatchRandomCrop, BatchRandomFlip
from .held_out_split import HeldOutSplit, split
from .in_memory import InMemoryDataset, keep_loaded
from .reproducible import ReproducibleBatchSampler, ReproducibleDataset, ReproducibleSampler, reproducible, seed_all
from .sklearn_digits import SklearnDigits

__all__ = [
    'BatchRandomCrop', 'BatchRandomFlip', 'HeldOutSplit', 'InMemoryDataset', 'ReproducibleBatchSampler',
    'ReproducibleDataset', 'ReproducibleSampler', 'SklearnDigits', 'keep_loaded', 'reproducible', 'seed_all', 'split'
]
