"""Train loops, hooks and optimiser constructors."""
from .hooks import (
    AtomicCheckpointHook,
    ChannelsLastHook,
    InitialStudentHook,
    LoadCheckpointHook,
    LossScheduleHook,
    ProcessRecordHook,
    ProcessReplayHook,
    ProfileHook,
    ProgressHook,
    ReportHook,
    TeacherClassesHook,
    TrainingWatchHook,
)
from .loops import DistProOneStepSearchLoop, DistProSearchLoop, L2TTrainLoop, ReproducibleTrainLoop
from .optimizers import BFloat16OptimWrapper, DistProOptimWrapperConstructor, L2TOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper', 'ChannelsLastHook', 'DistProOptimWrapperConstructor', 'DistProOneStepSearchLoop',
    'DistProSearchLoop', 'InitialStudentHook', 'L2TOptimWrapperConstructor', 'L2TTrainLoop',
    'LoadCheckpointHook', 'LossScheduleHook', 'ProcessRecordHook', 'ProcessReplayHook', 'ProfileHook',
    'ProgressHook', 'ReportHook', 'ReproducibleTrainLoop', 'TeacherClassesHook', 'TrainingWatchHook', 'AtomicCheckpointHook'
]
