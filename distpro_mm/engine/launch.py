"""From a config file to a runner: what the tools call."""
import contextlib
import copy
import difflib
import logging
import os
from typing import Iterator, List, Optional

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint
from mmpretrain.registry import MODELS
from mmrazor.models import SingleTeacherDistill
from mmrazor.registry import HOOKS, OPTIM_WRAPPERS
from torch import nn

from ..config_types import check_arguments, class_of, is_a, name_of
from ..errors import ConfigError
from ..models import DistPro, TapDistill
from ..models.checkpoints import load_whole
from ..models.losses.one_label import refuse_recorded_one_label
from .hooks import ClassCountHook, ProcessReplayHook, damage, newest_whole_checkpoint
from .optimizers import BFloat16OptimWrapper


def load_config(path: str, options: Optional[dict] = None, pair: Optional[str] = None) -> Config:
    """Read a config file and override settings.

    Args:
        path (str): The config file.
        options (dict, optional): Settings by dotted key. Defaults to None.
        pair (str, optional): Name of the pair in ``_base_/pairs`` that the config is read for. Defaults to None: the
            environment's ``PAIR``, else the one that the config names.

    Returns:
        Config: The config; unless it says otherwise, ``work_dir`` is ``work_dirs/<pair>/<name of the file>``, or
        ``work_dirs/<name of the file>`` for a config without a pair.

    Raises:
        ConfigError: If there is no such file or no such pair, the config is of no pair, or based on a toolbox that is not
            installed.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"there is no config file '{path}'; those that come with the project are in configs/")
    with _pair_in_environment(pair):
        try:
            cfg = Config.fromfile(path)
        except FileNotFoundError as error:
            raise _no_such_pair(error, pair) or error
        except ModuleNotFoundError as error:
            if 'please install' not in str(error):  # mmengine's words for the toolbox of _base_='toolbox::...'
                raise
            raise ConfigError(f"'{path}' is based on a config of a toolbox: {error}; mmsegmentation and mmdetection come "
                              "with pip install '.[dense]'") from error
    if pair is not None and cfg.get('pair') != pair:
        raise ConfigError(f"--pair {pair}: '{path}' " + (f"is of the pair '{cfg.pair}' alone" if 'pair' in cfg else
                                                         'is of no pair') + '; leave --pair out')
    cfg.merge_from_dict(options or {})
    if cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', cfg.get('pair', ''), os.path.splitext(os.path.basename(path))[0])
    return cfg


@contextlib.contextmanager
def _pair_in_environment(pair: Optional[str]) -> Iterator[None]:
    """Let configs read ``PAIR``, which mmengine takes from the environment alone, and leave no trace there."""
    if pair is None:
        yield
        return
    before, quiet = os.environ.get('PAIR'), logging.root.manager.disable
    os.environ['PAIR'] = pair
    logging.disable(logging.INFO)  # mmengine tells of every variable that it uses
    try:
        yield
    finally:
        logging.disable(quiet)
        os.environ.pop('PAIR')
        if before is not None:
            os.environ['PAIR'] = before


def _no_such_pair(error: FileNotFoundError, pair: Optional[str]) -> Optional[ConfigError]:
    """What to say if the file that is missing is a pair's."""
    pair, named = (os.environ.get('PAIR'), 'PAIR=') if pair is None else (pair, '--pair ')
    folder, name = os.path.split(error.filename or '')
    folder = os.path.realpath(folder)
    if pair is None or name != f'{pair}.py' or not folder.endswith(os.path.join('_base_', 'pairs')) or \
            not os.path.isdir(folder):
        return None
    pairs = sorted(name[:-3] for name in os.listdir(folder) if name.endswith('.py'))
    nearest = difflib.get_close_matches(pair, pairs, n=3, cutoff=0)
    return ConfigError(f"{named}{pair}: there is no such pair; nearest: {', '.join(nearest)}; a pair is a file in "
                       f"'{os.path.relpath(folder)}'")


