"""Figures of finished runs."""
import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from distpro.files import atomic_write
from distpro.process import DistillationProcess

from ..errors import ConfigError
from .table import budgets_of, compute, runs_of

MAX_POINTS = 400  # points per line; more are slower to draw, without visible difference
NAMED = 12  # maximum number of lines in the legend


def draw_process(process: DistillationProcess, path: str, title: str = '') -> None:
    """Plot the weights of a process against training progress, one line per pathway.

    Args:
        process (DistillationProcess): The process, with at least one knot.
        path (str): The PNG to write.
        title (str): Title of the figure. Defaults to none.
    """
    progress, weights = np.array(process.progress), process.weights
    order = np.argsort(-weights.mean(axis=0))
    if len(progress) > MAX_POINTS:
        points = np.linspace(0, len(progress) - 1, MAX_POINTS).round().astype(int)
        progress, weights = progress[points], weights[points]
    figure = Figure(figsize=(9, 4.5), layout='constrained')  # without pyplot, which has global state
    axes = figure.subplots()
    colours = matplotlib.colormaps['turbo'](np.linspace(0.05, 0.95, len(order)))
    for rank, index in enumerate(order):
        axes.plot(progress, weights[:, index], lw=1.8, color=colours[rank], marker='o' if len(progress) == 1 else None,
                  label=process.names[index] if rank < NAMED else None)
    axes.set(xlabel='progress of the run', ylabel='weight', xlim=(0, 1), title=title)
    axes.set_ylim(bottom=min(0, weights.min()))
    axes.grid(alpha=0.3)
    unlabelled = len(order) - NAMED
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False,
                title='pathways, heaviest first' + (f'\n(and {unlabelled} more)' if unlabelled > 0 else ''),
                title_fontsize=8)
    save_figure(figure, path)


def check_picture(path: str) -> None:
    """Refuse a name whose ending is of no kind of picture."""
    known = Figure().canvas.get_supported_filetypes()
    if os.path.splitext(path)[1][1:].lower() not in known:
        raise ConfigError(f"'{path}' is no name of a picture: end it with .png, or with one of {', '.join(known)}")


def save_figure(figure, path: str) -> None:
    """Write a PNG atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def draw_accuracy(results: Sequence[dict], methods: Sequence[str], path: str) -> None:
    """Plot accuracy against epochs and against compute, one line per method.

    If there are many methods, the legend has those with several budgets and then the best; the others are grey.

    Args:
        results (Sequence[dict]): Results of finished runs.
        methods (Sequence[str]): Methods in the order of the legend.
        path (str): The PNG to write.
    """
    figure = Figure(figsize=(13, 5), layout='constrained')
    axes = figure.subplots(1, 2, sharey=True)
    found = {}
    for name in methods:
        points = []
        for budget in budgets_of(results, name):
            runs = runs_of(results, name, budget)
            values = np.array([run['accuracy'] for run in runs])
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
            points.append((runs[0]['epochs'], compute(results, name, budget), values.mean(), error))
        if points:
            found[name] = points
    first = sorted(found, key=lambda name: (len(found[name]) > 1, found[name][-1][2]), reverse=True)[:NAMED]
    colours = iter(matplotlib.colormaps['turbo'](np.linspace(0.05, 0.95, max(len(first), 2))))
    for name, points in found.items():
        look = dict(color=next(colours), label=name) if name in first else dict(color='silver', zorder=1)
        epochs, spent, means, errors = zip(*points)
        for axis, places in zip(axes, (epochs, spent)):
            axis.errorbar(places, means, errors, marker='o', ms=4, lw=1.5, capsize=2, **look)
    axes[0].set(xlabel='epochs of the run, each with its own schedule', ylabel='top-1 (%), mean and standard error')
    axes[1].set(xlabel='compute (seconds of all cores), search included')
    for axis in axes:
        axis.grid(alpha=0.3)
    unlabelled = len(found) - len(first)
    axes[1].legend(loc='center left', bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False, title_fontsize=8,
                   title=f'(and {unlabelled} more)' if unlabelled else None)
    save_figure(figure, path)
