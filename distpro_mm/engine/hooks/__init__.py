from .channels_last_hook import ChannelsLastHook
from .class_count_hook import ClassCountHook
from .distill_warm_up_hook import DistillWarmUpHook
from .initial_student_hook import InitialStudentHook
from .process_record_hook import ProcessRecordHook
from .process_replay_hook import ProcessReplayHook
from .profile_hook import ProfileHook
from .whole_checkpoint_hook import WholeCheckpointHook, damage, newest_whole_checkpoint
from .whole_run_record_hook import WholeRunRecordHook

__all__ = [
    'ChannelsLastHook', 'ClassCountHook', 'DistillWarmUpHook', 'InitialStudentHook', 'ProcessRecordHook',
    'ProcessReplayHook', 'ProfileHook', 'WholeCheckpointHook', 'WholeRunRecordHook', 'damage', 'newest_whole_checkpoint'
]
