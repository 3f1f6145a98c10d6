import functools

import torch
from mmengine.dist import all_reduce, all_reduce_params, get_rank
from mmengine.optim import OptimWrapperDict
from mmrazor.registry import LOOPS, OPTIM_WRAPPER_CONSTRUCTORS
from torch.utils.data import DataLoader

from distpro.checks import check_choice, check_whole
from distpro.errors import argument_prefix
from distpro.process import DistillationProcess
from distpro.searching import METHODS, Hypergradient, StepWatch

from ...config_types import is_a
from ...datasets import seed_all
from ...errors import ConfigError
from ..optimizers import DistProOptimWrapperConstructor
from .reproducible_train_loop import endless
from .search_arguments import check_optimizer
from .search_loop import SearchLoop


@LOOPS.register_module()
class DistProOneStepSearchLoop(SearchLoop):
    """Searches a distillation process: trains the student, and moves alpha by a held-out batch after every step.

    A step is the ordinary training step; then alpha moves down the gradient of the held-out loss of the stepped student
    with respect to the alpha that the step was taken with (see :class:`distpro.searching.Hypergradient`). The student is
    left exactly as the training step left it.

    The process is recorded by a :class:`ProcessRecordHook`, which is added if the config names none.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs of the search.
        alpha_interval (int): Move alpha at every that many iterations. Defaults to 1.
        method (str): 'auto', 'jvp' or 'differences', see :class:`Hypergradient`. Defaults to 'auto'.
        radius (float): Of 'differences', > 0. Defaults to 1e-2.
        held_out (dict, optional): How held-out images are split off, as in :class:`SearchLoop`.
        held_out_dataloader (dict, optional): A loader of held-out images in place of the split.
        teacher_kl_share (float): Share of the divergence from the teacher in the held-out loss, in [0, 1]. Defaults to 0.
        cost_penalty (float): Penalty on expensive pathways, >= 0. Defaults to 0.
        **kwargs: Of mmengine's ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: If the config cannot be searched with; names the key.

    Note:
        Source: DistPro (ECCV 2022), algorithm 1. Its release rebuilds a worker pool for each held-out batch and saves
        alpha once an epoch; here one loader is kept and every alpha is recorded.
    """

    def __init__(self,
                 runner,
                 dataloader: DataLoader | dict,
                 max_epochs: int,
                 alpha_interval: int = 1,
                 method: str = 'auto',
                 radius: float = 1e-2,
                 held_out: dict | None = None,
                 held_out_dataloader: dict | None = None,
                 teacher_kl_share: float = 0.0,
                 cost_penalty: float = 0.0,
                 **kwargs) -> None:
        check_whole('train_cfg.alpha_interval', alpha_interval, error=ConfigError)
        check_choice('train_cfg.method', method, METHODS, ConfigError)
        super().__init__(runner, dataloader, max_epochs, held_out, held_out_dataloader, teacher_kl_share, cost_penalty,
                         **kwargs)
        self.alpha_interval = alpha_interval
        self.method, self.radius = method, radius
        _check_constructor(runner.optim_wrapper)
        runner.param_schedulers = _student_schedulers(runner.param_schedulers)
        self._held_out_losses: list[torch.Tensor] = []  # of the present epoch; they stay on the device
        self._process: DistillationProcess | None = None  # alpha at every step that updates it

    def process(self) -> DistillationProcess | None:
        """DistillationProcess: alpha at every step that has updated it; None before the first."""
        process = self._process
        if process is not None:
            process.origin['complete'] = process.progress[-1] >= 1 - self.alpha_interval / max(self._max_iters - 1, 1)
        return process

    def state_dict(self) -> dict:
        """dict: The process so far."""
        return dict(process=None if self._process is None else self._process.to_dict(), iterations=self._max_iters)

    def load_state_dict(self, state: dict) -> None:
        """Go on with a process. If the search is longer now, a knot keeps its iteration, not its share of the search."""
        if state.get('process') is None:
            return
        grid = self.model.distiller.grid
        process = DistillationProcess.from_dict(state['process'], "the checkpoint's process")
        with argument_prefix('--resume: ', ConfigError):
            process = process.reorder(grid.names, 'model.distiller')
        before, now = (max(iterations - 1, 1) for iterations in (state['iterations'], self._max_iters))
        self._process = DistillationProcess(process.names, grid.weighting,
                                            [round(progress * before) / now for progress in process.progress],
                                            process.alpha, layers=grid.layer_names)

    def _record(self) -> None:
        """Record the alpha that this iteration's step is taken with."""
        grid = self.model.distiller.grid
        if self._process is None:
            self._process = DistillationProcess(grid.names, grid.weighting, layers=grid.layer_names)
        self._process.record(self._iter / max(self._max_iters - 1, 1), grid.alpha.detach().cpu().numpy())

    def start(self) -> None:
        """Make ready for :meth:`step`, at the present iteration."""
        student = self.runner.optim_wrapper['student']
        check_optimizer(student)
        with argument_prefix('train_cfg.', ConfigError):
            self.hypergradient = Hypergradient(self.model.student, student.optimizer, self.method, self.radius,
                                               functools.partial(all_reduce_params, op='mean'))
        self._held_out = endless(self.held_out_dataloader, -(-self._iter // self.alpha_interval))
        self._price = self.price()
        grid = self.model.distiller.grid
        first = grid.alpha.detach() if self._process is None else torch.as_tensor(self._process.alpha[0]).to(grid.alpha)
        self._watch = StepWatch(grid.weighting(first))

    def stop(self) -> None:
        """Leave the optimiser as it was, and end the held-out loader's workers."""
        self.hypergradient.close()
        self._held_out.close()
        super().stop()

    def step(self, data_batch: dict) -> dict:
        """One training step of the student, and one of alpha if it is alpha's turn.

        Args:
            data_batch (dict): The training batch.

        Returns:
            dict: Losses by name.
        """
        updates_alpha = self._iter % self.alpha_interval == 0
        if updates_alpha:
            self._record()
            self.model.cache_batch(True)
            self.hypergradient.watch()
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper['student'])
        self.check_finite(outputs['loss'], 'the training loss')
        if updates_alpha:
            self._update_alpha(next(self._held_out))
            self.model.cache_batch(False)
        return outputs

    def run_epoch(self) -> None:
        """Iterate an epoch."""
        self._held_out_losses = []
        super().run_epoch()

    def end_epoch(self) -> None:
        """Note the held-out loss, and warn if the search goes wrong."""
        self.loss_of_epoch = None
        if not self._held_out_losses or self._process is None:
            return
        mean = torch.stack(self._held_out_losses).mean()
        all_reduce(mean, op='mean')
        self.loss_of_epoch = float(mean)
        grid = self.model.distiller.grid
        progress, weights = self._iter / self._max_iters, grid.weighting(grid.alpha.detach())
        for warning in self._watch.after_epoch(progress, len(self._process), weights, self.loss_of_epoch):
            self.runner.logger.warning(warning)

    def _update_alpha(self, held_out_batch: dict) -> None:
        """One step of alpha's optimiser."""
        model = self.model
        seed_all(self.runner.seed, get_rank(), self._iter, 1)  # loading a batch in this process has left another state
        had_fallback = self.hypergradient.fallback_reason

        def held_out_loss() -> torch.Tensor:
            loss = self.held_out_loss(held_out_batch)
            self._held_out_losses.append(loss.detach())
            return loss

        gradient = self.hypergradient.after_step(held_out_loss, model.cached_features, model.distiller.grid.sensitivities())
        if self.hypergradient.fallback_reason != had_fallback:
            self.runner.logger.warning('The student has an operation without forward-mode derivative, so the search uses '
                                       f"method='differences' from here on: {self.hypergradient.fallback_reason}")
        if gradient is None:  # the loss scaler skipped this step of the student
            return
        self.check_finite(gradient, "the held-out loss's gradient with respect to the pathways' weights")
        distiller, wrapper = model.distiller, self.runner.optim_wrapper['alpha']
        weights = distiller.grid.weighting(distiller.grid.alpha)
        if self._price is not None:
            gradient = gradient + self._price.to(gradient)
        wrapper.zero_grad()
        (weights * gradient.to(weights.dtype)).sum().backward()
        wrapper.step()
        wrapper.zero_grad()
        self.check_finite(distiller.grid.alpha, 'alpha')


def _student_schedulers(schedulers) -> dict | None:
    """Schedulers by optimiser: a plain list is the student's alone, and never alpha's."""
    if schedulers is None:
        return None
    if not isinstance(schedulers, dict) or 'type' in schedulers:
        return dict(student=schedulers if isinstance(schedulers, list) else [schedulers], alpha=[])
    unknown = set(schedulers) - {'student', 'alpha'}
    if unknown:
        raise ConfigError(f'param_scheduler has {sorted(unknown)}; the optimisers of a search are student and alpha')
    return {name: schedulers.get(name, []) for name in ('student', 'alpha')}


def _check_constructor(wrapper: dict | OptimWrapperDict) -> None:
    """Check that the optimisers of student and alpha are built, or will be."""
    constructor = wrapper.get('constructor') if isinstance(wrapper, dict) else None
    if not (isinstance(wrapper, OptimWrapperDict) and {*wrapper.keys()} == {'student', 'alpha'}
            or is_a(constructor, DistProOptimWrapperConstructor, OPTIM_WRAPPER_CONSTRUCTORS)):
        raise ConfigError(f"optim_wrapper.constructor={constructor!r}: a search needs "
                          "'mmrazor.DistProOptimWrapperConstructor', which builds the optimisers of student and alpha")
