import collections
import resource
import sys

import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from distpro.checks import check_whole

from ...errors import ConfigError
from ...models import DistPro, TapDistill
from ...models.cost import pathway_costs
from ..search import Search
from ..unwrap import unwrap


@HOOKS.register_module()
class ProfileHook(Hook):
    """Logs the cost of a training step: passes, seconds and memory, and the cost of each pathway. ``--profile`` adds it.

    Args:
        interval (int): Iterations between two lines of the log. Defaults to 50.
    """
    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        check_whole('custom_hooks: ProfileHook.interval', interval, error=ConfigError)
        self.interval = interval

    def before_train(self, runner) -> None:
        """Log the cost of the pathways, most expensive first."""
        self._seen = self.passes(runner)
        model = unwrap(runner.model)
        if isinstance(model, DistPro):
            costs = sorted(zip(pathway_costs(model).tolist(), model.distiller.grid.names), reverse=True)
            lines = [f'{cost:8.2f}  {name}' for cost, name in costs]
            total = sum(cost for cost, _ in costs)
            runner.logger.info('Cost of the pathways in training steps of the student alone (estimated from operations and '
                               f'memory, {total:.2f} in all):\n' + '\n'.join(lines))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Log the mean cost of the steps since the last line."""
        if not self.every_n_train_iters(runner, self.interval) and not self.is_last_train_iter(runner):
            return
        steps = (runner.iter % self.interval) + 1
        passes, seen = self.passes(runner), self._seen
        self._seen = passes
        made = ', '.join(f'{(passes[name] - seen[name]) / steps:.2f} {name}' for name in passes)
        seconds, waiting = (runner.message_hub.get_scalar(f'train/{name}').mean(steps) for name in ('time', 'data_time'))
        runner.logger.info(f'A step of the last {steps}: {made + "; " if made else ""}{seconds:.3f} s, {waiting:.3f} s of '
                           f'it waiting for data; peak memory {_peak_memory():.0f} MB')

    @staticmethod
    def passes(runner) -> collections.Counter:
        """collections.Counter: Passes so far: of the teacher, of the student with a backward, and for alpha."""
        model = unwrap(runner.model)
        passes = collections.Counter()
        if isinstance(model, TapDistill):
            passes.update({'teacher forwards': model.passes['teacher'],
                           'student forwards with backward': model.passes['student']})
        search = runner.train_loop if isinstance(runner.train_loop, Search) else Search()
        if search.hypergradient is not None:
            made = search.hypergradient.passes
            passes.update({'student forwards with backward': made['held_out_forward_backward'],
                           'dual forwards': made['dual_forward'], 'plain forwards': made['plain_forward']})
        if search.trajectory is not None:
            swept = search.trajectory.swept
            passes['student forwards with backward'] -= swept
            passes['steps differentiated'] = swept
        return passes


def _peak_memory() -> float:
    """Peak memory in megabytes: of the GPU, or of the process if there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)
