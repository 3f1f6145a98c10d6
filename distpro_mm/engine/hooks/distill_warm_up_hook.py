from mmengine.hooks import Hook
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import HOOKS

from distpro.checks import check_number

from ...errors import ConfigError
from ..unwrap import unwrap


@HOOKS.register_module()
class DistillWarmUpHook(Hook):
    """Raises the weight of the distillation losses linearly over the first epochs.

    In epoch e = 1, 2, ..., every ``loss_weight`` of the distiller's losses is ``min(e / epochs, 1)`` times its value in the
    config. The factor depends on the epoch only, so a resumed run continues the warm-up.

    Args:
        epochs (int): Epochs until the full weight, >= 1.

    Raises:
        ConfigError: If ``epochs`` is below 1, or no loss of the model has a weight.

    Note:
        Source: DKD (CVPR 2022) and mdistiller's ReviewKD use this warm-up for 20 of 240 epochs. ReviewKD's own release
        (CVPR 2021) counts epochs from 0.

    Example:
        >>> custom_hooks = [dict(type='mmrazor.DistillWarmUpHook', epochs=20)]
    """

    def __init__(self, epochs: int) -> None:
        check_number('custom_hooks: DistillWarmUpHook.epochs', epochs, least=1, error=ConfigError)
        self.epochs = epochs

    def before_train(self, runner) -> None:
        """Store the weights of the config."""
        model = unwrap(runner.model)
        losses = model.distiller.modules() if isinstance(model, SingleTeacherDistill) else []
        self.weights = {loss: loss.loss_weight for loss in losses if hasattr(loss, 'loss_weight')}
        if not self.weights:
            raise ConfigError('custom_hooks: DistillWarmUpHook finds no loss with a loss_weight in model.distiller')

    def before_train_epoch(self, runner) -> None:
        """Set the weights of this epoch."""
        for loss, weight in self.weights.items():
            loss.loss_weight = weight * min((runner.epoch + 1) / self.epochs, 1)
