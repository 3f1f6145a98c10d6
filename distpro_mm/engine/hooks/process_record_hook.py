import os.path as osp
import time

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from distpro.checks import check_whole
from distpro.process import DistillationProcess

from ...errors import ConfigError
from ...reporting import draw_process
from ..provenance import origin
from ..search import Search
from ..unwrap import grid_of
from ..weight_log import log_weights

DRAW_INTERVAL = 60.0  # seconds; a drawing takes up to half a second


@HOOKS.register_module()
class ProcessRecordHook(Hook):
    """Writes the process of a search to a file, and the state of the search to checkpoints.

    The process is written to ``work_dir/process.json`` at every checkpoint, at the end, and when the search fails or is
    interrupted. It is drawn in ``work_dir/process.png`` at the same times, but at a checkpoint only if the search has run
    for a minute since its start or the last drawing. The weights in force are logged to the visualizer
    under ``pathways/``, and the held-out loss of each trial under ``search/held_out_loss``, or its mean over each
    epoch in a search that updates the weights at every step. Search loops add this hook if the config has none.

    Args:
        interval (int): Iterations between logged weights. Defaults to 50.
        filename (str): Name of the file in the work_dir. Defaults to 'process.json'.

    Raises:
        ConfigError: If an argument is out of range, or the train loop does not search.
    """

    def __init__(self, interval: int = 50, filename: str = 'process.json') -> None:
        check_whole('custom_hooks: ProcessRecordHook.interval', interval, error=ConfigError)
        self.interval = interval
        self.filename = filename
        self._written: tuple | None = None  # state of the written file: complete, number of knots, number of trials
        self._drawn: tuple | None = None  # of the picture
        self._drawn_at = 0.0
        self._origin: dict | None = None

    def before_train(self, runner) -> None:
        """Check the train loop."""
        self._drawn_at = time.monotonic()
        if not isinstance(runner.train_loop, Search):
            raise ConfigError("custom_hooks: ProcessRecordHook records a search; it needs train_cfg.type="
                              "'mmrazor.DistProSearchLoop'")

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Log the weights."""
        if self.every_n_train_iters(runner, self.interval):
            log_weights(runner, grid_of(runner.model))

    def after_train_epoch(self, runner) -> None:
        """Log the held-out loss."""
        loss = runner.train_loop.loss_of_epoch
        if loss is not None:
            runner.visualizer.add_scalar('search/held_out_loss', loss, step=runner.iter)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the state of the search to the checkpoint, and write the process."""
        checkpoint['search'] = runner.train_loop.state_dict()
        self.write(runner, draw=time.monotonic() - self._drawn_at >= DRAW_INTERVAL)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restore the state of the search from the checkpoint of a resumed run."""
        if runner._resume:
            if 'search' not in checkpoint:
                raise ConfigError('--resume: the checkpoint is not one of a search')
            runner.train_loop.load_state_dict(checkpoint['search'])

    def after_train(self, runner) -> None:
        """Write the process."""
        self.write(runner)
        runner.logger.info(f'The process is in {osp.join(runner.work_dir, self.filename)}')

    def write(self, runner, draw: bool = True) -> None:
        """Write the current process, if there is one and it has changed.

        Args:
            runner (Runner): The runner.
            draw (bool): Whether to draw it too, if the picture is not of this process. Defaults to True.
        """
        process = runner.train_loop.process()
        if process is None:
            return
        found = process.origin['complete'], len(process), len(process.origin.get('trials', ()))
        path = osp.join(runner.work_dir, self.filename)
        if found != self._written:
            self._written = found
            if self._origin is None:
                self._origin = origin(runner)
            process.origin = {**self._origin, **process.origin}
            self._save(process, path)
        if draw and found != self._drawn:
            self._drawn, self._drawn_at = found, time.monotonic()
            self._draw(process, path)

    @master_only
    def _save(self, process: DistillationProcess, path: str) -> None:
        process.save(path)

    @master_only
    def _draw(self, process: DistillationProcess, path: str) -> None:
        draw_process(process, osp.splitext(path)[0] + '.png')
