r"""Losses of linear pathways from covariances, without maps of the teacher's width.

A linear transform gives :math:`x = A (f - \bar f) + b` for each pixel f of the student (:mod:`distpro.pathways.linear`).
With the teacher's map t, averaged over the block of pixels that one pixel of the student is enlarged to, the squared
distance is a quadratic form of A and b:

.. math:: \mathrm{mean} \lVert x - t \rVert^2 = \mathrm{tr}(A S A^\top) - 2\, \mathrm{tr}(A K) + \lVert b - \bar t \rVert^2
    + \mathrm{var}(t), \qquad S = \mathrm{cov}(f), \quad K = \mathrm{cov}(f, t)

The levels of HCL are squared distances of averaged maps, so S and K are weighted sums over the levels. S is shared by all
pathways of a receiving layer, and the teacher's averaged maps by all pathways of a transmitting layer. All can be
differentiated twice.
"""
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .affine import update_running
from .hcl_loss import HCLLoss
from .linear import LinearLayers, LinearTensors, kind
from .map_statistics import Statistics, TeacherMap, TeacherStatistics, gradient_of_map, measure, measure_with_graph, single
from .pooling import Pooling
from .quadratic_form import gradient_of_form, quadratic_form


class LinearPathways:
    """Losses of the linear pathways of a batch.

    Use: :meth:`add` each pathway, then :meth:`losses`.

    Args:
        distance (HCLLoss): The distance of all pathways.
    """

    def __init__(self, distance: HCLLoss) -> None:
        self.distance = distance
        self._receivers: dict[int, _Receiver] = {}
        self._teachers: dict[int, TeacherMap] = {}

    def add(self, index: int, layers: LinearLayers, feature: Tensor, target: Tensor, divisor: Tensor | None) -> None:
        """Add a pathway.

        Args:
            index (int): Its index in :meth:`losses`.
            layers (LinearLayers): The layers of its transform.
            feature (Tensor): The student's map [B, C, h, w]. Pathways that share the object share its statistics.
            target (Tensor): The teacher's map [B, C_t, H, W], shared too; H and W are multiples of h and w.
            divisor (Tensor, optional): A number that the teacher's map is divided by. None: 1.
        """
        if id(feature) not in self._receivers:
            self._receivers[id(feature)] = _Receiver(feature)
        if id(target) not in self._teachers:
            self._teachers[id(target)] = TeacherMap(target, divisor)
        teacher = self._teachers[id(target)].at(tuple(feature.shape[2:]), self.distance.levels_of(*target.shape[2:]))
        self._receivers[id(feature)].add(index, layers, teacher)

    def losses(self) -> dict[int, Tensor]:
        """dict[int, Tensor]: The distance of each pathway, a scalar, by index."""
        found: dict[int, Tensor] = {}
        receivers = list(self._receivers.values())
        last = {id(teacher): receiver for receiver in receivers for teacher in receiver.teachers}
        for receiver in receivers:
            with torch.autocast(receiver.feature.device.type, enabled=False):
                losses = self.distance.loss_weight * receiver.losses()
            found.update(zip(receiver.indices, losses.unbind()))
            for teacher in receiver.teachers:
                if last[id(teacher)] is receiver:
                    teacher.free()
        return found


class _Group(NamedTuple):
    """Pathways to one map of the student that differ in transform and teacher alone."""
    indices: list[int]
    layers: list[LinearLayers]
    teachers: list[TeacherStatistics]


