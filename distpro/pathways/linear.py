"""Transforms that are linear in each pixel, as a matrix and a mean."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
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


def stacked_affine(transforms: Sequence[LinearLayers], mean: Tensor, covariance: Tensor,
                   count: int) -> tuple[Tensor, Tensor]:
    r"""Several linear transforms of the same pixels f as one: :math:`x = A (f - \mathrm{mean}) + b`.

    A batch norm in training mode needs no output: with :math:`v = \mathrm{diag}(W S W^\top)` the variances of the outputs
    and S the covariance of the pixels, :math:`A = \gamma / \sqrt{v + \epsilon}\; W` and :math:`b = \beta`. The running
    statistics are updated as by the batch norm itself.

    Args:
        transforms (Sequence[LinearLayers]): Transforms that agree in :func:`kind`.
        mean (Tensor): Mean of the pixels [C].
        covariance (Tensor): Their covariance S [C, C], divided by ``count``.
        count (int): Number of pixels, > 1.

    Returns:
        tuple[Tensor, Tensor]: A [C_t, C] and b [C_t], with the transforms' outputs one after the other in C_t.
    """
    weight = torch.cat([layers.conv.weight.flatten(1) for layers in transforms]).to(mean.dtype)
    bias = _joined([(layers.conv.bias, layers.conv.out_channels) for layers in transforms], mean, 0)
    norms = [layers.norm for layers in transforms if layers.norm is not None]
    if not norms:
        return weight, weight @ mean + bias
    gamma = _joined([(norm.weight, norm.num_features) for norm in norms], mean, 1)
    beta = _joined([(norm.bias, norm.num_features) for norm in norms], mean, 0)
    if transforms[0].uses_batch:
        variance = ((weight @ covariance) * weight).sum(1).clamp_min(0)  # rounding may take a variance of 0 below 0
        _update_running(norms, (weight @ mean + bias).detach(), variance.detach(), count)
        return (gamma / (variance + norms[0].eps).sqrt())[:, None] * weight, beta
    centre = torch.cat([norm.running_mean for norm in norms]).to(mean.dtype)
    scale = gamma / (torch.cat([norm.running_var for norm in norms]).to(mean.dtype) + norms[0].eps).sqrt()
    return scale[:, None] * weight, scale * (weight @ mean + bias - centre) + beta


def kind(layers: LinearLayers) -> tuple:
    """What transforms must agree in for :func:`stacked_affine`."""
    return layers.uses_batch, None if layers.norm is None else layers.norm.eps


def _joined(parts: Sequence[tuple[Tensor | None, int]], like: Tensor, default: float) -> Tensor:
    """Vectors one after the other; the default where there is none."""
    return torch.cat([like.new_full((channels, ), default) if part is None else part.to(like.dtype)
                      for part, channels in parts])


@torch.no_grad()
def _update_running(norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics by the mean and the biased variance of a batch, as :class:`torch.nn.BatchNorm2d`."""
    sizes = [norm.num_features for norm in norms]
    unbiased = variance * (count / (count - 1))
    for norm, batch_mean, batch_variance in zip(norms, mean.split(sizes), unbiased.split(sizes)):
        if not norm.training or not norm.track_running_stats or norm.running_mean is None:
            continue
        norm.num_batches_tracked.add_(1)
        share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        for running, value in ((norm.running_mean, batch_mean), (norm.running_var, batch_variance)):
            running.mul_(1 - share).add_(value.to(running.dtype), alpha=share)
