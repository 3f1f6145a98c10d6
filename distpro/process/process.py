"""The process: the schedule of the pathways' weights over a training, found by a search and replayed in distillations."""
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ..checks import check_that, nearest
from ..errors import ProcessError
from ..files import write_json
from ..pathways.names import is_logits
from ..weighting import Weighting, as_weighting, log_weights
from .scheduled import scheduled_values

FORMAT = 'distpro process'
VERSION = 4
READABLE = (1, 2, 3, 4)
Numbers = Sequence[float] | np.ndarray


class DistillationProcess:
    """Free parameters alpha of N pathways at K knots of the training progress.

    Between knots, the weights (not alpha) are interpolated linearly. Before the first and after the last knot, they are
    constant. At a knot, they are exactly the weights of its alpha.

    Args:
        names (Sequence[str]): Names of the pathways [N].
        weighting (Weighting): The map from alpha to weights.
        progress (Sequence[float]): Knots [K], in ascending order, as shares of the training in [0, 1].
        alpha (Sequence[Sequence[float]]): Free parameters [K, N].
        origin (dict, optional): Provenance of the process (config, data set, pair, seed, versions); stored unchanged.
        layers (dict[str, list[str]], optional): All 'transmitters' and all 'receivers', connected or not, from shallow to
            deep. They determine the depth of a pathway's layers. Defaults to None: unknown.
        scheduled (dict[str, Sequence[float]], optional): Factors at each knot of the 'temperature' of logits and of the
            student's own loss, 'cross_entropy'; linear between knots. Defaults to None: nothing.

    Raises:
        ProcessError: If the arguments do not fit together, or are not finite.
    """

    def __init__(self, names: Sequence[str], weighting: Weighting, progress: Numbers = (),
                 alpha: Sequence[Numbers] | np.ndarray = (), origin: dict | None = None,
                 layers: dict[str, list[str]] | None = None,
                 scheduled: Mapping[str, Sequence[float]] | None = None) -> None:
        check_that('names', names, isinstance(names, Iterable) and not isinstance(names, str),
                   'the list of the names of the pathways', ProcessError)
        self.names = list(names)
        self.weighting = as_weighting(weighting)
        try:
            self.progress: list[float] = [float(p) for p in progress]
            self.alpha: list[np.ndarray] = [np.array(a, dtype=np.float64) for a in alpha]
        except (TypeError, ValueError) as error:
            raise ProcessError(f'progress and alpha of a process must be lists of numbers: {error}') from None
        self.origin = dict(origin or {})
        self.layers = layers
        self._weights: np.ndarray | None = None
        self.scheduled = scheduled_values(scheduled, len(self.progress))
        if not self.names or len(set(self.names)) != len(self.names):
            raise ProcessError(f'a process needs one or more different pathways, got {self.names}')
        if len(self.alpha) != len(self.progress) or any(a.shape != (len(self.names), ) for a in self.alpha):
            raise ProcessError(f'a process of {len(self.names)} pathways and {len(self.progress)} knots needs as many '
                               'numbers alpha at each knot')
        if not all(isinstance(name, str) for name in self.names):
            raise ProcessError(f'the names of pathways are strings, got {self.names}')
        if not all(np.isfinite(a).all() for a in self.alpha):
            raise ProcessError('a process needs finite alpha at every knot')
        if any(not 0 <= p <= 1 for p in self.progress) or any(np.diff(self.progress) <= 0):
            raise ProcessError('the knots of a process must be in ascending order within [0, 1]')
        if layers is not None and not (isinstance(layers, dict) and set(layers) == {'transmitters', 'receivers'}
                                       and all(isinstance(side, list) and all(isinstance(name, str) for name in side)
                                               and len(set(side)) == len(side) for side in layers.values())):
            raise ProcessError('the layers of a process are lists of different names, transmitters and receivers, got '
                               f'{layers}')

    @classmethod
    def by_hand(cls, names: Sequence[str], progress: Sequence[float] = (), weights: Sequence | dict = (),
                unit: str = 'variance', scheduled: dict | None = None, **unknown) -> 'DistillationProcess':
        """A process with given weights.

        Args:
            names (Sequence[str]): Names of the pathways [N].
            progress (Sequence[float]): Knots [K], in ascending order, as shares of the training in [0, 1].
            weights (Sequence or dict): Weights at the knots, >= 0: [K], the same for all pathways, or [K, N]; or a dict of
                'features' and 'logits', each [K], or of the one that there are pathways of.
            unit (str): Unit of the weights, see :class:`Weighting`. Defaults to 'variance'.
            scheduled (dict[str, Sequence[float]], optional): As of the class. Defaults to None: nothing.

        Raises:
            ProcessError: If the arguments do not fit together, there are others, or pathways with a weight do not exist.
        """
        parts = ['logits' if is_logits(name) else 'features' for name in names]
        by_part: dict = weights if isinstance(weights, dict) else {}
        try:
            given = np.array([by_part[part] for part in parts] if by_part else weights, dtype=np.float64)
            given = given.T if by_part else given
            knots = np.array(progress, dtype=np.float64)
            fits = knots.ndim == 1 and knots.size and given.shape in (knots.shape, (len(knots), len(names)))
        except (TypeError, ValueError, KeyError, IndexError):
            fits = False
        if unknown or set(by_part) - {'features', 'logits'} or not fits or not (np.isfinite(given) & (given >= 0)).all():
            keys = 'progress', 'weights', 'unit', 'scheduled'
            others = ''.join(f', {key}={value}{nearest(key, keys)}' for key, value in unknown.items())
            for key in set(by_part) - {'features', 'logits'}:
                others += f"; weights has '{key}'{nearest(str(key), ('features', 'logits'))}"
            raise ProcessError('a hand-tuned process has progress, K values in [0, 1], and weights of 0 or more: K '
                               "numbers, a dict of 'features' and 'logits' with K numbers each, or K lists of "
                               f'{len(names)} numbers, one for each pathway; got progress={progress}, weights={weights}'
                               f'{others}')
        for part in set(by_part) - set(parts):
            if np.any(weights[part]):
                raise ProcessError(f"weights['{part}']={weights[part]} is of no pathway: leave it out, or add such pathways")
        given = np.broadcast_to(given.reshape(len(knots), -1), (len(knots), len(names)))
        return cls(names, Weighting('exponential', unit=unit), knots, log_weights(given), scheduled=scheduled)

    def __len__(self) -> int:
        return len(self.progress)

    def record(self, progress: float, alpha: Numbers) -> None:
        """Append a knot.

        Args:
            progress (float): Share of the training in [0, 1], larger than that of the last knot.
            alpha (Sequence[float]): Free parameters [N], finite.

        Raises:
            ProcessError: If ``progress`` does not increase, or alpha is not finite.
        """
        knot = np.array(alpha, dtype=np.float64)  # a copy: the search moves its own on
        if knot.shape != (len(self.names), ) or not np.isfinite(knot).all():
            raise ProcessError(f'alpha at progress {progress:.4f} is {knot.tolist()}, not {len(self.names)} finite numbers')
        if not 0 <= progress <= 1 or self.progress and progress <= self.progress[-1]:
            raise ProcessError(f'a knot at progress {progress} does not follow {self.progress[-1:]} within [0, 1]')
        self.progress.append(float(progress))
        self.alpha.append(knot)
        self._weights = None

    @property
    def weights(self) -> np.ndarray:
        """np.ndarray: Weights at the knots [K, N], read-only."""
        if not self.progress:
            raise ProcessError('the process has no knots yet')
        if self._weights is None:
            # The weighting's own code in double precision: one implementation serves search and replay.
            weights = np.stack([self.weighting(torch.from_numpy(a)).numpy() for a in self.alpha])
            if not np.isfinite(weights).all():
                raise ProcessError(f"alpha gives weights that are not finite with weighting.type='{self.weighting.type}'")
            weights.setflags(write=False)
            self._weights = weights
        return self._weights

    def at(self, progress: float) -> np.ndarray:
        """Weights at a share of the training.

        Args:
            progress (float): Share of the training, in [0, 1].

        Returns:
            np.ndarray: Weights [N].
        """
        return self.weights_at([progress])[0]

    def weights_at(self, progress: Sequence[float]) -> np.ndarray:
        """Weights at many shares of the training.

        Args:
            progress (Sequence[float]): Shares of the training [M], in [0, 1].

        Returns:
            np.ndarray: Weights [M, N].
        """
        return interpolate(self.progress, self.weights, progress)

    def scheduled_at(self, progress: Numbers) -> np.ndarray:
        """np.ndarray: Values [M, S] of what else is scheduled, in its order, at shares of the training [M]."""
        if not self.scheduled:
            return np.zeros((len(progress), 0))
        return interpolate(self.progress, np.stack(list(self.scheduled.values()), axis=1), progress)

    def reorder(self, names: Sequence[str], where: str, instead: str = '') -> 'DistillationProcess':
        """A copy with the pathways in another order.

        Args:
            names (Sequence[str]): The same names in the new order.
            where (str): The object whose pathways these are, for the error.
            instead (str): Further advice for the error. Defaults to none.

        Returns:
            DistillationProcess: The copy.

        Raises:
            ProcessError: If the names are not the same.
        """
        missing = [name for name in names if name not in self.names]
        unknown = [name for name in self.names if name not in names]
        if missing or unknown:
            parts = ([f'lacks {", ".join(missing)}'] if missing else []) + \
                ([f'has {", ".join(unknown)}, unknown to {where}'] if unknown else [])
            raise ProcessError(f'the process does not fit the pathways of {where}: it {" and ".join(parts)}; use the '
                               f'transmitters, receivers, connections and transforms that it was searched with{instead}')
        order = [self.names.index(name) for name in names]
        return DistillationProcess(names, self.weighting, self.progress, [a[order] for a in self.alpha], self.origin,
                                   self.layers, self.scheduled)

    def to_dict(self) -> dict:
        """dict: The process in the format of a file; see docs/process_file.md."""
        layers = {} if self.layers is None else dict(layers=self.layers)
        scheduled = dict(scheduled=self.scheduled) if self.scheduled else {}
        return dict(format=FORMAT, version=VERSION if scheduled else VERSION - 1, pathways=self.names, **layers,
                    weighting=self.weighting.to_dict(), progress=self.progress, alpha=[_shortest(a) for a in self.alpha],
                    **scheduled, origin=self.origin)

    @classmethod
    def from_dict(cls, data: dict, source: str = 'the process') -> 'DistillationProcess':
        """Build a process from the result of :meth:`to_dict`.

        Args:
            data (dict): The process in the format of a file.
            source (str): Name of the source in errors.

        Raises:
            ProcessError: If an entry is missing or invalid.
        """
        if not isinstance(data, dict) or data.get('format') not in (FORMAT, 'distpro_mm process'):
            raise ProcessError(f'{source} is not a process file (its "format" is not "{FORMAT}"); give the '
                               'process.json in the work_dir of a search')
        if data.get('version') not in READABLE:
            raise ProcessError(f'{source} has version {data.get("version")!r} but this version of distpro reads '
                               f'{READABLE[0]} to {READABLE[-1]}: use the version that wrote it, or search again')
        missing = [key for key in ('pathways', 'weighting', 'progress', 'alpha') if key not in data]
        if missing:
            raise ProcessError(f'{source} lacks {", ".join(missing)}: it is damaged; search again or restore a copy')
        try:
            process = cls(data['pathways'], _weighting(data['weighting'], data['version']), data['progress'], data['alpha'],
                          data.get('origin'), data.get('layers'), data.get('scheduled'))
            if len(process):
                process.weights  # noqa: B018  raises if weights are not finite
        except (TypeError, ValueError, OverflowError) as error:
            raise ProcessError(f'{source} is damaged ({error}); search again or restore a copy') from error
        if not len(process):
            raise ProcessError(f'{source} has no knots: its search was stopped before the first step; search again')
        return process

    def save(self, path: str) -> None:
        """Write the process to a JSON file atomically.

        Raises:
            ProcessError: If ``origin`` has something that JSON has not.
        """
        try:
            write_json(path, self.to_dict())
        except TypeError as error:
            raise ProcessError(f"the process file '{path}' cannot be written: {error}") from error

    @classmethod
    def load(cls, path: str) -> 'DistillationProcess':
        """Read a process file.

        Args:
            path (str): The file.

        Raises:
            ProcessError: If the file is missing, not JSON or invalid.
        """
        check_that('path', path, isinstance(path, (str, os.PathLike)), 'the path of a process file', ProcessError)
        try:
            with open(path, encoding='utf-8') as file:
                data = json.load(file)
        except FileNotFoundError:
            raise ProcessError(f"there is no process file '{path}': run the search first (it writes process.json to its "
                               'work_dir) or correct the path') from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ProcessError(f"the process file '{path}' is not valid JSON ({error}): it is truncated or a different "
                               'file; search again or restore a copy') from None
        except OSError as error:
            raise ProcessError(f"the process file '{path}' cannot be read: {error}") from error
        return cls.from_dict(data, f"the process file '{path}'")


def interpolate(knots: Numbers, weights: np.ndarray, progress: Numbers) -> np.ndarray:
    """Linear interpolation of weights [K, N] at knots [K] to shares of the training [M]: [M, N]."""
    return np.stack([np.interp(progress, knots, column) for column in np.asarray(weights).T], axis=1)


def _weighting(data: dict, version: int) -> Weighting:
    """The weighting of a file. In version 1, the unit is always 'loss'; versions 1 and 2 have a bias for every type."""
    data = {'unit': 'loss', **data} if version == 1 else dict(data)
    bias = data.pop('bias', None) if version < 3 else None
    if bias is not None and data.get('type') == 'biased_softmax':
        data['parameters'] = dict(bias=bias)
    return Weighting.from_dict(data)


def _shortest(alpha: np.ndarray) -> list[float]:
    """Convert numbers from float32 to the shortest decimals that give the same float32."""
    single = alpha.astype(np.float32)
    if (single == alpha).all():
        return [float(str(value)) for value in single]
    return alpha.tolist()
