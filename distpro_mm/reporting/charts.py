"""Figures of a report: data and layout for plotly, without colours of text and background, which the page sets."""
from collections.abc import Mapping, Sequence

import numpy as np

from distpro.pathways.names import LOGITS, split_teacher
from distpro.process import DistillationProcess

from .parts import Cell, Chart, Map, Table
from .words import factor_name, number, parse_name

# Readable on white and on black, and different for readers with colour deficiencies; dashes repeat the difference.
COLOURS = ('#2f7fd0', '#d9741a', '#2a9d6f', '#c2559d', '#8a7a00', '#7a68d6', '#cf4a4a', '#1d9bb0')
DASHES = ('solid', 'dash', 'dot', 'dashdot', 'longdash', 'longdashdot', 'solid', 'dash')
SYMBOLS = ('circle', 'square', 'diamond', 'cross', 'triangle-up', 'x', 'star', 'hexagon')
KINDS = dict(student='student alone', kd='plain KD', level='level of the weights', logits='weight of the logits',
             shape='rising weights', step='refinement', initial='initial process')  # of trials
OTHERS = '#9aa0a6'
NAMED = len(COLOURS)
POINTS = 101  # of a curve or a map over the training
MAX_POINTS = 1500  # of a curve over iterations
ROWS = 12  # of the table of a curve
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def curves(title: str, unit: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
           x: str = 'iteration', logarithmic: Sequence[str] = (), markers: Sequence[str] = ()) -> Chart:
    """Curves of several values.

    Args:
        title (str): Title of the chart.
        unit (str): Title of the vertical axis.
        lines (Mapping[str, tuple]): By name, positions and values; at least one.
        x (str): Title of the horizontal axis. Defaults to 'iteration'.
        logarithmic (Sequence[str]): Names that make the vertical axis logarithmic if all their values are > 0. Defaults to
            none.
        markers (Sequence[str]): Names whose points are marked. Defaults to none; a single point is always marked.
    """
    data, described, rows = [], [], []
    for place, (name, (positions, values)) in enumerate(lines.items()):
        places = _thinned(len(positions), MAX_POINTS)
        marked = name in markers or len(positions) == 1
        data.append(dict(
            type='scatter', name=name, x=[positions[i] for i in places], y=[values[i] for i in places],
            mode='lines+markers' if marked else 'lines',
            line=dict(color=COLOURS[place % NAMED], dash=DASHES[place % NAMED], width=2)))
        described.append(f'{name}: {number(values[0])} at first, {number(values[-1])} at the end, between '
                         f'{number(min(values))} and {number(max(values))}.')
        rows += [[Cell(name), Cell(f'{positions[i]:,}', float(positions[i])), Cell(number(values[i]), values[i])]
                 for i in _thinned(len(positions), ROWS)]
    positive = logarithmic and all(min(lines[name][1]) > 0 for name in logarithmic)
    layout: dict = dict(xaxis=dict(title=dict(text=x), rangemode='tozero'), yaxis=dict(title=dict(text=unit)))
    if positive:
        values = [value for name in logarithmic for value in lines[name][1]]
        layout['yaxis'].update(type='log', dtick=1 if max(values) > 20 * min(values) else 'D2')
    return Chart(title, dict(data=data, layout=layout), ' '.join(described), Table(title, ['curve', x, unit], rows))


def process_curves(process: DistillationProcess) -> Chart:
    """The weights of a process over the training, heaviest pathways first.

    Args:
        process (DistillationProcess): The process, with at least one knot.
    """
    # The knots too, where the curves have corners.
    progress = sorted({*np.linspace(0, 1, POINTS).round(4).tolist(), *process.progress})
    weights = process.weights_at(progress)
    order = np.argsort(-weights.mean(axis=0), kind='stable')
    data = []
    for rank, index in enumerate(order):
        named = rank < NAMED
        data.append(dict(
            type='scatter', mode='lines', name=str(parse_name(process.names[index])) if named else 'others',
            legendgroup=None if named else 'others', showlegend=rank <= NAMED, x=[round(100 * p, 2) for p in progress],
            y=[float(f'{value:.4g}') for value in weights[:, index]], text=str(parse_name(process.names[index])),
            hovertemplate='%{text}<br>%{x} % of the training: %{y}<extra></extra>',
            line=dict(color=COLOURS[rank] if named else OTHERS, dash=DASHES[rank] if named else 'solid',
                      width=2 if named else 1)))
    layout = dict(xaxis=dict(title=dict(text='progress of the training (%)'), range=[0, 100]),
                  yaxis=dict(title=dict(text='weight'), rangemode='tozero'))
    heaviest = ', '.join(str(parse_name(process.names[index])) for index in order[:3])
    return Chart('Weights over the training', dict(data=data, layout=layout),
                 f'One curve for each pathway. The heaviest on average: {heaviest}.', weights_table(process))


