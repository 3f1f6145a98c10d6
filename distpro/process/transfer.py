"""Transfer of a process from one pair of networks to another."""
import math
from collections.abc import Sequence

import numpy as np

from ..checks import check_that
from ..errors import ProcessError
from ..pathways import depths
from ..pathways.names import of_teacher
from ..weighting import Weighting
from .process import DistillationProcess
from .teacher_parts import parsed, parts_by_teacher

TRANSFERS = ('by_depth', )
SIDES = ('transmitters', 'receivers')
Point = tuple[float, float]


def map_process(process: DistillationProcess, names: Sequence[str],
                layers: dict[str, list[str]] | None = None) -> DistillationProcess:
    """Map a process to other pathways, by the relative depth of their layers and by their transform.

    Depth is the relative position of a layer in its network, from 0 for the first to 1 for the last. At each knot, the
    weights of one transform are values at points (teacher depth, student depth) of a grid that may have holes. A new pathway
    gets the value at its own point:

    * in a cell with all four corners, the bilinear interpolation;
    * in a cell with fewer corners, the linear interpolation in their hull: a triangle, a segment (also a diagonal, as with
      ``nearest_depth``) or a point;
    * in holes and outside the grid, the value at the nearest point of such a hull; the mean of several at the same distance.

    A new pathway at a known point therefore has its value, and every value lies between the minimum and the maximum of the
    surrounding values. Functions that are bilinear in the depths (linear where a cell lacks corners) are reproduced exactly.
    Layers of the process between two depths of the new pair are not used.

    Then the weights of each transform are scaled at each knot so that **their total is preserved**: it balances distillation
    against cross-entropy, and must not change with the number of pathways. If four layers' weights sum to W, those of eight
    layers sum to W too, each about half as large.

    In the unit 'variance', which divides by the number of pathways, the mean is preserved instead of the total.

    Pathways between logits have no depth: each gets the weights of the pathway with the same label. If the process has one
    only, it serves all of the new pair, and is left out if the new pair has none.

    With several teachers, each is mapped by itself, by the depths of its layers. A process of one teacher serves all:
    each teacher gets the mapped weights divided by the number of teachers (for logits: of teachers with logits), so two
    identical teachers give the loss that one gives. A process of several teachers needs the same names of teachers, and the
    share of each is preserved.

    Args:
        process (DistillationProcess): The process, with at least one knot.
        names (Sequence[str]): Names of the new pathways [N]. If these and the layers are those of the process, its pathways
            are only reordered.
        layers (dict[str, list[str]], optional): All 'transmitters' and 'receivers' of the new pair, connected or not, from
            shallow to deep. Defaults to None: the layers in ``names``, in the order of their first appearance.
            The same holds for a process without layers.

    Returns:
        DistillationProcess: The new process, at the same knots. Its alpha equals the weights (weighting 'absolute').
            ``origin['transfer']`` has the original pathways and layers, and whether the process lists its layers; if
            not, they are in the order in which its pathways name them.

    Raises:
        ProcessError: If a name is invalid or its layer is not among the layers; if the transforms or the labels of logits
            of both sides differ, unless the process has one transform only, which is then used for all, with their
            joint total; if a total cannot be preserved, because the new pathways have weight 0; or if the process has
            several teachers and the new networks have others.
    """
    check_that('process', process, isinstance(process, DistillationProcess), 'a DistillationProcess', ProcessError)
    check_that('names', names, not isinstance(names, str) and all(isinstance(name, str) for name in names),
               'the list of the names of the new pathways', ProcessError)
    known = process.layers
    if set(names) == set(process.names) and (layers is None or known is None or known == layers):
        mapped = process.reorder(names, 'the new pair')
        mapped.origin = _origin(process, known or layers or {side: [] for side in SIDES})
        return mapped
    weights = np.zeros((len(process), len(names)))
    listed: dict[str, list[str]] = {side: [] for side in SIDES}  # layers of the process
    for part in parts_by_teacher(process, names, layers):
        source = PathwayDepths(part.process.names, part.process.layers, 'the process')
        weights[:, part.columns] = part.shares * _mapped(part.process, source, part.names, part.layers)
        for side, names_of_layers in source.layers.items():
            own = [of_teacher(part.teacher, layer) if side == 'transmitters' else layer for layer in names_of_layers]
            listed[side] = list(dict.fromkeys([*listed[side], *own]))
    weighting = Weighting('absolute', unit=process.weighting.unit)
    return DistillationProcess(names, weighting, process.progress, weights, _origin(process, listed), layers,
                               process.scheduled)


