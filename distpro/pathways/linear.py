"""Transforms that are linear in each pixel, and their layers."""
from typing import NamedTuple

from torch import Tensor, nn

from .transforms import Transform


class LinearLayers(NamedTuple):
    """The layers of a transform that is linear in each pixel: a 1x1 convolution, and maybe a batch norm."""
    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None

    @property
    def uses_batch(self) -> bool:
        """Whether the batch norm uses the statistics of the batch, not its running ones."""
        return self.norm is not None and (self.norm.training or self.norm.running_mean is None)


def linear_layers(transform: nn.Module) -> LinearLayers | None:
    """The layers of a linear transform; None if the transform is anything else.

    Only torch's own layers count, with no hooks that could replace their outputs. :class:`torch.nn.SyncBatchNorm`, whose
    statistics are those of all processes, does not count.
    """
    if not isinstance(transform, Transform) or type(transform).forward is not Transform.forward:
        return None
    layers = list(transform.before)
    if transform.conv is not None or len(transform.after) or not 1 <= len(layers) <= 2:
        return None
    conv, norm = layers[0], layers[1] if len(layers) == 2 else None
    if type(conv) is not nn.Conv2d or conv.kernel_size != (1, 1) or conv.stride != (1, 1) or conv.groups != 1 \
            or conv.padding not in ((0, 0), 'same', 'valid'):
        return None
    if norm is not None and type(norm) is not nn.BatchNorm2d:
        return None
    if any(module._forward_pre_hooks or module._forward_hooks or module._backward_hooks or module._backward_pre_hooks
           for module in (transform, transform.before, *layers)):
        return None
    return LinearLayers(conv, norm)


class LinearTensors(NamedTuple):
    """The parameters of a linear transform: of the convolution, and scale and shift of the batch norm.

    Args:
        weight (Tensor): [C_t, C, 1, 1].
        bias (Tensor, optional): [C_t].
        gamma (Tensor, optional): [C_t].
        beta (Tensor, optional): [C_t].
    """
    weight: Tensor
    bias: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None

    @classmethod
    def of(cls, layers: LinearLayers) -> 'LinearTensors':
        """LinearTensors: The parameters of layers."""
        norm = (None, None) if layers.norm is None else (layers.norm.weight, layers.norm.bias)
        return cls(layers.conv.weight, layers.conv.bias, *norm)


def kind(layers: LinearLayers) -> tuple:
    """What transforms must agree in for :func:`stacked_affine`."""
    return layers.uses_batch, None if layers.norm is None else layers.norm.eps
