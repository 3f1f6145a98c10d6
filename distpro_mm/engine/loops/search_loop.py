import copy
from typing import Dict, Optional, Tuple, Type, Union

import torch
from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from ...config_types import is_a
from ...datasets import HeldOutSplit, reproducible
from ...errors import ConfigError, is_number
from ...models import DistPro
from ..hooks import ProcessRecordHook
from .reproducible_train_loop import ReproducibleTrainLoop, dismiss_workers

DEFAULT_HELD_OUT = dict(ratio=0.2, seed=0)


class SearchLoop(ReproducibleTrainLoop):
    """What every search of a distillation process is: two parts of the training set, and a process that is recorded.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs in all.
        held_out (dict, optional): How the training set is split, see :class:`HeldOutSplit`: ``ratio``, ``seed``,
            ``stratified``. Both parts are loaded like ``train_dataloader``. Defaults to 20%, seed 0, and each class by
            itself where an image has one.
        held_out_dataloader (dict, optional): A loader of held-out images of your own instead; ``train_dataloader`` is then
            taken as it is and must not contain them. Never a test set. Defaults to None.
        agreement (float): What the held-out loss is: 0 the student's own, of the labels; 1 how far its class probabilities
            are from the teacher's, which tell more of an image than its label where few are held out; between, that share
            of it. Needs pathways between logits where it is not 0. Defaults to 0.
        cost_penalty (float): Added to the held-out loss for each unit of weight on a pathway that costs as much as the
            student's own training step, so that dear pathways must earn their keep, >= 0. Defaults to 0.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of mmengine's ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: If the config cannot be searched with; names the key.
    """
    record_hook: Type[ProcessRecordHook] = ProcessRecordHook
    differentiates = True

    def __init__(self,
                 runner,
                 dataloader: Union[DataLoader, Dict],
                 max_epochs: int,
                 held_out: Optional[dict] = None,
                 held_out_dataloader: Optional[dict] = None,
                 agreement: float = 0.0,
                 cost_penalty: float = 0.0,
                 **kwargs) -> None:
        if not is_number(agreement) or not 0 <= agreement <= 1:
            raise ConfigError(f'train_cfg.agreement={agreement!r} must be from 0, the labels, to 1, the teacher')
        if not is_number(cost_penalty) or cost_penalty < 0:
            raise ConfigError(f'train_cfg.cost_penalty={cost_penalty!r} must be 0 or more')
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
        self.agreement, self.cost_penalty = agreement, cost_penalty
        kind = type(self).__name__
        if not isinstance(self.model, DistPro):
            raise ConfigError(f'train_cfg.type={kind} needs model.type=DistPro, got {type(self.model).__name__}')
        if agreement and not self.model.distiller.logit_losses:
            raise ConfigError(f'train_cfg.agreement={agreement}: without model.distiller.logits the logits are not read; '
                              "add logits=[dict(type='KLDivergence', tau=4)], or set it to 0")
        for name, module in self.model.student.named_modules():
            if self.differentiates and getattr(module, 'with_cp', False):
                raise ConfigError(f"model.architecture: '{name}' has with_cp=True, and a search cannot differentiate "
                                  'through checkpoints: set it to False for the search; a distillation may have it')
        if runner.auto_scale_lr and runner.auto_scale_lr.get('enable'):
            raise ConfigError('auto_scale_lr.enable=True is not for searches, where it may scale the learning rate of '
                             'alpha too: set the learning rate of optim_wrapper.optimizer yourself')
        if not any(isinstance(hook, ProcessRecordHook) for hook in runner.hooks):
            runner.register_hook(self.record_hook(), priority='NORMAL')

    @property
    def model(self) -> DistPro:
        """DistPro: The model without a wrapper."""
        model = self.runner.model
        return model.module if is_model_wrapper(model) else model

    def held_out_loss(self, data_batch: dict) -> torch.Tensor:
        """What the search lowers, of a held-out batch, with a graph."""
        return self.model.held_out_loss(data_batch, self.agreement)

    def price(self) -> Optional[torch.Tensor]:
        """What a unit of weight costs on each pathway [N]; None if nothing."""
        return self.cost_penalty * self.model.pathway_costs() if self.cost_penalty else None

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
        raise NotImplementedError

    def stop(self) -> None:
        """Leave the optimiser as it was, and end the held-out loader's workers."""
        dismiss_workers(self.held_out_dataloader)


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
    if is_a(dataset.get('type'), HeldOutSplit, DATASETS) and dataset.get('part') == 'held_out':
        raise ConfigError("train_dataloader.dataset is the held-out part of a HeldOutSplit: give the set to train on, the "
                         'search holds out a part of that by train_cfg.held_out')
    whole = DATASETS.build(dataset)
    loaders = []
    for part in ('train', 'held_out'):
        loader = {key: copy.deepcopy(value) for key, value in dataloader.items() if key != 'dataset'}
        loader['dataset'] = dict(type=HeldOutSplit, dataset=whole, part=part, **held_out)
        loaders.append(loader)
    loaders[1]['persistent_workers'] = loaders[1].get('num_workers', 0) > 0
    (loaders[1].get('batch_sampler') or loaders[1])['drop_last'] = True
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


def usable(student: OptimWrapper) -> OptimWrapper:
    """Check that the step of the student's optimiser can be differentiated alone."""
    if student.clip_grad_kwargs:
        raise ConfigError('optim_wrapper.clip_grad is not supported in a search: a clipped step depends on alpha through '
                         'the norm of the whole gradient; remove it for the search (the distillation may keep it)')
    if student._accumulative_counts > 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts={student._accumulative_counts} is not supported in a search: '
                         'alpha belongs to one batch and one step; remove it for the search')
    return student
