"""Figures of the report of a comparison."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from .charts import COLOURS, DASHES, NAMED, OTHERS, SYMBOLS
from .parts import Cell, Chart, Table
from .table import accuracies, budgets_of, compute, paired_difference, runs_of

ROW = 26  # pixels of a method in the chart of differences
SPAN = 8.0  # ratio of the largest to the smallest compute from which the axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Point:
    """A method at a budget.

    Args:
        name (str): The method.
        epochs (int): Epochs of its runs.
        compute (float): Seconds of a run, with its search.
        accuracy (float): Mean top-1 in % over seeds.
        error (float): Standard error; 0 for a single run.
    """
    name: str
    epochs: int
    compute: float
    accuracy: float
    error: float


def points_of(results: Sequence[dict], name: str) -> list[Point]:
    """A method at each of its budgets, in ascending order; without budgets whose compute is not known."""
    found = []
    for budget in budgets_of(results, name):
        runs = runs_of(results, name, budget)
        values = np.array([run['accuracy'] for run in runs])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.
        point = Point(name, runs[0]['epochs'], compute(results, name, budget), float(values.mean()), float(error))
        if np.isfinite(point.compute) and point.compute > 0:
            found.append(point)
    return found


def on_frontier(points: Sequence[Point]) -> list[Point]:
    """The points for which no other one has at least the accuracy for less compute, or more for the same."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.compute, -point.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def frontier(results: Sequence[dict], methods: Sequence[str]) -> Chart:
    """Accuracy against compute, a curve for each method over its budgets, and the frontier.

    Methods that use a search and have several budgets are named first, then those on the frontier, then the most accurate
    ones; the others are grey.

    Args:
        results (Sequence[dict]): Results of finished runs.
        methods (Sequence[str]): Names of methods with results.
    """
    found = {name: points for name in methods if (points := points_of(results, name))}
    everything = [point for points in found.values() for point in points]
    best = on_frontier(everything)
    searched = {run['name'] for run in results if run['after'] and len(found.get(run['name'], ())) > 1}
    order = sorted(found, key=lambda name: (name not in searched, name not in {point.name for point in best},
                                            -found[name][-1].accuracy))
    data: list[dict] = []
    if best:
        data.append(dict(type='scatter', mode='lines', name='frontier', x=[point.compute for point in best],
                         y=[point.accuracy for point in best], line=dict(shape='hv', color=OTHERS, width=6),
                         opacity=0.4, hoverinfo='skip'))
    for rank, name in enumerate(order):
        points, named = found[name], rank < NAMED
        data.append(dict(
            type='scatter', mode='lines+markers', name=name if named else 'others', showlegend=rank <= NAMED,
            legendgroup=None if named else 'others', x=[point.compute for point in points],
            y=[point.accuracy for point in points], text=[f'{name}, {point.epochs} epochs' for point in points],
            error_y=dict(type='data', array=[point.error for point in points], thickness=1),
            hovertemplate='%{text}<br>%{x:.0f} s: %{y:.2f} %<extra></extra>',
            marker=dict(size=8, symbol=SYMBOLS[rank % len(SYMBOLS)], color=COLOURS[rank] if named else OTHERS),
            line=dict(width=2 if named else 1, color=COLOURS[rank] if named else OTHERS,
                      dash=DASHES[rank] if named else 'solid')))
    spent = [point.compute for point in everything]
    scale = dict(type='log', dtick='D2') if max(spent, default=0) > SPAN * min(spent, default=0) else {}
    layout = dict(xaxis=dict(title=dict(text='compute (s), search included'), **scale),
                  yaxis=dict(title=dict(text='top-1 (%), mean and standard error')))
    rows = [[Cell(point.name), Cell(str(point.epochs), point.epochs), Cell(f'{point.compute:,.0f}', point.compute),
             Cell(f'{point.accuracy:.2f}', point.accuracy), Cell('yes' if point in best else '')] for point in everything]
    listed = ', '.join(f'{point.name} ({point.compute:,.0f} s, {point.accuracy:.2f}%)' for point in best)
    title = 'Accuracy against compute'
    return Chart(title, dict(data=data, layout=layout), f'On the frontier: {listed or "nothing"}.',
                 Table(title, ['method', 'epochs', 'compute (s)', 'top-1 (%)', 'on the frontier'], rows))


def differences(results: Sequence[dict], methods: Sequence[str], reference: str) -> Chart:
    """Differences to the reference, paired by seed, with the 95% interval.

    Args:
        results (Sequence[dict]): Results of finished runs.
        methods (Sequence[str]): Names of methods with results, without the reference.
        reference (str): The reference, with results.
    """
    base = accuracies(results, reference)
    found = {name: paired for name in methods if (paired := paired_difference(accuracies(results, name), base))}
    names = sorted(found, key=lambda name: found[name][0])
    means, lower, upper = (np.array([found[name][place] for name in names]) for place in range(3))
    data = [dict(type='scatter', mode='markers', x=means.tolist(), y=names, showlegend=False,
                 marker=dict(size=9, color=COLOURS[0]),
                 error_x=dict(type='data', symmetric=False, array=np.nan_to_num(upper - means).tolist(),
                              arrayminus=np.nan_to_num(means - lower).tolist(), thickness=2, color=COLOURS[0]),
                 hovertemplate='%{y}: %{x:+.2f}<extra></extra>')]
    layout = dict(xaxis=dict(title=dict(text=f'points against {reference}'), zeroline=True, zerolinewidth=2,
                             rangemode='tozero'),
                  yaxis=dict(automargin=True, type='category'), height=110 + ROW * len(names))
    above = [name for name in names[::-1] if found[name][1] > 0]
    below = [name for name in names if found[name][2] < 0]
    summary = (f'The interval is above {reference}: {", ".join(above) or "none"}; below: {", ".join(below) or "none"}; the '
               'others include it.')
    return Chart(f'Difference to {reference}', dict(data=data, layout=layout), summary)
