"""Training with a checkpoint after every epoch, from which it continues bit for bit."""
import math
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from distpro.errors import ArgumentError, first_line
from distpro.files import atomic_write
from distpro.process import LevelControl

from .settings import FolderSettings

WARM_UP = 0.05  # share of the steps in which the learning rate rises to its value
OUTWEIGHED = 100  # times the cross-entropy, or that of guessing
EPOCH_SEEDS = 1000003  # distance of the seeds of runs
# By optimiser, and whether weights are random.
LEARNING_RATES = {('sgd', True): 0.05, ('sgd', False): 0.01, ('adamw', True): 1e-3, ('adamw', False): 3e-4}
WEIGHT_DECAYS = dict(sgd=5e-4, adamw=0.05)


def build_optimizer(settings: FolderSettings, network: nn.Module, others: Iterable[nn.Parameter] = (), *,
                    random_weights: bool) -> torch.optim.Optimizer:
    """The optimiser of a network and of other parameters.

    Args:
        settings (FolderSettings): The settings; see ``optimizer``, ``lr`` and ``weight_decay``.
        network (nn.Module): The network, whose kind of normalisation decides for 'auto'.
        others (Iterable[nn.Parameter]): Further parameters. Defaults to none.
        random_weights (bool): Whether the network starts from random weights.
    """
    kind = settings.optimizer
    if kind == 'auto':
        has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
        kind = 'sgd' if has_batch_norm else 'adamw'
    lr = LEARNING_RATES[kind, random_weights] if settings.lr is None else settings.lr
    decay = WEIGHT_DECAYS[kind] if settings.weight_decay is None else settings.weight_decay
    own, rest = list(network.parameters()), list(others)
    # Biases and the parameters of norms are not decayed.
    groups = [dict(params=[p for p in own if p.dim() > 1] + rest, weight_decay=decay),
              dict(params=[p for p in own if p.dim() < 2], weight_decay=0.)]
    groups = [group for group in groups if group['params']]
    return torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True) if kind == 'sgd' else torch.optim.AdamW(groups, lr)


