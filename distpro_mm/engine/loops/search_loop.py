from collections.abc import Iterator

import torch
from mmengine.dist import broadcast, get_rank, get_world_size
from torch.utils.data import DataLoader

from distpro.checks import check_number

from ...datasets import reproducible, seed_all
from ...errors import ConfigError
from ...models import DistPro
from ...models.cost import pathway_costs
from ..hooks import ProcessRecordHook
from ..search import Search
from ..unwrap import unwrap
from .reproducible_train_loop import ReproducibleTrainLoop, dismiss_workers, start_at
from .search_data import two_parts


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
        own_split = held_out_dataloader is None
        dataloader, held_out_dataloader = two_parts(dataloader, held_out, held_out_dataloader, runner.cfg)
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        # Another seed than the training loader's, or both would walk their images in the same order; the same one in all
        # processes, which share the images.
        seed = torch.tensor(runner.seed + 1)
        broadcast(seed)
        self.held_out_dataloader = runner.build_dataloader(reproducible(held_out_dataloader), seed=seed.item())
        _refuse_empty(train_dataloader=self.dataloader, held_out=self.held_out_dataloader)
        self.teacher_kl_share, self.cost_penalty = teacher_kl_share, cost_penalty
        # Training images before the split, as a multiple of those after it.
        self.unsplit = 1 + own_split * len(self.held_out_dataloader.dataset) / len(self.dataloader.dataset)
        self._check_model()
        if runner.auto_scale_lr and runner.auto_scale_lr.get('enable'):
            raise ConfigError('auto_scale_lr.enable=True is not for searches, where it may scale the learning rate of '
                             'alpha too: set the learning rate of optim_wrapper.optimizer yourself')
        if not any(isinstance(hook, ProcessRecordHook) for hook in runner.hooks):
            runner.register_hook(ProcessRecordHook(), priority='NORMAL')

    def _check_model(self) -> None:
        """Refuse a model that cannot be searched with."""
        kind = type(self).__name__
        if not isinstance(self.model, DistPro):
            raise ConfigError(f'train_cfg.type={kind} needs model.type=DistPro, got {type(self.model).__name__}')
        if self.teacher_kl_share and not self.model.distiller.grid.logit_losses:
            raise ConfigError(f'train_cfg.teacher_kl_share={self.teacher_kl_share}: without model.distiller.logits the '
                              'logits are not read; '
                              "add logits=[dict(type='KLDivergence', tau=4)], or set it to 0")
        for name, module in self.model.student.named_modules():
            if self.differentiates and getattr(module, 'with_cp', False):
                raise ConfigError(f"model.architecture: '{name}' has with_cp=True, and a search cannot differentiate "
                                  'through checkpoints: set it to False for the search; a distillation may have it')

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


def _refuse_empty(**loaders: DataLoader) -> None:
    """Refuse a loader without a batch."""
    for key, loader in loaders.items():
        if len(loader) == 0:
            shared = f' among {get_world_size()} processes' if get_world_size() > 1 else ''
            raise ConfigError(f'{key}: {len(loader.dataset)} images{shared} give no batch of '
                              f'{loader.batch_sampler.batch_size}; make batch_size smaller, or change '
                              'train_cfg.held_out.ratio')
