"""Figure and page of the results of ``benchmarks/step_cost.py``."""
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from distpro_mm.reporting.figures import save_figure
from distpro_mm.reporting.table import markdown


def draw(rows: Sequence[dict], path: str) -> None:
    """Plot seconds per step as bars, and against the number of pathways."""
    figure = Figure(figsize=(12, 4.8), layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = [row for row in rows if row['section'] == 'step']
    places = np.arange(len(steps))[::-1]
    medians = np.array([row['seconds'] for row in steps])
    spread = np.abs(np.array([[row['fastest'], row['slowest']] for row in steps]).T - medians)
    left.barh(places, medians, xerr=spread, color='tab:blue', ecolor='0.4')
    left.set_yticks(places, [row['variant'] for row in steps])
    left.set(xlabel='seconds a step (median; lines: fastest and slowest)',
             xlim=(0, 1.2 * max(row['slowest'] for row in steps)))
    for place, row in zip(places, steps):
        left.text(row['slowest'] + 0.01 * medians.max(), place, f" {row['ratio']:.2f} x equal", va='center', fontsize=8)
    growth = [row for row in rows if row['section'].startswith('growth')]
    for variant in dict.fromkeys(row['variant'] for row in growth):
        points = [(int(row['section'].split()[1]), row['seconds']) for row in growth if row['variant'] == variant]
        right.plot(*zip(*points), marker='o', label=variant)
    right.set(xlabel='pathways', ylabel='seconds a step', xlim=(0, None), ylim=(0, None))
    right.legend(frameon=False)
    right.grid(alpha=0.3)
    save_figure(figure, path)


def table(rows: Sequence[dict], columns: dict[str, str]) -> str:
    """Markdown table of the given columns with the given titles."""
    return markdown([list(columns.values()), *([str(row.get(column, '')) for column in columns] for row in rows)])


def page(rows: Sequence[dict], where: str) -> str:
    """Page of results in Markdown, without comments on them."""
    columns = dict(variant='training', seconds='seconds a step', fastest='fastest', slowest='slowest', ratio='ratio',
                   images_a_second='images a second', peak_mb='peak memory (MB)')
    growth = [{**row, 'pathways': row['section'].split()[1]} for row in rows if row['section'].startswith('growth')]
    return '\n\n'.join([
        '# What a step costs', f'Written by {where}',
        'Seconds are medians over the rounds, in which all trainings take turns in one process. The ratio is the median of '
        "each round's ratio to the training with all pathways at equal weights. Memory is what a step asks of torch's "
        'allocator at its peak, beyond weights and optimiser.', '![Seconds a step](step_cost.png)',
        table([row for row in rows if row['section'] == 'step'], columns),
        '## Switches', table([row for row in rows if row['section'] == 'switches'], columns),
        '## Growth with the number of pathways',
        table(growth, dict(pathways='pathways', **{key: value for key, value in columns.items()})),
        '## Loading',
        table([row for row in rows if row['section'] == 'loading'],
              dict(variant='data', seconds='seconds for 100 batches', images_a_second='images a second'))]) + '\n'
