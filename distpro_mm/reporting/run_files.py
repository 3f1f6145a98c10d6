"""Reads the files that a training leaves in its work_dir."""
import dataclasses
import glob
import json
import math
import os
from typing import Any

from distpro.process import DistillationProcess, ProcessError

from ..errors import ConfigError

FACTS = 'run.json'
REPLAYED = 'replayed.json'
SEARCHED = 'process.json'
RESULT = 'result.json'
OF_SEARCH = ('pathways/', 'scheduled/', 'search/')  # scalars beside the losses of the training
TIMES = ('time', 'data_time')


@dataclasses.dataclass(frozen=True)
class Run:
    """The files of a training.

    Args:
        work_dir (str): The folder.
        facts (dict): Content of ``run.json``, see :class:`distpro_mm.engine.ReportHook`; empty for a training without it.
        training (list[dict]): Lines of the log with training losses, with ``iteration``, in order.
        evaluations (list[dict]): Lines of the log with metrics, with ``iteration``, in order.
        process (DistillationProcess, optional): The process of a search, or the weights that a distillation replayed.
        searched (bool): Whether the training is a search.
        result (dict): Content of ``result.json``, which a comparison writes; empty if there is none.
        config (tuple[str, str], optional): Name and text of the config.
    """
    work_dir: str
    facts: dict[str, Any]
    training: list[dict]
    evaluations: list[dict]
    process: DistillationProcess | None
    searched: bool
    result: dict[str, Any]
    config: tuple[str, str] | None

    @property
    def metric(self) -> str | None:
        """str: Name of the metric to show first: top-1, or the first one; None without evaluations."""
        names = list(dict.fromkeys(name for row in self.evaluations for name in row if name != 'iteration'))
        return next((name for name in names if 'top1' in name), names[0] if names else None)

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Iterations and values of a loss or a metric; values that are not finite are left out."""
        found = [(row['iteration'], row[name]) for row in (*self.training, *self.evaluations)
                 if isinstance(row.get(name), (int, float)) and math.isfinite(row[name])]
        return [iteration for iteration, _ in found], [value for _, value in found]

    @property
    def losses(self) -> list[str]:
        """list[str]: Names of the training losses, the total first."""
        names = dict.fromkeys(name for row in self.training for name in row if 'loss' in name)
        return sorted(names, key=lambda name: name != 'loss')


def is_run(folder: str) -> bool:
    """Whether a folder has the files of a training."""
    return os.path.isfile(os.path.join(folder, FACTS)) or bool(_logs(folder))


def read_run(work_dir: str) -> Run:
    """Read the files of a training.

    A resumed training has several logs. ``run.json`` lists those that belong together; without it, the last one is read.

    Args:
        work_dir (str): The folder of the training.

    Raises:
        ConfigError: If the folder has no files of a training.
    """
    facts = read_json(os.path.join(work_dir, FACTS))
    logs = _logs(work_dir)
    listed = facts.get('sessions') or [*logs][-1:]
    if not facts and not logs:
        raise ConfigError(f"'{work_dir}' has no files of a training: neither {FACTS} nor */vis_data/scalars.json")
    training, evaluations = _rows([logs[name] for name in listed if name in logs], facts)
    searched = facts.get('kind') == 'search' if facts else os.path.isfile(os.path.join(work_dir, SEARCHED))
    file = facts.get('process_file', SEARCHED) if searched else REPLAYED
    return Run(work_dir, facts, training, evaluations, _process(os.path.join(work_dir, file)), searched,
               read_json(os.path.join(work_dir, RESULT)), _config(work_dir, facts))


def read_json(path: str) -> dict[str, Any]:
    """The dict in a JSON file; an empty one if the file is missing or damaged."""
    try:
        with open(path) as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _logs(work_dir: str) -> dict[str, str]:
    """Logs of a work_dir by the name of their folder, oldest first."""
    paths = sorted(glob.glob(os.path.join(glob.escape(work_dir), '*', 'vis_data', 'scalars.json')))
    return {path.split(os.sep)[-3]: path for path in paths}


def _rows(logs: list[str], facts: dict) -> tuple[list[dict], list[dict]]:
    """Lines with losses and lines with metrics; a later log replaces the end of an earlier one, which was lost."""
    training: list[dict] = []
    evaluations: list[dict] = []
    for log in logs:
        lines = _lines(log)
        losses = [dict(line, iteration=line['step']) for line in lines if 'loss' in line]
        scale = _iterations_of_epoch(losses, facts)
        metrics = [{**{name: value for name, value in line.items() if name not in (*TIMES, 'step')},
                    'iteration': round(line['step'] * scale)}
                   for line in lines if 'loss' not in line and not any(name.startswith(OF_SEARCH) for name in line)]
        metrics = [row for row in metrics if len(row) > 1]
        for rows, new in ((training, losses), (evaluations, metrics)):
            start = min((row['iteration'] for row in new), default=math.inf)
            rows[:] = [row for row in rows if row['iteration'] < start] + new
    return training, evaluations


def _iterations_of_epoch(losses: list[dict], facts: dict) -> float:
    """Iterations of an epoch, by which the steps of evaluations are counted; 1 if they are counted by iterations."""
    last = losses[-1] if losses else {}
    if 'epoch' not in last:
        return 1
    if facts.get('iterations') and facts.get('epochs'):
        return facts['iterations'] / facts['epochs']
    return last['iteration'] / last['epoch']


def _lines(path: str) -> list[dict]:
    """The lines of a log; a line that was cut by a kill is left out."""
    found = []
    with open(path) as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and 'step' in line:
                found.append(line)
    return found


def _process(path: str) -> DistillationProcess | None:
    try:
        return DistillationProcess.load(path)
    except ProcessError:
        return None


def _config(work_dir: str, facts: dict) -> tuple[str, str] | None:
    """Name and text of the config in the work_dir: the one of ``run.json``, or the newest."""
    paths = sorted(glob.glob(os.path.join(glob.escape(work_dir), '*.py')), key=os.path.getmtime)
    named = [path for path in paths if os.path.basename(path) == facts.get('config')]
    for path in (named or paths)[-1:]:
        with open(path) as file:
            return os.path.basename(path), file.read()
    return None
