
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from mmrazor.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ...errors import ConfigError
from ...models import L2TDistiller

DEFAULT_META = dict(optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class L2TOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds the two optimisers of L2T-ww: for the student, and for the meta networks.

    The student's optimiser also has the parameters of the meta networks, but skips them, because they have no gradient.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='mmrazor.L2TOptimWrapperConstructor',
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
        ...     meta=dict(optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4)))

    Args:
        optim_wrapper_cfg (dict): Config of the student's optimiser wrapper, and ``meta``: a dict with ``optimizer``;
            defaults to the release's Adam (lr and weight decay 1e-4).
        paramwise_cfg (dict, optional): For the student's parameters. Defaults to None.

    Raises:
        ConfigError: If ``meta`` has other keys, or the model has no meta networks.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        cfg = dict(optim_wrapper_cfg)
        meta = cfg.pop('meta', None) or DEFAULT_META
        if set(meta) != {'optimizer'}:
            raise ConfigError(f'optim_wrapper.meta must have the key optimizer only, got {sorted(meta)}')
        self.meta_cfg = dict(meta['optimizer'])
        super().__init__(cfg, paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build both optimisers.

        Args:
            model (nn.Module): An :class:`L2T`.

        Returns:
            OptimWrapperDict: 'student' and 'meta'.
        """
        distiller = getattr(model, 'distiller', None)
        if not isinstance(distiller, L2TDistiller):
            raise ConfigError('optim_wrapper.constructor=L2TOptimWrapperConstructor needs a model of type L2T in one '
                              f'process, got {type(model).__name__}')
        meta = OPTIMIZERS.build({**self.meta_cfg, 'params': distiller.meta_parameters()})
        return OptimWrapperDict(student=super().__call__(model), meta=OptimWrapper(meta))
