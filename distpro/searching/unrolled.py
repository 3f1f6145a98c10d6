"""Steps of gradient descent that can be differentiated through."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def unrolled(parameters: dict[str, Tensor], losses: Sequence[Callable[[dict[str, Tensor]], Tensor]], lr: float,
             weight_decay: float = 0.0) -> dict[str, Tensor]:
    """Take a step of plain gradient descent on each loss in turn, with a graph.

    Args:
        parameters (dict[str, Tensor]): Where the first step starts; leaves that need a gradient.
        losses (Sequence[Callable]): Each gives a loss, a scalar with a graph, at given parameters.
        lr (float): Learning rate.
        weight_decay (float): Weight decay. Defaults to 0.

    Returns:
        dict[str, Tensor]: Where the last step ends, a function of whatever the losses depend on.
    """
    for loss in losses:
        gradients = torch.autograd.grad(loss(parameters), list(parameters.values()), create_graph=True, allow_unused=True)
        parameters = {name: p - lr * ((0 if g is None else g) + weight_decay * p)
                      for (name, p), g in zip(parameters.items(), gradients)}
    return parameters
