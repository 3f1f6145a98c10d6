"""Scale learning-rate schedules to a different training length."""
import copy
from collections.abc import Callable
from typing import Any

from mmengine.optim import ExponentialParamScheduler
from mmpretrain.registry import PARAM_SCHEDULERS

from ..config_types import is_a
from ..errors import ConfigError

# Arguments of schedules in epochs, or in iterations with by_epoch=False.
BOUNDS = ('begin', 'end')
LENGTHS = ('T_max', 'milestones', 'step_size', 'total_steps', 'periods')


def scaled_schedules(given: Any, factor: Callable[[bool], float], least: int = 1) -> Any:
    """Scale the length of learning-rate schedules.

    Args:
        given (dict or list): ``param_scheduler``: a schedule, a list of schedules, or a dict of these by optimiser.
        factor (Callable): Called with ``by_epoch``; returns the new length divided by the old one, > 0.
        least (int): Minimum of ``begin`` and ``end``, 0 or 1. Defaults to 1.

    Returns:
        dict or list: The scaled schedules. Schedules without a step are removed; None if a single schedule has none.
    """
    if isinstance(given, (list, tuple)):
        return [new for new in (scaled_schedules(one, factor, least) for one in given) if new is not None]
    if given is None or 'type' not in given:  # None, or schedules by optimiser
        return given and {name: scaled_schedules(several, factor, least) for name, several in given.items()}
    share = factor(given.get('by_epoch', True))
    if share == 1:
        return given
    new = copy.deepcopy(given)
    for entry in BOUNDS:
        if given.get(entry):
            new[entry] = scaled(given[entry], share, least)
    for entry in LENGTHS:
        if given.get(entry):
            new[entry] = scaled(given[entry], share)
    if 'end' in given:
        before, now = given['end'] - given.get('begin', 0), new['end'] - new.get('begin', 0)
        in_epochs = given.get('by_epoch', True) and given.get('convert_to_iter_based', False)
        if now < 1 or now == 1 < before and not in_epochs:  # a warm-up of one step never reaches its end
            return None
        if given.get('T_max') == before:
            new['T_max'] = now
    if is_a(given['type'], ExponentialParamScheduler, PARAM_SCHEDULERS):  # gamma is the factor per epoch or iteration
        new['gamma'] = given['gamma']**(1 / share)
    return new


def scaled(value: Any, share: float, least: int = 1) -> Any:
    """A length, or a list of lengths, multiplied by ``share`` and rounded, each at least ``least``."""
    if isinstance(value, (list, tuple)):
        return [scaled(each, share, least) for each in value]
    return max(least, round(value * share))


def round_schedules(schedulers: None | dict | list, epochs: int, iterations: int, share: float,
                    unsplit: float) -> None | list:
    """The schedules of a training, scaled to a round of a search; one without an end ends with the round.

    Args:
        schedulers (None, dict or list[dict]): ``param_scheduler`` of the training.
        epochs (int): Epochs of a round.
        iterations (int): Iterations of a round.
        share (float): Length of a round as a share of the training.
        unsplit (float): Training images before a part was held out, as a multiple of those after it.

    Returns:
        None or list[dict]: The configs.

    Raises:
        ConfigError: If ``schedulers`` are not those of an ordinary training.
    """
    if schedulers is None:
        return None
    listed = [schedulers] if isinstance(schedulers, dict) else list(schedulers)
    if not all(isinstance(schedule, dict) and 'type' in schedule for schedule in listed):
        raise ConfigError('param_scheduler: a search in rounds takes those of an ordinary training, a dict or a list of '
                          f'dicts with type, got {schedulers}')
    # Iterations are counted of all training images, of which a part may be held out.
    scaled = scaled_schedules(listed, lambda by_epoch: share if by_epoch else share / unsplit, least=min(1, epochs - 1))
    for schedule in scaled:
        if 'total_steps' in schedule and not schedule.get('by_epoch', True):  # not a step more is allowed
            schedule['total_steps'] = max(schedule['total_steps'], iterations)
    return [dict(dict(end=epochs if schedule.get('by_epoch', True) else iterations), **schedule) for schedule in scaled]
