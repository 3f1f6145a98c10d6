from .distill_warm_up_hook import DistillWarmUpHook
from .process_record_hook import ProcessRecordHook
from .process_replay_hook import ProcessReplayHook
from .whole_checkpoint_hook import WholeCheckpointHook, damage, newest_whole_checkpoint

__all__ = [
    'DistillWarmUpHook', 'ProcessRecordHook', 'ProcessReplayHook', 'WholeCheckpointHook', 'damage', 'newest_whole_checkpoint'
]
