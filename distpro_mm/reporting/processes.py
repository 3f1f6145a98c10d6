"""Rows of the tables that describe processes."""
import numpy as np

from distpro.process import DistillationProcess

from .words import factor_name

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def library_rows(processes: dict[str, DistillationProcess]) -> list[list[str]]:
    """A row for each process: name, number of pathways, and where it comes from.

    Args:
        processes (dict[str, DistillationProcess]): The processes by name.
    """
    rows = [['name', 'pathways', 'data', 'teacher', 'student', 'epochs']]
    for name, process in processes.items():
        origin = {**process.origin, **process.origin.get('source', {})}
        rows.append([name, str(len(process.names)), *[str(origin.get(key, '')) for key in
                                                      ('data', 'teacher', 'student', 'epochs')]])
    return rows


def origin_rows(process: DistillationProcess) -> list[list[str]]:
    """A row for each entry of a process's origin; the trials of a search in one row."""
    rows = [['origin', '']]
    for key, value in process.origin.items():
        if key == 'trials':
            value = ', '.join(f'{trial["kind"]} {trial["loss"]:.3g}' for trial in value)
        if isinstance(value, dict):
            rows += [[f'{key}: {name}', str(entry)] for name, entry in value.items()]
        else:
            rows.append([key, ', '.join(map(str, value)) if isinstance(value, list) else str(value)])
    return rows


def weight_rows(process: DistillationProcess) -> list[list[str]]:
    """Rows of a process at five shares of the training: its pathways, the heaviest first, and what else is scheduled."""
    weights = process.weights_at(SHARES)
    order = np.argsort(-weights.mean(axis=0), kind='stable')
    return [[f'pathway (unit {process.weighting.unit})', *[f'{share:.0%}' for share in SHARES]],
            *[[process.names[index], *[f'{weight:.3g}' for weight in weights[:, index]]] for index in order],
            *[[factor_name(name), *[f'{value:.3g}' for value in values]]
              for name, values in zip(process.scheduled, process.scheduled_at(SHARES).T)]]


def difference_rows(process: DistillationProcess, other: DistillationProcess) -> list[list[str]]:
    """A row for each pathway with both processes' weights at five shares of the training, first > second.

    Args:
        process (DistillationProcess): A process.
        other (DistillationProcess): A process of the same pathways in the same order.
    """
    both = process.weights_at(SHARES), other.weights_at(SHARES)
    return [['pathway', *[f'{share:.0%}' for share in SHARES]],
            *[[name, *[f'{first:.3g} > {second:.3g}' for first, second in zip(both[0][:, index], both[1][:, index])]]
              for index, name in enumerate(process.names)]]
