"""Build the runner or the model of a config, and evaluate a student; used by the tools."""
import copy
import os

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.models import BaseClassifier, ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmrazor.models import SingleTeacherDistill
from mmrazor.registry import HOOKS, LOOPS, OPTIM_WRAPPERS
from torch import nn

from distpro.checks import FLAG, check_arguments, check_choice

from ..config_types import class_of, is_a, name_of
from ..datasets.class_names import check_class_names, class_names, class_names_of_checkpoint
from ..errors import ConfigError
from ..models import DistPro, TapDistill
from ..models.checkpoints import load_strict
from ..models.clustering import LayerClusters
from ..models.losses.one_label import refuse_recorded_one_label
from .clustered_layers import cluster_on_training_images, has_clustered_layers
from .config_errors import PREPROCESSORS, TYPELESS, check_numbers, check_optimizers, config_errors
from .config_keys import check_late_parts, require_keys, require_model
from .hooks import ProcessReplayHook, ProgressHook, ReportHook, add_checks, add_once
from .hub_models import expand_hub_models
from .loops import DistProSearchLoop
from .optimizers import BFloat16OptimWrapper
from .resume import checkpoint_to_resume, seed_of
from .stage_references import refuse_stage_references
from .toolbox_options import check_toolbox_options
from .unwrap import unwrap

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
OF_IMAGES = ('mean', 'std', 'to_rgb', 'bgr_to_rgb', 'rgb_to_bgr')  # settings of a preprocessor that change values


def _check_teacher(cfg: Config, model: nn.Module) -> None:
    """Load a teacher's checkpoint strictly; mmrazor's own distillations ignore weights that do not fit."""
    if cfg.model.get('teacher_ckpt') and not isinstance(model, TapDistill):
        load_strict(model.teacher, cfg.model.teacher_ckpt, 'model.teacher_ckpt')


def build_trainer(cfg: Config, launcher: str = 'none', resume: str | None = None, amp: bool = False,
                  report: bool = True) -> Runner:
    """Build the runner of a training.

    Args:
        cfg (Config): The config; modified in place.
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        resume (str, optional): A checkpoint to resume from, or 'auto' for the latest one in the work_dir. Defaults to
            None: ``resume`` and ``load_from`` of the config.
        amp (bool): Mixed precision: float16 on a GPU, bfloat16 on a CPU. Defaults to False.
        report (bool): Whether ``report.html`` is written at the end, by a :class:`.ReportHook`. Defaults to True.

    Returns:
        Runner: The runner, with a :class:`.TrainingWatchHook`; call ``train()`` on it.

    Raises:
        ConfigError: If the config or an argument is invalid.
    """
    check_choice('launcher', launcher, LAUNCHERS, ConfigError)
    check_choice('amp', amp, FLAG, ConfigError)
    check_choice('report', report, FLAG, ConfigError)
    _check_model(cfg)
    require_keys(cfg, ('train_dataloader', 'train_cfg', 'optim_wrapper'), 'a training')
    refuse_stage_references(cfg)
    check_numbers(cfg)
    check_optimizers(cfg)
    check_late_parts(cfg)
    check_toolbox_options(cfg)
    cfg.launcher = launcher
    kind = cfg.model.get('type')
    if is_a(kind, TapDistill):
        check_arguments(class_of(kind), (name for name in cfg.model if name not in ('type', '_scope_')), 'model',
                        ConfigError)
    if is_a(kind, SingleTeacherDistill) and not is_a(kind, TapDistill):
        _refuse_other_images(cfg)
    if launcher != 'none':
        _join_processes(cfg)
    expand_clustered_layers(cfg)
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is not None:
        found = checkpoint_to_resume(cfg, resume)
        cfg.resume = found is not None
        if found is not None:  # else the training starts from the weights of load_from, if there are any
            cfg.load_from = found
    if cfg.get('resume') and (cfg.get('randomness') or {}).get('seed') is None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed_of(cfg.load_from))
    if amp:
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if class_of(kind, OPTIM_WRAPPERS) not in (OptimWrapper, AmpOptimWrapper, BFloat16OptimWrapper):
            raise ConfigError(f"--amp replaces optim_wrapper.type='OptimWrapper', and the config has '{name_of(kind)}': "
                              'choose the precision in the config')
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'mmrazor.BFloat16OptimWrapper'
    with config_errors(cfg):
        runner = Runner.from_cfg(cfg)
    model = unwrap(runner.model)
    _check_teacher(cfg, model)
    add_checks(runner)
    add_once(runner, ProgressHook)
    if report:
        add_once(runner, ReportHook)
    if isinstance(model, SingleTeacherDistill):
        refuse_recorded_one_label(model)
    return runner


