"""Train loops, hooks and optimiser constructors."""
from .hooks import (
    AtomicCheckpointHook,
    ChannelsLastHook,
    DistillWarmUpHook,
    InitialStudentHook,
    LoadCheckpointHook,
    ProcessRecordHook,
    ProcessReplayHook,
    ProfileHook,
    TrainingWatchHook,
)
from .loops import DistProOneStepSearchLoop, DistProSearchLoop, L2TTrainLoop, ReproducibleTrainLoop
from .optimizers import BFloat16OptimWrapper, DistProOptimWrapperConstructor, L2TOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper', 'ChannelsLastHook', 'DistProOptimWrapperConstructor', 'DistProOneStepSearchLoop',
    'DistProSearchLoop', 'DistillWarmUpHook', 'InitialStudentHook', 'L2TOptimWrapperConstructor', 'L2TTrainLoop',
    'LoadCheckpointHook', 'ProcessRecordHook', 'ProcessReplayHook', 'ProfileHook', 'ReproducibleTrainLoop',
    'TrainingWatchHook', 'AtomicCheckpointHook'
]
