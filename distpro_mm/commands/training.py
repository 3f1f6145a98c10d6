"""Training, search, evaluation and export from a config."""
from mmengine.config import Config
from mmrazor.registry import LOOPS

from distpro.checks import FLAG, check_choice

from ..config_types import is_a
from ..engine.config_errors import config_errors
from ..engine.launch import build_trainer, evaluate_student
from ..engine.search import Search
from ..errors import ConfigError
from ..export import export_student


def train(cfg: Config, work_dir: str | None = None, resume: str | None = None, amp: bool = False, profile: bool = False,
          launcher: str = 'none') -> None:
    """Train a teacher, a baseline, a search or a distillation.

    Args:
        cfg (Config): The config; modified in place.
        work_dir (str, optional): Folder for logs and checkpoints. Defaults to None: that of the config.
        resume (str, optional): A checkpoint to resume from, or 'auto' for the latest one in the work_dir. Defaults to None.
        amp (bool): Mixed precision: float16 on a GPU, bfloat16 on a CPU. Defaults to False.
        profile (bool): Log the cost of a step every 50 iterations. Defaults to False.
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.

    Raises:
        ConfigError: If the config or an argument is invalid.
    """
    check_choice('profile', profile, FLAG, ConfigError)
    cfg.work_dir = work_dir or cfg.work_dir
    if profile:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='mmrazor.ProfileHook')]
    trainer = build_trainer(cfg, launcher, resume, amp)
    with config_errors(cfg):  # mmengine builds loops, optimisers and schedules only now
        trainer.train()


def search(cfg: Config, work_dir: str | None = None, resume: str | None = None, amp: bool = False, profile: bool = False,
           launcher: str = 'none') -> None:
    """Search a process; :func:`train` of a config whose loop is a search.

    Raises:
        ConfigError: If the config is not a search, or is invalid.
    """
    kind = cfg.get('train_cfg', {}).get('type')
    if not is_a(kind, Search, LOOPS):
        raise ConfigError(f'train_cfg.type={kind!r} is not a search: give a config such as configs/distpro/search.py, or '
                          'use the command train')
    train(cfg, work_dir, resume, amp, profile, launcher)


def evaluate(cfg: Config, checkpoint: str, work_dir: str | None = None, launcher: str = 'none') -> None:
    """Evaluate a network, or the student of a distillation, on the test set.

    Args:
        cfg (Config): The config; modified in place.
        checkpoint (str): Checkpoint of a training, or an exported student.
        work_dir (str, optional): Folder for the log. Defaults to None: that of the config.
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.

    Raises:
        ConfigError: If the config or the checkpoint is invalid.
    """
    cfg.work_dir = work_dir or cfg.work_dir
    evaluate_student(cfg, checkpoint, launcher)


def export(cfg: Config, checkpoint: str, out: str) -> None:
    """Export the student of a distillation, and print the paths; see :func:`distpro_mm.export.export_student`."""
    for name, path in export_student(cfg, checkpoint, out).items():
        print(f'{name}: {path}')
