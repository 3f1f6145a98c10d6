from typing import Optional

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from mmrazor.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ...errors import ConfigError
from ..unwrap import grid_of, unwrap

DEFAULT_ALPHA = dict(optimizer=dict(type='Adam', lr=0.1, betas=(0.5, 0.999), weight_decay=0.0))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DistProOptimWrapperConstructor:
    """Builds the two optimisers of a search: the student's (with the transforms') and alpha's.

    The config stays the one of an ordinary training, so a schedule can be shared; alpha's optimiser is one more key:

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='mmrazor.DistProOptimWrapperConstructor',
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        ...     alpha=dict(optimizer=dict(type='Adam', lr=0.1, betas=(0.5, 0.999))))

    Args:
        optim_wrapper_cfg (dict): Config of the student's optimiser wrapper, and ``alpha``: a dict with ``optimizer``;
            defaults to the release's Adam (lr 0.1, betas (0.5, 0.999), no weight decay).
        paramwise_cfg (dict, optional): For the student's parameters. Defaults to None.

    Raises:
        ConfigError: If ``alpha`` has other keys, or the model has no alpha.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None) -> None:
        cfg = dict(optim_wrapper_cfg)
        alpha = cfg.pop('alpha', None) or DEFAULT_ALPHA
        if set(alpha) != {'optimizer'}:
            raise ConfigError(f'optim_wrapper.alpha must have the key optimizer and no other, got {sorted(alpha)}')
        self.alpha_cfg = dict(alpha['optimizer'])
        self.student_constructor = DefaultOptimWrapperConstructor(cfg, paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build both.

        Args:
            model (nn.Module): A :class:`DistPro`, maybe wrapped for several processes.

        Returns:
            OptimWrapperDict: 'student' and 'alpha'.
        """
        grid = grid_of(model)
        if grid is None:
            raise ConfigError('optim_wrapper.constructor=DistProOptimWrapperConstructor needs a model of type DistPro, '
                             f'got {type(unwrap(model)).__name__}')
        optimizer = OPTIMIZERS.build({**self.alpha_cfg, 'params': [grid.alpha]})
        return OptimWrapperDict(student=self.student_constructor(model), alpha=OptimWrapper(optimizer))
