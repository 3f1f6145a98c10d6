"""A search whose trials are trained on the nodes of a Ray cluster."""
import copy
import dataclasses
import math
import os
import time

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import CheckpointHook
from mmrazor.registry import HOOKS, LOOPS
from torch import Tensor
from torch.utils.data import DataLoader

from distpro.checks import check_arguments
from distpro.errors import argument_prefix
from distpro.searching import Trial

from ...config_types import is_a
from ...datasets import seed_all
from ...errors import ConfigError
from ..config_file import passed_config
from ..hooks import ProcessRecordHook
from ..ray_pool import RayOptions, RayPool
from .distpro_search_loop import DistProSearchLoop
from .reproducible_train_loop import start_at

EVALUATION = [f'{stage}_{part}' for stage in ('val', 'test') for part in ('cfg', 'dataloader', 'evaluator')]


@LOOPS.register_module()
class RaySearchLoop(DistProSearchLoop):
    """:class:`DistProSearchLoop` on a Ray cluster: a trial is a task of one of its nodes, and several run at a time.

    The result is that of :class:`DistProSearchLoop`, to the last bit if all machines compute alike. How many trials may be
    open is up to the strategy: the references and the first level, then any number with 'RandomSearcher', a generation with
    'CMAESSearcher', and one with 'RpropSearcher', whose steps depend on one another. A trial whose node is lost is trained
    again. Each leaves its log in ``work_dir/trials/<number>``. This process takes a single step, to find what cannot be
    differentiated and to measure the teacher's features, so it validates nothing.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs of the training that is to be distilled.
        ray (dict): The cluster and what a trial needs: arguments of :class:`~distpro_mm.engine.ray_pool.RayOptions`,
            ``address``, ``cpus``, ``gpus`` and ``memory``. Defaults to ``{}``: the cluster of this machine.
        **kwargs: Of :class:`DistProSearchLoop`.

    Raises:
        ConfigError: If the config cannot be searched with, has several processes, or the cluster cannot be used.
    """

    def __init__(self, runner, dataloader: DataLoader | dict, max_epochs: int, ray: dict = {}, **kwargs) -> None:
        if get_world_size() > 1:
            raise ConfigError('train_cfg.type=RaySearchLoop trains on the cluster: start it in one process, with --launcher '
                              'none')
        check_arguments(RayOptions, ray, 'train_cfg.ray', ConfigError)
        with argument_prefix('train_cfg.ray.', ConfigError):
            self._options = RayOptions(**ray)
        super().__init__(runner, dataloader, max_epochs, **kwargs)

    def start(self) -> None:
        """Make ready; checkpoints are written after trials, as nothing is iterated here."""
        super().start()
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.by_epoch, hook.interval = True, self.epochs

    def _expect_another_round(self) -> None:
        super()._expect_another_round()
        self.val_begin = math.inf

    def run(self):
        """Search."""
        with RayPool(self._options, self.runner.work_dir) as self._pool:
            self.runner.logger.info(f'Trials: {self._pool}')
            self._running, self._ended = {}, []
            return super().run()

    def run_epoch(self) -> None:
        """Wait for the result of one trial, which may be several epochs, while others are trained."""
        self.runner.call_hook('before_train_epoch')
        if self._iter == 0:
            self.runner.model.train()
            seed_all(self.runner.seed, get_rank(), 0)
            self.try_step(next(iter(start_at(self.dataloader, 0, 0))))
        self.search.remember()
        while not self._ended:
            while self._pool.free and not self.searcher.waits and (trial := self.searcher.ask()) is not None:
                self._running[self._pool.submit(train_trial, *self._task(trial))] = trial
            self._ended = self._pool.wait()
        handle, outcome = self._ended.pop(0)
        if outcome.error is not None:
            raise outcome.error
        self.search.tell(self._running.pop(handle), *outcome.result)
        done = len(self.searcher.history) * self.repeats
        self._epoch, self._iter = done * self.epochs - 1, done * self.iterations
        self.after_trial()
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _task(self, trial: Trial) -> tuple[dict, str, dict]:
        """What :func:`train_trial` needs: a config, its file, and the state of a search with this trial alone open."""
        state = self.state_dict()
        state['search'].update(losses=[], gradients=[])
        state['search']['searcher']['open'] = [dataclasses.asdict(trial)]
        cfg = copy.deepcopy(self.runner.cfg._cfg_dict.to_dict())
        for key in EVALUATION:
            cfg.pop(key, None)
        cfg['train_cfg'].pop('ray', None)
        cfg['train_cfg']['type'] = 'mmrazor.TrialLoop'
        cfg['default_hooks'] = {**(cfg.get('default_hooks') or {}), 'checkpoint': None, 'logger': None}
        cfg['custom_hooks'] = [hook for hook in cfg.get('custom_hooks') or []
                               if not is_a(hook['type'], ProcessRecordHook, HOOKS)]
        cfg.update(resume=False, load_from=None, visualizer=None, experiment_name=f'trial_{trial.number}_{time.time_ns()}',
                   work_dir=os.path.join(self.runner.work_dir, 'trials', str(trial.number)),
                   randomness={**(cfg.get('randomness') or {}), 'seed': self.runner.seed})
        return cfg, self.runner.cfg.filename, state


@LOOPS.register_module()
class TrialLoop(DistProSearchLoop):
    """Trains one trial of a search, the one that is open in the state that it is given.

    Args:
        *args: As of :class:`DistProSearchLoop`.
        **kwargs: As of :class:`DistProSearchLoop`.
    """

    def load_state_dict(self, state: dict) -> None:
        """Take the trial from a search's state."""
        super().load_state_dict(state)
        self._epoch = self.searcher.open[0].number * self.repeats * self.epochs
        self._iter = self._epoch * len(self.dataloader)
        self._max_epochs = self.val_begin = self._epoch + self.repeats * self.epochs
        self._max_iters = self._max_epochs * len(self.dataloader)

    def after_trial(self) -> None:
        """Nothing: the search reports it."""

    def process(self) -> None:
        """None: the search records it."""


def train_trial(cfg: dict, filename: str | None, state: dict) -> tuple[float, Tensor | None]:
    """Train a trial in this process.

    Args:
        cfg (dict): Config of a training with :class:`TrialLoop`.
        filename (str, optional): File that the config was read from.
        state (dict): State of the search, with one open trial.

    Returns:
        tuple[float, Tensor | None]: The held-out loss, NaN if the training diverged, and its gradient by alpha [knots, N] if
        the strategy wants it.

    Raises:
        TrainingError: If the student diverges without a teacher.
    """
    from ..launch import build_trainer  # which imports the loops
    runner = build_trainer(passed_config(cfg, filename), report=False)
    loop = runner.train_loop
    loop.load_state_dict(state)
    runner.train()
    return loop.search.trial.result, loop.search.gradient