def expand_clustered_layers(cfg: Config) -> LayerClusters | None:
    """Replace ``transmitters=dict(type='clustered')`` of the distiller by the layers, clustered on training images.

    Args:
        cfg (Config): The config of a training; modified in place.

    Returns:
        LayerClusters: The clusters; None if the config has none.

    Raises:
        ConfigError: If the config's parts do not fit.
    """
    return cluster_on_training_images(cfg, build_model(cfg)) if has_clustered_layers(cfg) else None


def _check_model(cfg: Config) -> None:
    """Check the model's type and the preprocessor of its images; write out networks given by ``cfg_path``."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')  # as the runner does; the checks look types up in it
    expand_hub_models(cfg)
    require_model(cfg)
    _merge_preprocessor(cfg)


def _refuse_other_images(cfg: Config) -> None:
    """Refuse a teacher whose images differ from the student's; mmrazor's own distillations do not convert them."""
    own, used = (next(filter(None, (part.get('data_preprocessor') for part in parts)), None) for parts in (
        (cfg.model.get('teacher') or {}, ), (cfg.model, cfg, cfg.model.get('architecture') or {})))

    def of_images(preprocessor: dict) -> list:
        values = [preprocessor.get(entry) or None for entry in OF_IMAGES]
        return [list(value) if isinstance(value, tuple) else value for value in values]

    if own and of_images(own) != of_images(used or {}):
        raise ConfigError(f"model.teacher.data_preprocessor={dict(own)}: mmrazor's SingleTeacherDistill gives the teacher "
                          f"the student's images, made by data_preprocessor={used and dict(used)}: remove it if both need "
                          'the same images; model.type=DistPro or TapDistill converts them')


def _merge_preprocessor(cfg: Config) -> None:
    """Apply the student's settings of image preprocessing to the preprocessor of the distillation.

    A plain classifier passes ``train_cfg.augments`` (Mixup, CutMix) to its own preprocessor. A distillation does not use
    this preprocessor if the config has a different one.
    """
    student, key = cfg.model.get('architecture'), 'data_preprocessor'
    if not isinstance(student, dict):
        return
    used = cfg.model.get(key) or cfg.get(key)
    own = student.get(key)
    if not isinstance(used, dict):
        return
    if 'type' not in used and is_a(student.get('type'), BaseClassifier, MODELS):
        used['type'] = 'mmpretrain.ClsDataPreprocessor'  # a classifier's default; unknown to mmrazor
    if 'type' not in used and not is_a(cfg.model.type, TapDistill):
        raise ConfigError(TYPELESS.format(f'data_preprocessor={dict(used)}', PREPROCESSORS))
    compared = {*(own or ()), *used} - {'type', '_scope_', 'num_classes'}
    if own is not None and any(own.get(name) != used.get(name) for name in compared):
        raise ConfigError(f'model.architecture.data_preprocessor={dict(own)} is not used, because the config has '
                          f'data_preprocessor={dict(used)} too: remove one of the two')
    if (student.get('train_cfg') or {}).get('augments'):
        kind = used.get('type', 'ClsDataPreprocessor')
        if not is_a(kind, ClsDataPreprocessor, MODELS):
            raise ConfigError(f"model.architecture.train_cfg.augments: data_preprocessor.type='{name_of(kind)}' mixes no "
                              "images; use 'mmpretrain.ClsDataPreprocessor', or remove the augments")
        used.setdefault('batch_augments', copy.deepcopy(student.train_cfg))


def build_pathways(cfg: Config) -> DistPro:
    """Build the model of a config for its layers and pathways alone, without the teacher's weights.

    Args:
        cfg (Config): The config of a search or a distillation.

    Raises:
        ConfigError: If its model has no pathways, or its parts do not fit.
    """
    _check_model(cfg)
    cfg = copy.deepcopy(cfg)
    if 'teacher' in cfg.model:
        cfg.model.teacher_ckpt = None
    model = build_model(cfg)
    if not isinstance(model, DistPro):
        raise ConfigError(f'model.type={type(model).__name__} has no pathways: give a config with model.type=DistPro, e.g. '
                          'configs/distpro/search.py')
    return model


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config, without data, folder or log.

    Args:
        cfg (Config): The config.

    Returns:
        nn.Module: The model, before ``init_weights()``.

    Raises:
        ConfigError: If its parts do not fit.
    """
    cfg = copy.deepcopy(cfg)
    cfg.setdefault('default_scope', 'mmpretrain')
    _check_model(cfg)
    model = cfg.model  # a ConfigDict, which mmsegmentation needs
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)  # as the runner does
    with config_errors(cfg):
        built = MODELS.build(model)
    _check_teacher(cfg, built)
    return built


