# A worker that is started by spawn imports this package, and with it the patches that mmpretrain needs.
from .as_evaluated import as_evaluated, evaluated_training_set, pipeline_of
from .batch_augments import BatchRandomCrop, BatchRandomFlip
from .held_out_split import HeldOutSplit, split
from .image_identity import image_ids
from .in_memory import CACHED, InMemoryDataset, build_unloaded, cache_images
from .loading import describe, seed_all
from .reproducible import EvenBatchSampler, ReproducibleBatchSampler, ReproducibleDataset, ReproducibleSampler, reproducible
from .sharded_images import ShardedImages
from .sklearn_digits import SklearnDigits

__all__ = [
    'CACHED', 'BatchRandomCrop', 'BatchRandomFlip', 'EvenBatchSampler', 'HeldOutSplit', 'InMemoryDataset',
    'ReproducibleBatchSampler', 'ReproducibleDataset', 'ReproducibleSampler', 'ShardedImages', 'SklearnDigits',
    'as_evaluated', 'build_unloaded', 'cache_images', 'describe', 'evaluated_training_set', 'image_ids', 'pipeline_of',
    'reproducible', 'seed_all', 'split'
]
