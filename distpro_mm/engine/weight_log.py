"""The weights of the pathways as scalars of the visualizer."""
from distpro.pathways import PathwayGrid


def log_weights(runner, grid: PathwayGrid) -> None:
    """Log the weights in force to the visualizer, under ``pathways/<name>``.

    Args:
        runner (Runner): The runner, whose present iteration is the step, from 1.
        grid (PathwayGrid): The pathways.
    """
    weights = dict(zip(grid.names, grid.weights().tolist()))
    runner.visualizer.add_scalars({f'pathways/{name}': weight for name, weight in weights.items()}, step=runner.iter + 1)