def _join_processes(cfg: Config) -> None:
    """Set up several processes: gloo on CPUs, and ``find_unused_parameters`` if a step may skip parameters."""
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise ConfigError('--launcher pytorch is for processes that torchrun starts: use tools/dist_train.sh CONFIG '
                          'PROCESSES')
    # Transforms get no gradient for pathways that a replay skips, or that a search's reference trials lack.
    rounds = is_a((cfg.get('train_cfg') or {}).get('type'), DistProSearchLoop, LOOPS)
    unused = cfg.get('find_unused_parameters', rounds or bool(replay_hooks(cfg)))
    cfg.find_unused_parameters = unused
    if torch.cuda.is_available():
        processes = max(int(os.environ.get('LOCAL_WORLD_SIZE', 1)), int(os.environ.get('LOCAL_RANK', 0)) + 1)
        gpus = torch.cuda.device_count()
        if cfg.launcher == 'pytorch' and processes > gpus:
            raise ConfigError(f'--launcher pytorch: {processes} processes on this machine, which has {gpus} GPU(s): start '
                              'one process for each GPU, or hide the GPUs by CUDA_VISIBLE_DEVICES= to train on CPUs')
        return
    if cfg.launcher != 'pytorch':
        raise ConfigError(f"--launcher {cfg.launcher} needs a GPU, and torch finds none; on CPUs use --launcher pytorch")
    if not torch.distributed.is_initialized():
        # mmengine would select a GPU for each process first.
        torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                                             find_unused_parameters=unused))


def replay_hooks(cfg: Config) -> list[dict]:
    """list[dict]: The config's hooks that replay a process."""
    return [hook for hook in cfg.get('custom_hooks') or [] if is_a(hook['type'], ProcessReplayHook, HOOKS)]


def student_config(cfg: Config) -> Config:
    """The student's config of a distillation; for other configs, a copy."""
    cfg = Config(cfg._cfg_dict.to_dict(), filename=cfg.filename)
    expand_hub_models(cfg)
    require_model(cfg)
    if 'architecture' in cfg.model:
        student, preprocessor = cfg.model.architecture, cfg.model.get('data_preprocessor')
        if preprocessor:  # as in the training, where it wins over that of the config and of the student
            student.data_preprocessor = preprocessor
        cfg.model = student
    return cfg


def evaluate_student(cfg: Config, checkpoint: str, launcher: str = 'none') -> dict:
    """Evaluate a network, or the student of a distillation, on the config's test set.

    Args:
        cfg (Config): The config of the training.
        checkpoint (str): A checkpoint of the training, or the exported student.
        launcher (str): As in :func:`build_trainer`.

    Returns:
        dict: Metrics by name.

    Raises:
        ConfigError: If the checkpoint is missing or does not fit, or its class numbers differ from those of the test set.
    """
    check_choice('launcher', launcher, LAUNCHERS, ConfigError)
    cfg = student_config(cfg)
    require_keys(cfg, ('test_dataloader', 'test_evaluator', 'test_cfg'), 'an evaluation')
    cfg.launcher = launcher
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks'):
        cfg.pop(key, None)
    _check_model(cfg)
    check_numbers(cfg)
    with config_errors(cfg):
        runner = Runner.from_cfg(cfg)
    load_strict(runner.model, checkpoint, 'checkpoint')
    check_class_names(class_names_of_checkpoint(checkpoint), f"checkpoint='{checkpoint}'",
                      class_names(getattr(runner.test_loop.dataloader.dataset, 'metainfo', None)), 'test_dataloader')
    return runner.test()

