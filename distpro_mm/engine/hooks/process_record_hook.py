import hashlib
import os.path as osp
from typing import Optional

import mmengine
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from distpro.process import DistillationProcess

from ...config_types import name_of
from ...errors import ConfigError
from ...reporting import draw_process
from ..search import Search
from ..unwrap import grid_of


@HOOKS.register_module()
class ProcessRecordHook(Hook):
    """Records the process while it is searched: alpha at every step that moves it.

    Written to ``work_dir/process.json`` and drawn in ``work_dir/process.png`` at every checkpoint, at the end and when the
    search breaks off; kept in checkpoints, so that a resumed search goes on with it; weights logged to the visualizer
    under ``pathways/<name>``.

    Args:
        interval (int): Iterations between logged weights. Defaults to 50.
        filename (str): Name of the file in the work_dir. Defaults to 'process.json'.
    """

    def __init__(self, interval: int = 50, filename: str = 'process.json') -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ConfigError(f'custom_hooks: ProcessRecordHook.interval={interval!r} must be a whole number from 1')
        self.interval = interval
        self.filename = filename
        self.process: Optional[DistillationProcess] = None
        self._resumed: Optional[dict] = None

    def before_train(self, runner) -> None:
        """Start a process, or go on with the one of the checkpoint."""
        if not isinstance(runner.train_loop, Search) or runner.train_loop.in_rounds:
            raise ConfigError("custom_hooks: ProcessRecordHook records a search; it needs train_cfg.type="
                             "'mmrazor.DistProSearchLoop'")
        grid = grid_of(runner.model)
        if self._resumed is not None:
            process = DistillationProcess.from_dict(self._resumed, "the checkpoint's process")
            process = process.reorder(grid.names, 'model.distiller')
            # The search may be longer now than it was: a knot keeps its iteration, not its share of the whole.
            before, now = (max(iterations - 1, 1) for iterations in (process.origin['iterations'], runner.max_iters))
            self.process = DistillationProcess(process.names, grid.weighting,
                                               [round(p * before) / now for p in process.progress], process.alpha,
                                               origin(runner), grid.layer_names)
        else:
            self.process = DistillationProcess(grid.names, grid.weighting, origin=origin(runner),
                                               layers=grid.layer_names)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Record the alpha that this iteration's step is taken with."""
        if runner.train_loop.moves_alpha:
            alpha = grid_of(runner.model).alpha.detach().cpu().numpy()
            self.process.record(runner.train_loop.progress, alpha)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Log the weights."""
        if self.every_n_train_iters(runner, self.interval):
            grid = grid_of(runner.model)
            weights = dict(zip(grid.names, grid.weights().tolist()))
            runner.visualizer.add_scalars({f'pathways/{name}': weight for name, weight in weights.items()},
                                          step=runner.iter + 1)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the process into the checkpoint and write its file."""
        if self.process is not None and len(self.process):
            checkpoint['process'] = self.process.to_dict()
            self.write(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take the process from a checkpoint that is resumed from."""
        if runner._resume:
            self._resumed = checkpoint.get('process')

    def after_train(self, runner) -> None:
        """Write the whole process."""
        self.write(runner)
        runner.logger.info(f'The process of {len(self.process)} steps is in {osp.join(runner.work_dir, self.filename)}')

    def write(self, runner) -> None:
        """Write and draw the process recorded so far; nothing if there is none."""
        if self.process is not None and len(self.process):
            self._save(runner, self.process.progress[-1] >= 1 - runner.train_loop.alpha_interval / max(
                runner.max_iters - 1, 1))

    @master_only
    def _save(self, runner, complete: bool) -> None:
        self.process.origin['complete'] = complete
        path = osp.join(runner.work_dir, self.filename)
        self.process.save(path)
        draw_process(self.process, osp.splitext(path)[0] + '.png')


def origin(runner) -> dict:
    """Where a process comes from: enough to know its search again, with no path of a machine."""
    import distpro_mm
    cfg, model = runner.cfg, runner.cfg.model

    def network(part: dict) -> str:
        backbone = part.get('backbone', {})
        arguments = ', '.join(f'{key}={value!r}' for key, value in backbone.items() if key not in ('type', 'init_cfg'))
        return f'{name_of(backbone.get("type", part.get("type")))}({arguments})'

    dataset = cfg.train_dataloader.dataset
    return dict(
        config=osp.basename(cfg.filename) if cfg.filename else None,
        config_hash=hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:16],
        dataset=name_of(dataset.get('type')),
        teacher=network(model.teacher),
        student=network(model.architecture),
        epochs=runner.max_epochs,
        iterations=runner.max_iters,
        seed=runner.seed,
        versions=dict(distpro_mm=distpro_mm.__version__, mmengine=mmengine.__version__, torch=str(torch.__version__)))
