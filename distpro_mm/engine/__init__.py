"""HOW it runs: the search loop, the hooks that record and replay, and the optimiser constructor."""
from .hooks import ProcessRecordHook, ProcessReplayHook
from .loops import DistProSearchLoop
from .optimizers import BFloat16OptimWrapper, DistProOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper', 'DistProOptimWrapperConstructor', 'DistProSearchLoop', 'ProcessRecordHook',
    'ProcessReplayHook'
]
