"""The default search, for networks and loaders of one's own."""
import inspect
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from .checks import named_arguments
from .distillation import OF_THE_GRID, Distillation
from .errors import ArgumentError, SearchError, first_line
from .plain_checkpoint import SearchCheckpoint
from .plain_training import Optimizers, PlainTraining, Schedulers
from .process import DistillationProcess, ProcessLike
from .processes import alone
from .random_state import preserve_random_states
from .searching import REFERENCES, Round, RoundSearch, RoundWatch, Searcher, build_searcher, round_epochs
from .searching.arguments import check_numbers, check_references
from .searching.training_parts import check_functions
from .teachers import Network, build_pair


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
           scheduled: Sequence[str] = (),
           searcher: str | type | dict | None = None,
           references: Sequence[str] = REFERENCES,
           max_divisions: int = 5,
           max_growth: float = 2.0,
           batch_share: float = 1.0,
           memory: float = 4.0,
           memory_on: str = 'device',
           seed: int = 0,
           checkpoint: str | os.PathLike | None = None,
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
            pair's is mapped by depth. Other levels of it are tried only if it is no better than the references, or with
            ``rounds=0``. If it is better than these, it is the result unless another process has a held-out loss that is 2%
            lower. Defaults to None: 16 for features and 1 for logits, 20 times as much in the middle.
        scheduled (Sequence[str]): What is searched for beside the weights: 'temperature', a factor of that of the losses of
            logits, and 'cross_entropy', a factor of ``criterion`` in the training. They start at 1. Defaults to none.
        searcher (str, type or dict, optional): Strategy of the refinement: its name, its class, or ``type`` and arguments.
            Defaults to None: 'RpropSearcher'.
        references (Sequence[str]): References that are trained: 'student', 'kd'. Defaults to both.
        max_divisions (int): How often the initial weights are divided by 4 at most, >= 0. Defaults to 5.
        max_growth (float): Growth of the gradient on its way back through a round, > 0, from where it is not followed
            further, and earlier weights stay as they are. Defaults to 2.
        batch_share (float): Share of each batch, in (0, 1], that the gradient is computed of on its way back, at least 16
            images: less than 1 is cheaper and noisier. Defaults to 1, the exact gradient.
        memory (float): GiB for stored steps, > 0. Defaults to 4.
        memory_on (str): Where they are stored: 'device' or 'host', main memory. Defaults to 'device'.
        seed (int): Seed of the rounds' random numbers. Defaults to 0.
        checkpoint (str, optional): File to store the rounds in that are done, and to continue from if it exists; the result
            is then that of a search without a break. Defaults to None: a search that is stopped is lost.
        report (Callable): Is given a line after each trial. Defaults to ``print``.
        **distillation (Any): Of :class:`Distillation`, but ``process``.

    Returns:
        DistillationProcess: The best process. ``origin`` has the trials and their held-out losses.

    Raises:
        ArgumentError: If an argument is out of range, or something has no second derivative.
        SearchError: If the loss of the student alone is not finite, or no trial has a finite held-out loss.
    """
    check_references(references)
    check_numbers(epochs=epochs, rounds=rounds, knots=knots, min_iterations=min_iterations, round_share=round_share,
                  max_divisions=max_divisions, max_growth=max_growth, batch_share=batch_share, memory=memory, seed=seed)
    check_functions(criterion, optimizer, scheduler, report)
    if 'process' in distillation or 'example' in distillation:
        raise ArgumentError('process and example are not arguments of a search: it finds the process, and takes the example '
                            'from train_loader')
    student, teacher = build_pair(student, teacher)
    with alone(), preserve_random_states(next(student.parameters()).device):
        training = PlainTraining(student, teacher, train_loader, held_out_loader, criterion, optimizer, scheduler, seed,
                                 distillation, batch_share)
        try:
            length = round_epochs(epochs, training.epoch_iterations, round_share, min_iterations)
            training.start(length * training.epoch_iterations)
            for warning in training.check_teachers():
                report(f'warning: {warning}')
            training.kd.grid.schedule(scheduled)
            strategy = build_searcher(
                training.kd.grid, searcher or 'RpropSearcher', rounds, knots, references=references,
                guessing=training.guessing(), max_divisions=max_divisions, seed=seed, initial=initial)
            current = Round(training, training.iterations, strategy.differentiates, memory, max_growth, memory_on)
            stored = SearchCheckpoint(checkpoint, dict(
                epochs=epochs, iterations=training.iterations, min_iterations=min_iterations, rounds=rounds, knots=knots,
                seed=seed, searcher=type(strategy).__name__, references=list(references), max_divisions=max_divisions,
                max_growth=float(max_growth), batch_share=float(batch_share), pathways=training.kd.grid.names,
                scheduled=list(scheduled), initial=strategy.initial.tolist()))
            process = _searched(training, current, strategy, math.ceil(min_iterations / training.iterations), stored, report)
            process.origin.update(epochs=length, iterations=training.iterations, seed=seed)
            return process
        finally:
            training.close()


def _searched(training: PlainTraining, current: Round, strategy: Searcher, repeats: int, stored: SearchCheckpoint,
              report: Callable[[str], Any]) -> DistillationProcess:
    found = RoundSearch(training.kd.grid, current, strategy, repeats)
    watch = RoundWatch(found)
    current.open()
    try:
        _try(found, training)
        if done := stored.load(found):
            report(f'continuing after {done} trials of {stored.path}')
        while not found.finished:
            training.begin(found.number)
            found.begin()
            trial = found.trial
            for batch in training.batches(0):
                unknown = current.footprint is None
                current.step(batch)
                if unknown and current.footprint and current.footprint.too_large:
                    report(f'warning: {current.footprint}')
            loss = found.end()
            if trial.kind == 'student' and current.diverged and not trial.confirms:
                raise SearchError('the training loss of the student alone is not finite: lower the learning rate')
            stored.save(found)
            if loss is not None:
                report(found.report(trial))
                for line in watch.after_trial():
                    report(f'warning: {line}')
    finally:
        current.close()
    process = found.process()
    if process is None:
        raise SearchError(f'none of the {len(strategy.history)} trials has a finite held-out loss: lower the learning rate')
    warning = found.warning()
    report(f'warning: {warning}' if warning else found.result())
    return process


def _try(found: RoundSearch, training: PlainTraining) -> None:
    """Take one step before the first round, and differentiate it if the search differentiates."""
    training.begin(1)
    try:
        found.try_step(next(training.batches(0)), lambda: [next(training.held_out_losses())])
    except (NotImplementedError, RuntimeError) as error:
        if not found.searcher.differentiates:
            raise
        raise ArgumentError("searcher=dict(type='RpropSearcher') differentiates training steps, and something in the "
                            "student, the transforms or the losses has no second derivative: use "
                            f"dict(type='CMAESSearcher') with rounds=22 ({first_line(error)})") from error
