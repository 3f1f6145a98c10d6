r"""Losses of linear pathways from covariances, without maps of the teacher's width.

A linear transform gives :math:`x = A (f - \bar f) + b` for each pixel f of the student (:mod:`distpro.pathways.linear`).
With the teacher's map t, averaged over the block of pixels that one pixel of the student is enlarged to, the squared
distance is a quadratic form of A and b:

.. math:: \mathrm{mean} \lVert x - t \rVert^2 = \mathrm{tr}(A S A^\top) - 2\, \mathrm{tr}(A K) + \lVert b - \bar t \rVert^2
    + \mathrm{var}(t), \qquad S = \mathrm{cov}(f), \quad K = \mathrm{cov}(f, t)

The levels of HCL are squared distances of averaged maps, so S and K are weighted sums over the levels. S is shared by all
pathways of a receiving layer, and the teacher's averaged maps by all pathways of a transmitting layer. All operations can be
differentiated twice.

Backward needs the maps themselves, which the student's own layers keep anyway, and no copies of them.
"""
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from .hcl_loss import HCLLoss
from .linear import LinearLayers, kind, stacked_affine
from .pooling import Pooling, block_means


class StudentStatistics:
    """Means and covariance of the pixels of a receiving layer, with a graph.

    The map is read twice with a graph: for the covariance, and for its mean and averages. So the pixels are centred at
    a constant, which has the value of the mean; differences from it matter to second derivatives only.

    Args:
        feature (Tensor): The student's map [B, C, h, w].
    """

    def __init__(self, feature: Tensor) -> None:
        self.given = feature  # as long as it lives, no other feature has its id
        self.map = single(feature)
        self.size = tuple(feature.shape[2:])
        self.centre = self.map.detach().mean((0, 2, 3))  # [C]
        self._averages: dict[Pooling, tuple[Tensor, Tensor]] = {}

    @property
    def count(self) -> int:
        """int: Number M of pixels of a channel."""
        return self.map.numel() // self.map.size(1)

    def products(self, teachers: Sequence['TeacherStatistics']) -> tuple[Tensor, list[Tensor]]:
        """Mean products of the pixels less their centre.

        Args:
            teachers (Sequence[TeacherStatistics]): What is compared with this map.

        Returns:
            tuple[Tensor, list[Tensor]]: Of two channels [C, C], and of a channel of each teacher and one of the student
            [C_t, C].
        """
        own, *cross = _Products.apply(self.map, self.centre, tuple(teachers))
        return own / self.count, [product / self.count for product in cross]

    def covariance(self, products: Tensor, mean: Tensor) -> Tensor:
        """The covariance of the pixels [C, C], given their mean products and their mean."""
        return products - torch.outer(mean - self.centre, mean - self.centre)

    def averages(self, pooling: Pooling) -> tuple[Tensor, Tensor]:
        """Averages of the map.

        Args:
            pooling (Pooling): The sizes.

        Returns:
            tuple[Tensor, Tensor]: The mean [C], and the pixels of all averaged maps less this mean [C, M'].
        """
        if pooling not in self._averages:
            averaged, mean = pooling(self.map)
            self._averages[pooling] = mean, averaged - pooling.centres(mean, len(self.map))
        return self._averages[pooling]


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
            self.mean = self.map.mean((0, 2, 3))
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
            centred = (block_means(self.map, (height // size[0], width // size[1])) - self.mean[:, None, None]).flatten()
            self._variances[size] = torch.dot(centred, centred) / len(centred) * self.scale**2
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
        fine: list[tuple[tuple[int, int], float]] = []
        coarse: list[tuple[tuple[int, int], float]] = []
        for level in levels:
            enlarges = all(total % part == 0 and part % side == 0 for total, part, side in zip(full, level[0], size))
            (fine if enlarges else coarse).append(level)
        self.share, averaged = sum(weight for _, weight in fine), tuple(coarse)
        block = full[0] // size[0], full[1] // size[1]
        self.blocks = blocks = block_means(teacher.map, block)  # [B, C_t, h, w]
        self.centre, self.scale = teacher.mean, teacher.scale
        self.mean = teacher.mean * teacher.scale
        # Where averages over the teacher's pixels are averages over the student's, both are computed from blocks.
        self.pooling = Pooling(size, block, averaged)
        own = Pooling(full, (1, 1), averaged)
        if self.pooling.aligned:
            self.pooling = own = Pooling(size, (1, 1), averaged)
        self.uneven = own.uneven
        maps = blocks if self.pooling.aligned else teacher.map
        self.averaged = (own(maps)[0] - own.centres(teacher.mean, len(maps))).mul_(teacher.scale)  # [C_t, M']
        self.constant = self.averaged.square().sum() / len(self.mean)
        for sizes, weight in fine:
            self.constant = self.constant + weight * teacher.variance(sizes)

    @functools.cached_property
    def pixels(self) -> Tensor:
        """Tensor: The averaged pixels less their mean, divided like the map [C_t, M]. A copy, of forward alone."""
        return _centred(self.blocks, self.centre).mul_(self.scale)


class LinearPathways:
    """Losses of the linear pathways of a batch.

    Use: :meth:`add` each pathway, then :meth:`losses`.

    Args:
        distance (HCLLoss): The distance of all pathways.
    """

    def __init__(self, distance: HCLLoss) -> None:
        self.distance = distance
        self._students: dict[int, StudentStatistics] = {}
        self._teachers: dict[int, TeacherMap] = {}
        self._groups: dict[tuple, list[tuple[int, LinearLayers, StudentStatistics, TeacherStatistics]]] = {}

    def add(self, index: int, layers: LinearLayers, feature: Tensor, target: Tensor, divisor: Tensor | None) -> None:
        """Add a pathway.

        Args:
            index (int): Its index in :meth:`losses`.
            layers (LinearLayers): The layers of its transform.
            feature (Tensor): The student's map [B, C, h, w]. Pathways that share the object share its statistics.
            target (Tensor): The teacher's map [B, C_t, H, W], shared too; H and W are multiples of h and w.
            divisor (Tensor, optional): A number that the teacher's map is divided by. None: 1.
        """
        if id(feature) not in self._students:
            self._students[id(feature)] = StudentStatistics(feature)
        if id(target) not in self._teachers:
            self._teachers[id(target)] = TeacherMap(target, divisor)
        student = self._students[id(feature)]
        teacher = self._teachers[id(target)].at(student.size, self.distance.levels_of(*target.shape[2:]))
        key = id(feature), teacher.pooling, teacher.share, teacher.uneven, kind(layers)
        self._groups.setdefault(key, []).append((index, layers, student, teacher))

    def losses(self) -> dict[int, Tensor]:
        """dict[int, Tensor]: The distance of each pathway, a scalar, by index."""
        found: dict[int, Tensor] = {}
        last = {id(teacher): key for key, pathways in self._groups.items() for *_, teacher in pathways}
        for key, pathways in self._groups.items():
            indices, layers, students, teachers = zip(*pathways)
            with torch.autocast(students[0].map.device.type, enabled=False):
                losses = self.distance.loss_weight * _distances(students[0], layers, teachers)
            found.update(zip(indices, losses.unbind()))
            for teacher in set(teachers):
                if last[id(teacher)] == key:
                    del teacher.pixels
        return found


def _distances(student: StudentStatistics, layers: Sequence[LinearLayers], teachers: Sequence[TeacherStatistics]) -> Tensor:
    """Squared distances [n] of pathways that differ in transform and teacher alone."""
    pooling, share = teachers[0].pooling, teachers[0].share
    pixel_mean, averaged = student.averages(pooling)
    products, cross_products = student.products(teachers)
    covariance = student.covariance(products, pixel_mean)
    matrix, mean = stacked_affine(layers, pixel_mean, covariance, student.count)
    own = share * covariance + averaged @ averaged.t()
    # The teacher's pixels have mean 0, so it does not matter where the student's are centred.
    # One product for each teacher's map: maps of several teachers side by side would be copies.
    cross = torch.cat([torch.addmm(share * product, teacher.averaged, averaged.t())
                       for teacher, product in zip(teachers, cross_products)])
    offset = mean - torch.cat([teacher.mean for teacher in teachers])
    by_channel = (matrix * (matrix @ own - 2 * cross)).sum(1) + offset.square()
    if teachers[0].uneven:  # the averaged maps have other means than the full map
        columns = pooling.columns(pixel_mean, len(student.map))
        means = torch.cat([teacher.averaged @ columns for teacher in teachers])
        by_channel = by_channel + 2 * offset * (matrix @ (averaged @ columns) - means)
    constants = torch.stack([teacher.constant for teacher in teachers])
    return torch.stack([part.mean() for part in by_channel.split([len(t.mean) for t in teachers])]) + constants


class _Products(torch.autograd.Function):
    """Sums of products of centred pixels: X X^T of a student's map, and T X^T for each teacher's map T.

    Backward is a product of small matrices with the maps as they are, in their own layout, so nothing but these is stored.
    """

    @staticmethod
    def forward(ctx, feature: Tensor, centre: Tensor, teachers: tuple[TeacherStatistics, ...]) -> tuple[Tensor, ...]:
        ctx.save_for_backward(feature, centre)
        ctx.teachers = [(teacher.blocks, teacher.centre, teacher.scale) for teacher in teachers]
        pixels = _centred(feature, centre)
        return pixels @ pixels.t(), *(teacher.pixels @ pixels.t() for teacher in teachers)

    @staticmethod
    def backward(ctx, gradient: Tensor, *gradients: Tensor) -> tuple[Tensor, None, None]:
        feature, centre = ctx.saved_tensors
        # In place, unless the gradient is to be differentiated again: one map of the student's size at a time.
        add, subtract = (Tensor.baddbmm, Tensor.sub) if torch.is_grad_enabled() else (Tensor.baddbmm_, Tensor.sub_)
        with torch.autocast(feature.device.type, enabled=False):
            matrix = gradient + gradient.t()
            # Not matmul, which multiplies in another way, with other last bits, where a gradient is to be differentiated.
            found, shift = torch.bmm(matrix.expand(len(feature), -1, -1), feature.flatten(2)), matrix @ centre
            for (blocks, mean, scale), given in zip(ctx.teachers, gradients):
                matrix = scale * given.t()
                found = add(found, matrix.expand(len(blocks), -1, -1), blocks.flatten(2))
                shift = shift + matrix @ mean
            return subtract(found, shift[:, None]).view(feature.shape), None, None


def _centred(x: Tensor, centre: Tensor) -> Tensor:
    """The pixels of a map less a centre of each channel [C, M], without a graph and in one pass."""
    # Before the products, because a covariance is a small difference of large products otherwise.
    x = x.transpose(0, 1)
    return torch.sub(x, centre[:, None, None, None], out=x.new_empty(x.shape)).flatten(1)


def single(x: Tensor) -> Tensor:
    """A tensor in single precision or wider."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
