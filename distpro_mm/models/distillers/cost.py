"""What a computation costs, counted and not timed, so that it is the same on every machine and at every call."""
from typing import Any, Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

# A number written to memory takes about as long as this many operations of a convolution: 150 to 200 on two CPU cores,
# several hundred on a GPU.
OPERATIONS_A_NUMBER = 200
# A pathway is out of proportion if it costs more than the student's own step: the run could train the student for another
# epoch instead. Those of the usual pairs of CNNs cost 0.1 to 0.8 of a step.
OUT_OF_PROPORTION = 1.0


class _Written(TorchDispatchMode):
    """Counts the numbers that operations write; views write none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        if not any(result.alias_info is not None and not result.alias_info.is_write for result in func._schema.returns):
            for output in outputs if isinstance(outputs, (tuple, list)) else (outputs, ):
                if isinstance(output, torch.Tensor):
                    self.numbers += output.numel()
        return outputs


def cost(function: Callable[[], Any]) -> float:
    """Cost of computing a tensor, or several, and the gradient.

    Args:
        function (Callable): Computes a tensor with a graph, or tuples, lists or dicts that hold some.

    Returns:
        float: Floating-point operations of convolutions and matrix products, and :data:`OPERATIONS_A_NUMBER` for every
        number that any operation writes.
    """
    with FlopCounterMode(display=False) as operations, _Written() as written:
        outputs = [output for output in tree_leaves(function()) if isinstance(output, torch.Tensor) and output.requires_grad]
        torch.autograd.backward([output.sum() for output in outputs])
    return operations.get_total_flops() + OPERATIONS_A_NUMBER * written.numbers
