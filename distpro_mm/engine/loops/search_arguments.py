"""Checks of what a search is given: its arguments, optimisers and hooks."""
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmrazor.engine import StopDistillHook
from mmrazor.registry import OPTIM_WRAPPER_CONSTRUCTORS

from distpro.errors import argument_prefix
from distpro.searching.optimizer_step import check_differentiable
from distpro.searching.searchers import strategy_of

from ...config_types import is_a
from ...errors import ConfigError
from ..hooks import LossScheduleHook
from ..optimizers import DistProOptimWrapperConstructor

# What changes the training loss during a training, which a derivative at the end of a round does not see.
CHANGING = (StopDistillHook, LossScheduleHook, SwitchRecipeHook)


def check_searcher(searcher: Any, rounds: int) -> type:
    """The class of a search strategy; refuses what is none, and too few rounds for it."""
    if not isinstance(searcher, dict) or 'type' not in searcher:
        raise ConfigError(f"train_cfg.searcher={searcher!r} must be a dict with the key type, e.g. "
                          "dict(type='RpropSearcher')")
    with argument_prefix('train_cfg.', ConfigError):
        return strategy_of(searcher, rounds)[0]


def check_runner(runner: Any) -> None:
    """Refuse optimisers and hooks that a search in rounds cannot have."""
    constructor = runner.optim_wrapper.get('constructor') if isinstance(runner.optim_wrapper, dict) else None
    if isinstance(runner.optim_wrapper, OptimWrapperDict) or is_a(constructor, DistProOptimWrapperConstructor,
                                                                   OPTIM_WRAPPER_CONSTRUCTORS):
        raise ConfigError('optim_wrapper.constructor: DistProSearchLoop updates alpha itself (train_cfg.searcher): '
                          'give the optim_wrapper of an ordinary training')
    for hook in runner.hooks:
        if isinstance(hook, CHANGING):
            raise ConfigError(f'custom_hooks: {type(hook).__name__} changes the training loss during a round, which a '
                              'search by whole rounds does not know: remove it for the search')


def check_optimizer(student: OptimWrapper) -> None:
    """Check that the step of the student's optimiser can be differentiated alone."""
    if student.clip_grad_kwargs:
        raise ConfigError('optim_wrapper.clip_grad is not supported in a search: a clipped step depends on alpha through '
                         'the norm of the whole gradient; remove it for the search (the distillation may keep it)')
    if student._accumulative_counts > 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts={student._accumulative_counts} is not supported in a search: '
                         'alpha belongs to one batch and one step; remove it for the search')
    with argument_prefix('optim_wrapper.', ConfigError):
        check_differentiable(student.optimizer)
