import errno
import os
from collections.abc import Iterator

import torch
from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop
from mmrazor.registry import LOOPS
from torch.utils.data import DataLoader

from ...datasets import ReproducibleBatchSampler, reproducible, seed_all
from ...errors import ConfigError, DataError, TrainingError
from ..hooks import add_checks

FULL = (errno.ENOSPC, errno.EDQUOT)
GO_ON = 'What was learned until the last checkpoint is in the work_dir: go on with --resume'


@LOOPS.register_module()
class ReproducibleTrainLoop(EpochBasedTrainLoop):
    """mmengine's loop by epochs, in which every random number is a function of the seed and the moment.

    The order of the images, their augmentations, dropout and whatever else is random depend on the run's seed, the epoch,
    the image and the iteration, and on nothing that came before. So a run that was killed and resumed from any
    checkpoint, within an epoch too, ends bit for bit like one that was not, and the number of workers does not matter. On a
    GPU this needs ``randomness=dict(deterministic=True)``, without which its kernels add in any order.

    It stops with a sentence, and leaves what was learned on disk, where a loss is not finite, an image cannot be loaded,
    a worker dies or the disk is full.

    Args:
        runner (Runner): The runner.
        dataloader (dict): Config of the training set's loader.
        max_epochs (int): Epochs.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of mmengine's ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: If the loader is no config.
    """

    reproducible = True

    def __init__(self, runner, dataloader: DataLoader | dict, max_epochs: int, **kwargs) -> None:
        if not isinstance(dataloader, dict):
            raise ConfigError('train_dataloader must be a config, so that its sampler and its data set can be wrapped')
        super().__init__(runner, reproducible(dataloader), max_epochs, **kwargs)
        if torch.are_deterministic_algorithms_enabled():  # randomness.deterministic=True; cuBLAS reads it at its first call
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        add_checks(runner)

    def run(self) -> torch.nn.Module:
        """Train."""
        try:
            return super().run()
        except (DataError, OSError, RuntimeError) as error:
            reason = _reason(error)
            if reason is None:
                raise
            raise TrainingError(f'stopped at iteration {self._iter + 1} of {self._max_iters}: {reason}. {GO_ON}') from error
        finally:
            dismiss_workers(self.dataloader)

    def run_epoch(self) -> None:
        """Iterate an epoch, from where a checkpoint within it left off."""
        done = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= done <= len(self.dataloader):
            raise ConfigError(f'--resume: the checkpoint is of iteration {self._iter} in epoch {self._epoch + 1}, and an '
                              f'epoch has {len(self.dataloader)} iterations now: keep batch size, images and '
                              'number of processes')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(start_at(self.dataloader, self._epoch, done), done):
            self.run_iter(index, batch)
        self.end_epoch()
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def end_epoch(self) -> None:
        """What a loop does after an epoch's last batch, and before checkpoints are written."""

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Iterate a batch.

        Args:
            idx (int): Index of the batch in the epoch.
            data_batch (dict): The batch.
        """
        seed_all(self.runner.seed, get_rank(), self._iter)
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = self.step(data_batch)
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def step(self, data_batch: dict) -> dict:
        """One training step.

        Args:
            data_batch (dict): The batch.

        Returns:
            dict: Losses by name.
        """
        return self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)

    def check_finite(self, value: torch.Tensor | float, what: str) -> None:
        """Stop where a value is not finite.

        Raises:
            TrainingError: If it is not.
        """
        value = torch.as_tensor(value)
        if not torch.isfinite(value).all():
            raise TrainingError(f'stopped at iteration {self._iter + 1} of {self._max_iters}: {what} is not finite '
                                f'({value.detach().flatten()[:5].tolist()}); lower optim_wrapper.optimizer.lr. What was '
                                'learned until then is in the work_dir')


def start_at(loader: DataLoader, epoch: int, batches: int):
    """Iterate a pass of a loader made of :func:`reproducible`, leaving out its first batches.

    Args:
        loader (DataLoader): The loader.
        epoch (int): The pass.
        batches (int): Batches to leave out.

    Returns:
        Iterator[dict]: Batches.
    """
    batch_sampler = loader.batch_sampler
    batch_sampler.sampler.set_epoch(epoch)  # the loader itself may hold an unused one of torch
    if isinstance(batch_sampler, ReproducibleBatchSampler):
        batch_sampler.start = batches
    else:
        batch_sampler.sampler.start = batches * batch_sampler.batch_size
    return iter(loader)


def endless(loader: DataLoader, drawn: int = 0) -> Iterator[dict]:
    """Batches without end, each pass in its own order, going on after those that were drawn before a resume."""
    epoch, batches = divmod(drawn, len(loader))
    while True:
        yield from start_at(loader, epoch, batches)
        epoch, batches = epoch + 1, 0


def dismiss_workers(loader: DataLoader) -> None:
    """End a loader's persistent workers; left to the garbage collector, torch waits five seconds for each."""
    loader._iterator = None


def _reason(error: Exception) -> str:
    """What to tell the user of an error that comes from the machine or the data; None for any other."""
    text = str(error)
    if isinstance(error, DataError):
        # A worker's error comes with the worker's traceback; the sentence is its last line.
        return text.strip().splitlines()[-1].rpartition('DataError: ')[2]
    if isinstance(error, TrainingError):
        return None
    if 'DataLoader worker' in text:
        return (f'a worker that loads images died ({text.splitlines()[0]}), most often for want of memory; lower '
                'train_dataloader.num_workers or batch_size')
    if 'No space left' in text or 'PytorchStreamWriter' in text or getattr(error, 'errno', None) in FULL:
        return f'a file could not be written ({text.splitlines()[0]}); make room on the disk'
    return None
