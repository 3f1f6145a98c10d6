"""Processes: those of the library by name, and process files by path."""
from collections.abc import Sequence

from mmengine.config import Config

from distpro.errors import ProcessError
from distpro.process import DistillationProcess, average_processes, library, load_process, map_process

from ..engine.launch import build_pathways
from ..reporting.figures import check_picture, draw_process
from ..reporting.processes import difference_rows, library_rows, origin_rows, weight_rows
from ..reporting.table import markdown


def list_processes() -> None:
    """Print the processes that can be used by name."""
    print(markdown(library_rows({name: load_process(name) for name in library()})))


def show(source: str, png: str | None = None) -> None:
    """Print where a process comes from, and its weights.

    Args:
        source (str): Name or path of the process.
        png (str, optional): Draw the weights to this file. Defaults to None.

    Raises:
        ProcessError: If it cannot be read.
        ConfigError: If the file is of no kind of picture.
    """
    if png:
        check_picture(png)
    process = load_process(source)
    print(markdown(origin_rows(process)), markdown(weight_rows(process)), sep='\n\n')
    if png:
        draw_process(process, png, source)


def diff(source: str, other: str) -> None:
    """Print the weights of two processes, at the depths of the first.

    Raises:
        ProcessError: If one cannot be read, or their units differ.
    """
    first, second = load_process(source), load_process(other)
    if first.weighting.unit != second.weighting.unit:
        raise ProcessError(f"'{source}' has weights in the unit '{first.weighting.unit}' and '{other}' in "
                           f"'{second.weighting.unit}', which cannot be compared")
    print(markdown(difference_rows(first, map_process(second, first.names, first.layers))))


def convert(source: str, cfg: Config, out: str) -> None:
    """Map a process to the pathways of a config by depth, and write it to a file.

    Raises:
        ArgumentError: If the process cannot be read, or the config has no pathways.
    """
    process = load_process(source)
    grid = build_pathways(cfg).distiller.grid
    map_process(process, grid.names, grid.layer_names).save(out)
    print(f'wrote {out}: {len(grid.names)} pathways')


def average(sources: Sequence[str], out: str, layers: int = 4, knots: int = 4) -> None:
    """Write the mean of several processes over relative depths.

    Args:
        sources (Sequence[str]): Names or paths of the processes.
        out (str): The file to write.
        layers (int): Layers of teacher and student, >= 2. Defaults to 4.
        knots (int): Points of the training, >= 2. Defaults to 4.

    Raises:
        ProcessError: If one cannot be read, or a number is out of range.
    """
    process: DistillationProcess = average_processes([load_process(source) for source in sources], layers, knots)
    process.origin = dict(average_of=list(sources))
    process.save(out)
    print(f'wrote {out}: the mean of {len(sources)} processes')
