"""CMA-ES and random search of this project against Optuna's samplers, on noisy quadratic losses of a search's size.

``pip install optuna && python benchmarks/samplers.py`` prints the table in docs/searchers.md.

A problem has alpha at 4 knots of 11 pathways, 44 numbers, and a loss of a minimum and a quadratic excess over it. The way
from the first process to the minimum is the sum of normal numbers for each knot, each pathway and both; the numbers matter
differently. The excess is 5% of the loss at first, and a measured loss has a factor exp(noise * normal number). The first
process is measured too. A search returns the process with the lowest measured loss.
"""
import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from distpro.searching import SEARCHERS

KNOTS, PATHWAYS = 4, 11
TRIALS = 22
EXCESS = 0.05  # of the first process
REACH = 3.0  # bounds of a number for Optuna; the standard deviation of its first generation is a third of it
Loss = Callable[[np.ndarray], float]


class Problem:
    """A loss of changes [knots, pathways] of the first process.

    Args:
        seed (int): Seed of the minimum, the importances and the noise.
        noise (float): Standard deviation of the logarithm of a measured loss.
    """

    def __init__(self, seed: int, noise: float) -> None:
        self.random, self.noise = np.random.RandomState(seed), noise
        self.goal = self.random.randn(KNOTS, 1) + self.random.randn(1, PATHWAYS) + self.random.randn(KNOTS, PATHWAYS)
        self.importance = np.exp(self.random.randn(KNOTS, PATHWAYS))
        self.best = 0.0, np.inf  # excess and measured loss
        self.measure(np.zeros((KNOTS, PATHWAYS)))

    def excess(self, change: np.ndarray) -> float:
        """Excess over the minimum, as a share of that of the first process."""
        return float((self.importance * (change - self.goal)**2).sum() / (self.importance * self.goal**2).sum())

    def measure(self, change: np.ndarray) -> float:
        """The measured loss of a change, which is compared with the best so far."""
        excess = self.excess(change)
        loss = (1 + EXCESS * excess) * np.exp(self.noise * self.random.randn())
        self.best = min(self.best, (excess, loss), key=lambda found: found[1])
        return loss


def own(name: str, problem: Problem, seed: int) -> None:
    """A strategy of this project."""
    searcher = SEARCHERS[name](torch.zeros(KNOTS, PATHWAYS, dtype=torch.float64), {}, TRIALS, max_divisions=0, seed=seed,
                               confirmations=0)
    while not searcher.finished:
        trial = searcher.ask()
        searcher.tell(trial, problem.measure(trial.alpha.numpy()))


def optuna_sampler(make: Callable[[int], object], sums: bool, problem: Problem, seed: int) -> None:
    """A sampler of Optuna over all numbers, or over one for each knot and each pathway, which are added."""
    import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=make(seed))

    def objective(trial) -> float:
        count = KNOTS + PATHWAYS if sums else KNOTS * PATHWAYS
        numbers = np.array([trial.suggest_float(str(place), -REACH, REACH) for place in range(count)])
        change = numbers[:KNOTS, None] + numbers[KNOTS:] if sums else numbers.reshape(KNOTS, PATHWAYS)
        return problem.measure(change)

    study.optimize(objective, n_trials=TRIALS)


def contenders() -> dict[str, Callable[[Problem, int], None]]:
    """Searches by name: functions of a problem and a seed."""
    import optuna
    samplers = optuna.samplers

    def cma(numbers: int) -> Callable[[int], object]:
        return lambda seed: samplers.CmaEsSampler(x0={str(place): 0.0 for place in range(numbers)}, seed=seed,
                                                  popsize=7, n_startup_trials=0)

    def tpe(seed: int) -> object:
        return samplers.TPESampler(multivariate=True, seed=seed)

    few, all_of_them = KNOTS + PATHWAYS, KNOTS * PATHWAYS
    found: dict[str, Callable[[Problem, int], None]] = {
        'none: the first process': lambda problem, seed: None,
        '`RandomSearcher`': lambda *given: own('RandomSearcher', *given),
        f'`CMAESSearcher`, {few} numbers': lambda *given: own('CMAESSearcher', *given)}
    for name, make, sums in ((f'`CmaEsSampler`, {few} numbers', cma(few), True),
                             (f'`CmaEsSampler`, {all_of_them} numbers', cma(all_of_them), False),
                             (f'`TPESampler`, {few} numbers', tpe, True),
                             (f'`TPESampler`, {all_of_them} numbers', tpe, False)):
        found[name] = lambda problem, seed, make=make, sums=sums: optuna_sampler(make, sums, problem, seed)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=60, help='problems (default: 60)')
    parser.add_argument('--noise', type=float, nargs='+', default=[0.0, 0.02, 0.1], help='see above')
    args = parser.parse_args()
    for module in ('cmaes', 'optuna'):
        start = time.process_time()
        __import__(module)
        print(f'import {module}: {time.process_time() - start:.2f} s')
    print(f'\n| search, {TRIALS} trials | ' + ' | '.join(f'noise {noise:g}' for noise in args.noise) + ' | ms per trial |')
    print('| --- |' + ' --- |' * (len(args.noise) + 1))
    for name, search in contenders().items():
        cells, start = [], time.process_time()
        for noise in args.noise:
            excesses = []
            for seed in range(args.seeds):
                problem = Problem(seed, noise)
                search(problem, seed + 10**6)  # not the random numbers of the problem
                excesses.append(problem.best[0])
            low, median, high = np.percentile(excesses, [25, 50, 75])
            cells.append(f'{median:.2f} ({low:.2f} to {high:.2f})')
        spent = 1000 * (time.process_time() - start) / (args.seeds * len(args.noise) * TRIALS)
        print(f'| {name} | ' + ' | '.join(cells) + f' | {spent:.1f} |', flush=True)


if __name__ == '__main__':
    main()
