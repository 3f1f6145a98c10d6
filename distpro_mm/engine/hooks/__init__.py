from .atomic_checkpoint_hook import AtomicCheckpointHook
from .channels_last_hook import ChannelsLastHook
from .class_count_hook import ClassCountHook
from .class_names_hook import ClassNamesHook
from .gradient_norm_hook import GradientNormHook
from .initial_student_hook import InitialStudentHook
from .load_checkpoint_hook import LoadCheckpointHook
from .loss_schedule_hook import LossScheduleHook
from .process_record_hook import ProcessRecordHook
from .process_replay_hook import ProcessReplayHook
from .profile_hook import ProfileHook
from .progress_hook import ProgressHook
from .report_hook import ReportHook
from .teacher_check_hook import TeacherCheckHook
from .teacher_classes_hook import TeacherClassesHook
from .training_watch_hook import TrainingWatchHook

CHECKS = (LoadCheckpointHook, TrainingWatchHook, ClassNamesHook, ClassCountHook, TeacherCheckHook, GradientNormHook)


def add_checks(runner) -> None:
    """Register the hooks that check every training, each unless the runner has one."""
    for check in CHECKS:
        add_once(runner, check)


def add_once(runner, kind: type) -> None:
    """Register a hook with its default arguments, unless the runner has one of its class."""
    if not any(isinstance(hook, kind) for hook in runner.hooks):
        runner.register_hook(kind())


__all__ = [
    'ChannelsLastHook', 'ClassCountHook', 'ClassNamesHook', 'GradientNormHook', 'InitialStudentHook',
    'LoadCheckpointHook', 'LossScheduleHook', 'ProcessRecordHook', 'ProcessReplayHook', 'ProfileHook', 'ProgressHook',
    'ReportHook', 'TeacherCheckHook', 'TeacherClassesHook', 'TrainingWatchHook', 'AtomicCheckpointHook', 'add_checks',
    'add_once'
]
