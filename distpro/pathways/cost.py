"""Cost of pathways, counted instead of timed, so that it is the same on every machine."""
import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..tracing import MAP_SIZE
from .covariances import LinearPathways
from .grid import PathwayGrid
from .hcl_loss import HCLLoss
from .linear import LinearLayers
from .maps import averaged
from .pathway import Pathway
from .transforms import PointwiseTransform

# A number written to memory takes about as long as this many operations of a convolution: 150 to 200 on two CPU cores,
# several hundred on a GPU.
OPERATIONS_A_NUMBER = 200
# A pathway is too expensive if it costs more than the student's own step. Pathways of common pairs of CNNs cost 0.1 to
# 0.8 of a step.
OUT_OF_PROPORTION = 1.0


class _Written(TorchDispatchMode):
    """Counts the numbers that operations write to memory; views write none."""

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
    """Cost of a forward and a backward.

    Args:
        function (Callable): Computes a tensor with a graph, or a tuple, list or dict of tensors.

    Returns:
        float: Floating-point operations of convolutions and matrix products, plus :data:`OPERATIONS_A_NUMBER` for every
        number that an operation writes.
    """
    def forward_and_backward() -> None:
        outputs = [output for output in tree_leaves(function()) if isinstance(output, torch.Tensor) and output.requires_grad]
        torch.autograd.backward([output.sum() for output in outputs])

    return _counted(forward_and_backward)


def forward_cost(function: Callable[[], Any]) -> float:
    """Cost of a forward without gradients, counted as :func:`cost` counts.

    Args:
        function (Callable): Computes the forward.
    """
    with torch.no_grad():
        return _counted(function)


def _counted(function: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as operations, _Written() as written:
        function()
    return operations.get_total_flops() + OPERATIONS_A_NUMBER * written.numbers


def pathway_costs(grid: PathwayGrid, pathways: Sequence[Pathway] | None = None,
                  arguments: Callable[[str], dict] | None = None) -> list[float]:
    """Cost of each pathway for two images, see :func:`cost`, as if it were the only one.

    Args:
        grid (PathwayGrid): The grid.
        pathways (Sequence[Pathway], optional): Pathways of the grid. Defaults to None: all [N].
        arguments (Callable, optional): Further arguments of losses of logits, see :meth:`PathwayGrid.pathway_losses`.
    """
    with _copies(grid):
        known: dict[tuple, float] = {}  # pathways of the same shapes cost the same
        keys = []
        for pathway in grid.pathways if pathways is None else pathways:
            keys.append((pathway.receiver.shape, pathway.transmitter.shape, pathway.transform))
            if keys[-1] not in known:
                known[keys[-1]] = _cost(grid, pathway, arguments)
        return [known[key] for key in keys]


def changed_costs(grid: PathwayGrid, pathway: Pathway) -> dict[tuple[str, ...], float]:
    """Cost of a pathway between maps with cheaper settings, each alone and in combination.

    Args:
        grid (PathwayGrid): The grid.
        pathway (Pathway): One of its pathways between maps.

    Returns:
        dict[tuple[str], float]: Costs as in :func:`pathway_costs`, by changed settings. 'transform': a
        :class:`PointwiseTransform`; 'compare_at': 'smaller'; 'map_size': :data:`distpro.tracing.MAP_SIZE`, if a map is
        larger.
    """
    changed = {}
    maps: list[tuple[Pathway, tuple[str, ...]]] = [(pathway, ())]
    low = dataclasses.replace(pathway, transmitter=pathway.transmitter.at(MAP_SIZE), receiver=pathway.receiver.at(MAP_SIZE))
    if (low.transmitter.shape, low.receiver.shape) != (pathway.transmitter.shape, pathway.receiver.shape):
        maps.append((low, ('map_size', )))
    simpler = PointwiseTransform(pathway.receiver.shape[0], pathway.transmitter.shape[0]).to(grid.alpha)
    own = grid.compare_at
    with _copies(grid):
        for transform, change in ((grid.transforms[pathway.name], ()), (simpler, ('transform', ))):
            for (read, size), grid.compare_at in itertools.product(maps, dict.fromkeys((own, 'smaller'))):
                changes = change + ('compare_at', ) * (grid.compare_at != own) + size
                if changes:
                    grid.transforms[pathway.name] = copy.deepcopy(transform)  # adding to a gradient costs too
                    changed[changes] = _cost(grid, read)
    return changed


@contextlib.contextmanager
def _copies(grid: PathwayGrid) -> Iterator[None]:
    """Replace the grid's modules with copies, and restore its modules and ``compare_at`` on exit."""
    own = grid.transforms, grid.distances, grid.logit_losses, grid.compare_at
    grid.transforms, grid.distances, grid.logit_losses = copy.deepcopy(own[:3])
    try:
        yield
    finally:
        grid.transforms, grid.distances, grid.logit_losses, grid.compare_at = own


def _cost(grid: PathwayGrid, pathway: Pathway, arguments: Callable[[str], dict] | None = None) -> float:
    feature, target = _maps(grid, pathway, 2)
    layers = grid.linear_layers_of(pathway, feature, tuple(target.shape[2:]))
    if layers is None:
        return cost(lambda: grid.compare(pathway, feature, target, arguments))
    # What does not grow with the batch is small in a training's batch, but not in one of two images.
    distance = grid.distances[pathway.transform]
    two, four = (_cost_from_covariances(distance, layers, *_maps(grid, pathway, images)) for images in (2, 4))
    return four - two


def _maps(grid: PathwayGrid, pathway: Pathway, images: int) -> tuple[Tensor, Tensor]:
    """Random maps of a pathway: the student's, which requires a gradient, and the teacher's at the size of comparison."""
    feature, target = (torch.rand(images, *tap.shape, device=grid.alpha.device, dtype=grid.alpha.dtype)
                       for tap in (pathway.receiver, pathway.transmitter))
    return feature.requires_grad_(), averaged(target, grid.size(feature, target))


def _cost_from_covariances(distance: HCLLoss, layers: LinearLayers, feature: Tensor, target: Tensor) -> float:
    """Without the teacher's part, which is computed once for all receiving layers."""
    first, second = LinearPathways(distance), LinearPathways(distance)
    for linear in (first, second):
        linear.add(0, layers, feature, target, None)
    cost(first.losses)  # forward and backward compute constants, which later steps do not
    return cost(second.losses)
