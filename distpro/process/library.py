"""The library of processes: those that come with the package, and a user's own."""
import os
import pathlib
from collections.abc import Sequence

from ..checks import FLAG, check_choice, check_that, nearest
from ..errors import ProcessError
from ..files import nearest_path
from .average import one_transform
from .process import DistillationProcess
from .teacher_parts import parsed
from .transfer import map_process

SHIPPED = pathlib.Path(__file__).parent / 'shipped'
OWN = 'DISTPRO_PROCESSES'  # environment variable: folders of a user's own processes, separated by os.pathsep

ProcessLike = str | os.PathLike | dict | DistillationProcess


def library() -> dict[str, str]:
    """Processes that can be used by name.

    Returns:
        dict[str, str]: Name -> file, sorted: the processes of the package, then those in the folders of the environment
            variable ``DISTPRO_PROCESSES``. A name is the file's path in its folder without ``.json``, such as 'general'.

    Raises:
        ProcessError: If a folder does not exist, or two processes have the same name.
    """
    found: dict[str, str] = {}
    for folder in [SHIPPED, *map(pathlib.Path, filter(None, os.environ.get(OWN, '').split(os.pathsep)))]:
        if not folder.is_dir():
            raise ProcessError(f"{OWN} in the environment names '{folder}', which is not a folder: correct or unset it")
        for file in sorted(folder.rglob('*.json')):
            name = file.relative_to(folder).with_suffix('').as_posix()
            if name in found:
                raise ProcessError(f"two processes have the name '{name}': {found[name]} and {file}; rename the file in the "
                                   f'folder of {OWN}')
            found[name] = str(file)
    return found


def load_process(source: str | os.PathLike) -> DistillationProcess:
    """Read a process by its name in the library or by the path of its file.

    Args:
        source (str or os.PathLike): A name in :func:`library`, or else a path. A file that has the name of a process is
            './NAME'.

    Raises:
        ProcessError: If there is none, or it cannot be read.
    """
    return _load(os.fspath(source))[0]


def _load(source: str) -> tuple[DistillationProcess, bool]:
    """A process, and whether it is of the library."""
    known = library()
    if source not in known and not os.path.exists(source):
        hint = nearest(source, known) or nearest_path(source)
        raise ProcessError(f"there is no process file '{source}'{hint}: run the search first (it writes process.json to its "
                           f'work_dir), correct the path, or use one that comes by name: {", ".join(known)}')
    return DistillationProcess.load(known.get(source, source)), source in known


def fit_process(source: ProcessLike, names: Sequence[str], layers: dict[str, list[str]] | None = None,
                unit: str = 'variance', transfer: bool = False, where: str = 'these networks',
                instead: str = '') -> DistillationProcess:
    """A process for the pathways of a pair.

    Args:
        source (str, os.PathLike, dict or DistillationProcess): A name in :func:`library`, which is always mapped to the
            pathways by depth; the path of a process file, or a process; or the arguments of
            :meth:`DistillationProcess.by_hand`.
        names (Sequence[str]): Names of the pathways [N].
        layers (dict[str, list[str]], optional): As in :func:`map_process`.
        unit (str): Unit of weights that are given by hand without one. Defaults to 'variance'.
        transfer (bool): Whether a process of other pathways is mapped to these by depth. Defaults to False: refuse it.
        where (str): Name of the pair in errors. Defaults to 'these networks'.
        instead (str): Further advice for the error about a process of other pathways. Defaults to none.

    Raises:
        ProcessError: If it cannot be read or does not fit.
    """
    check_choice('transfer', transfer, FLAG)
    check_that('process', source, isinstance(source, ProcessLike), 'a name of the library such as '
               "'general', a file, a DistillationProcess, or dict(progress=..., weights=...)", ProcessError)
    if isinstance(source, dict):
        return DistillationProcess.by_hand(names, **{'unit': unit, **source})
    process, known = (source, False) if isinstance(source, DistillationProcess) else _load(os.fspath(source))
    if known and _transforms(process.names, 'the process') != _transforms(names, where):
        process = one_transform(process)  # which serves all transforms of the pair
    if transfer or known:
        return map_process(process, names, layers)
    return process.reorder(names, where, instead)


def _transforms(names: Sequence[str], whose: str) -> set[str]:
    """Labels of the transforms of pathways between maps."""
    parts = [parsed(name, whose) for name in names]
    return {part.transform for part in parts if not part.is_logits}