class Training:
    """Epochs of a training, with a cosine schedule of the learning rate after a short warm-up.

    Every epoch seeds torch by its number, so a training that continues from a checkpoint ends as if it had not stopped.

    Args:
        modules (dict[str, nn.Module]): What is trained, by name in the checkpoint.
        optimizer (torch.optim.Optimizer): Its optimiser.
        loss (Callable): ``loss(images, labels, progress)`` gives the loss of a batch, a scalar, at a share of the training.
        batches (DataLoader): Gives batches of images and labels.
        epochs (int): Number of epochs.
        path (str): The checkpoint.
        seed (int): Seed of the order and the crops.
        identity (str): What the checkpoint belongs to; others are refused.
        report (Callable): Is given a line after an epoch.
        level (LevelControl, optional): Starts the training again with lower weights of a process; part of the checkpoint.
            Defaults to None.

    Attributes:
        cross_entropy (tuple, optional): That of the student on the present batch and that of guessing, set by ``loss``.
    """

    def __init__(self, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer,
                 loss: Callable[[Tensor, Tensor, float], Tensor], batches: torch.utils.data.DataLoader, epochs: int,
                 path: str, seed: int, identity: str, report: Callable[[str], Any],
                 level: LevelControl | None = None) -> None:
        self.modules, self.optimizer, self.loss, self.batches = modules, optimizer, loss, batches
        self.epochs, self.path, self.seed, self.identity, self.report = epochs, path, seed, identity, report
        self.level = level
        self.cross_entropy: tuple[Tensor, float] | None = None
        self._outweighed = False
        self.rates = [group['lr'] for group in optimizer.param_groups]
        self.device = next(parameter for module in modules.values() for parameter in module.parameters()).device

    def run(self, resume: bool, evaluate: Callable[[], str]) -> None:
        """Train to the end.

        Args:
            resume (bool): Continue from the checkpoint, if there is one.
            evaluate (Callable): Gives what a line of an epoch says about held-out images.

        Raises:
            ArgumentError: If the loss is not finite, or the checkpoint belongs to other settings or images.
        """
        first = self._restore() if resume and os.path.exists(self.path) else 0
        steps = self.epochs * len(self.batches)
        for epoch in range(first, self.epochs):
            start, total, self._own = time.perf_counter(), 0.0, 0.0
            torch.manual_seed(self.seed * EPOCH_SEEDS + epoch)
            for module in self.modules.values():
                module.train()
            for place, (images, labels) in enumerate(self.batches):
                step = epoch * len(self.batches) + place
                total += self._step(images.to(self.device), labels.to(self.device), step, steps)
            self._warn_of_balance(total)
            self._store(epoch + 1)
            every = max(1, self.epochs // 10)
            if (epoch + 1) % every == 0 or epoch + 1 == self.epochs:
                self.report(f'epoch {epoch + 1}/{self.epochs}: loss {total / len(self.batches):.4g}, {evaluate()}, '
                            f'{time.perf_counter() - start:.1f} s')

    def _step(self, images: Tensor, labels: Tensor, step: int, steps: int) -> float:
        rising = min(1, (step + 1) / max(1, round(WARM_UP * steps)))
        scale = rising * (1 + math.cos(math.pi * step / steps)) / 2
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group['lr'] = rate * scale
        progress = step / max(1, steps - 1)
        loss = self.loss(images, labels, progress)
        value = float(loss.detach())
        if not math.isfinite(value):
            why = 'the training loss is not finite'
            if self.level is not None and self._started_again(self.level.restart(progress, why, [self.optimizer])):
                return 0.
            raise ArgumentError(f'lr={max(self.rates):g}: the training loss is {value} in step {step + 1} of {steps}; pass '
                                'a lower --lr, or a process of lower weights')
        self._own += float(self.cross_entropy[0].detach()) if self.cross_entropy is not None else 0.
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.level is not None and self.cross_entropy is not None:
            self._started_again(self.level.observe(progress, *self.cross_entropy, [self.optimizer]))
        return value

    def _warn_of_balance(self, total: float) -> None:
        """Warn once if the pathways' losses of an epoch are more than 100 times the cross-entropy, or that of guessing."""
        if self._outweighed or self.cross_entropy is None:
            return
        count = len(self.batches)
        own, pathways = self._own / count, (total - self._own) / count
        if pathways > OUTWEIGHED * max(own, self.cross_entropy[1]):
            self._outweighed = True
            self.report(f'warning: the weighted losses of the pathways are {pathways:.4g} on average, '
                        f'{pathways / own:.0f} times the cross-entropy of {own:.4g}: the student may learn nothing from its '
                        'labels; pass a process of lower weights (--process), or compare with --method kd')

    def _started_again(self, warning: str | None) -> bool:
        if warning:
            self.report(f'warning: {warning}')
        return bool(warning)

    def _store(self, epochs: int) -> None:
        with atomic_write(self.path) as temporary:
            torch.save(dict(epochs=epochs, identity=self.identity, optimizer=self.optimizer.state_dict(),
                            level=self.level and self.level.state_dict(),
                            modules={name: module.state_dict() for name, module in self.modules.items()}), temporary)

    def _restore(self) -> int:
        try:
            stored = torch.load(self.path, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises many kinds for a file that is no checkpoint
            raise ArgumentError(f"resume: '{self.path}' cannot be read ({first_line(error)}); delete it to train from the "
                                'start') from error
        if stored['identity'] != self.identity:
            raise ArgumentError(f"resume: '{self.path}' is of other settings or images; delete it, or pass another --out")
        for name, module in self.modules.items():
            module.load_state_dict(stored['modules'][name])
        self.optimizer.load_state_dict(stored['optimizer'])
        if self.level is not None:
            self.level.load_state_dict(stored['level'])
        self.report(f"continues after epoch {stored['epochs']} of {self.epochs}")
        return stored['epochs']
