"""The weighted loss of all pathways with its gradients, recorded as a CUDA graph."""
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..cuda_graph import Recorded, Recorder, addresses, can_record
from ..tracing import FeatureTap


class Grid(Protocol):
    """What :class:`RecordedLoss` uses of a :class:`distpro.pathways.PathwayGrid`, whose loss it records."""
    active: list[int]
    unit: str
    parameters: Callable[[], Iterator[nn.Parameter]]
    modules: Callable[[], Iterator[nn.Module]]

    @property
    def variances(self) -> Tensor:
        """Tensor: Variance of the teacher's feature at each transmitting layer."""

    def taps(self, side: str) -> list[FeatureTap]:
        """Layers of one side of the active pathways."""

    def weights(self) -> Tensor:
        """Tensor: The weights in force [N]."""

    def pathway_losses(self, received: dict[str, Tensor], transmitted: dict[str, Tensor]) -> Tensor:
        """Tensor: Unweighted losses of the active pathways."""

    def weighted_sum(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Tensor: Sum of weight times loss."""


class RecordedLoss:
    """Computes a grid's weighted loss and its first derivatives at once, by a CUDA graph.

    The pathways of a grid are many small operations, and on a GPU most of their time is the launching of kernels. The loss
    can be differentiated once; where it may be differentiated twice, use the grid itself. A recording holds the numbers of
    the losses and the transforms, such as a temperature or the weight of a loss; while one of them is changed, it is not
    used.

    Args:
        grid (PathwayGrid): The pathways.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._recorder = Recorder('the loss of the pathways')
        self._numbers: list | None = None  # in the recordings

    def __call__(self, received: dict[str, Tensor], transmitted: dict[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """The loss, if it can be recorded.

        Args:
            received (dict[str, Tensor]): The student's features by layer.
            transmitted (dict[str, Tensor]): The teacher's features by layer.

        Returns:
            tuple[Tensor, Tensor]: The weighted sum, and the losses of the active pathways, which have no gradient. None if
            they cannot be recorded.
        """
        grid = self.grid
        weights = grid.weights()
        sides = [[tap.name for tap in grid.taps(side)] for side in ('receiver', 'transmitter')]
        features, targets = ([given[name] for name in names] for given, names in zip((received, transmitted), sides))
        if weights.requires_grad or not torch.is_grad_enabled() or not can_record([*features, *targets, weights]):
            return None
        numbers = _numbers(grid)
        if self._numbers is None:
            self._numbers = numbers
        if numbers != self._numbers:
            return None
        parameters = [p for p in grid.parameters() if p.requires_grad]
        inputs = [*features, *targets, weights]

        def loss_and_gradients(tensors: list[Tensor]) -> list[Tensor | None]:
            # Leaves of the graph's own: the engine runs the node of a parameter that another graph uses too on the stream of
            # that graph, which ends a recording.
            leaves = [tensor.detach().requires_grad_() for tensor in (*tensors[:len(features)], *parameters)]
            with torch.enable_grad(), _replaced(grid, dict(zip(parameters, leaves[len(features):]))):
                losses = grid.pathway_losses(dict(zip(sides[0], leaves)), dict(zip(sides[1], tensors[len(features):-1])))
                total = grid.weighted_sum(losses, tensors[-1])
                return [total.detach(), losses.detach(), *torch.autograd.grad(total, leaves, allow_unused=True)]

        key = (tuple(grid.active), grid.unit, tuple(module.training for module in grid.modules()), addresses(grid),
               grid.variances.data_ptr(), len(features), len(parameters))
        recorded = self._recorder.get(key, loss_and_gradients, inputs, [grid])
        if recorded is None:
            return None
        return _Replay.apply(recorded, inputs, *features, *parameters)


def _numbers(grid: Grid) -> list:
    """The numbers that the parts of a grid compute with, and that are no tensors."""
    return [(name, value) for module in grid.modules() if module is not grid
            for name, value in vars(module).items() if isinstance(value, (int, float)) and name != 'training']


@contextlib.contextmanager
def _replaced(root: nn.Module, tensors: dict[nn.Parameter, Tensor]) -> Iterator[None]:
    """Inside the context, a module computes with other tensors in place of its parameters."""
    owners = [(module, name, p) for module in root.modules() for name, p in module._parameters.items() if p in tensors]
    for module, name, p in owners:
        module._parameters[name] = tensors[p]
    try:
        yield
    finally:
        for module, name, p in owners:
            module._parameters[name] = p


class _Replay(torch.autograd.Function):
    """The recorded loss; its gradients are there before the backward pass asks for them."""

    @staticmethod
    def forward(ctx, recorded: Recorded, inputs: Sequence[Tensor], *leaves: Tensor) -> tuple[Tensor, Tensor]:
        total, losses, *gradients = recorded(inputs)
        ctx.given = [gradient is not None for gradient in gradients]
        # Copies, since the next replay overwrites them.
        ctx.gradients = torch._foreach_mul([gradient for gradient in gradients if gradient is not None], 1.0)
        losses = losses.clone()
        ctx.mark_non_differentiable(losses)
        return total.clone(), losses

    @staticmethod
    def backward(ctx, by_total: Tensor, by_losses: Tensor) -> tuple:
        if torch.is_grad_enabled():  # create_graph=True: the gradients would pass for constants
            raise RuntimeError('the loss of the pathways was computed by a CUDA graph and can be differentiated once: set '
                               'cuda_graph=False')
        gradients = iter(torch._foreach_mul(ctx.gradients, by_total))
        return None, None, *(next(gradients) if given else None for given in ctx.given)
