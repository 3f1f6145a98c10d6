"""The squared distances of pathways that differ in transform and teacher alone, as quadratic forms, with their gradient."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .affine import Affine, gradient_of_affine, stacked_affine
from .linear import LinearLayers, LinearTensors
from .map_statistics import Statistics, TeacherStatistics


class Form(NamedTuple):
    """The quadratic forms of n pathways, with what their gradient needs; C_t are the channels of all their teachers.

    Args:
        losses (Tensor): The squared distances [n].
        affine (Affine): The transforms.
        half (Tensor): A S - K^T [C_t, C].
        offset (Tensor): Difference of the means of student and teachers [C_t].
        by_level (Tensor, optional): Difference of the means of averaged maps [C_t], where it is not the same.
    """
    losses: Tensor
    affine: Affine
    half: Tensor
    offset: Tensor
    by_level: Tensor | None


def quadratic_form(layers: Sequence[LinearLayers], tensors: Sequence[LinearTensors], teachers: Sequence[TeacherStatistics],
                   statistics: Statistics, images: int) -> Form:
    """The squared distances of n pathways to a map of the student.

    Args:
        layers (Sequence[LinearLayers]): Layers of the transforms [n].
        tensors (Sequence[LinearTensors]): Their parameters [n].
        teachers (Sequence[TeacherStatistics]): What the transformed maps are compared with [n], all with one pooling.
        statistics (Statistics): Statistics of the student's map.
        images (int): Number B of images.
    """
    first = teachers[0]
    covariance, averaged = statistics.covariance, statistics.averages[first.pooling]
    affine = stacked_affine(layers, tensors, statistics.mean, covariance)
    own = torch.addmm(covariance, averaged, averaged.t(), beta=first.share)
    # The teacher's pixels have mean 0, so it does not matter where the student's are centred.
    # One product for each teacher's map: maps of several teachers side by side would be copies.
    each = {teacher: torch.addmm(statistics.cross[teacher], teacher.averaged, averaged.t(), beta=first.share)
            for teacher in dict.fromkeys(teachers)}
    cross = torch.cat([each[teacher] for teacher in teachers])
    half = torch.addmm(cross, affine.matrix, own, beta=-1)
    offset = affine.mean - torch.cat([teacher.mean for teacher in teachers])
    by_channel = (affine.matrix * (half - cross)).sum(1) + offset.square()
    by_level = None
    if first.uneven:  # the averaged maps have other means than the full map
        columns = first.pooling.columns(averaged, images)
        by_level = affine.matrix @ (averaged @ columns) - torch.cat([teacher.averaged @ columns for teacher in teachers])
        by_channel = by_channel + 2 * offset * by_level
    constants = torch.stack([teacher.constant for teacher in teachers])
    means = torch.stack([part.mean() for part in by_channel.split([len(teacher.mean) for teacher in teachers])])
    return Form(means + constants, affine, half, offset, by_level)


def gradient_of_form(form: Form, tensors: Sequence[LinearTensors], teachers: Sequence[TeacherStatistics],
                     statistics: Statistics, images: int, given: Tensor) -> tuple[list[LinearTensors], Statistics]:
    """The gradient of the losses times the numbers ``given`` [n], without a graph.

    Args:
        form (Form): The result of :func:`quadratic_form`.
        tensors, teachers, statistics, images: As given to it.
        given (Tensor): The numbers [n].

    Returns:
        tuple[list[LinearTensors], Statistics]: With respect to the parameters of each transform, and to the statistics.
    """
    first, matrix = teachers[0], form.affine.matrix
    averaged, widths = statistics.averages[first.pooling], [len(teacher.mean) for teacher in teachers]
    rows = torch.cat([(2 / width * part).expand(width) for part, width in zip(given.unbind(), widths)])
    weighted = rows[:, None] * matrix
    by_matrix, by_offset = rows[:, None] * form.half, rows * form.offset
    of_own = matrix.t() @ weighted  # twice the gradient, which is symmetric
    averages = of_own @ averaged
    cross: dict[TeacherStatistics, Tensor] = {}
    for part, teacher in zip(weighted.split(widths), teachers):
        averages = torch.addmm(averages, part.t(), teacher.averaged, alpha=-1)
        cross[teacher] = cross[teacher] - first.share * part if teacher in cross else -first.share * part
    columns = first.pooling.columns(averaged, images)
    if form.by_level is not None:
        by_matrix = torch.addr(by_matrix, by_offset, averaged @ columns)
        averages = torch.addr(averages, matrix.t() @ by_offset, columns)
        by_offset = torch.addcmul(by_offset, rows, form.by_level)
    affine = gradient_of_affine(form.affine, tensors, statistics.mean, statistics.covariance, by_matrix, by_offset)
    mean = -(averages @ columns)  # the averaged pixels are less the mean
    if affine.mean is not None:
        mean = mean + affine.mean
    covariance = first.share / 2 * of_own
    if affine.covariance is not None:
        covariance = covariance + affine.covariance
    return affine.tensors, Statistics(mean, statistics.centre, covariance, cross, {first.pooling: averages})
