from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmrazor.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, also on a CPU, where mmengine's ``AmpOptimWrapper`` refuses to be built.

    bfloat16 has the range of float32, so no loss scaler is needed.

    Args:
        **kwargs: Of mmengine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Run the forward in bfloat16 where torch's autocast deems it safe."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
