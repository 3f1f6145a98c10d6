"""HOW it runs: the loops, the hooks that record, replay and save, and the optimiser constructor."""
from .hooks import ChannelsLastHook, ProcessRecordHook, ProcessReplayHook, ProfileHook, WholeCheckpointHook
from .loops import DistProSearchLoop, ReproducibleTrainLoop
from .optimizers import BFloat16OptimWrapper, DistProOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper', 'ChannelsLastHook', 'DistProOptimWrapperConstructor', 'DistProSearchLoop',
    'ProcessRecordHook', 'ProcessReplayHook', 'ProfileHook', 'ReproducibleTrainLoop', 'WholeCheckpointHook'
]