def _origin(process: DistillationProcess, layers: dict[str, list[str]]) -> dict:
    """The origin of a mapped process, which so counts as one of other networks, whatever their layers are called."""
    return dict(process.origin, transfer=dict(pathways=process.names, layers=layers,
                                              layers_are_listed=process.layers is not None))


def _mapped(process: DistillationProcess, source: 'PathwayDepths', names: Sequence[str],
            layers: dict[str, list[str]] | None) -> np.ndarray:
    """Weights [K, N] of a pair's pathways, of a process of one teacher."""
    target = PathwayDepths(names, layers, 'the new pair')
    _check_labels('transforms', source.points, target.points, len(source.points) == 1 and bool(target.points))
    _check_labels('logits', source.logits, target.logits, len(source.logits) == 1)
    if len(source.points) == 1:
        groups = [(*source.points.values(), {k: point for points in target.points.values() for k, point in points.items()})]
    else:
        groups = [(source.points[transform], points) for transform, points in target.points.items()]
    scale = 1.0  # preserves the total; in the unit 'variance', the mean over all feature pathways
    if process.weighting.unit == 'variance':
        scale = sum(len(asked) for _, asked in groups) / max(sum(len(known) for known, _ in groups), 1)
    weights = np.zeros((len(process), len(names)))
    for known, asked in groups:
        before = process.weights[:, list(known)]
        after = before @ interpolation(list(known.values()), list(asked.values())).T
        weights[:, list(asked)] = scale * after * _factors(before, after, process.progress)
    for label, column in target.logits.items():
        weights[:, column] = process.weights[:, source.logits.get(label, next(iter(source.logits.values())))]
    return weights


class PathwayDepths:
    """The depths of the layers of a pair's pathways.

    Args:
        names (Sequence[str]): Names of the pathways, of one teacher.
        layers (dict[str, list[str]], optional): As in :func:`map_process`.
        whose (str): Name of the pair in errors.

    Attributes:
        layers (dict[str, list[str]]): 'transmitters' and 'receivers', from shallow to deep.
        points (dict[str, dict[int, tuple]]): For each transform: index in ``names`` -> depths in [0, 1] of the teacher's
            and the student's layer.
        logits (dict[str, int]): For each label of logits, the index of its pathway in ``names``.

    Raises:
        ProcessError: If a name is invalid or its layer is not among ``layers``.
    """

    def __init__(self, names: Sequence[str], layers: dict[str, list[str]] | None, whose: str) -> None:
        parts = [parsed(name, whose) for name in names]
        self.logits = {part.transform: column for column, part in enumerate(parts) if part.is_logits}
        features = {column: part[1:] for column, part in enumerate(parts) if not part.is_logits}
        self.layers = layers or {side: list(dict.fromkeys(parts[place] for parts in features.values()))
                                 for place, side in enumerate(SIDES)}
        depth = [dict(zip(self.layers[side], depths(len(self.layers[side])))) for side in SIDES]
        self.points: dict[str, dict[int, Point]] = {}
        for column, (*pair, transform) in features.items():
            for place, layer in enumerate(pair):
                if layer not in depth[place]:
                    raise ProcessError(f"{whose} has a pathway '{names[column]}', whose layer '{layer}' is not one of its "
                                       f'{SIDES[place]} {self.layers[SIDES[place]]}')
            self.points.setdefault(transform, {})[column] = depth[0][pair[0]], depth[1][pair[1]]


