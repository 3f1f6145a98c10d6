import math
from typing import Optional

from mmrazor.registry import HOOKS

from ...errors import ConfigError
from ..search import Search
from .process_record_hook import ProcessRecordHook, origin


@HOOKS.register_module()
class WholeRunRecordHook(ProcessRecordHook):
    """Records a search with sight to the end of the run: the process of the best round so far, and the state of the loop.

    Written and drawn like the process of :class:`ProcessRecordHook`.

    Args:
        **kwargs: Of :class:`ProcessRecordHook`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._written = 0  # trials that the file knows

    def before_train(self, runner) -> None:
        """Check the loop."""
        if not (isinstance(runner.train_loop, Search) and runner.train_loop.in_rounds):
            raise ConfigError("custom_hooks: WholeRunRecordHook records a search in rounds; it needs train_cfg.type="
                              "'mmrazor.DistProWholeRunLoop'")

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Nothing: a process is known when its round is done."""

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the loop's state into the checkpoint and write the process."""
        checkpoint['search'] = runner.train_loop.state_dict()
        self.write(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Give the loop its state back from a checkpoint that is resumed from."""
        if runner._resume:
            if 'search' not in checkpoint:
                raise ConfigError('--resume: the checkpoint is of another kind of training than a search in rounds')
            runner.train_loop.load_state_dict(checkpoint['search'])

    def write(self, runner) -> None:
        """Write and draw the process of the best round so far, if a round was done since the last time."""
        loop = runner.train_loop
        searcher = loop.searcher
        if len(searcher.history) == self._written:
            return
        self._written = len(searcher.history)
        self.process = loop.process()
        if self.process is not None:
            trials = [dict(kind=trial.kind, loss=trial.loss if trial.finite else None) for trial in searcher.history]
            self.process.origin = dict(origin(runner), epochs=loop.epochs, iterations=loop.iterations, trials=trials,
                                       best=searcher.best.kind, guessing=_finite(searcher.guessing))
            self._save(runner, complete=searcher.finished)


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
