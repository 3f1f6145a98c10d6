"""Options of mmengine and mmpretrain that a search or a distillation does not support; see docs/toolbox_options.md."""
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EarlyStoppingHook
from mmengine.optim import ReduceOnPlateauParamScheduler
from mmengine.runner import Runner
from mmpretrain.engine.hooks import (
    ClassNumCheckHook,
    DenseCLHook,
    PrepareProtoBeforeValLoopHook,
    SetAdaptiveMarginsHook,
    SimSiamHook,
    SwAVHook,
    SwitchRecipeHook,
    WarmupParamHook,
)
from mmpretrain.registry import DATASETS, HOOKS, LOOPS, PARAM_SCHEDULERS
from mmrazor.engine import StopDistillHook

from ..config_types import is_a, name_of
from ..datasets import InMemoryDataset
from ..errors import ConfigError
from ..models import DistPro, TapDistill
from .hooks import LossScheduleHook
from .loops import DistProSearchLoop
from .loops.search_loop import SearchLoop

PARAMWISE = ('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
             'dcn_offset_lr_mult', 'bypass_duplicate')
BY_EPOCH = (StopDistillHook, LossScheduleHook, SwitchRecipeHook, WarmupParamHook)
SELF_SUPERVISED = (DenseCLHook, SimSiamHook, SwAVHook, PrepareProtoBeforeValLoopHook)


def check_toolbox_options(cfg: Config) -> None:
    """Refuse options of the toolboxes that would be ignored or fail later.

    Raises:
        ConfigError: If such an option is set. The message has the key and an alternative.
    """
    for key, refusal in _refusals(cfg):
        raise ConfigError(f'{key}: {refusal}')


def _refusals(cfg: Config) -> Iterator[tuple[str, str]]:
    wrapper = cfg.get('optim_wrapper') or {}
    constructor, paramwise = _name(wrapper.get('constructor')), wrapper.get('paramwise_cfg') or {}
    unknown = [key for key in paramwise if key not in PARAMWISE]
    distils = 'architecture' in cfg.model
    if constructor.startswith('LearningRateDecay') and distils:
        yield (f'optim_wrapper.constructor={constructor!r}', 'layer-wise decay of the learning rate needs '
               'get_layer_depth of the model, which a distillation lacks; remove it, or set rates of layers by '
               "optim_wrapper.paramwise_cfg=dict(custom_keys={'backbone.layer1': dict(lr_mult=0.5)})")
    if unknown and constructor in ('', 'DefaultOptimWrapperConstructor', 'DistProOptimWrapperConstructor',
                                   'L2TOptimWrapperConstructor'):
        yield f'optim_wrapper.paramwise_cfg.{unknown[0]}', f'there is no such setting; valid are {", ".join(PARAMWISE)}'
    if cfg.get('runner_type', 'Runner') not in ('Runner', Runner):
        yield f'runner_type={_name(cfg.runner_type)!r}', ('trainings run in the Runner of mmengine, without the strategy of '
                                                          'another runner: remove runner_type and strategy')
    loop = (cfg.get('train_cfg') or {}).get('type')
    in_rounds = is_a(loop, DistProSearchLoop, LOOPS)
    for place, hook in enumerate(cfg.get('custom_hooks') or []):
        if not isinstance(hook, dict) or 'type' not in hook:
            yield f'custom_hooks.{place}={hook!r}', "it must be a dict with the key type, such as dict(type='EMAHook')"
        key = f'custom_hooks.{place}: {_name(hook["type"])}'
        yield from _of_hook(cfg, key, hook, distils)
        if in_rounds and is_a(hook['type'], BY_EPOCH, HOOKS):
            yield key, ('it acts at epochs of the search, but every round is a training from epoch 1: remove it for '
                        'the search')
        if in_rounds and is_a(hook['type'], EarlyStoppingHook, HOOKS):
            yield key, 'a search in rounds validates after the last round only: remove it for the search'
    if is_a(loop, SearchLoop, LOOPS):
        if cfg.get('activation_checkpointing'):
            yield 'activation_checkpointing', 'a search cannot differentiate through checkpoints: remove it for the search'
        if (cfg.get('train_dataloader') or {}).get('num_batch_per_epoch'):
            yield 'train_dataloader.num_batch_per_epoch', ('a search uses all images of both parts of the training set: '
                                                           'remove it, or give a smaller data set')
    schedules = cfg.get('param_scheduler') or []
    for schedule in [schedules] if 'type' in schedules else schedules:
        if in_rounds and 'type' in schedule and is_a(schedule['type'], ReduceOnPlateauParamScheduler, PARAM_SCHEDULERS):
            yield f'param_scheduler.type={_name(schedule["type"])!r}', (
                'it needs a validation metric, but a search in rounds validates after the last round only: use another type')
    if distils and cfg.get('efficient_conv_bn_eval'):
        yield 'efficient_conv_bn_eval', 'it merges layers whose features a distillation reads: remove it'
    if cfg.get('compile') and is_a(cfg.model.get('type'), TapDistill):
        yield f'compile={cfg.compile}', ('it compiles the entire training step, in which no feature can be read: remove it' +
                                         (' and set model.distiller.compile_transforms=True'
                                          if is_a(cfg.model.type, DistPro) else ''))


def _of_hook(cfg: Config, key: str, hook: dict, distils: bool) -> Iterator[tuple[str, str]]:
    def is_of(*parents: type) -> bool:
        return is_a(hook['type'], parents, HOOKS)

    if is_of(SwitchRecipeHook):
        for recipe in hook.get('schedule') or []:
            if 'loss' in recipe and distils:
                yield f'{key}.schedule.loss', ('it changes the loss of a plain classifier, but a distillation has its '
                                               'classifier in model.architecture: remove it')
            if 'train_pipeline' in recipe and _in_memory(cfg.train_dataloader.get('dataset')):
                yield f'{key}.schedule.train_pipeline', ('InMemoryDataset runs its pipeline before the training: use the '
                                                         'data set without InMemoryDataset')
    if not distils:
        return
    if is_of(SetAdaptiveMarginsHook):
        yield key, 'it sets the margins of a plain classifier: remove it, and set model.architecture.head.margins'
    if is_of(WarmupParamHook) and not str(hook.get('module_name')).startswith(('architecture.', 'distiller.')):
        yield (f"{key}.module_name={hook.get('module_name')!r}",
               f"the student of a distillation is under 'architecture': write 'architecture.{hook.get('module_name')}'")
    if is_of(ClassNumCheckHook):
        yield key, ('it needs num_classes of every module, but the preprocessor of a distillation\'s student has '
                    'none: remove it')
    if is_of(*SELF_SUPERVISED):
        yield key, 'it is for a self-supervised or retrieval model of mmpretrain: remove it'


def _in_memory(dataset: Any) -> bool:
    """Whether the config of a data set has an :class:`InMemoryDataset` at any depth."""
    if isinstance(dataset, (list, tuple)):
        return any(map(_in_memory, dataset))
    return isinstance(dataset, dict) and (is_a(dataset.get('type'), InMemoryDataset, DATASETS)
                                          or any(_in_memory(dataset.get(part)) for part in ('dataset', 'datasets')))


def _name(kind: Any) -> str:
    """The name of a type in a config, without its scope; '' for None."""
    if kind is None:
        return ''
    return name_of(kind)