def interpolation(known: Sequence[Point], asked: Sequence[Point]) -> np.ndarray:
    """Interpolation weights from known points to other points, see :func:`map_process`.

    Args:
        known (Sequence[tuple]): Points [M], all different.
        asked (Sequence[tuple]): Points [N].

    Returns:
        np.ndarray: Interpolation weights [N, M], >= 0, with sum 1 in each row. At a known point, its weight is exactly 1.
    """
    column = {point: index for index, point in enumerate(known)}
    # Lines that have pathways of other transforms only would add holes.
    lines = [np.unique([point[axis] for point in known]).tolist() for axis in (0, 1)]
    cells = [list(dict.fromkeys((x, y) for x in xs for y in ys if (x, y) in column))
             for xs in _intervals(lines[0]) for ys in _intervals(lines[1])]
    shares = np.zeros((len(asked), len(known)))
    for row, point in zip(shares, asked):
        if point in column:
            row[column[point]] = 1
            continue
        mixtures = [(corners, *_mixture(np.array(corners), np.array(point))) for corners in cells if corners]
        nearest = min(distance for _, _, distance in mixtures)
        different = {}  # neighbouring cells share the points on their border
        for corners, mixture, distance in mixtures:
            if distance <= nearest + 1e-9:
                mixed = {column[corner]: share for corner, share in zip(corners, mixture.tolist())}
                different[frozenset((index, round(share, 9)) for index, share in mixed.items() if share > 1e-9)] = mixed
        for mixed in different.values():
            row[list(mixed)] += np.array(list(mixed.values())) / len(different)
    return shares


def _intervals(line: list[float]) -> list[Point]:
    return list(zip(line[:-1], line[1:])) or [(line[0], line[0])]


def _mixture(corners: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, float]:
    """Interpolation weights of a cell's 1 to 4 known corners at the nearest point of their hull, and its distance.

    Four corners are sorted by x, then by y.
    """
    if len(corners) == 4:
        low, high = corners[0], corners[3]
        u, v = ((point - low) / (high - low)).clip(0, 1)
        shares = np.array([(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v])
    elif len(corners) == 3:
        shares = np.linalg.solve(np.vstack([corners.T, np.ones(3)]), [*point, 1])
        if shares.min() < -1e-12:
            sides = []
            for without in range(3):
                side, distance = _mixture(np.delete(corners, without, axis=0), point)
                sides.append((distance, without, np.insert(side, without, 0)))
            shares = min(sides, key=lambda side: side[:2])[2]
        shares = shares.clip(0)
    elif len(corners) == 2:
        along = corners[1] - corners[0]
        t = ((point - corners[0]) @ along / (along @ along)).clip(0, 1)
        shares = np.array([1 - t, t])
    else:
        shares = np.ones(1)
    return shares, float(np.linalg.norm(shares @ corners - point))


def _factors(before: np.ndarray, after: np.ndarray, progress: Sequence[float]) -> np.ndarray:
    """Factors [K, 1] that give weights ``after`` [K, N] the total of ``before`` [K, M]."""
    # fsum rounds once, so the same weights in any order have bit-identical totals.
    totals, mapped = (np.array([math.fsum(row) for row in weights]) for weights in (before, after))
    with np.errstate(divide='ignore', over='ignore', invalid='ignore'):
        factors = np.where(totals > 0, totals / mapped, 1)
    if not np.isfinite(factors).all():
        first = progress[int(np.argmin(np.isfinite(factors)))]
        raise ProcessError(f'at {first:.0%} of the run, the process has weights only at depths without pathways of the '
                           'new pair, so the total weight cannot be preserved: set connections, transmitters and '
                           'receivers to more layers')
    return factors[:, None]


def _check_labels(kind: str, source: dict, target: dict, one_serves_all: bool) -> None:
    """Refuse transforms, or labels of logits, that only one side has, unless the process's single one serves all."""
    if set(source) != set(target) and not one_serves_all:
        raise ProcessError(f'the process has the {kind} {", ".join(source) or "none"} and the new pair has '
                           f'{", ".join(target) or "none"}: give both the same (name= sets the label)'
                           + (', or search with one transform, which is used for all' if kind == 'transforms' else ''))
