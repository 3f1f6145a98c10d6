import hashlib
import json
import os.path as osp

import numpy as np
import torch
from mmengine.hooks import EMAHook, Hook
from mmrazor.registry import HOOKS

from distpro.checks import FLAG, MAX_SEED, check_choice, check_number, check_whole
from distpro.errors import argument_prefix
from distpro.pathways import PathwayGrid
from distpro.pathways.names import is_logits
from distpro.process import (
    ABLATIONS,
    TRANSFERS,
    DistillationProcess,
    LevelControl,
    ablation as ablated,
    fit_length,
    fit_process,
    is_of_short_rounds,
)

from ...errors import ConfigError
from ...models.guessing import GuessingBaseline, trained_loss
from ..processes import in_any_process
from ..search import Search
from ..unwrap import grid_of, unwrap, wrappers_of
from ..weight_log import log_weights


@HOOKS.register_module()
class ProcessReplayHook(Hook):
    """Replays a process: sets the pathways' weights at every iteration.

    The process is scaled to the training's length. The weights depend on the iteration only, so a resumed training
    continues the process. Resuming with a different process or length is refused.

    Args:
        process (str or dict): The process file of a search; a name in the library (:func:`distpro.process.library`), such as
            'general', which is always mapped by depth; or a hand-tuned schedule: ``progress``, shares of the training [K] in
            [0, 1]; ``weights``, >= 0, at these: [K] for all pathways, a dict of 'features' and 'logits' with [K] each, or
            [K, N] in the order of the pathways; and ``unit``, see :class:`distpro.Weighting`.
        ablation (str): 'process', or an ablation of what ``fit_length`` makes of it: 'uniform' (one constant weight, the
            mean over pathways and progress), 'last' (constant, the last weights), 'mean' (constant, the mean of each
            pathway), 'mean_over_pathways' (at each progress, the mean over pathways), 'shuffled' (random order of progress)
            or 'random' (at each progress, a random division of the total weight). Defaults to 'process'.
        skip_below (float): Pathways with a lower weight are not computed. The release uses 0.5 with its scaled
            weighting. Defaults to 0: only pathways of weight 0 are skipped.
        seed (int): Seed of 'shuffled' and 'random'. Defaults to 0.
        transfer (str, optional): 'by_depth' maps a process of other networks to the pathways of the config, see
            :func:`distpro.process.map_process`. Defaults to None: a process of other pathways is refused.
        fit_length (bool): Whether a process that was searched in shorter rounds, or is mapped from other networks, is
            changed for a training of more than 500 iterations, see :func:`distpro.process.fit_length`. Defaults to True.
        control_level (bool): Whether a process that is mapped from other networks starts again with lower weights if the
            student is worse than guessing, see :class:`distpro.process.LevelControl`. It needs a classifier with one label
            per image and a cross-entropy, and does nothing for other students. Defaults to True.
        interval (int): Iterations between weights that are logged to the visualizer under ``pathways/``, >= 1.
            Defaults to 50.

    Attributes:
        restarted (int, optional): The iteration after which the training has last started again.
        mapped (bool): Whether the process is mapped from other networks; known once the training begins.

    Raises:
        ConfigError: If the file cannot be read or does not fit the pathways of the config.
        ConfigError: If an argument is out of range.

    Example:
        >>> custom_hooks = [
        ...     dict(type='mmrazor.ProcessReplayHook', process='work_dirs/search/process.json', skip_below=0.5)]
        >>> custom_hooks = [
        ...     dict(type='mmrazor.ProcessReplayHook', process=dict(progress=[0, 0.5, 1], weights=[3, 30, 10]))]
    """
    priority = 'NORMAL'

    def __init__(self, process: str | dict, ablation: str = 'process', skip_below: float = 0.0, seed: int = 0,
                 transfer: str | None = None, fit_length: bool = True, control_level: bool = True,
                 interval: int = 50) -> None:
        check_whole('custom_hooks: ProcessReplayHook.interval', interval, error=ConfigError)
        check_choice('custom_hooks: ProcessReplayHook.control_level', control_level, FLAG, ConfigError)
        check_choice('custom_hooks: ProcessReplayHook.fit_length', fit_length, FLAG, ConfigError)
        check_choice('custom_hooks: ProcessReplayHook.ablation', ablation, ABLATIONS, ConfigError)
        check_choice('custom_hooks: ProcessReplayHook.transfer', transfer, (None, *TRANSFERS), ConfigError)
        check_number('custom_hooks: ProcessReplayHook.skip_below', skip_below, least=0, error=ConfigError)
        check_whole('custom_hooks: ProcessReplayHook.seed', seed, least=0, most=MAX_SEED, error=ConfigError)
        if not isinstance(process, (str, dict)):
            raise ConfigError(f'custom_hooks: ProcessReplayHook.process={process!r} must be the path of a process file or a '
                              'dict of progress and weights')
        if isinstance(process, dict) and transfer is not None:
            raise ConfigError('custom_hooks: ProcessReplayHook.transfer is for process files; a hand-tuned process '
                              'already has the pathways of the config: remove it')
        self.process = process
        self.ablation = ablation
        self.skip_below = skip_below
        self.seed = seed
        self.transfer = transfer
        self.fit_length, self.control_level = fit_length, control_level
        self.interval = interval
        self.restarted: int | None = None
        self.mapped = False
        self._level: LevelControl | None = None
        self._guessing: GuessingBaseline | None = None
        self.schedule: np.ndarray | None = None
        self.scheduled: np.ndarray | None = None  # temperature and weight of the cross-entropy [iterations, S]
        self._replayed: dict | None = None  # hash and length of the process, here and in the checkpoint
        self._resumed: dict | None = None
        self._resumed_level: dict | None = None

    def before_train(self, runner) -> None:
        """Read the process and compute the weights of all iterations [iterations, N]."""
        if sum(isinstance(hook, ProcessReplayHook) for hook in runner.hooks) > 1:
            raise ConfigError('custom_hooks has more than one ProcessReplayHook: remove all but one')
        if isinstance(runner.train_loop, Search):
            raise ConfigError('custom_hooks: ProcessReplayHook replays a process, but train_cfg.type='
                             f'{type(runner.train_loop).__name__} searches for a process: use the hook in a distillation '
                             'with an ordinary train loop')
        grid = grid_of(runner.model)
        if grid is None:
            raise ConfigError('custom_hooks: ProcessReplayHook needs model.type=DistPro')
        with argument_prefix('custom_hooks: ProcessReplayHook.process: ', ConfigError):
            process = self._read(grid, runner.logger)
        if not process.origin.get('complete', True):
            runner.logger.warning(f"The process '{osp.basename(self.process)}' ends at {process.progress[-1]:.0%} of its "
                                  'search, which was interrupted: its last weights are used from there on')
        self.unit, self.mapped = process.weighting.unit, 'transfer' in process.origin
        self._replayed = dict(process=self._fingerprint(process), iterations=runner.max_iters)
        self._check_resumed()
        if self.fit_length and is_of_short_rounds(process, runner.max_iters):
            process = fit_length(process, runner.max_iters)
        progress = np.arange(runner.max_iters) / max(runner.max_iters - 1, 1)
        self.schedule = ablated(process, self.ablation, progress, self.seed)
        with argument_prefix('custom_hooks: ProcessReplayHook.process: ', ConfigError):
            grid.schedule(tuple(process.scheduled))
        self.scheduled = process.scheduled_at(progress)
        skipped = np.mean((self.schedule < self.skip_below) | (self.schedule == 0))
        runner.logger.info(f'Replaying {self.ablation} of {len(process)} steps over {runner.max_iters} iterations; '
                           f'{skipped:.0%} of the pathways are skipped (skip_below={self.skip_below})')
        model = unwrap(runner.model)
        loss = trained_loss(model)
        started = self._resumed_level is not None or runner.iter == 0
        if self.control_level and self.mapped and loss is not None and started:
            self._level = LevelControl([model.student, *grid.trained])
            self._guessing = GuessingBaseline(loss, window=1)
            if self._resumed_level is not None:
                self._level.load_state_dict(self._resumed_level)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Set the weights of this iteration."""
        factor = 1.0
        if self._level is not None:
            factor = self._level.factor
            self._level.begin(self._progress(runner))
        grid = grid_of(runner.model)
        weights = np.concatenate([factor * self.schedule[runner.iter], self.scheduled[runner.iter]])
        grid.set_weights(weights, self.skip_below, self.unit)
        if self.every_n_train_iters(runner, self.interval):
            log_weights(runner, grid)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Start again with lower weights if the student is worse than guessing."""
        progress = self._progress(runner)
        if self._level is None or not len(self._guessing):
            return
        if self._level.is_over(progress):
            self._guessing.close()
            return
        optimizers = [wrapper.optimizer for wrapper in wrappers_of(runner.optim_wrapper).values()]
        losses = [value for name, value in (outputs or {}).items() if 'loss' in name]
        if in_any_process(torch.tensor(not all(torch.as_tensor(loss).isfinite().all() for loss in losses))):
            warning = self._level.restart(progress, 'the training loss is not finite', optimizers)
        else:
            warning = self._level.observe(progress, *self._guessing.latest(), optimizers)
        if warning:
            self.restarted = runner.iter
            runner.logger.warning(warning)
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.ema_model.steps.zero_()  # it then copies the weights of the next step

    @staticmethod
    def _progress(runner) -> float:
        return runner.iter / max(runner.max_iters - 1, 1)

    def after_train(self, runner) -> None:
        """Stop watching the student's loss."""
        if self._guessing is not None:
            self._guessing.close()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store the hash and the length of the process, and the state of the level control."""
        checkpoint['replayed'] = self._replayed
        checkpoint['level'] = self._level and self._level.state_dict()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read the hash and the length of the checkpoint's process, and the state of the level control."""
        if runner._resume:
            self._resumed = checkpoint.get('replayed')
            self._resumed_level = checkpoint.get('level')

    def _check_resumed(self) -> None:
        """Refuse to resume with other weights."""
        before, now = self._resumed, self._replayed
        if before is None or before == now:
            return
        if before['process'] != now['process']:
            raise ConfigError('--resume: custom_hooks: ProcessReplayHook.process is not the process of the checkpoint (the '
                              'file, ablation, seed or skip_below has changed): resume with the same process, or start a '
                              'new run')
        raise ConfigError(f'--resume: custom_hooks: ProcessReplayHook scales the process to the length of the run, '
                          f'which had {before["iterations"]} iterations and now has {now["iterations"]}: restore '
                          'train_cfg.max_epochs, or start a new run')

    def _fingerprint(self, process: DistillationProcess) -> str:
        """str: A hash that determines the weights at any progress, for runs of any length."""
        content = {key: value for key, value in process.to_dict().items() if key != 'origin'}
        seed = self.seed if self.ablation in ('shuffled', 'random') else None
        how = self.ablation, seed, self.skip_below, self.fit_length
        return hashlib.sha256(json.dumps([content, how]).encode()).hexdigest()

    def _read(self, grid: PathwayGrid, logger) -> DistillationProcess:
        """The process of the file or of the hand-tuned schedule, for the model's pathways."""
        process = fit_process(self.process, grid.names, grid.layer_names, grid.weighting.unit, self.transfer is not None,
                              'model.distiller', ", or set transfer='by_depth' to map it to other layers")
        before, now = process.origin.get('transfer'), grid.layer_names
        if before is not None:
            listed = before.get('layers_are_listed', True)
            note = '' if listed else ' (in the order of its pathways, because its file does not list the layers)'
            unused = ''
            if not grid.logit_indices and any(map(is_logits, before['pathways'])):
                unused = '; its logits are not used: there is no pathway between logits (model.distiller.logits)'
            logger.info(f"Mapped '{osp.basename(self.process)}' by depth{note}: " + '; '.join(
                f'{side} {", ".join(before["layers"][side])} to {", ".join(now[side])}' for side in now)
                + unused)
        return process
