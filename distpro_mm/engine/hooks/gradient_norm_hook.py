import collections
import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from distpro.checks import check_whole

from ...errors import ConfigError
from ..search import Search
from ..unwrap import unwrap, wrappers_of

WINDOW = 20  # measured norms of a mean
VANISHED = 1e-9  # mean norm of a student that gets no gradient
GROWN = 100  # times the mean of the first norms


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Logs the norm of the student's gradient as ``grad_norm``, and warns if it is 0 or grows without bound.

    The norm is that of all trained parameters of the student, before clipping, without the transforms. With
    ``optim_wrapper.clip_grad`` mmengine logs a norm of that name itself, that of all trained parameters. Each warning is
    logged once: if the mean of 20 norms is below 1e-9, and if a norm is 100 times the mean of the first 20. A search in
    rounds is not judged, because it handles diverged rounds itself. ``tools/train.py`` and :func:`.build_trainer` add the
    hook to every training.

    Args:
        interval (int): Iterations between two measured norms, >= 1. Defaults to 10.

    Raises:
        ConfigError: If an argument is out of range.
    """
    priority = 'HIGH'  # before the log of the step

    def __init__(self, interval: int = 10) -> None:
        check_whole('custom_hooks: GradientNormHook.interval', interval, error=ConfigError)
        self.interval = interval
        self._handles: list[Any] = []

    def before_train(self, runner) -> None:
        """Watch the optimisers."""
        model = unwrap(runner.model)
        student = getattr(model, 'architecture', model)
        self._parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self._due, self._norm, self._first = False, None, None
        self._norms: collections.deque = collections.deque(maxlen=WINDOW)
        self._judges = not (isinstance(runner.train_loop, Search) and runner.train_loop.in_rounds)
        wrappers = wrappers_of(runner.optim_wrapper).values()
        self._logs = not any(getattr(wrapper, 'clip_grad_kwargs', None) for wrapper in wrappers)
        self._handles = [wrapper.optimizer.register_step_pre_hook(self._measure) for wrapper in wrappers]

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Decide whether the norm of this iteration is measured."""
        self._due = self.every_n_train_iters(runner, self.interval) or runner.iter == 0

    def _measure(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if not self._due:
            return
        own = {id(parameter) for group in optimizer.param_groups for parameter in group['params']}
        gradients = [parameter.grad for parameter in self._parameters if id(parameter) in own and parameter.grad is not None]
        if gradients:
            self._due = False
            self._norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Log the norm, and warn."""
        self._due, measured = False, self._norm
        self._norm = None
        if measured is None:
            return
        norm = float(measured)
        if self._logs:
            runner.message_hub.update_scalar('train/grad_norm', norm)
        if not self._judges or not math.isfinite(norm):
            return
        self._norms.append(norm)
        if len(self._norms) < WINDOW:
            return
        mean = math.fsum(self._norms) / WINDOW
        self._first = mean if self._first is None else self._first
        if mean < VANISHED:
            self._judges = False
            runner.logger.warning(f"The norm of the student's gradient is {mean:.2g} on average: it does not learn. "
                                  'Check that a loss has weight (model.calculate_student_loss, '
                                  'model.distiller.weighting.kd_weight, the process) and that no layer is frozen')
        elif norm > GROWN * self._first:
            self._judges = False
            runner.logger.warning(f"The norm of the student's gradient has grown from {self._first:.4g} to {norm:.4g}: the "
                                  'training may diverge. Lower optim_wrapper.optimizer.lr, or add '
                                  'optim_wrapper.clip_grad=dict(max_norm=5)')

    def after_train(self, runner) -> None:
        """Leave the optimisers alone."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
