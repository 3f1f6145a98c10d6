import copy
import functools
from typing import Dict, Iterator, List, Optional, Tuple, Union

import torch
from mmengine.dist import all_reduce_params, get_rank, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpretrain.registry import DATASETS
from mmrazor.registry import LOOPS
from torch.utils.data import DataLoader

from ...datasets import HeldOutSplit, reproducible, seed_all
from ...errors import ConfigError
from ...models import DistPro
from ...search import Hypergradient
from ..hooks import ProcessRecordHook
from .reproducible_train_loop import ReproducibleTrainLoop, dismiss_workers, start_at

DEFAULT_HELD_OUT = dict(ratio=0.2, seed=0, stratified=True)


@LOOPS.register_module()
class DistProSearchLoop(ReproducibleTrainLoop):
    """Searches a distillation process: trains the student, and moves alpha by a held-out batch after every step.

    A step is the ordinary training step; then alpha moves down the gradient of the held-out loss of the stepped student
    with respect to the alpha that the step was taken with (see :class:`distpro_mm.search.Hypergradient`). The student is
    left exactly as the training step left it.

    The process is recorded by a :class:`ProcessRecordHook`, which is added if the config names none.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs of the search.
        held_out (dict, optional): How the training set is split, see :class:`HeldOutSplit`: ``ratio``, ``seed``,
            ``stratified``. Both parts are loaded like ``train_dataloader``. Defaults to 20%, seed 0, stratified.
        held_out_dataloader (dict, optional): A loader of held-out images of your own instead; ``train_dataloader`` is then
            taken as it is and must not contain them. Never a test set. Defaults to None.
        alpha_interval (int): Move alpha at every that many iterations. Defaults to 1.
        method (str): 'auto', 'jvp' or 'differences', see :class:`Hypergradient`. Defaults to 'auto'.
        radius (float): Of 'differences', > 0. Defaults to 1e-2.
        cost_penalty (float): Added to the held-out loss for each unit of weight on a pathway that costs as much as the
            student's own training step, so that dear pathways must earn their keep, >= 0. Defaults to 0.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of mmengine's ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: If the config cannot be searched with; names the key.

    Note:
        Source: DistPro (ECCV 2022), algorithm 1. Its release rebuilds a worker pool for each held-out batch and saves
        alpha once an epoch; here one loader is kept and every alpha is recorded.
    """

    def __init__(self,
                 runner,
                 dataloader: Union[DataLoader, Dict],
                 max_epochs: int,
                 held_out: Optional[dict] = None,
                 held_out_dataloader: Optional[dict] = None,
                 alpha_interval: int = 1,
                 method: str = 'auto',
                 radius: float = 1e-2,
                 cost_penalty: float = 0.0,
                 **kwargs) -> None:
        if not cost_penalty >= 0:
            raise ConfigError(f'train_cfg.cost_penalty={cost_penalty!r} must be 0 or more')
        if not isinstance(alpha_interval, int) or alpha_interval < 1:
            raise ConfigError(f'train_cfg.alpha_interval={alpha_interval!r} must be a whole number from 1')
        if held_out_dataloader is None:
            dataloader, held_out_dataloader = split_dataloader(dataloader, {**DEFAULT_HELD_OUT, **(held_out or {})})
        elif held_out is not None:
            raise ConfigError('train_cfg has both held_out and held_out_dataloader: give one of them')
        else:
            _refuse_test_set(held_out_dataloader, runner.cfg)
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        # Another seed than the training loader's, or both would walk their images in the same order.
        self.held_out_dataloader = runner.build_dataloader(reproducible(held_out_dataloader), seed=runner.seed + 1)
        for key, loader in (('train_dataloader', self.dataloader), ('held_out', self.held_out_dataloader)):
            if len(loader) == 0:
                shared = f' among {get_world_size()} processes' if get_world_size() > 1 else ''
                raise ConfigError(f'{key}: {len(loader.dataset)} images{shared} give no batch of {loader.batch_size}; make '
                                 'batch_size smaller, or change train_cfg.held_out.ratio')
        self.alpha_interval = alpha_interval
        self.method, self.radius, self.cost_penalty = method, radius, cost_penalty
        if not isinstance(self.model, DistPro):
            raise ConfigError(f'train_cfg.type=DistProSearchLoop needs model.type=DistPro, got {type(self.model).__name__}')
        for name, module in self.model.student.named_modules():
            if getattr(module, 'with_cp', False):
                raise ConfigError(f"model.architecture: '{name}' has with_cp=True, and a search cannot differentiate "
                                  'through checkpoints: set it to False for the search; a distillation may have it')
        _check_constructor(runner.optim_wrapper)
        runner.param_schedulers = _student_schedulers(runner.param_schedulers)
        if runner.auto_scale_lr and runner.auto_scale_lr.get('enable'):
            raise ConfigError('auto_scale_lr.enable=True would scale the learning rate of alpha too: set the learning '
                             'rate of optim_wrapper.optimizer yourself')
        if not any(isinstance(hook, ProcessRecordHook) for hook in runner.hooks):
            runner.register_hook(ProcessRecordHook(), priority='NORMAL')

    @property
    def model(self) -> DistPro:
        """DistPro: The model without a wrapper."""
        model = self.runner.model
        return model.module if is_model_wrapper(model) else model

    @property
    def moves_alpha(self) -> bool:
        """bool: Whether the present iteration moves alpha."""
        return self._iter % self.alpha_interval == 0

    @property
    def progress(self) -> float:
        """float: The present iteration's moment in [0, 1] of the search."""
        return self._iter / max(self._max_iters - 1, 1)

    def run(self) -> torch.nn.Module:
        """Search; on any error the process recorded so far is written first."""
        self.start()
        try:
            return super().run()
        except BaseException:
            try:
                for hook in self.runner.hooks:
                    if isinstance(hook, ProcessRecordHook):
                        hook.write(self.runner)
            except OSError as error:  # a full disk, say: what stopped the search is what must be told
                self.runner.logger.warning(f'The last of the process could not be written ({error}); the checkpoint has it')
            raise
        finally:
            self.stop()

    def start(self) -> None:
        """Make ready for :meth:`step`, at the present iteration."""
        student = _usable(self.runner.optim_wrapper['student'])
        self.hypergradient = Hypergradient(self.model.student, student.optimizer, self.method, self.radius,
                                           functools.partial(all_reduce_params, op='mean'))
        self._held_out = endless(self.held_out_dataloader, -(-self._iter // self.alpha_interval))
        self._price = self.cost_penalty * self.model.pathway_costs() if self.cost_penalty else None

    def stop(self) -> None:
        """Leave the optimiser as it was, and end the held-out loader's workers."""
        self.hypergradient.close()
        self._held_out.close()
        dismiss_workers(self.held_out_dataloader)

    def step(self, data_batch: dict) -> dict:
        """One training step of the student, and one of alpha if it is alpha's turn.

        Args:
            data_batch (dict): The training batch.

        Returns:
            dict: Losses by name.
        """
        moves_alpha = self.moves_alpha
        if moves_alpha:
            self.model.keep_batch(True)
            self.hypergradient.watch()
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper['student'])
        self.check_finite(outputs['loss'], 'the training loss')
        if moves_alpha:
            self._move_alpha(next(self._held_out))
            self.model.keep_batch(False)
        return outputs

    def _move_alpha(self, held_out_batch: dict) -> None:
        """One step of alpha's optimiser."""
        model = self.model
        seed_all(self.runner.seed, get_rank(), self._iter, 1)  # loading a batch in this process has left another state
        had_fallback = self.hypergradient.fallback_reason
        gradient = self.hypergradient.after_step(lambda: model.held_out_loss(held_out_batch), model.kept_features,
                                                 model.distiller.sensitivities())
        if self.hypergradient.fallback_reason != had_fallback:
            self.runner.logger.warning('The student has an operation without forward-mode derivative, so the search uses '
                                       f"method='differences' from here on: {self.hypergradient.fallback_reason}")
        if gradient is None:  # the loss scaler skipped this step of the student
            return
        self.check_finite(gradient, "the held-out loss's gradient with respect to the pathways' weights")
        distiller, wrapper = model.distiller, self.runner.optim_wrapper['alpha']
        weights = distiller.weighting(distiller.alpha)
        if self._price is not None:
            gradient = gradient + self._price.to(gradient)
        wrapper.zero_grad()
        (weights * gradient.to(weights.dtype)).sum().backward()
        wrapper.step()
        wrapper.zero_grad()
        self.check_finite(distiller.alpha, 'alpha')


def split_dataloader(dataloader: dict, held_out: dict) -> Tuple[dict, dict]:
    """Split the training set of a loader's config.

    Args:
        dataloader (dict): ``train_dataloader``.
        held_out (dict): Arguments of :class:`HeldOutSplit`.

    Returns:
        tuple[dict, dict]: The loaders of the rest and of the held-out part. Held-out workers stay alive, and its last
        batch is dropped if it is not full: batch norm cannot work on a single image.

    Raises:
        ConfigError: If the set is split already or ``held_out`` is not understood.
    """
    known = {'ratio', 'seed', 'stratified'}
    if not isinstance(dataloader, dict):
        raise ConfigError('train_dataloader must be a config, so that its training set can be split')
    if set(held_out) - known:
        raise ConfigError(f'train_cfg.held_out has no {sorted(set(held_out) - known)}; it has {sorted(known)}')
    dataset = dataloader['dataset']
    if dataset.get('type') in ('HeldOutSplit', HeldOutSplit) and dataset.get('part') == 'held_out':
        raise ConfigError("train_dataloader.dataset is the held-out part of a HeldOutSplit: give the set to train on, the "
                         'search holds out a part of that by train_cfg.held_out')
    whole = DATASETS.build(dataset)
    loaders = []
    for part in ('train', 'held_out'):
        loader = {key: copy.deepcopy(value) for key, value in dataloader.items() if key != 'dataset'}
        loader['dataset'] = dict(type=HeldOutSplit, dataset=whole, part=part, **held_out)
        loaders.append(loader)
    loaders[1].update(drop_last=True, persistent_workers=loaders[1].get('num_workers', 0) > 0)
    return loaders[0], loaders[1]


def _refuse_test_set(loader: dict, cfg: dict) -> None:
    """Refuse a held-out loader that reads the images of the test set."""

    def identity(dataset: dict) -> dict:
        return {key: value for key, value in dataset.items() if key not in ('pipeline', 'test_mode', 'type', '_scope_')}

    for key in ('test_dataloader', 'val_dataloader'):
        other = (cfg.get(key) or {}).get('dataset')
        if other and identity(other) == identity(loader['dataset']):
            raise ConfigError(f'train_cfg.held_out_dataloader reads the same images as {key}: a process searched on test '
                             'images proves nothing; leave it out to split the training set')


def endless(loader: DataLoader, drawn: int = 0) -> Iterator[dict]:
    """Batches without end, each pass in its own order, going on after those that were drawn before a resume."""
    epoch, batches = divmod(drawn, len(loader))
    while True:
        yield from start_at(loader, epoch, batches)
        epoch, batches = epoch + 1, 0


def _student_schedulers(schedulers) -> Optional[dict]:
    """Schedulers by optimiser: a plain list is the student's alone, and never alpha's."""
    if schedulers is None:
        return None
    if not isinstance(schedulers, dict) or 'type' in schedulers:
        return dict(student=schedulers if isinstance(schedulers, List) else [schedulers], alpha=[])
    unknown = set(schedulers) - {'student', 'alpha'}
    if unknown:
        raise ConfigError(f'param_scheduler has {sorted(unknown)}; the optimisers of a search are student and alpha')
    return {name: schedulers.get(name, []) for name in ('student', 'alpha')}


def _check_constructor(wrapper: Union[dict, OptimWrapperDict]) -> None:
    """Check that the optimisers of student and alpha are built, or will be."""
    constructor = wrapper.get('constructor') if isinstance(wrapper, dict) else None
    if not (isinstance(wrapper, OptimWrapperDict) and {*wrapper.keys()} == {'student', 'alpha'}
            or str(constructor).rpartition('.')[2].rstrip("'>") == 'DistProOptimWrapperConstructor'):
        raise ConfigError(f"optim_wrapper.constructor={constructor!r}: a search needs "
                          "'mmrazor.DistProOptimWrapperConstructor', which builds the optimisers of student and alpha")


def _usable(student: OptimWrapper) -> OptimWrapper:
    """Check that the step of the student's optimiser can be differentiated alone."""
    if student.clip_grad_kwargs:
        raise ConfigError('optim_wrapper.clip_grad is not supported in a search: a clipped step depends on alpha through '
                         'the norm of the whole gradient; remove it for the search (the distillation may keep it)')
    if student._accumulative_counts > 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts={student._accumulative_counts} is not supported in a search: '
                         'alpha belongs to one batch and one step; remove it for the search')
    return student
