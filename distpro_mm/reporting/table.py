"""Tables of a benchmark's results."""
import csv
from typing import Dict, List, Sequence

import numpy as np


def accuracies(results: Sequence[dict], name: str) -> Dict[int, float]:
    """Accuracy in % by seed of one method."""
    return {result['seed']: result['accuracy'] for result in results if result['name'] == name}


def comparison_table(results: Sequence[dict], methods: Sequence[str], reference: str) -> str:
    """Markdown table of methods: mean and spread over seeds, and the paired difference to one of them.

    Args:
        results (Sequence[dict]): Results of finished runs, with 'name', 'seed', 'accuracy', 'epochs' and 'seconds'.
        methods (Sequence[str]): Methods in the order of the rows; those without results are left out.
        reference (str): The method that the others are compared with.

    Returns:
        str: The table. "+-" is the standard deviation over seeds; of the difference it is the standard error of the
        mean of the differences between runs of the same seed.
    """
    rows: List[List[str]] = [['method', 'top-1 (%)', f'against {reference}', 'runs', 'epochs', 'seconds a run']]
    base = accuracies(results, reference)
    for name in methods:
        found = accuracies(results, name)
        if not found:
            continue
        runs = [result for result in results if result['name'] == name]
        values = np.array(list(found.values()))
        paired = np.array([found[seed] - base[seed] for seed in found if seed in base])
        difference = ''
        if name != reference and len(paired):
            difference = f'{paired.mean():+.2f}'
            if len(paired) > 1:
                difference += f' +- {paired.std(ddof=1) / np.sqrt(len(paired)):.2f}'
        spread = f' +- {values.std(ddof=1):.2f}' if len(values) > 1 else ''
        rows.append([name, f'{values.mean():.2f}{spread}', difference if name != 'teacher' else '', str(len(values)),
                     str(runs[0]['epochs']), f'{np.median([run["seconds"] for run in runs]):.1f}'])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows]
    lines.insert(1, '| ' + ' | '.join('-' * width for width in widths) + ' |')
    return '\n'.join(lines)


def write_csv(results: Sequence[dict], path: str) -> None:
    """Write every run's result as a line of a CSV file."""
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, ['name', 'seed', 'accuracy', 'epochs', 'iterations', 'seconds'], extrasaction='ignore')
        writer.writeheader()
        writer.writerows(results)