def weights_table(process: DistillationProcess) -> Table:
    """The weights of a process at five shares of the training, heaviest pathway first."""
    weights = process.weights_at(SHARES)
    order = np.argsort(-weights.mean(axis=0), kind='stable')
    rows = [[Cell(str(parse_name(process.names[index]))), *(Cell(number(float(value)), float(value))
                                                             for value in weights[:, index])] for index in order]
    for name, values in zip(process.scheduled, process.scheduled_at(SHARES).T.tolist()):
        rows.append([Cell(factor_name(name)), *(Cell(number(value), value) for value in values)])
    return Table(f'Weights (unit: {process.weighting.unit})', ['pathway', *(f'{share:.0%}' for share in SHARES)], rows)


def process_map(process: DistillationProcess) -> Map:
    """The weights of a process by the layers of teacher and student, for all transforms together and for each.

    Args:
        process (DistillationProcess): The process, with at least one knot.
    """
    names = [parse_name(name) for name in process.names]
    layers = process.layers or {}
    sides = [_layers(layers.get(side, []), [getattr(name, part) for name in names])
             for side, part in (('transmitters', 'teacher'), ('receivers', 'student'))]
    progress = np.linspace(0, 1, POINTS)
    weights = process.weights_at(progress.tolist())
    labels = list(dict.fromkeys(name.transform for name in names if not name.is_logits))
    groups = {'all transforms': names} | ({label: [name for name in names if name.transform == label] for label in labels}
                                          if len(labels) > 1 else {})
    maps = {}
    for label, members in groups.items():
        cells = np.full((len(progress), len(sides[0]), len(sides[1])), np.nan)
        for column, name in enumerate(names):
            if name in members:
                place = slice(None), sides[0].index(name.teacher), sides[1].index(name.student)
                cells[place] = np.nan_to_num(cells[place]) + weights[:, column]
        maps[label] = [[[None if np.isnan(value) else float(f'{value:.4g}') for value in row] for row in table]
                       for table in cells]
    highest = np.unravel_index(weights.argmax(), weights.shape)
    summary = (f'The highest weight is {number(float(weights.max()))}, of {names[highest[1]]}, at '
               f'{progress[highest[0]]:.0%} of the training. Move the slider to see other times.')
    return Map('Weights by layer', sides[0], sides[1], progress.round(4).tolist(), maps, summary, weights_table(process))


def trials(found: Sequence[dict], best: str | None, guessing: float | None) -> Chart:
    """Held-out losses of the trials of a search.

    Args:
        found (Sequence[dict]): For each trial in order, ``kind`` and ``loss``.
        best (str, optional): Kind of the best trial.
        guessing (float, optional): Loss of guessing, drawn as a line.
    """
    data = []
    finite = [(place, trial) for place, trial in enumerate(found, 1) if np.isfinite(trial['loss'])]
    for rank, kind in enumerate(dict.fromkeys(trial['kind'] for trial in found)):
        own = [(place, trial) for place, trial in finite if trial['kind'] == kind]
        data.append(dict(type='scatter', mode='markers', name=KINDS.get(kind, kind), x=[place for place, _ in own],
                         y=[trial['loss'] for _, trial in own], marker=dict(size=10, color=COLOURS[rank % NAMED],
                                                                            symbol=SYMBOLS[rank % len(SYMBOLS)])))
    layout: dict = dict(xaxis=dict(title=dict(text='trial'), dtick=max(1, len(found) // 12)),
                        yaxis=dict(title=dict(text='held-out loss')))
    if guessing is not None and np.isfinite(guessing):
        layout['shapes'] = [dict(type='line', xref='paper', x0=0, x1=1, y0=guessing, y1=guessing,
                                 line=dict(color=OTHERS, dash='dot'))]
        layout['annotations'] = [dict(xref='paper', x=1, y=guessing, xanchor='right', yanchor='bottom', showarrow=False,
                                      text='guessing')]
    rows = [[Cell(str(place), place), Cell(KINDS.get(trial['kind'], trial['kind'])),
             Cell('yes' if trial.get('confirms') else ''),
             Cell(number(trial['loss']) if np.isfinite(trial['loss']) else 'diverged', float(trial['loss']))]
            for place, trial in enumerate(found, 1)]
    lowest = min(finite, key=lambda entry: entry[1]['loss'], default=None)
    summary = f'{len(found)} trials; {len(found) - len(finite)} diverged.'
    if lowest:
        summary += (f' The lowest held-out loss is {number(lowest[1]["loss"])}, of trial {lowest[0]} '
                    f'({KINDS.get(lowest[1]["kind"], lowest[1]["kind"])}).')
    if best:
        summary += f' The result of the search is of the kind {KINDS.get(best, best)}.'
    return Chart('Trials of the search', dict(data=data, layout=layout), summary,
                 Table('Trials', ['trial', 'kind', 'repeats an earlier one', 'held-out loss'], rows))


def _layers(listed: Sequence[str], named: Sequence[str]) -> list[str]:
    """Layers of a side from shallow to deep, logits last."""
    found = [*dict.fromkeys([*listed, *named])]
    return sorted(found, key=lambda layer: split_teacher(layer)[1] == LOGITS)


def _thinned(count: int, most: int) -> list[int]:
    """At most ``most`` places of ``count``, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
