import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import HOOKS
from torch import nn

from distpro.checks import check_choice, check_number

from ...errors import ConfigError
from ..unwrap import unwrap

SHAPES = dict(linear=lambda share: share, cosine=lambda share: (1 - math.cos(math.pi * share)) / 2)


@HOOKS.register_module()
class LossScheduleHook(Hook):
    r"""Raises a number of the losses over the first part of a training, and lowers it over the last part.

    At progress p in (0, 1), that of the middle of the iteration, the number is its value in the config times

    .. math:: r\bigl(\min(p / w, 1)\bigr) \cdot r\bigl(\min((1 - p) / d, 1)\bigr)

    with w = ``warm_up``, d = ``decay``, and r(x) = x or (1 - cos(pi x)) / 2. It depends on the progress alone, so a resumed
    run continues the schedule, and a run with fewer epochs has a shorter one. With ``warm_up_epochs`` the first factor is
    r(min(e / ``warm_up_epochs``, 1)) in all iterations of epoch e = 1, 2, ...

    Args:
        warm_up (float): Share of the training over which the number grows from 0, in [0, 1]. Defaults to 0: none.
        warm_up_epochs (float, optional): Epochs over which the number grows from epoch to epoch, >= 1, in place of
            ``warm_up``. Defaults to None: it grows in every iteration.
        decay (float): Share of the training, at its end, over which it falls to 0, in [0, 1]. Defaults to 0: none.
        shape (str): 'linear' or 'cosine'. Defaults to 'linear'.
        of (str): 'distiller': losses of ``model.distiller``; 'student': losses of the student, such as its cross-entropy.
            Defaults to 'distiller'.
        attribute (str): The number: an attribute of the losses. Defaults to 'loss_weight'.
        losses (Sequence[str], optional): Names of losses in ``model.distiller.distill_losses``. Defaults to None: all
            modules of the distiller (student) that have the attribute.

    Raises:
        ConfigError: If an argument is out of range, both warm-ups are given, no loss has the attribute, or a different hook
            changes it too.

    Note:
        Source of ``warm_up_epochs``: DKD (CVPR 2022) and mdistiller's ReviewKD raise the weight of their loss over 20 of
        240 epochs. ReviewKD's own release (CVPR 2021) counts epochs from 0.

    Example:
        >>> custom_hooks = [dict(type='mmrazor.LossScheduleHook', warm_up=0.1, decay=0.25)]
        >>> custom_hooks = [dict(type='mmrazor.LossScheduleHook', warm_up_epochs=20)]
    """

    def __init__(self, warm_up: float = 0.0, decay: float = 0.0, shape: str = 'linear', of: str = 'distiller',
                 attribute: str = 'loss_weight', losses: Sequence[str] | None = None,
                 warm_up_epochs: float | None = None) -> None:
        for name, value in (('warm_up', warm_up), ('decay', decay)):
            check_number(f'custom_hooks: LossScheduleHook.{name}', value, least=0, most=1, error=ConfigError)
        for name, value, known in (('shape', shape, tuple(SHAPES)), ('of', of, ('distiller', 'student'))):
            check_choice(f'custom_hooks: LossScheduleHook.{name}', value, known, ConfigError)
        if warm_up_epochs is not None:
            check_number('custom_hooks: LossScheduleHook.warm_up_epochs', warm_up_epochs, least=1, error=ConfigError)
            if warm_up:
                raise ConfigError(f'custom_hooks: LossScheduleHook.warm_up={warm_up} and warm_up_epochs={warm_up_epochs} '
                                  'are both given: leave one out')
        self.warm_up, self.warm_up_epochs, self.decay, self.shape = warm_up, warm_up_epochs, decay, SHAPES[shape]
        self.of, self.attribute, self.losses = of, attribute, losses

    def factor(self, progress: float, epoch: int) -> float:
        """The factor of the config's value at a training progress in [0, 1], in an epoch 1, 2, ..."""
        if self.warm_up_epochs is not None:
            growth = self.shape(min(epoch / self.warm_up_epochs, 1))
        else:
            growth = self.shape(min(progress / self.warm_up, 1)) if self.warm_up else 1.0
        return growth * (self.shape(min((1 - progress) / self.decay, 1)) if self.decay else 1.0)

    def before_train(self, runner) -> None:
        """Store the values of the config."""
        chosen = [module for module in self._modules(unwrap(runner.model)) if hasattr(module, self.attribute)]
        # A loss that consists of others multiplies their weights, so that theirs stay as they are.
        inner = {part for module in chosen for part in module.modules() if part is not module}
        self.values = {module: getattr(module, self.attribute) for module in chosen
                       if self.attribute != 'loss_weight' or module not in inner}
        if not self.values:
            raise ConfigError(f"custom_hooks: LossScheduleHook finds no loss with '{self.attribute}' in model.{self.of}")
        for other in runner.hooks:
            same = isinstance(other, LossScheduleHook) and other is not self and other.attribute == self.attribute
            if same and self.values.keys() & getattr(other, 'values', {}).keys():
                raise ConfigError(f"custom_hooks: two of LossScheduleHook change '{self.attribute}' of the losses in "
                                  f'model.{self.of}: give one hook all of the schedule')

    def _modules(self, model: nn.Module) -> list[nn.Module]:
        part = getattr(model, self.of, None) if isinstance(model, SingleTeacherDistill) else None
        if part is None:
            return list(model.modules()) if self.of == 'student' else []
        if self.losses is None:
            return list(part.modules())
        known = getattr(part, 'distill_losses', {})
        for name in self.losses:
            if name not in known:
                raise ConfigError(f"custom_hooks: LossScheduleHook.losses has '{name}', and model.{self.of}.distill_losses "
                                  f'has {list(known)}')
        return [known[name] for name in self.losses]

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Set the values of this iteration."""
        epoch = runner.epoch
        if isinstance(runner.train_loop, IterBasedTrainLoop):  # which counts none
            epoch = runner.iter // len(runner.train_dataloader)
        factor = self.factor((runner.iter + 0.5) / runner.max_iters, epoch + 1)
        for module, value in self.values.items():
            setattr(module, self.attribute, value * factor)
