import contextlib
import os.path as osp
import time
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS

from distpro.errors import first_line
from distpro.files import write_json
from distpro.process import DistillationProcess
from distpro.weighting import Weighting

from ...config_types import name_of
from ...models import DistPro, TapDistill
from ...models.cost import pathway_costs, teacher_cost
from ...reporting.report import ReportError, write_report
from ...reporting.run_files import FACTS, REPLAYED, read_json
from ..provenance import command, origin
from ..search import Search
from ..unwrap import unwrap
from .process_record_hook import ProcessRecordHook
from .process_replay_hook import ProcessReplayHook

KNOTS = 201  # of a replayed process in its file


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes ``report.html`` to the work_dir at the end of a training, and ``run.json``, which the report reads.

    The report has accuracy, losses, the process as curves and as a map, the cost, the config and versions. It needs plotly
    and jinja2 (``pip install 'distpro_mm[report]'``). If one is missing, or the report cannot be written, a line of the log
    says so, and the training is not affected. ``tools/report.py WORK_DIR`` writes the report later.

    ``run.json`` has the provenance of the training (:func:`.provenance.origin`), ``kind`` ('search', 'distillation' or
    'training'), ``command``, ``device``, ``sessions`` (the log folders that belong to it), ``seconds`` (of this process,
    from iteration ``first_iteration`` on), ``complete``, ``process_file`` of a search, ``replayed`` (arguments of a
    :class:`.ProcessReplayHook`), and ``costs``: estimated costs in training steps of the student alone, of ``teacher`` and
    ``pathways``, if there is one process. A distillation that replays a process also writes its weights at 201 points to
    ``replayed.json``.

    ``tools/train.py`` and :func:`.build_trainer` add this hook to every training.
    """
    priority = 'BELOW_NORMAL'  # before TrainingWatchHook, which may raise an error after the training

    def __init__(self) -> None:
        self._facts: dict = {}
        self._started = 0.0

    @master_only
    def before_train(self, runner) -> None:
        """Write ``run.json``, so that an interrupted training has it too."""
        self._started = time.time()
        with _only_warns(runner):
            sessions = [runner.timestamp]
            if runner._resume:
                before = read_json(osp.join(runner.work_dir, FACTS)).get('sessions', [])
                sessions = [*(name for name in before if name != runner.timestamp), runner.timestamp]
            searches = isinstance(runner.train_loop, Search)
            kind = 'search' if searches else 'distillation' if hasattr(unwrap(runner.model), 'teacher') else 'training'
            self._facts = dict(
                origin(runner), kind=kind, dataset=_dataset(runner.cfg), command=command(), device=_device(),
                sessions=sessions, first_iteration=runner.iter, complete=False)
            for hook in runner.hooks:
                if isinstance(hook, ProcessRecordHook):
                    self._facts['process_file'] = hook.filename
                if isinstance(hook, ProcessReplayHook):
                    given = hook.process if isinstance(hook.process, str) else 'a hand-tuned schedule'
                    self._facts['replayed'] = dict(process=given, ablation=hook.ablation, skip_below=hook.skip_below)
            self._write(runner)

    @master_only
    def after_run(self, runner) -> None:
        """Write ``run.json``, ``replayed.json`` and the report."""
        with _only_warns(runner):
            # A search in rounds knows its length only now.
            self._facts.update(seconds=time.time() - self._started, epochs=runner.max_epochs, iterations=runner.max_iters,
                               complete=True)
            self._facts['costs'] = _costs(runner)
            self._write(runner)
            for hook in runner.hooks:
                if isinstance(hook, ProcessReplayHook) and hook.schedule is not None:
                    _replayed(runner, hook).save(osp.join(runner.work_dir, REPLAYED))
            runner.logger.info(f'The report is in {write_report(runner.work_dir)}')

    def _write(self, runner) -> None:
        write_json(osp.join(runner.work_dir, FACTS), self._facts, indent=1)


@contextlib.contextmanager
def _only_warns(runner) -> Iterator[None]:
    """Log any error as one line."""
    try:
        yield
    except ReportError as error:
        runner.logger.info(f'No report was written: {error}')
    except Exception as error:  # the training has its result, whatever is wrong with its report
        runner.logger.warning(f'No report was written ({type(error).__name__}: {first_line(error)}); the training is not '
                              f'affected. To try again: python tools/report.py {runner.work_dir}')


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} thread' + 's' * (torch.get_num_threads() != 1)


def _dataset(cfg: dict) -> str | None:
    """Type of the training set, without wrappers."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    return name_of(dataset['type']) if isinstance(dataset, dict) else None


def _costs(runner) -> dict:
    """Costs in training steps of the student alone: of the teacher, and of each pathway as often as it was computed."""
    model = unwrap(runner.model)
    # One process of several must not run a network alone: synchronised batch norms would wait for the others.
    if not isinstance(model, TapDistill) or get_world_size() > 1:
        return {}
    try:
        costs: dict = dict(teacher=teacher_cost(model))
        if isinstance(model, DistPro):
            active = 1.0
            for hook in runner.hooks:
                if isinstance(hook, ProcessReplayHook) and hook.schedule is not None:
                    active = np.mean((hook.schedule > 0) & (hook.schedule >= hook.skip_below), axis=0)
            costs['pathways'] = dict(zip(model.distiller.grid.names, (pathway_costs(model).numpy() * active).tolist()))
    except Exception as error:  # a network that cannot be copied, or runs on images of the training alone
        runner.logger.info(f'The report has no estimated cost ({type(error).__name__}: {first_line(error)})')
        return {}
    return costs


def _replayed(runner, hook: ProcessReplayHook) -> DistillationProcess:
    """What a hook has set, with the ablation and without weights below ``skip_below``."""
    grid, schedule = unwrap(runner.model).distiller.grid, hook.schedule
    points = np.unique(np.linspace(0, len(schedule) - 1, KNOTS).round().astype(int))
    weights = np.where(schedule[points] < hook.skip_below, 0, schedule[points])
    progress = points / max(len(schedule) - 1, 1)
    scheduled = dict(zip(grid.scheduled, hook.scheduled[points].T.tolist()))
    return DistillationProcess(grid.names, Weighting('absolute', unit=hook.unit), progress, weights, layers=grid.layer_names,
                               scheduled=scheduled)