def build_trainer(cfg: Config, launcher: str = 'none', resume: Optional[str] = None, amp: bool = False) -> Runner:
    """Build the runner of a training.

    Args:
        cfg (Config): The config; changed by the other arguments.
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        resume (str, optional): A checkpoint to go on from, or 'auto' for the newest in the work_dir. Defaults to None.
        amp (bool): Mixed precision: float16 on a GPU, bfloat16 on a CPU. Defaults to False.

    Returns:
        Runner: Ready to ``train()``.

    Raises:
        ConfigError: If the config cannot be trained.
    """
    cfg.launcher = launcher
    kind = cfg.model.get('type')
    if is_a(kind, TapDistill):
        check_arguments(class_of(kind), (name for name in cfg.model if name not in ('type', '_scope_')), 'model')
    if cfg.get('compile') and is_a(kind, DistPro):
        raise ConfigError(f'compile={cfg.compile} compiles the whole training step, in which no feature can be read: remove '
                          'it and set model.distiller.compile_transforms=True')
    if is_a(kind, SingleTeacherDistill) and not is_a(kind, TapDistill) and \
            cfg.model.get('teacher', {}).get('data_preprocessor'):
        raise ConfigError("model.teacher.data_preprocessor: mmrazor's SingleTeacherDistill gives the teacher the student's "
                          'images: remove it if both are prepared alike; model.type=DistPro or TapDistill converts them')
    if launcher != 'none':
        _join_processes(cfg)
    if resume is not None:
        cfg.load_from = _checkpoint_to_resume(cfg.work_dir, resume)
        cfg.resume = cfg.load_from is not None
    if amp:
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if class_of(kind, OPTIM_WRAPPERS) not in (OptimWrapper, AmpOptimWrapper, BFloat16OptimWrapper):
            raise ConfigError(f"--amp replaces optim_wrapper.type='OptimWrapper', and the config has '{name_of(kind)}': "
                              'choose the precision in the config')
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'mmrazor.BFloat16OptimWrapper'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(ClassCountHook())
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if isinstance(model, SingleTeacherDistill):
        refuse_recorded_one_label(model)
    return runner


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config alone: no data, no folder, no log.

    Args:
        cfg (Config): The config.

    Returns:
        nn.Module: The model, with weights as they come.

    Raises:
        ConfigError: If its parts do not fit.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = copy.deepcopy(cfg.model)  # a ConfigDict, which mmsegmentation needs
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))  # as the runner does
    return MODELS.build(model)


def _join_processes(cfg: Config) -> None:
    """Set up what mmengine lacks for several processes: CPUs, and parameters that a step may leave out."""
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise ConfigError('--launcher pytorch is for processes that torchrun starts: use tools/dist_train.sh CONFIG '
                          'PROCESSES')
    # Pathways that a replay skips have transforms without a gradient.
    unused = cfg.get('find_unused_parameters', bool(replay_hooks(cfg)))
    cfg.find_unused_parameters = unused
    if torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise ConfigError(f"--launcher {cfg.launcher} needs GPUs, and there is none here; for CPUs use --launcher pytorch")
    if not torch.distributed.is_initialized():
        # mmengine would choose a GPU for each process first.
        torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                                             find_unused_parameters=unused))


def replay_hooks(cfg: Config) -> List[dict]:
    """list[dict]: The config's hooks that replay a process."""
    return [hook for hook in cfg.get('custom_hooks') or [] if is_a(hook['type'], ProcessReplayHook, HOOKS)]


def _checkpoint_to_resume(work_dir: str, resume: str) -> Optional[str]:
    """The checkpoint to go on from; None where the work_dir has none yet.

    Raises:
        ConfigError: If it is not there or not whole; names the newest whole one.
    """
    whole = newest_whole_checkpoint(work_dir if resume == 'auto' else os.path.dirname(os.path.abspath(resume)))
    if resume == 'auto':
        if whole is None:
            print_log(f"--resume: '{work_dir}' has no whole checkpoint: training starts from the beginning", 'current', 30)
        return whole
    instead = f"the newest whole checkpoint there is '{whole}'" if whole else 'there is no whole checkpoint beside it'
    if not os.path.isfile(resume):
        raise ConfigError(f"--resume '{resume}': there is no such checkpoint; {instead}; --resume alone takes the newest in "
                          'the work_dir')
    wrong = damage(resume)
    if wrong is None and not {'optimizer', 'meta', 'state_dict'} <= set(_load_checkpoint(resume, map_location='cpu')):
        wrong = 'it holds no state of a training, only weights (use load_from or teacher_ckpt for those)'
    if wrong is not None:
        raise ConfigError(f"--resume '{resume}': {wrong}; {instead}")
    return resume


def student_config(cfg: Config) -> Config:
    """The config of the student alone, if the config is of a distillation; else a copy of it as it is."""
    cfg = Config(cfg._cfg_dict.to_dict(), filename=cfg.filename)
    if 'architecture' in cfg.model:
        cfg.model = cfg.model.architecture
    return cfg


def evaluate_student(cfg: Config, checkpoint: str, launcher: str = 'none') -> dict:
    """Evaluate a network, or the student of a distillation, on the config's test set.

    Args:
        cfg (Config): The config that it was trained with.
        checkpoint (str): Its checkpoint, of the training or exported.
        launcher (str): As in :func:`build_trainer`.

    Returns:
        dict: Metrics.

    Raises:
        ConfigError: If the checkpoint is missing or does not fit.
    """
    cfg = student_config(cfg)
    cfg.launcher = launcher
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks'):
        cfg.pop(key, None)
    runner = Runner.from_cfg(cfg)
    load_whole(runner.model, checkpoint, 'checkpoint')
    return runner.test()

