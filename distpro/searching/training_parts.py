"""Checks of the loaders, the loss and the optimiser that a search is given for a training loop of a user."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler, SequentialSampler

from ..checks import brief, check_that, is_function
from ..errors import ArgumentError, first_line
from ..random_state import without_side_effects

LOADER = 'a DataLoader, or what else gives its batches (images, labels) anew in each pass, one or more'


def check_functions(criterion: Any, optimizer: Any, scheduler: Any, report: Any) -> None:
    """Refuse arguments of a search that are no functions.

    Args:
        criterion, optimizer, scheduler, report (Callable): See :func:`distpro.search`.

    Raises:
        ArgumentError: If one is not.
    """
    check_that('criterion', criterion, is_function(criterion),
               'a function criterion(logits, labels), such as torch.nn.functional.cross_entropy or '
               'torch.nn.CrossEntropyLoss()')
    check_that('optimizer', optimizer, callable(optimizer) and not isinstance(optimizer, torch.optim.Optimizer),
               'a function of the parameters, such as lambda parameters: torch.optim.SGD(parameters, lr=0.05)')
    check_that('scheduler', scheduler, scheduler is None or callable(scheduler),
               'a function scheduler(optimizer, iterations), or None')
    check_that('report', report, callable(report), 'a function of a line, such as print or lambda line: None')


def check_loaders(train_loader: Any, held_out_loader: Any) -> Sequence[Tensor]:
    """Refuse loaders without batches or pairs, and held-out images that are trained on.

    Args:
        train_loader, held_out_loader (Iterable): See :func:`distpro.search`.

    Returns:
        Sequence[Tensor]: The first batch of ``train_loader``.

    Raises:
        ArgumentError: If a loader is wrong.
    """
    first = _first(train_loader, 'train_loader')
    with torch.random.fork_rng(devices=[]):
        _first(held_out_loader, 'held_out_loader')
    own = getattr(train_loader, 'dataset', None)
    shared = own is not None and getattr(held_out_loader, 'dataset', None) is own
    if held_out_loader is train_loader or shared and _reads_all(train_loader) and _reads_all(held_out_loader):
        raise ArgumentError(f'held_out_loader={brief(held_out_loader)} gives the images of train_loader: give images that '
                            'are not trained on, such as a part of the training set from torch.utils.data.random_split')
    return first


def _first(loader: Iterable, name: str) -> Sequence[Tensor]:
    check_that(name, loader, isinstance(loader, Iterable) and not isinstance(loader, (Iterator, str)), LOADER)
    nothing = object()
    batch = next(iter(loader), nothing)
    check_that(name, loader, batch is not nothing, LOADER)
    return pair_of(batch, name)


def pair_of(batch: Any, loader: str) -> Sequence[Tensor]:
    """The batch; refuses one that is no pair."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ArgumentError(f'{loader}: a batch must be a pair (images, labels), got {type(batch).__name__}')
    for part, name in zip(batch, ('images', 'labels')):
        check_that(f'{loader}: the {name} of a batch', part, hasattr(part, 'to'), 'a tensor')
    return batch


def _reads_all(loader: Any) -> bool:
    """Whether a loader reads its data set without a sampler that selects a part."""
    return isinstance(getattr(getattr(loader, 'batch_sampler', None), 'sampler', None), (RandomSampler, SequentialSampler))


def try_criterion(criterion: Callable[..., Any], student: nn.Module, get_logits: Callable[[Any], Tensor], images: Any,
                  labels: Any) -> None:
    """Compute the loss of two images once.

    Args:
        criterion (Callable): The loss of logits and labels.
        student (nn.Module): The student; it is as before afterwards.
        get_logits (Callable): Gives the logits out of what the student returns.
        images, labels (Tensor): A batch.

    Raises:
        ArgumentError: If the loss fails, or is no scalar.
    """
    with without_side_effects(student), torch.no_grad():
        logits = get_logits(student(images[:2]))
        try:
            loss = criterion(logits, labels[:2])
        except Exception as error:
            raise ArgumentError(f'criterion={brief(criterion)} fails for logits {tuple(logits.shape)} and labels, '
                                f'{brief(labels[:2])}, of train_loader: {type(error).__name__}: {first_line(error)}; it '
                                'must give the mean loss of a batch, a scalar') from error
    check_that('criterion(logits, labels)', loss, isinstance(loss, Tensor) and loss.dim() == 0,
               'the mean loss of a batch, a scalar')
