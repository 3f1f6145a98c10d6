"""A training of a student with any networks and loaders, as a search sees it."""
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_that
from .distillation import Distillation
from .errors import ArgumentError
from .guessing import TeacherCheck
from .pathways.names import split_teacher
from .random_state import preserve_random_states, seed_all
from .searching.round import copied, images_of_a_share
from .searching.training_parts import check_loaders, pair_of, try_criterion
from .teachers import Network

Optimizers = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Schedulers = Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler]
TEACHER_ADVICE = ('Check its weights, the size and normalisation of its images, and the order of its classes, or pass '
                  'logits={} to use its features alone')


class PlainTraining(nn.Module):
    """A training of the student, for :class:`distpro.searching.Round`; a module of student and transforms."""

    def __init__(self, student: nn.Module, teacher: Network, train_loader: Iterable, held_out_loader: Iterable,
                 criterion: Callable[[Tensor, Tensor], Tensor], optimizer: Optimizers, scheduler: Schedulers | None,
                 seed: int, distillation: dict[str, Any], batch_share: float = 1.0) -> None:
        super().__init__()
        self._was = copied(student.state_dict()), {module: module.training for module in student.modules()}
        self._held_out_images = 0  # counted once
        self._generators = {generator: generator.get_state() for generator in _generators(train_loader)}
        self.train_loader, self.held_out_loader, self.criterion = train_loader, held_out_loader, criterion
        self.batch_share = batch_share
        self.make_scheduler, self.seed, self.iterations, self.round = scheduler or _cosine, seed, 1, 0
        try:
            self.epoch_iterations = len(train_loader)  # type: ignore[arg-type]  # has one, or else the error
        except TypeError:
            raise ArgumentError('train_loader must have a length, the number of its batches') from None
        self.device = next(student.parameters()).device
        images, labels = self._moved(check_loaders(train_loader, held_out_loader))
        if 'logits' not in distillation and _several_labels(labels):
            raise ArgumentError('logits: the default KLDivergence(4) assumes one label per image, but images of '
                                'train_loader have several; give losses per logit, such as '
                                'logits=dict(mse=torch.nn.MSELoss()), or logits={}')
        self.kd = Distillation(student, teacher, images[:2], **distillation)
        self.student = student
        try_criterion(criterion, student, self.kd.get_logits, images, labels)
        self.optimizer = optimizer([*student.parameters(), *self.kd.parameters()])
        check_that('optimizer', self.optimizer, isinstance(self.optimizer, torch.optim.Optimizer), 'one of torch')
        self._train()

    @property
    def model(self) -> nn.Module:
        return self

    def start(self, iterations: int) -> None:
        """Set the number of iterations of a round."""
        self.iterations = iterations
        self.scheduler = self.make_scheduler(self.optimizer, iterations)
        by_metric = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        check_that('scheduler', self.scheduler, hasattr(self.scheduler, 'step') and not by_metric,
                   'one of torch that steps after each iteration, without a metric')

    def begin(self, round: int) -> None:
        """Prepare a round, counted from 1, each with its random numbers."""
        self.round = round
        self._train()

    def _train(self) -> None:
        """The student in training mode, with the parts in eval mode that were given so, such as frozen batch norms."""
        modes = self._was[1]
        self.student.train()
        for module, training in modes.items() if modes[self.student] else ():
            module.training = training

    def close(self) -> None:
        """Give the student and the loader back as they were; the student has no gradients."""
        self.kd.close()
        self.student.load_state_dict(self._was[0])
        for module, training in self._was[1].items():
            module.training = training
        self.optimizer.zero_grad()
        for generator, state in self._generators.items():
            generator.set_state(state)

    def check_teachers(self) -> list[str]:
        """A warning for each teacher with logits that is no better than guessing; none if that cannot be known."""
        taps, check = (self.kd.grid.logit_taps or [])[:-1], TeacherCheck()
        self._seed_loading(-3)
        for images, labels in map(self._moved, self.train_loader if taps else ()):
            if labels.ndim != 1 or labels.is_floating_point():
                return []
            logits = self.kd.teachers.read(taps, (images, ), {})
            check.observe({split_teacher(name)[0]: given for name, given in logits.items()}, labels)
            if check.done:
                break
        return check.warnings(TEACHER_ADVICE) if taps else []

    def guessing(self) -> float:
        """Loss of a classifier that gives all classes the same probability; infinity if it cannot be computed."""
        taps = self.kd.grid.logit_taps
        if taps is None:
            return math.inf
        labels = torch.arange(taps[-1].shape[0], device=self.device)
        try:
            return float(self.criterion(torch.zeros(len(labels), len(labels), device=self.device), labels))
        except Exception:  # labels of another kind
            return math.inf

    def _moved(self, batch: Any) -> Sequence[Tensor]:
        return [part.to(self.device) for part in pair_of(batch, 'train_loader')]

    def _seed(self, *place: int) -> int:
        number = self.seed
        for part in (self.round, *place):
            number = (number * 1000003 + part + 1) % 2**63
        seed_all(number)
        return number

    def _seed_loading(self, *place: int) -> None:
        """Seed what the order and the augmentation of the images depend on."""
        number = self._seed(*place)
        for generator in self._generators:
            generator.manual_seed(number)

    def state(self) -> dict:
        return dict(model=self.state_dict(), optimizer=self.optimizer.state_dict(),
                    scheduler=self.scheduler.state_dict())

    def set_state(self, state: dict) -> None:
        self.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scheduler.load_state_dict(state['scheduler'])

    def batches(self, iteration: int) -> Iterator[Any]:
        """The round's batches from an iteration on; the loader draws its order from a seed of each epoch."""
        for epoch in itertools.count(iteration // self.epoch_iterations):
            if epoch * self.epoch_iterations >= self.iterations:
                return
            self._seed_loading(-1, epoch)
            start, given = max(iteration - epoch * self.epoch_iterations, 0), -1
            for given, batch in enumerate(self.train_loader):
                if given == self.epoch_iterations:
                    break
                if given >= start:
                    yield self._moved(batch)
            if given + 1 < self.epoch_iterations:
                raise ArgumentError(f'train_loader gives {given + 1} batches, and its length is {self.epoch_iterations}: a '
                                    'search needs a loader that gives as many batches as its length')

    def take_step(self, iteration: int, batch: Any, weights: Tensor) -> Tensor:
        with preserve_random_states(self.device):  # the loader draws its order from them
            self._seed(iteration)
            self.kd.grid.set_weights(weights)
            loss = self(batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
        return loss

    def forward(self, batch: Any) -> Tensor:
        """Tensor: The training loss of a batch with the weights in force."""
        images, labels = batch
        out = self.kd.compare((images, ), {})
        return out.cross_entropy * self.criterion(out.logits, labels) + out.loss

    def training_loss(self, parameters: dict[str, Tensor], weights: Tensor, iteration: int, batch: Any) -> Tensor:
        self._seed(iteration)
        count = images_of_a_share(len(batch[0]), self.batch_share)
        with self.kd.grid.using_weights(weights):
            return torch.func.functional_call(self, parameters, ([part[:count] for part in batch], ))

    def held_out_losses(self) -> Iterator[Tensor]:
        self._seed(-2)
        if not self._held_out_images:
            self._held_out_images = sum(len(pair_of(batch, 'held_out_loader')[0]) for batch in self.held_out_loader)
            self._seed(-2)
        for number, batch in enumerate(self.held_out_loader):
            with preserve_random_states(self.device):  # from which the loader may draw
                self._seed(-2, number)
                loss = self._held_out_loss(pair_of(batch, 'held_out_loader'), self._held_out_images)
            yield loss

    def _held_out_loss(self, batch: Sequence[Tensor], images: int) -> Tensor:
        """A batch's share of the held-out loss. Only this batch is on the device, and only as long as its loss is."""
        inputs, labels = self._moved(batch)
        return self.criterion(self.kd.get_logits(self.student(inputs)), labels) * (len(inputs) / images)

    def any_process(self, flag: Tensor) -> bool:
        return bool(flag)

    def average(self, tensors: list[Tensor]) -> None:
        """Nothing: a search runs in one process."""


def _generators(loader: Any) -> set[torch.Generator]:
    """The random generators that a loader draws from in place of torch's global one."""
    sampler = getattr(loader, 'sampler', None)
    batch_sampler = getattr(loader, 'batch_sampler', None)
    parts = loader, sampler, batch_sampler, getattr(batch_sampler, 'sampler', None)
    found = (getattr(part, 'generator', None) for part in parts)
    return {generator for generator in found if isinstance(generator, torch.Generator)}


def _several_labels(labels: Tensor) -> bool:
    """Whether labels are those of several classes per image [B, K]; shares of the classes, as of mixed images, are not."""
    return labels.ndim == 2 and bool((labels.sum(1) - 1).abs().max() > 1e-3)


def _cosine(optimizer: torch.optim.Optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
