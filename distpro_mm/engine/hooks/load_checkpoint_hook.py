import functools

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from mmrazor.registry import HOOKS
from torch import nn

from ...errors import ConfigError
from ...models.checkpoints import weights_of, with_names_of
from ..resume import changed_settings, is_followed, missing_parts
from ..search import Search
from ..unwrap import unwrap, wrappers_of

LISTED = 4  # maximum number of settings in a message


@HOOKS.register_module()
class LoadCheckpointHook(Hook):
    """Checks the checkpoints of ``load_from`` and ``resume``; mmengine ignores weights that do not fit.

    ``load_from``: the checkpoint of a student is loaded into the student of a distillation, and a plain training loads the
    student from the checkpoint of a distillation. Weights may be under 'state_dict', 'model' or at the top level.

    ``resume``: the run continues exactly where the checkpoint was written. Changed settings that affect the result are
    refused, with three exceptions that take effect from the current iteration on: ``train_cfg.max_epochs``,
    ``param_scheduler``, and the numbers of ``optim_wrapper.optimizer``. The schedules of the current config are then
    advanced to the current iteration. ``tools/train.py`` and the loops of this package add the hook.

    Raises:
        ConfigError: If the ``load_from`` checkpoint has no weights of the student, or the checkpoint to resume from has a
            different model, teacher or settings.
    """
    priority = 'VERY_HIGH'  # before EMAHook, which copies the loaded weights

    def __init__(self) -> None:
        self._options: dict[str, list[dict]] | None = None

    def before_run(self, runner) -> None:
        """Keep names that begin with ``module.``, those of a plain module, which mmengine would shorten."""
        runner.load_checkpoint = functools.partial(runner.load_checkpoint, revise_keys=[('^$', '')])  # of no name

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check the checkpoint; rename the weights of a student."""
        model = unwrap(runner.model)
        if not runner._resume:
            checkpoint['state_dict'] = _for_model(model, checkpoint, runner._load_from, runner.cfg)
            checkpoint.pop('ema_state_dict', None)  # the averaged weights are those in state_dict
            return
        missing = missing_parts(checkpoint)
        if missing:
            raise ConfigError(f"--resume '{runner._load_from}' has no {', '.join(missing)}: it has the weights only, not"
                              ' the state of a training (use load_from or teacher_ckpt)')
        _check_model(model, checkpoint['state_dict'], runner.cfg)
        self._check_settings(runner, checkpoint)

    def _check_settings(self, runner, checkpoint: dict) -> None:
        """Refuse changed settings, or apply those that may change."""
        loop, meta = runner.train_loop, checkpoint['meta']
        changes = changed_settings(meta.get('cfg'), runner.cfg.pretty_text)
        if changes is None:
            runner.logger.warning('--resume: the checkpoint has no readable config, so changed settings are not detected')
            changes = {}
        own = {f'train_cfg.{name}' for name in getattr(loop, 'settings', ())}  # compared by the loop
        changes = {key: values for key, values in changes.items() if key not in own}
        if meta.get('seed') is not None and meta['seed'] != runner.seed:
            changes['randomness.seed'] = meta['seed'], runner.seed
        info = checkpoint['message_hub'].get('runtime_info', {})
        if isinstance(loop, EpochBasedTrainLoop) and info.get('max_iters') and info.get('max_epochs'):
            before, now = info['max_iters'] // info['max_epochs'], loop.max_iters // loop.max_epochs
            if before != now:
                changes['iterations per epoch (images, batch size or processes)'] = before, now
        # A search in rounds restores settings that it has stored.
        follows = not (isinstance(loop, Search) and loop.in_rounds)
        refused = {key: values for key, values in changes.items() if not (follows and is_followed(key))}
        if refused:
            listed = '; '.join(f'{key}: {old!r} then, {new!r} now' for key, (old, new) in list(refused.items())[:LISTED])
            more = f'; and {len(refused) - LISTED} more' if len(refused) > LISTED else ''
            raise ConfigError(f'--resume: the checkpoint was written with other settings ({listed}{more}): resume with '
                              'those, or start a new run from its weights: load_from, with another work_dir')
        if changes or runner.param_schedulers and 'param_schedulers' not in checkpoint:
            self._options = _options(runner.optim_wrapper)
            checkpoint.pop('param_schedulers', None)
            if any(hasattr(schedule, 'need_val_args') for schedule in _schedules(runner)):
                raise ConfigError('--resume: param_scheduler has a schedule that depends on a metric (ReduceOnPlateau) and '
                                  f'cannot continue after a change of {", ".join(changes) or "param_scheduler"}')
            if changes:
                runner.logger.warning('--resume: ' + '; '.join(f'{key} was {old!r} and is {new!r} from here on'
                                                               for key, (old, new) in changes.items()))
        if not getattr(loop, 'reproducible', False):
            runner.logger.warning(f'--resume: {type(loop).__name__} restores neither the order of the images nor random '
                                  'numbers, so the result differs from an uninterrupted run; '
                                  "train_cfg.type='mmrazor.ReproducibleTrainLoop' restores both")
        elif next(runner.model.parameters()).is_cuda and not torch.are_deterministic_algorithms_enabled():
            runner.logger.info('--resume: on a GPU, the result equals that of an uninterrupted run up to rounding; '
                               'randomness=dict(deterministic=True) makes it the same bit for bit')
        if meta['iter'] >= loop.max_iters and follows:
            runner.logger.warning(f"--resume: '{runner._load_from}' is at iteration {meta['iter']}, and train_cfg ends at "
                                  f'{loop.max_iters}: no iterations are left to train')

    def before_train(self, runner) -> None:
        """Advance the schedules of a changed config to the current iteration."""
        if self._options is None:
            return
        for name, wrapper in wrappers_of(runner.optim_wrapper).items():
            for group, options in zip(wrapper.param_groups, self._options[name]):
                group.update(options)
        schedules = _schedules(runner)
        for step in range(max(runner.iter, runner.epoch)):
            for schedule in schedules:
                if step < (runner.epoch if schedule.by_epoch else runner.iter):
                    schedule.optimizer._global_step = 0  # suppresses torch's warning about the order of steps
                    schedule.step()
        self._options = None


def _options(optim_wrapper) -> dict[str, list[dict]]:
    """Options of the parameter groups of each optimiser, without the parameters."""
    return {name: [{key: value for key, value in group.items() if key != 'params'} for group in wrapper.param_groups]
            for name, wrapper in wrappers_of(optim_wrapper).items()}


def _schedules(runner) -> list:
    schedules = runner.param_schedulers or []
    return [one for several in schedules.values() for one in several] if isinstance(schedules, dict) else schedules


def _for_model(model: nn.Module, checkpoint: dict, path: str, cfg: dict) -> dict:
    """The weights of a ``load_from`` checkpoint, renamed to the names of the model."""
    weights, own = weights_of(checkpoint), model.state_dict()
    if weights is None:
        raise ConfigError(f"load_from='{path}' has no weights under 'state_dict', under 'model' or at the top level")
    student = {name for name in own if not name.startswith(('teacher.', 'distiller.'))}
    weights = with_names_of(weights, student)
    fitting = [name for name in student if getattr(weights.get(name), 'shape', None) == own[name].shape]
    backbones = [name for name in student if name.startswith(('backbone.', 'architecture.backbone.'))]
    if not set(fitting) & set(backbones or student):
        raise ConfigError(f"load_from='{path}': none of the {len(student)} weights of the student fits, first "
                          f'{sorted(student)[:2]}, the file has {sorted(weights)[:2]}: give a checkpoint of this network')
    lacking = sorted(student - set(fitting))
    print_log(f"load_from='{path}': {len(fitting)} of the {len(student)} weights of the student are loaded"
              + (f', not {lacking[:3]}{" and others" if len(lacking) > 3 else ""}' if lacking else ''), 'current',
              30 if lacking else 20)
    unchanged = {name: value for name, value in own.items() if name not in student and
            (name not in weights or name.startswith('teacher.') and (cfg.get('model') or {}).get('teacher_ckpt')
             or name == 'distiller.grid._extra_state')}  # alpha, and the variances of the other teacher's features
    return {**weights, **unchanged}


def _check_model(model: nn.Module, theirs: dict, cfg: dict) -> None:
    """Refuse the checkpoint of a different model or teacher."""
    own = model.state_dict()
    wrong = [name for name in own if getattr(theirs.get(name), 'shape', None) != getattr(own[name], 'shape', None)]
    if wrong or set(theirs) - set(own):
        more = [name for name in theirs if name not in own]
        raise ConfigError(f'--resume: the checkpoint is of another model: {len(wrong)} of the {len(own)} weights of the '
                          f'config are missing in it or have other shapes {wrong[:2]}, and it has {len(more)} other '
                          f'weights {more[:2]}; resume with the config of the checkpoint')
    if (cfg.get('model') or {}).get('teacher_ckpt') and not model.teacher_trainable:
        for name, value in model.teacher.named_parameters():
            if not torch.allclose(value.detach().cpu(), theirs[f'teacher.{name}'].cpu()):
                raise ConfigError(f"--resume: model.teacher_ckpt='{cfg.model.teacher_ckpt}' is not the teacher of the "
                                  f"checkpoint (first difference: '{name}'): give that teacher, or start a new run")
