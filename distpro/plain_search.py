"""The default search, for networks and loaders of one's own."""
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_that, named_arguments
from .distillation import OF_THE_GRID, Distillation
from .errors import ArgumentError, SearchError, first_line
from .process import DistillationProcess, ProcessLike
from .random_state import preserve_random_states
from .searching import REFERENCES, Round, RoundSearch, Searcher, build_searcher, round_epochs
from .searching.arguments import check_numbers, check_references
from .searching.round import copied
from .searching.training_parts import check_functions, check_loaders, pair_of, try_criterion
from .teachers import Network, build_pair

Optimizers = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Schedulers = Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler]


@named_arguments(*(name for name in inspect.signature(Distillation).parameters if name != 'kwargs'), *OF_THE_GRID)
def search(student: Network,
           teacher: Network,
           train_loader: Iterable,
           held_out_loader: Iterable,
           criterion: Callable[[Tensor, Tensor], Tensor],
           optimizer: Optimizers,
           epochs: int,
           scheduler: Schedulers | None = None,
           round_share: float = 0.1,
           min_iterations: int = 200,
           rounds: int = 3,
           knots: int = 4,
           initial: ProcessLike | None = None,
           searcher: str | type | dict | None = None,
           references: Sequence[str] = REFERENCES,
           max_divisions: int = 5,
           max_growth: float = 2.0,
           memory: float = 4.0,
           seed: int = 0,
           report: Callable[[str], Any] = print,
           **distillation: Any) -> DistillationProcess:
    """Search the process with which a training ends best on held-out images.

    The student is trained in rounds: short trainings from the same start, each with one process, judged by the held-out loss
    at its end. See :class:`distpro.searching.RoundSearch`. Student and random states are as before afterwards.

    Args:
        student (nn.Module, str or dict): The student, as it is before training, or its name, see
            :func:`distpro.build_network`.
        teacher (nn.Module, str or dict): The teacher, likewise, or several by name, see :class:`Distillation`. Then the
            search also decides which teacher counts when.
        train_loader (Iterable): Gives batches (images [B, C, H, W], labels), anew in each pass. A shuffled ``DataLoader`` is
            one; it draws its order from torch's random state.
        held_out_loader (Iterable): Likewise, of images that are not trained on and are not the test set.
        criterion (Callable): ``criterion(logits, labels)`` gives the mean loss of a batch, a scalar.
        optimizer (Callable): ``optimizer(parameters)`` gives the optimiser of the training: SGD in any form, or an optimiser
            of torch that knows ``differentiable``.
        epochs (int): Epochs of the training that the process is for.
        scheduler (Callable, optional): ``scheduler(optimizer, iterations)`` gives the learning rate's schedule over a
            number of iterations, stepped after each. Defaults to None: cosine decay to 0.
        round_share (float): Length of a round as a share of the training, in (0, 1]. Defaults to 0.1.
        min_iterations (int): Least iterations of a round; one of fewer is repeated and averaged. Defaults to 200.
        rounds (int): Refinements of the best level, >= 0; 0 searches for the level alone and differentiates nothing.
            Defaults to 3.
        knots (int): Points of the training at which the weights are free, >= 2. Defaults to 4.
        initial (str, dict or DistillationProcess, optional): The process that is tried first, such as 'general'; another
            pair's is mapped by depth. Defaults to None: 16 for features and 1 for logits, 20 times as much in the middle.
        searcher (str, type or dict, optional): Strategy of the refinement: its name, its class, or ``type`` and arguments.
            Defaults to None: 'RpropSearcher'.
        references (Sequence[str]): References that are trained: 'student', 'kd'. Defaults to both.
        max_divisions (int): How often the initial weights are divided by 4 at most, >= 0. Defaults to 5.
        max_growth (float): Bound on the gradient's growth on its way back through a round, > 0. Defaults to 2.
        memory (float): GiB for stored steps, > 0. Defaults to 4.
        seed (int): Seed of the rounds' random numbers. Defaults to 0.
        report (Callable): Is given a line after each trial. Defaults to ``print``.
        **distillation (Any): Of :class:`Distillation`, but ``process``.

    Returns:
        DistillationProcess: The best process. ``origin`` has the trials and their held-out losses.

    Raises:
        ArgumentError: If an argument is out of range, or something has no second derivative.
        SearchError: If the student alone does not learn, or no trial has a finite held-out loss.
    """
    check_references(references)
    check_numbers(epochs=epochs, rounds=rounds, knots=knots, min_iterations=min_iterations, round_share=round_share,
                  max_divisions=max_divisions, max_growth=max_growth, memory=memory, seed=seed)
    check_functions(criterion, optimizer, scheduler, report)
    if 'process' in distillation or 'example' in distillation:
        raise ArgumentError('process and example are not arguments of a search: it finds the process, and takes the example '
                            'from train_loader')
    student, teacher = build_pair(student, teacher)
    with preserve_random_states(next(student.parameters()).device):
        training = _Training(student, teacher, train_loader, held_out_loader, criterion, optimizer, scheduler, seed,
                             distillation)
        try:
            length = round_epochs(epochs, training.epoch_iterations, round_share, min_iterations)
            training.start(length * training.epoch_iterations)
            strategy = build_searcher(
                training.kd.grid, searcher or 'RpropSearcher', rounds, knots, references=references,
                guessing=training.guessing(), max_divisions=max_divisions, seed=seed, initial=initial)
            current = Round(training, training.iterations, strategy.differentiates, memory, max_growth)
            process = _searched(training, current, strategy, math.ceil(min_iterations / training.iterations), report)
            process.origin.update(epochs=length, seed=seed)
            return process
        finally:
            training.close()


