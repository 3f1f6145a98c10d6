"""Where a search in rounds starts: its strategy with the first process and the references, and the length of a round."""
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, argument_prefix
from ..pathways import PathwayGrid
from ..process import ProcessLike, fit_process
from ..weighting import OFF, Weighting, log_weights
from .searchers import Searcher, strategy_of

REFERENCES = ('student', 'kd')


def build_searcher(grid: PathwayGrid, searcher: str | type | dict, rounds: int = 3, knots: int = 4,
                   initial_bump: float = 3.0, feature_weight: float = 16.0, references: Sequence[str] = REFERENCES,
                   guessing: float = math.inf, max_divisions: int = 5, seed: int = 0,
                   initial: ProcessLike | None = None) -> Searcher:
    """A search strategy that starts from the default process or from a given one.

    Args:
        grid (PathwayGrid): The pathways, and what else is searched for (:meth:`PathwayGrid.schedule`).
        searcher (str, type or dict): Its name or class, or a dict with arguments, see :func:`strategy_of`.
        rounds (int): Refinements, >= 0. Defaults to 3.
        knots (int): Evenly spaced points of the run, >= 2, at which alpha is free. Defaults to 4.
        initial_bump (float): Offset added to the initial alpha at every interior knot. Defaults to 3: exp(3) = 20 times the
            weight at the ends. Weights that increase by as much from the first knot to the last are tried as well.
        feature_weight (float): Factor of the feature pathways' initial weights exp(alpha), > 0. Defaults to 16.
        references (Sequence[str]): Some of :data:`REFERENCES`. 'kd' is left out where no pathway is between logits.
        guessing (float): Loss of a classifier that guesses. Defaults to infinity: unknown.
        max_divisions (int): How often the initial weights are divided by 4 at most, >= 0. Defaults to 5.
        seed (int): Seed of random strategies. Defaults to 0.
        initial (str, dict or DistillationProcess, optional): The process that is tried first, as in
            :func:`distpro.process.fit_process`, mapped to the pathways by depth. ``initial_bump`` and ``feature_weight`` do
            not apply, and rising weights are not tried. Defaults to None: the default process.

    Raises:
        ArgumentError: If the strategy is unknown, an argument of it is out of range, or the initial process does not fit.
    """
    kind, arguments = strategy_of(searcher, rounds)
    if not rounds and not max_divisions:
        raise ArgumentError('rounds=0 and max_divisions=0 leave nothing to search for: give one of the two')
    free = grid.weighting.type == 'exponential'
    if rounds == 1 and kind.differentiates and max_divisions and free:
        raise ArgumentError('rounds=1 would only try the best level once more, whose derivative the second round needs: set '
                            '2 or more, or 0 to search for the level alone')
    constant = grid.alpha.detach().cpu().repeat(knots, 1)
    if free:
        features = [index for index in range(constant.shape[1]) if index not in grid.logit_indices]
        constant[:, features] += math.log(feature_weight)
    rising = constant + initial_bump * torch.linspace(0, 1, knots)[:, None] if initial is None and initial_bump else None
    if initial is None:
        first = constant.clone()
        first[1:-1] += initial_bump
        first = with_scheduled(first, grid)
    else:
        with argument_prefix('initial: '):
            first = _alpha_of(initial, grid, knots).to(constant)
    known = reference_alphas(grid, knots)
    with argument_prefix('searcher: '):
        return kind(first, {name: with_scheduled(known[name], grid) for name in references if name in known}, rounds,
                    grid.logit_indices, len(grid.scheduled), guessing, has_level=free, max_divisions=max_divisions,
                    seed=seed, off=OFF, other_shape=None if rising is None else with_scheduled(rising, grid),
                    known=initial is not None, **arguments)


def with_scheduled(numbers: Tensor, grid: PathwayGrid) -> Tensor:
    """Numbers [..., N] of the pathways, and 0 for what is scheduled, which as alpha is a factor of 1: [..., N + S]."""
    return torch.nn.functional.pad(numbers, (0, len(grid.scheduled)))


def _alpha_of(source: ProcessLike, grid: PathwayGrid, knots: int) -> Tensor:
    """alpha [knots, N + S] of a process for the grid's pathways and for what it schedules, float64."""
    process = fit_process(source, grid.names, grid.layer_names, grid.weighting.unit, transfer=True)
    if grid.weighting.type != 'exponential':
        raise ArgumentError(f"a search can start from a process with weighting.type='exponential' only, got "
                            f"'{grid.weighting.type}': set initial=None to begin without one")
    if process.weighting.unit != grid.weighting.unit:
        raise ArgumentError(f"the process has weights in the unit '{process.weighting.unit}', and weighting.unit="
                            f"'{grid.weighting.unit}': set initial=None to begin without one")
    dropped = [name for name in process.scheduled if name not in grid.scheduled]
    if dropped:
        raise ArgumentError(f'the process schedules {", ".join(dropped)} too, which the search would leave out: set '
                            f'scheduled={[*grid.scheduled, *dropped]}')
    progress = np.linspace(0, 1, knots).tolist()
    others = dict(zip(process.scheduled, process.scheduled_at(progress).T))
    columns = [*process.weights_at(progress).T, *(others.get(name, np.ones(knots)) for name in grid.scheduled)]
    return torch.from_numpy(log_weights(np.stack(columns, axis=1)))


def reference_alphas(grid: PathwayGrid, knots: int) -> dict[str, Tensor]:
    """alpha [knots, N] of the student alone and, if there are pathways between logits, of plain KD."""
    off = torch.full((knots, len(grid.pathways)), OFF, dtype=grid.alpha.dtype)
    if not grid.logit_indices:
        return dict(student=off)
    kd = off.clone()
    # One logit loss in all: in the unit 'variance' they are averaged anyway.
    count = 1 if grid.weighting.unit == 'variance' else len(grid.logit_indices)
    kd[:, grid.logit_indices] = -math.log(count * float(reference_weighting(grid)(torch.zeros(1))))
    return dict(student=off, kd=kd)


def reference_weighting(grid: PathwayGrid) -> Weighting:
    """A weighting that can switch pathways off: the grid's own, or exp(alpha)."""
    own = grid.weighting
    return own if own.type == 'exponential' else Weighting('exponential', unit=own.unit)


def round_epochs(max_epochs: int, iterations: int, share: float, min_iterations: int) -> int:
    """Epochs of a round: a share of the training's, at least enough for ``min_iterations``, at most the training's.

    Args:
        max_epochs (int): Epochs of the training.
        iterations (int): Iterations of an epoch.
        share (float): Share of the training, in (0, 1].
        min_iterations (int): Least iterations of a round.

    Returns:
        int: Epochs, >= 1.
    """
    return max(1, min(max_epochs, max(round(share * max_epochs), math.ceil(min_iterations / iterations))))