class _Receiver:
    """A map of the student, with all its pathways.

    Args:
        feature (Tensor): The map [B, C, h, w].
    """

    def __init__(self, feature: Tensor) -> None:
        self.feature = feature  # as long as it lives, no other feature has its id
        self._groups: dict[tuple, _Group] = {}

    def add(self, index: int, layers: LinearLayers, teacher: TeacherStatistics) -> None:
        """Add a pathway."""
        key = teacher.pooling, teacher.share, teacher.uneven, kind(layers)
        group = self._groups.setdefault(key, _Group([], [], []))
        group.indices.append(index)
        group.layers.append(layers)
        group.teachers.append(teacher)

    @property
    def groups(self) -> list[_Group]:
        """list[_Group]: All groups."""
        return list(self._groups.values())

    @property
    def indices(self) -> list[int]:
        """list[int]: The indices of all pathways, group by group."""
        return [index for group in self.groups for index in group.indices]

    @property
    def teachers(self) -> list[TeacherStatistics]:
        """list[TeacherStatistics]: What the map is compared with, each once."""
        return list(dict.fromkeys(teacher for group in self.groups for teacher in group.teachers))

    @property
    def poolings(self) -> list[Pooling]:
        """list[Pooling]: The averages of the map, each once."""
        return list(dict.fromkeys(teacher.pooling for teacher in self.teachers))

    def losses(self) -> Tensor:
        """Tensor: The squared distances of all pathways, in the order of :attr:`indices`."""
        parameters = [tensor for group in self.groups for layers in group.layers for tensor in LinearTensors.of(layers)]
        return _Losses.apply(self, single(self.feature), *parameters)

    def by_group(self, parameters: Sequence[Tensor | None]) -> Iterator[tuple[_Group, list[LinearTensors]]]:
        """The groups with their parameters, given those of all transforms one after the other."""
        each = iter(parameters)
        for group in self.groups:
            yield group, [LinearTensors(*itertools.islice(each, len(LinearTensors._fields))) for _ in group.layers]


class _Losses(torch.autograd.Function):
    """The squared distances of all pathways to a map of the student.

    A graph of the many small operations would take longer than they do, so the gradient is written out. A graph is made only
    if the gradient is to be differentiated.
    """

    @staticmethod
    def forward(ctx, receiver: _Receiver, feature: Tensor, *parameters: Tensor | None) -> Tensor:
        ctx.save_for_backward(feature, *parameters)
        ctx.receiver, ctx.forms = receiver, []
        ctx.statistics = measure(feature, receiver.teachers, receiver.poolings)
        count, images = feature.numel() // feature.size(1), len(feature)
        for group, tensors in receiver.by_group(parameters):
            form = quadratic_form(group.layers, tensors, group.teachers, ctx.statistics, images)
            update_running(group.layers, tensors, form.affine, ctx.statistics.mean, count)
            ctx.forms.append(form)
        return torch.cat([form.losses for form in ctx.forms])

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple[Tensor | None, ...]:
        receiver, (feature, *parameters) = ctx.receiver, ctx.saved_tensors
        with torch.autocast(feature.device.type, enabled=False):
            if torch.is_grad_enabled():
                return None, *_gradient_with_graph(receiver, feature, parameters, given, ctx.needs_input_grad[1:])
            parts = given.split([len(group.indices) for group in receiver.groups])
            found = [gradient_of_form(form, tensors, group.teachers, ctx.statistics, len(feature), part)
                     for (group, tensors), form, part in zip(receiver.by_group(parameters), ctx.forms, parts)]
            of_feature = None
            if ctx.needs_input_grad[1]:
                of_feature = gradient_of_map(feature, functools.reduce(Statistics.plus, [part for _, part in found]))
            return None, of_feature, *(tensor for rows, _ in found for row in rows for tensor in row)


def _gradient_with_graph(receiver: _Receiver, feature: Tensor, parameters: Sequence[Tensor | None], given: Tensor,
                         needed: Sequence[bool]) -> list[Tensor | None]:
    """The gradient of the losses with respect to the map and the parameters, which can be differentiated again."""
    statistics = measure_with_graph(feature, receiver.teachers, receiver.poolings)
    losses = torch.cat([quadratic_form(group.layers, tensors, group.teachers, statistics, len(feature)).losses
                        for group, tensors in receiver.by_group(parameters)])
    for teacher in receiver.teachers:
        teacher.free()
    leaves = [tensor for tensor, need in zip([feature, *parameters], needed) if need]
    found = iter(torch.autograd.grad(losses, leaves, given, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
