from .process_record_hook import ProcessRecordHook
from .process_replay_hook import ProcessReplayHook

__all__ = ['ProcessRecordHook', 'ProcessReplayHook']
