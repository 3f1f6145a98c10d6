import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from distpro.checks import check_number
from distpro.errors import argument_prefix, first_line
from distpro.searching.optimizer_step import check_differentiable

from ...config_types import is_a
from ...datasets import EvenBatchSampler, HeldOutSplit, build_unloaded, describe, image_ids, reproducible, seed_all
from ...errors import ConfigError
from ...models import DistPro
from ...models.cost import pathway_costs
from ..hooks import ProcessRecordHook
from ..search import Search
from ..unwrap import unwrap
from .reproducible_train_loop import ReproducibleTrainLoop, dismiss_workers, start_at

DEFAULT_HELD_OUT = dict(ratio=0.2, seed=0)


class SearchLoop(Search, ReproducibleTrainLoop):
    """What every search of a distillation process is: two parts of the training set, and a process that is recorded.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the training set's loader, ``train_dataloader``.
        max_epochs (int): Epochs in all.
        held_out (dict, optional): How the training set is split, see :class:`HeldOutSplit`: ``ratio``, ``seed``,
            ``stratified``. Both parts are loaded like ``train_dataloader``, augmentations included. Defaults to 20%, seed 0,
            and each class by itself where an image has one.
        held_out_dataloader (dict, optional): A loader of held-out images of your own instead; ``train_dataloader`` is then
            taken as it is. Defaults to None.
        teacher_kl_share (float): Share, in [0, 1], of the Kullback-Leibler divergence from the teacher's class probabilities
            in the held-out loss; the loss on the labels has the rest. Needs pathways between logits where it is not 0.
            Defaults to 0.
        cost_penalty (float): Added to the held-out loss for each unit of weight on a pathway that costs as much as the
            student's own training step, so that dear pathways must earn their keep, >= 0. Defaults to 0.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of mmengine's ``EpochBasedTrainLoop``.

    Every held-out image is in every pass over them exactly once, whatever sampler and ``drop_last`` the loader's config
    has. The held-out loss is taken in training mode, with the batch statistics of the held-out batch.

    Raises:
        ConfigError: If the config cannot be searched with, or a held-out image is one of the training, validation or test
            images too; names the key.
    """
    differentiates = True

    def __init__(self,
                 runner,
                 dataloader: DataLoader | dict,
                 max_epochs: int,
                 held_out: dict | None = None,
                 held_out_dataloader: dict | None = None,
                 teacher_kl_share: float = 0.0,
                 cost_penalty: float = 0.0,
                 **kwargs) -> None:
        check_number('train_cfg.teacher_kl_share', teacher_kl_share, least=0, most=1, error=ConfigError)
        check_number('train_cfg.cost_penalty', cost_penalty, least=0, error=ConfigError)
        own_split = False
        if held_out is not None and not isinstance(held_out, dict):
            raise ConfigError(f'train_cfg.held_out={held_out!r} must be a dict, such as dict(ratio=0.2)')
        if held_out_dataloader is None:
            own_split = True
            dataloader, held_out_dataloader = split_dataloader(dataloader, {**DEFAULT_HELD_OUT, **(held_out or {})})
            _refuse_test_set('train_cfg.held_out', held_out_dataloader['dataset'], runner.cfg)
        elif held_out is not None:
            raise ConfigError('train_cfg has both held_out and held_out_dataloader: give one of them')
        else:
            dataloader = _with_built_dataset('train_dataloader', dataloader)
            held_out_dataloader = all_images(_with_built_dataset('train_cfg.held_out_dataloader', held_out_dataloader))
            _refuse_test_set('train_cfg.held_out_dataloader', held_out_dataloader['dataset'], runner.cfg,
                             dataloader['dataset'])
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        # Another seed than the training loader's, or both would walk their images in the same order; the same one in all
        # processes, which share the images.
        seed = torch.tensor(runner.seed + 1)
        broadcast(seed)
        self.held_out_dataloader = runner.build_dataloader(reproducible(held_out_dataloader), seed=seed.item())
        for key, loader in (('train_dataloader', self.dataloader), ('held_out', self.held_out_dataloader)):
            if len(loader) == 0:
                shared = f' among {get_world_size()} processes' if get_world_size() > 1 else ''
                raise ConfigError(f'{key}: {len(loader.dataset)} images{shared} give no batch of '
                                  f'{loader.batch_sampler.batch_size}; make batch_size smaller, or change '
                                  'train_cfg.held_out.ratio')
        self.teacher_kl_share, self.cost_penalty = teacher_kl_share, cost_penalty
        # Training images before the split, as a multiple of those after it.
        self.unsplit = 1 + own_split * len(self.held_out_dataloader.dataset) / len(self.dataloader.dataset)
        kind = type(self).__name__
        if not isinstance(self.model, DistPro):
            raise ConfigError(f'train_cfg.type={kind} needs model.type=DistPro, got {type(self.model).__name__}')
        if teacher_kl_share and not self.model.distiller.grid.logit_losses:
            raise ConfigError(f'train_cfg.teacher_kl_share={teacher_kl_share}: without model.distiller.logits the '
                              'logits are not read; '
                              "add logits=[dict(type='KLDivergence', tau=4)], or set it to 0")
        for name, module in self.model.student.named_modules():
            if self.differentiates and getattr(module, 'with_cp', False):
                raise ConfigError(f"model.architecture: '{name}' has with_cp=True, and a search cannot differentiate "
                                  'through checkpoints: set it to False for the search; a distillation may have it')
        if runner.auto_scale_lr and runner.auto_scale_lr.get('enable'):
            raise ConfigError('auto_scale_lr.enable=True is not for searches, where it may scale the learning rate of '
                             'alpha too: set the learning rate of optim_wrapper.optimizer yourself')
        if not any(isinstance(hook, ProcessRecordHook) for hook in runner.hooks):
            runner.register_hook(ProcessRecordHook(), priority='NORMAL')

    @property
    def model(self) -> DistPro:
        """DistPro: The model without a wrapper."""
        return unwrap(self.runner.model)

    def held_out_loss(self, data_batch: dict) -> torch.Tensor:
        """What the search lowers, of a held-out batch, with a graph."""
        return self.model.held_out_loss(data_batch, self.teacher_kl_share)

    def held_out_losses(self) -> Iterator[torch.Tensor]:
        """The held-out loss by batch, of all held-out images, each weighted by its number of images.

        The sum, averaged over the processes, is the mean over all images. One batch is loaded at a time. Random layers and
        augmentations of batches depend on the iteration of the search and the number of the batch.
        """
        images = len(self.held_out_dataloader.dataset) / get_world_size()
        for number, batch in enumerate(start_at(self.held_out_dataloader, 0, 0)):
            seed_all(self.runner.seed, get_rank(), self._iter, 1, number)  # loading in this process draws random numbers
            yield self.held_out_loss(batch) * (len(batch['inputs']) / images)

    def price(self) -> torch.Tensor | None:
        """What a unit of weight costs on each pathway [N]; None if nothing."""
        return self.cost_penalty * pathway_costs(self.model) if self.cost_penalty else None

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


