"""Tables of a benchmark's results."""
import csv
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10000


def runs_of(results: Sequence[dict], name: str, budget: float | None = None) -> list[dict]:
    """The runs of one method, of all budgets or of one; without trials of settings."""
    return [result for result in results
            if result['name'] == name and budget in (None, result['budget']) and not result['tuning']]


def budgets_of(results: Sequence[dict], name: str) -> list[float]:
    """The budgets of a method's runs, in ascending order."""
    return sorted({run['budget'] for run in runs_of(results, name)})


def accuracies(results: Sequence[dict], name: str, budget: float | None = None) -> dict[int, float]:
    """Accuracy in % by seed of one method, at one budget or at its largest."""
    if budget is None:
        budget = max(budgets_of(results, name), default=1)
    return {run['seed']: run['accuracy'] for run in runs_of(results, name, budget)}


def paired_difference(mine: dict[int, float], other: dict[int, float]) -> tuple[float, float, float] | None:
    """Mean difference between runs of the same seed, with the 95% interval of a bootstrap over seeds.

    Args:
        mine (dict): Accuracy by seed.
        other (dict): Accuracy by seed of the compared method.

    Returns:
        tuple: Mean, lower and upper bound; the bounds are NaN for a single pair. None without a common seed.
    """
    pairs = np.array([mine[seed] - other[seed] for seed in mine if seed in other])
    if not len(pairs):
        return None
    if len(pairs) == 1:
        return float(pairs[0]), float('nan'), float('nan')
    draws = np.random.RandomState(0).randint(0, len(pairs), (RESAMPLES, len(pairs)))
    lower, upper = np.percentile(pairs[draws].mean(axis=1), [2.5, 97.5])
    return float(pairs.mean()), float(lower), float(upper)


def compute(results: Sequence[dict], name: str, budget: float) -> float:
    """Median seconds of all cores (or of the GPU) of a run, including the stage that it needs."""
    runs = runs_of(results, name, budget)
    stages = [stage['compute'] for after in {run['after'] for run in runs} for stage in runs_of(results, after)]
    return float(np.nanmedian([run['compute'] for run in runs]) + (np.nanmedian(stages) if stages else 0))


def comparison_table(results: Sequence[dict], methods: Sequence[str], reference: str) -> str:
    """Markdown table of methods at their largest budget.

    Args:
        results (Sequence[dict]): Results of finished runs, see :func:`distpro_mm.comparison.training.train_job`.
        methods (Sequence[str]): Methods in the order of the rows; those without results are left out.
        reference (str): The method that the others are compared with.

    Returns:
        str: The table. "+-" is the standard deviation over seeds. The difference is paired by seed, with the 95%
        interval of a bootstrap over seeds. Both are of the accuracy after the last epoch. If runs were evaluated more
        than once, the mean over seeds of the largest accuracy stands beside it.
    """
    several = any(result.get('best') is not None for result in results)
    rows: list[list[str]] = [['method', 'top-1 (%)', *(['best epoch (%)'] if several else []), f'against {reference}',
                              '95% interval', 'runs', 'epochs', 'compute (s)', 'with stage (s)']]
    base = accuracies(results, reference)
    for name in methods:
        found = accuracies(results, name)
        if not found:
            continue
        budget = budgets_of(results, name)[-1]
        runs = runs_of(results, name, budget)
        values = np.array(list(found.values()))
        paired = paired_difference(found, base) if name not in (reference, 'teacher') else None
        spread = f' +- {values.std(ddof=1):.2f}' if len(values) > 1 else ''
        alone = float(np.nanmedian([run['compute'] for run in runs]))
        best = [run['best'] for run in runs if run.get('best') is not None]
        cell = f'{np.mean(best):.2f}' if len(best) == len(runs) else ''
        rows.append([name, f'{values.mean():.2f}{spread}', *([cell] if several else []),
                     f'{paired[0]:+.2f}' if paired else '',
                     f'{paired[1]:+.2f} to {paired[2]:+.2f}' if paired and len(values) > 1 else '', str(len(values)),
                     str(runs[0]['epochs']), f'{alone:.0f}',
                     f'{compute(results, name, budget):.0f}' if runs[0]['after'] else ''])
    return markdown(rows)


def budgets_table(results: Sequence[dict], methods: Sequence[str]) -> str:
    """Markdown table of mean accuracies by budget, each with its own learning-rate schedule."""
    budgets = sorted({result['budget'] for result in results if not result['tuning'] and result['budget'] <= 1})
    rows = [['method', *(f'{budget:.0%} of the epochs' for budget in budgets)]]
    for name in methods:
        found = [accuracies(results, name, budget) for budget in budgets]
        if any(found):
            rows.append([name, *(f'{np.mean(list(values.values())):.2f}' if values else '' for values in found)])
    return markdown(rows)


def reach_table(results: Sequence[dict], methods: Sequence[str], rivals: Sequence[str]) -> str:
    """Markdown table of the epochs and compute to reach each rival's final accuracy.

    For each method, the smallest budget whose mean accuracy is at least the rival's at its largest budget: the share of
    the epochs, and the compute including the search, divided by the rival's.
    """
    rows = [['to reach', 'its top-1 (%)', *methods]]
    for rival in rivals:
        goal = accuracies(results, rival)
        if not goal:
            continue
        mean = np.mean(list(goal.values()))
        row = [rival, f'{mean:.2f}']
        spent = compute(results, rival, budgets_of(results, rival)[-1])
        for name in methods:
            enough = [budget for budget in budgets_of(results, name)
                      if np.mean(list(accuracies(results, name, budget).values())) >= mean]
            row.append(f'{enough[0]:.0%} of the epochs, {compute(results, name, enough[0]) / spent:.2f} x the compute'
                       if enough else 'not reached')
        rows.append(row)
    return markdown(rows)


def choices_table(choices: Sequence[dict]) -> str:
    """Markdown table of the tried settings with their accuracies on held-out images, the choice, and what was added."""
    rows = [['method', 'settings tried', 'top-1 on held-out images (%)', 'chosen', 'note']]
    for choice in choices:
        settings = ', '.join(f'{option} = {f"{value:.6g}" if isinstance(value, float) else value}'
                             for option, value in choice['settings'].items())
        rows.append([choice['method'], settings, f'{choice["accuracy"]:.2f}', 'yes' if choice['chosen'] else '',
                     choice['note']])
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; the first row has the titles."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows]
    lines.insert(1, '| ' + ' | '.join('-' * width for width in widths) + ' |')
    return '\n'.join(lines)


def write_csv(results: Sequence[dict], path: str) -> None:
    """Write a CSV file with one line per run."""
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, ['name', 'seed', 'budget', 'accuracy', 'best', 'epochs', 'iterations', 'seconds',
                                       'compute', 'after', 'settings'], extrasaction='ignore')
        writer.writeheader()
        writer.writerows(results)
