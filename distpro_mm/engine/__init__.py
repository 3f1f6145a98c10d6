"""HOW it runs: the loops, the hooks that record, replay and save, and the optimiser constructor."""
from .hooks import DistillWarmUpHook, ProcessRecordHook, ProcessReplayHook, WholeCheckpointHook
from .loops import DistProSearchLoop, ReproducibleTrainLoop
from .optimizers import BFloat16OptimWrapper, DistProOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper', 'DistProOptimWrapperConstructor', 'DistProSearchLoop', 'DistillWarmUpHook',
    'ProcessRecordHook', 'ProcessReplayHook', 'ReproducibleTrainLoop', 'WholeCheckpointHook'
]
