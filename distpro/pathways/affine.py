"""Transforms that are linear in each pixel, as a matrix and a mean, with the gradient."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .linear import LinearLayers, LinearTensors


class Affine(NamedTuple):
    """Several linear transforms as one, x = A (f - mean) + b, whose outputs are one after the other in C_t.

    Args:
        matrix (Tensor): A [C_t, C].
        mean (Tensor): b [C_t].
        weight (Tensor): The weights of the convolutions [C_t, C].
        factor (Tensor, optional): What the batch norm multiplies a channel by without its scale [C_t]; None without one.
        scale (Tensor, optional): The scales of the batch norm [C_t].
        variance (Tensor, optional): Variances of the convolutions' outputs [C_t]; None without the statistics of the batch.
        shifted (Tensor, optional): Means of the outputs less the running ones [C_t]; None without running statistics.
    """
    matrix: Tensor
    mean: Tensor
    weight: Tensor
    factor: Tensor | None = None
    scale: Tensor | None = None
    variance: Tensor | None = None
    shifted: Tensor | None = None


def stacked_affine(transforms: Sequence[LinearLayers], tensors: Sequence[LinearTensors], mean: Tensor,
                   covariance: Tensor) -> Affine:
    r"""Several linear transforms of the same pixels f as one: :math:`x = A (f - \mathrm{mean}) + b`.

    A batch norm in training mode needs no output: with :math:`v = \mathrm{diag}(W S W^\top)` the variances of the outputs
    and S the covariance of the pixels, :math:`A = \gamma / \sqrt{v + \epsilon}\; W` and :math:`b = \beta`.

    Args:
        transforms (Sequence[LinearLayers]): Transforms that agree in :func:`kind`.
        tensors (Sequence[LinearTensors]): Their parameters.
        mean (Tensor): Mean of the pixels [C].
        covariance (Tensor): Their covariance S [C, C], divided by their number.
    """
    widths = [len(given.weight) for given in tensors]
    weight = torch.cat([given.weight.flatten(1) for given in tensors]).to(mean.dtype)
    norms = [layers.norm for layers in transforms if layers.norm is not None]
    if not norms:
        bias = _joined([given.bias for given in tensors], widths, mean, 0)
        return Affine(weight, torch.addmv(bias, weight, mean), weight)
    gamma = _joined([given.gamma for given in tensors], widths, mean, 1)
    beta = _joined([given.beta for given in tensors], widths, mean, 0)
    if transforms[0].uses_batch:
        variance = ((weight @ covariance) * weight).sum(1)
        factor = (variance.clamp_min(0) + norms[0].eps).rsqrt()  # rounding may take a variance of 0 below 0
        return Affine((gamma * factor)[:, None] * weight, beta, weight, factor, gamma, variance)
    bias = _joined([given.bias for given in tensors], widths, mean, 0)
    shifted = torch.addmv(bias, weight, mean) - torch.cat([norm.running_mean for norm in norms]).to(mean.dtype)
    factor = (torch.cat([norm.running_var for norm in norms]).to(mean.dtype) + norms[0].eps).rsqrt()
    scale = gamma * factor
    return Affine(scale[:, None] * weight, scale * shifted + beta, weight, factor, gamma, None, shifted)


class AffineGradient(NamedTuple):
    """Gradients with respect to what :func:`stacked_affine` is given.

    Args:
        tensors (list[LinearTensors]): Of the parameters of each transform; None where there is none or it has no influence.
        mean (Tensor, optional): Of the mean [C]; None: 0.
        covariance (Tensor, optional): Of the covariance [C, C]; None: 0.
    """
    tensors: list[LinearTensors]
    mean: Tensor | None
    covariance: Tensor | None


def gradient_of_affine(affine: Affine, tensors: Sequence[LinearTensors], mean: Tensor, covariance: Tensor, by_matrix: Tensor,
                       by_mean: Tensor) -> AffineGradient:
    """The gradient of :func:`stacked_affine`, without a graph.

    Args:
        affine (Affine): Its result.
        tensors (Sequence[LinearTensors]): Parameters of the transforms.
        mean (Tensor): Mean of the pixels [C].
        covariance (Tensor): Their covariance [C, C].
        by_matrix (Tensor): Gradient with respect to A [C_t, C].
        by_mean (Tensor): Gradient with respect to b [C_t].
    """
    weight, factor = affine.weight, affine.factor
    by_bias = by_gamma = of_mean = of_covariance = None
    if factor is None or affine.scale is None:
        by_weight, by_bias, of_mean = torch.addr(by_matrix, by_mean, mean), by_mean, weight.t() @ by_mean
    else:
        scale = affine.scale * factor
        by_scale = (by_matrix * weight).sum(1)
        if affine.variance is not None:
            by_variance = -0.5 * by_scale * scale * factor.square() * (affine.variance >= 0)
            halves = by_variance[:, None] * weight
            by_weight = torch.addmm(scale[:, None] * by_matrix, halves, covariance, alpha=2)
            of_covariance = weight.t() @ halves
        else:
            by_scale, by_bias = by_scale + by_mean * affine.shifted, scale * by_mean
            by_weight, of_mean = torch.addr(scale[:, None] * by_matrix, by_bias, mean), weight.t() @ by_bias
        by_gamma = by_scale * factor
    of_each = [_parts(part, tensors) for part in (by_weight, by_bias, by_gamma, by_mean)]
    found = [LinearTensors(*(None if part is None or like is None else part.to(like.dtype).view(like.shape)
                             for part, like in zip(row, given))) for row, given in zip(zip(*of_each), tensors)]
    return AffineGradient(found, of_mean, of_covariance)


def _parts(joined: Tensor | None, tensors: Sequence[LinearTensors]) -> Sequence[Tensor | None]:
    """The rows of each transform."""
    return [None] * len(tensors) if joined is None else joined.split([len(given.weight) for given in tensors])


def _joined(parts: Sequence[Tensor | None], widths: Sequence[int], like: Tensor, default: float) -> Tensor:
    """Vectors one after the other; the default where there is none."""
    return torch.cat([like.new_full((width, ), default) if part is None else part.to(like.dtype)
                      for part, width in zip(parts, widths)])


@torch.no_grad()
def update_running(transforms: Sequence[LinearLayers], tensors: Sequence[LinearTensors], affine: Affine, mean: Tensor,
                   count: int) -> None:
    """Update the running statistics of batch norms that use the batch, as :class:`torch.nn.BatchNorm2d`.

    Args:
        transforms (Sequence[LinearLayers]): The transforms.
        tensors (Sequence[LinearTensors]): Their parameters.
        affine (Affine): The result of :func:`stacked_affine`.
        mean (Tensor): Mean of the pixels [C].
        count (int): Number of pixels, > 1.
    """
    if affine.variance is None:
        return
    widths = [len(given.weight) for given in tensors]
    means = torch.addmv(_joined([given.bias for given in tensors], widths, mean, 0), affine.weight, mean).split(widths)
    unbiased = (affine.variance.clamp_min(0) * (count / (count - 1))).split(widths)
    for (_, norm), batch_mean, batch_variance in zip(transforms, means, unbiased):
        if norm is None or not norm.training or not norm.track_running_stats or norm.running_mean is None:
            continue
        norm.num_batches_tracked.add_(1)
        share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        for running, value in ((norm.running_mean, batch_mean), (norm.running_var, batch_variance)):
            running.mul_(1 - share).add_(value.to(running.dtype), alpha=share)
