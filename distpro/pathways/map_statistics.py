"""Means and mean products of the pixels of maps, with the gradient with respect to the student's map.

Backward needs the maps themselves, which the student's own layers keep anyway, and no copies of them.
"""
import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..block_means import block_means
from .pooling import Pooling


class TeacherMap:
    """A transmitting layer, whose statistics are computed once for all receiving layers of one size; without a graph.

    Args:
        target (Tensor): The teacher's map [B, C_t, H, W], at the size at which maps are compared.
        deviation (Tensor, optional): A number that the map is divided by. Defaults to None: 1.
    """

    def __init__(self, target: Tensor, deviation: Tensor | None) -> None:
        self.given = target  # as long as it lives, no other map has its id
        with torch.no_grad():
            self.map = single(target)
            self.scale = self.map.new_ones(()) if deviation is None else 1 / deviation.to(self.map.dtype)
            self.centre = self.map.mean((0, 2, 3))
            self.mean = self.centre * self.scale
        self._at: dict[tuple[int, ...], TeacherStatistics] = {}
        self._variances: dict[tuple[int, ...], Tensor] = {}

    def at(self, size: tuple[int, ...], levels: list[tuple[tuple[int, int], float]]) -> 'TeacherStatistics':
        """TeacherStatistics: What is compared with student's maps of a size [h, w]."""
        if size not in self._at:
            with torch.no_grad(), torch.autocast(self.map.device.type, enabled=False):
                self._at[size] = TeacherStatistics(self, size, levels)
        return self._at[size]

    def variance(self, size: tuple[int, int]) -> Tensor:
        """Tensor: Mean variance of the channels of the divided map, averaged to a size whose bins are equal."""
        if size not in self._variances:
            height, width = self.map.shape[2:]
            pixels = centred(block_means(self.map, (height // size[0], width // size[1])), self.centre).flatten()
            self._variances[size] = torch.dot(pixels, pixels) / len(pixels) * self.scale**2
        return self._variances[size]


class TeacherStatistics:
    """The teacher's side of the quadratic forms, for student's maps of one size.

    Args:
        teacher (TeacherMap): The transmitting layer.
        size (tuple[int, int]): Size [h, w] of the student's maps; H and W are multiples of h and w.
        levels (list): Sizes of HCL's maps, the full one first, and their weights, see :meth:`HCLLoss.levels_of`.
    """

    def __init__(self, teacher: TeacherMap, size: tuple[int, ...], levels: list[tuple[tuple[int, int], float]]) -> None:
        # Averages that are no coarser than the student's map differ from the full map in the constant alone.
        full = levels[0][0]
        self._teacher: TeacherMap | None = teacher
        self.size, self.mean, self.centre, self.scale = size, teacher.mean, teacher.centre, teacher.scale
        self.fine: list[tuple[tuple[int, int], float]] = []
        coarse: list[tuple[tuple[int, int], float]] = []
        for level in levels:
            enlarges = all(total % part == 0 and part % side == 0 for total, part, side in zip(full, level[0], size))
            (self.fine if enlarges else coarse).append(level)
        self.share, averaged = sum(weight for _, weight in self.fine), tuple(coarse)
        block = full[0] // size[0], full[1] // size[1]
        self.blocks = block_means(teacher.map, block)  # [B, C_t, h, w]
        # Where averages over the teacher's pixels are averages over the student's, both are computed from blocks.
        self.pooling = Pooling(size, block, averaged)
        self.own = Pooling(full, (1, 1), averaged)
        if self.pooling.aligned:
            self.pooling = self.own = Pooling(size, (1, 1), averaged)
        self.uneven = self.own.uneven

    @functools.cached_property
    def pixels(self) -> Tensor:
        """Tensor: The averaged pixels less their mean, divided like the map [C_t, B, h w]. A copy, of forward alone."""
        return centred(self.blocks, self.centre).mul_(self.scale)

    def free(self) -> None:
        """Free :attr:`pixels`, which are computed again where they are needed, and the map of the teacher's size."""
        self.__dict__.pop('pixels', None)
        self._teacher = None

    @functools.cached_property
    def averaged(self) -> Tensor:
        """Tensor: The pixels of the averaged maps less their mean, divided like the map [C_t, B K]."""
        if self.pooling.aligned:
            return self.own(self.pixels)
        assert self._teacher is not None  # freed after the losses
        return self.own(centred(self._teacher.map, self.centre)).mul_(self.scale)

    @functools.cached_property
    def constant(self) -> Tensor:
        """Tensor: What does not depend on the student, a scalar."""
        found = self.averaged.square().sum() / len(self.averaged)
        for size, weight in self.fine:
            if size == self.size:
                pixels = self.pixels.flatten()
                variance = torch.dot(pixels, pixels) / len(pixels)
            else:
                assert self._teacher is not None  # freed after the losses
                variance = self._teacher.variance(size)
            found = found + weight * variance
        return found


class Statistics(NamedTuple):
    """Statistics of a student's map, and of it and the teacher's maps.

    Args:
        mean (Tensor): Mean of the pixels [C].
        centre (Tensor): The same values as constants [C]; the pixels of all that follows are less this centre.
        covariance (Tensor): Mean products of two channels [C, C].
        cross (dict[TeacherStatistics, Tensor]): Mean products of a channel of a teacher and one of the student [C_t, C].
        averages (dict[Pooling, Tensor]): The pixels of the averaged maps [C, B K].
    """
    mean: Tensor
    centre: Tensor
    covariance: Tensor
    cross: dict[TeacherStatistics, Tensor]
    averages: dict[Pooling, Tensor]

    def plus(self, other: 'Statistics') -> 'Statistics':
        """Statistics: The sum of two gradients with respect to statistics of one map."""
        return Statistics(self.mean + other.mean, self.centre, self.covariance + other.covariance,
                       _added(self.cross, other.cross), _added(self.averages, other.averages))


def _added(first: dict, second: dict) -> dict:
    return {**first, **{key: first[key] + value if key in first else value for key, value in second.items()}}


def measure(feature: Tensor, teachers: Sequence[TeacherStatistics], poolings: Sequence[Pooling]) -> Statistics:
    """Statistics of a student's map, without a graph.

    Args:
        feature (Tensor): The map [B, C, h, w].
        teachers (Sequence[TeacherStatistics]): What it is compared with.
        poolings (Sequence[Pooling]): The averages.
    """
    centre = feature.mean((0, 2, 3))
    pixels = centred(feature, centre)
    flat = pixels.flatten(1)
    other, count = flat.t(), flat.size(1)
    cross = {teacher: teacher.pixels.flatten(1) @ other / count for teacher in teachers}
    averages = {pooling: pooling(pixels) for pooling in poolings}
    return Statistics(centre.clone(), centre, flat @ other / count, cross, averages)


def gradient_of_map(feature: Tensor, given: Statistics) -> Tensor:
    """The gradient with respect to a student's map.

    Products of small matrices with the maps as they are, in their own layout, and added in place: one map of the student's
    size at a time. If gradients are enabled, not in place, and the result can be differentiated again.

    Args:
        feature (Tensor): The map [B, C, h, w].
        given (Statistics): The gradients with respect to the statistics, and the centre.

    Returns:
        Tensor: The gradient [B, C, h, w].
    """
    images, channels = feature.shape[:2]
    count = feature.numel() // channels
    add = Tensor.baddbmm if torch.is_grad_enabled() else Tensor.baddbmm_
    matrix = (given.covariance + given.covariance.t()) / count
    # Not matmul, which multiplies in another way, with other last bits, where a gradient is to be differentiated.
    found, shift = torch.bmm(matrix.expand(images, -1, -1), feature.flatten(2)), matrix @ given.centre
    for teacher, products in given.cross.items():
        matrix = products.t() * (teacher.scale / count)
        found = add(found, matrix.expand(images, -1, -1), teacher.blocks.flatten(2))
        shift = shift + matrix @ teacher.centre
    of_pixel = (given.mean / count - shift)[:, None, None].expand(-1, images, 1)
    for pooling, averages in given.averages.items():
        by_image = averages.reshape(channels, images, -1) / images**0.5
        found = add(found, torch.cat([by_image, of_pixel], 2).transpose(0, 1),
                    pooling.matrix_and_ones(feature).t().expand(images, -1, -1))
        of_pixel = torch.zeros_like(of_pixel)
    return found.view(feature.shape)


class _Measured(torch.autograd.Function):
    """:func:`measure`, to be differentiated twice."""

    @staticmethod
    def forward(ctx, feature: Tensor, teachers: Sequence[TeacherStatistics],
                poolings: Sequence[Pooling]) -> tuple[Tensor, ...]:
        found = measure(feature, teachers, poolings)
        ctx.save_for_backward(feature, found.centre)
        ctx.teachers, ctx.poolings = teachers, poolings
        ctx.mark_non_differentiable(found.centre)
        return found.mean, found.centre, found.covariance, *found.cross.values(), *found.averages.values()

    @staticmethod
    def backward(ctx, mean: Tensor, _: Tensor, covariance: Tensor, *others: Tensor) -> tuple[Tensor, None, None]:
        feature, centre = ctx.saved_tensors
        with torch.autocast(covariance.device.type, enabled=False):
            given = _named(ctx.teachers, ctx.poolings, mean, centre, covariance, *others)
            return gradient_of_map(feature, given), None, None


def measure_with_graph(feature: Tensor, teachers: Sequence[TeacherStatistics], poolings: Sequence[Pooling]) -> Statistics:
    """As :func:`measure`, with a graph that can be differentiated twice.

    The pixels are centred at a constant, which has the value of the mean. The difference is 0 and has a derivative: it
    matters to the first derivative of the averages, and to the second one of the covariance.
    """
    found = _named(teachers, poolings, *_Measured.apply(feature, teachers, poolings))
    shift, images = found.mean - found.centre, len(feature)
    return found._replace(covariance=found.covariance - torch.outer(shift, shift), averages={
        pooling: averages - torch.outer(shift, pooling.columns(averages, images))
        for pooling, averages in found.averages.items()})


def _named(teachers: Sequence[TeacherStatistics], poolings: Sequence[Pooling], mean: Tensor, centre: Tensor,
           covariance: Tensor, *others: Tensor) -> Statistics:
    return Statistics(mean, centre, covariance, dict(zip(teachers, others)), dict(zip(poolings, others[len(teachers):])))


def centred(x: Tensor, centre: Tensor) -> Tensor:
    """The pixels of a map less a centre of each channel [C, B, h w], without a graph and in one pass."""
    # Before the products, because a covariance is a small difference of large products otherwise.
    x = x.detach().transpose(0, 1)
    return torch.sub(x, centre[:, None, None, None], out=x.new_empty(x.shape)).flatten(2)


def single(x: Tensor) -> Tensor:
    """A tensor in single precision or wider."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
