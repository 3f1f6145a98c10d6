
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from mmrazor.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ...errors import ConfigError
from ..unwrap import grid_of, unwrap

DEFAULT_ALPHA = dict(optimizer=dict(type='Adam', lr=0.1, betas=(0.5, 0.999), weight_decay=0.0))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DistProOptimWrapperConstructor:
    """Builds the two optimisers of a search: for the student and the transforms, and for alpha.

    The config is that of an ordinary training, with one more key, ``alpha``:

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
        ConfigError: If ``alpha`` has other keys, or the model is not a :class:`DistPro`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        cfg = dict(optim_wrapper_cfg)
        alpha = cfg.pop('alpha', None) or DEFAULT_ALPHA
        if set(alpha) != {'optimizer'}:
            raise ConfigError(f'optim_wrapper.alpha must have the key optimizer only, got {sorted(alpha)}')
        self.alpha_cfg = dict(alpha['optimizer'])
        self.student_constructor = DefaultOptimWrapperConstructor(cfg, paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build both optimisers.

        Args:
            model (nn.Module): A :class:`DistPro`, or its wrapper for distributed training.

        Returns:
            OptimWrapperDict: 'student' and 'alpha'.
        """
        grid = grid_of(model)
        if grid is None:
            raise ConfigError('optim_wrapper.constructor=DistProOptimWrapperConstructor needs a model of type DistPro, '
                             f'got {type(unwrap(model)).__name__}')
        optimizer = OPTIMIZERS.build({**self.alpha_cfg, 'params': [grid.alpha]})
        return OptimWrapperDict(student=self.student_constructor(model), alpha=OptimWrapper(optimizer))