def _searched(training: '_Training', current: Round, strategy: Searcher, repeats: int, report: Callable[[str], Any]
              ) -> DistillationProcess:
    found = RoundSearch(training.kd.grid, current, strategy, repeats)
    current.open()
    try:
        _try(found, training)
        while not found.finished:
            training.begin(found.rounds)
            found.begin()
            trial = found.trial
            for batch in training.batches(0):
                current.step(batch)
            loss = found.end()
            if trial.kind == 'student' and current.diverged and not trial.confirms:
                raise SearchError('the training loss of the student alone is not finite: lower the learning rate')
            if loss is not None:
                report(found.report(trial))
    finally:
        current.close()
    process = found.process()
    if process is None:
        raise SearchError(f'none of the {len(strategy.history)} trials has a finite held-out loss: lower the learning rate')
    warning = found.warning()
    if warning:
        report(f'warning: {warning}')
    return process


def _try(found: RoundSearch, training: '_Training') -> None:
    """Differentiate one step before the first round."""
    if not found.searcher.differentiates:
        return
    training.begin(1)
    try:
        found.try_derivatives(next(training.batches(0)), lambda: [next(training.held_out_losses())])
    except (NotImplementedError, RuntimeError) as error:
        raise ArgumentError("searcher=dict(type='RpropSearcher') differentiates training steps, and something in the "
                            "student, the transforms or the losses has no second derivative: use "
                            f"dict(type='CMAESSearcher') with rounds=22 ({first_line(error)})") from error


class _Training(nn.Module):
    """A training of the student, for :class:`distpro.searching.Round`; a module of student and transforms."""

    def __init__(self, student: nn.Module, teacher: Network, train_loader: Iterable, held_out_loader: Iterable,
                 criterion: Callable[[Tensor, Tensor], Tensor], optimizer: Optimizers, scheduler: Schedulers | None,
                 seed: int, distillation: dict[str, Any]) -> None:
        super().__init__()
        self._was = copied(student.state_dict()), student.training
        self.train_loader, self.held_out_loader, self.criterion = train_loader, held_out_loader, criterion
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
        student.train()

    @property
    def model(self) -> nn.Module:
        return self

    def start(self, iterations: int) -> None:
        """Set the number of iterations of a round."""
        self.iterations = iterations
        self.scheduler = self.make_scheduler(self.optimizer, iterations)
        check_that('scheduler', self.scheduler, hasattr(self.scheduler, 'step'), 'one of torch')

    def begin(self, round: int) -> None:
        """Prepare a round, counted from 1, each with random numbers of its own."""
        self.round = round
        self.student.train()

    def close(self) -> None:
        """Give the student back as it was."""
        self.kd.close()
        self.student.load_state_dict(self._was[0])
        self.student.train(self._was[1])

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

    def _seed(self, *place: int) -> None:
        number = self.seed
        for part in (self.round, *place):
            number = (number * 1000003 + part + 1) % 2**63
        torch.manual_seed(number)

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
            self._seed(-1, epoch)
            start = max(iteration - epoch * self.epoch_iterations, 0)
            yield from itertools.islice(map(self._moved, self.train_loader), start, None)

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
        return self.criterion(out.logits, labels) + out.loss

    def training_loss(self, parameters: dict[str, Tensor], weights: Tensor, iteration: int, batch: Any) -> Tensor:
        self._seed(iteration)
        with self.kd.grid.using_weights(weights):
            return torch.func.functional_call(self, parameters, (batch, ))

    def held_out_losses(self) -> Iterator[Tensor]:
        self._seed(-2)
        batches = [pair_of(batch, 'held_out_loader') for batch in self.held_out_loader]
        images = sum(len(batch[0]) for batch in batches)
        for number, batch in enumerate(batches):
            self._seed(-2, number)  # a loader with workers leaves the random state as it was
            yield self._held_out_loss(batch, images)

    def _held_out_loss(self, batch: Sequence[Tensor], images: int) -> Tensor:
        """A batch's share of the held-out loss. Only this batch is on the device, and only as long as its loss is."""
        inputs, labels = self._moved(batch)
        return self.criterion(self.kd.get_logits(self.student(inputs)), labels) * (len(inputs) / images)

    def any_process(self, flag: Tensor) -> bool:
        return bool(flag)

    def average(self, tensors: list[Tensor]) -> None:
        """Nothing: a search runs in one process."""


def _several_labels(labels: Tensor) -> bool:
    """Whether labels are those of several classes per image [B, K]; shares of the classes, as of mixed images, are not."""
    return labels.ndim == 2 and bool((labels.sum(1) - 1).abs().max() > 1e-3)


def _cosine(optimizer: torch.optim.Optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
