"""The weights of the pathways as scalars of the visualizer."""
import re

from distpro.pathways import PathwayGrid

REFUSED = re.compile(r'[^\w\-. :/]')  # by MLflow in the name of a scalar


def scalar_name(pathway: str) -> str:
    """str: The name of a pathway's weight among the scalars: ``pathways/<transmitter> to <receiver>:<transform>``.

    Args:
        pathway (str): The pathway's name.
    """
    return REFUSED.sub('_', f'pathways/{pathway.replace(">", " to ")}')


def log_weights(runner, grid: PathwayGrid) -> None:
    """Log the weights in force to the visualizer, and what else is scheduled under ``scheduled/<name>``.

    Args:
        runner (Runner): The runner, whose present iteration is the step, from 1.
        grid (PathwayGrid): The pathways.
    """
    scalars = dict(zip(map(scalar_name, grid.names), grid.weights().tolist()))
    scalars.update({f'scheduled/{name}': float(grid.scheduled_value(name)) for name in grid.scheduled})
    runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
