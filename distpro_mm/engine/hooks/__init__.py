from .channels_last_hook import ChannelsLastHook
from .distill_warm_up_hook import DistillWarmUpHook
from .initial_student_hook import InitialStudentHook
from .load_checkpoint_hook import LoadCheckpointHook
from .process_record_hook import ProcessRecordHook
from .process_replay_hook import ProcessReplayHook
from .profile_hook import ProfileHook
from .training_watch_hook import TrainingWatchHook
from .whole_checkpoint_hook import WholeCheckpointHook
from .whole_run_record_hook import WholeRunRecordHook

__all__ = [
    'ChannelsLastHook', 'DistillWarmUpHook', 'InitialStudentHook', 'LoadCheckpointHook', 'ProcessRecordHook',
    'ProcessReplayHook', 'ProfileHook', 'TrainingWatchHook', 'WholeCheckpointHook', 'WholeRunRecordHook'
]
