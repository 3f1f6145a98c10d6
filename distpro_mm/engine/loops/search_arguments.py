"""Checks of what a search is given: its arguments, optimisers and hooks."""
import inspect
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmrazor.engine import StopDistillHook
from mmrazor.registry import OPTIM_WRAPPER_CONSTRUCTORS

from distpro.checks import nearest
from distpro.errors import argument_prefix
from distpro.searching import SEARCHERS, Searcher
from distpro.searching.optimizer_step import check_differentiable

from ...config_types import check_arguments, is_a
from ...errors import ConfigError
from ..hooks import LossScheduleHook
from ..optimizers import DistProOptimWrapperConstructor

# What changes the training loss during a training, which a derivative at the end of a round does not see.
CHANGING = (StopDistillHook, LossScheduleHook, SwitchRecipeHook)
# Of any strategy; the search gives them.
BASE_ARGUMENTS = [name for name in inspect.signature(Searcher).parameters if name != 'confirmations']


def check_searcher(searcher: Any, rounds: int) -> type:
    """The class of a search strategy; refuses what is none, and too few rounds for it."""
    if not isinstance(searcher, dict) or 'type' not in searcher:
        raise ConfigError(f"train_cfg.searcher={searcher!r} must be a dict with the key type, e.g. "
                          "dict(type='RpropSearcher')")
    kind = SEARCHERS.get(searcher['type'], searcher['type'])
    if not (inspect.isclass(kind) and issubclass(kind, Searcher)):
        raise ConfigError(f"train_cfg.searcher.type={kind!r} is not one of {', '.join(SEARCHERS)}"
                          f'{nearest(str(kind), SEARCHERS)}; register a strategy of your own with register_searcher in a '
                          'module that custom_imports names')
    given = [name for name in searcher if name != 'type']
    check_arguments(kind, [*BASE_ARGUMENTS, *given], 'train_cfg.searcher')
    taken = sorted(set(given) & set(BASE_ARGUMENTS))
    if taken:
        raise ConfigError(f'train_cfg.searcher has {", ".join(taken)}, which the search sets itself: leave it out')
    if 0 < rounds < kind.minimum_rounds:
        raise ConfigError(f'train_cfg.rounds={rounds} is too few for searcher.type={kind.__name__!r}, which needs '
                          f'{kind.minimum_rounds} or more, such as 22')
    return kind


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