def split_dataloader(dataloader: dict, held_out: dict) -> tuple[dict, dict]:
    """Split the training set of a loader's config.

    Args:
        dataloader (dict): ``train_dataloader``.
        held_out (dict): Arguments of :class:`HeldOutSplit`.

    Returns:
        tuple[dict, dict]: The loaders of the rest and of the held-out part, with their data sets built; the second as of
        :func:`all_images`.

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
    train = HeldOutSplit(DATASETS.build(dataset), 'train', **held_out)
    held_out_loader = dict(copy.deepcopy({**dataloader, 'dataset': None}), dataset=train.held_out())
    return dict(dataloader, dataset=train), all_images(held_out_loader)


def all_images(dataloader: dict) -> dict:
    """A loader that gives every image once in each pass, in batches of nearly equal size, in another order each time.

    So the mean over a pass is of all images, and no batch is so small that batch norm fails on it. Over several processes
    each image goes to one process. A batch sampler of the config is kept, because its images may fit only one another; all
    of its batches are used then, whatever their size.

    Args:
        dataloader (dict): Config of a loader, whose sampler and ``drop_last`` are replaced.

    Returns:
        dict: A copy.
    """
    loader = {key: value for key, value in dataloader.items() if key not in ('drop_last', 'num_batch_per_epoch')}
    loader['sampler'] = dict(type='DefaultSampler', shuffle=True, round_up=False)
    loader['batch_sampler'] = dict(loader.get('batch_sampler') or dict(type=EvenBatchSampler))
    loader['batch_sampler'].pop('drop_last', None)
    loader['persistent_workers'] = loader.get('num_workers', 0) > 0
    return loader


def _with_built_dataset(key: str, dataloader: dict) -> dict:
    """A loader's config with its data set built."""
    if not isinstance(dataloader, dict):
        raise ConfigError(f'{key} must be a config, so that its sampler and its data set can be wrapped, got '
                          f'{type(dataloader).__name__}')
    dataset = dataloader['dataset']
    return dict(dataloader, dataset=DATASETS.build(dataset) if isinstance(dataset, dict) else dataset)


def _refuse_test_set(key: str, held_out: Any, cfg: dict, train: Any = None) -> None:
    """Refuse held-out images that are tested on, validated on or trained on.

    Args:
        key (str): The config key that the held-out images come from.
        held_out (BaseDataset or wrapper): The held-out images.
        cfg (dict): The runner's config.
        train (BaseDataset or wrapper, optional): The training images; None if a split has made them disjoint.
    """
    sets = {} if train is None else dict(train_dataloader=train)
    configs = []
    for name in ('test_dataloader', 'val_dataloader'):
        config = (cfg.get(name) or {}).get('dataset')
        if not isinstance(config, dict) or config in configs:
            continue
        configs.append(config)
        try:
            sets[name] = build_unloaded(config)
        except Exception as error:  # a search does not need it, so it may be on another machine
            print_log(f'{name}: its data set cannot be built, so held-out images are not compared with it '
                      f'({type(error).__name__}: {first_line(error)})', 'current', 30)
    held_out_ids, *other_ids = image_ids(held_out, *sets.values())
    for name, ids in zip(sets, other_ids):
        common = np.isin(held_out_ids, ids)
        if common.any():
            advice = ('leave it out to split the training set' if key.endswith('dataloader') else
                      'take those images out of train_dataloader')
            raise ConfigError(f'{key}: {common.sum()} of the {len(common)} held-out images are in {name} too, the first is '
                              f'{describe(held_out, int(common.argmax()))}; a search needs images that are neither trained '
                              f'on nor tested on: {advice}')


def usable(student: OptimWrapper) -> OptimWrapper:
    """Check that the step of the student's optimiser can be differentiated alone."""
    if student.clip_grad_kwargs:
        raise ConfigError('optim_wrapper.clip_grad is not supported in a search: a clipped step depends on alpha through '
                         'the norm of the whole gradient; remove it for the search (the distillation may keep it)')
    if student._accumulative_counts > 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts={student._accumulative_counts} is not supported in a search: '
                         'alpha belongs to one batch and one step; remove it for the search')
    with argument_prefix('optim_wrapper.', ConfigError):
        check_differentiable(student.optimizer)
    return student
