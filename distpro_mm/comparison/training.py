"""One training of a comparison: from its config to its result."""
import contextlib
import dataclasses
import fcntl
import glob
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS, LOOPS

from distpro.files import atomic_write, write_json

from ..config_types import is_a
from ..datasets import seed_all
from ..engine.config_file import passed_config
from ..engine.hooks import ProcessRecordHook
from ..engine.launch import build_model, build_trainer, evaluate_student
from ..engine.search import Search
from ..errors import NotLearnedError
from ..reporting.run_files import RESULT, read_json

LOCK = 'training.lock'


@dataclasses.dataclass(frozen=True)
class Job:
    """One training.

    Args:
        name (str): Name of the method or stage, or 'teacher'.
        seed (int): Random seed.
        config (Config): The config, with its work_dir.
        key (str): Identifies this config together with the configs of all ``needs``.
        needs (tuple[Job]): Trainings that must be done before.
        budget (float): Share of the schedule's epochs. Defaults to 1.
        settings (dict): Settings from a grid. Defaults to none.
        tuning (bool): Whether the job is a trial of settings, evaluated on held-out images. Defaults to False.
        checkpoint (str, optional): Weights that were trained elsewhere, which are evaluated instead. Defaults to None.
        reads (tuple[str]): Files from before the comparison that the config names. Defaults to none.
    """
    name: str
    seed: int
    config: Config = dataclasses.field(compare=False)
    key: str
    needs: tuple['Job', ...] = ()
    budget: float = 1
    settings: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    tuning: bool = False
    checkpoint: str | None = None
    reads: tuple[str, ...] = ()

    @property
    def work_dir(self) -> str:
        """str: Folder of the training."""
        return self.config.work_dir


def artefacts(cfg: Config) -> dict[str, str]:
    """Names of the files that a training leaves in its work_dir for other trainings.

    Args:
        cfg (Config): The config of the training.

    Returns:
        dict[str, str]: ``process`` of a search, ``checkpoint`` of any other training.
    """
    if not is_a(cfg.train_cfg.get('type'), Search, LOOPS):
        return dict(checkpoint=f'epoch_{cfg.train_cfg.max_epochs}.pth')
    recorded = [hook.get('filename') for hook in cfg.get('custom_hooks') or []
                if is_a(hook['type'], ProcessRecordHook, HOOKS)]
    return dict(process=next(filter(None, recorded), 'process.json'))


def write_initial_student(cfg: Config, seed: int, path: str) -> None:
    """Write the initial weights of a seed's students, if they are not there yet.

    Args:
        cfg (Config): Config of the student alone.
        seed (int): The seed.
        path (str): The file.
    """
    if os.path.exists(path):
        return
    seed_all(seed)
    student = build_model(cfg)
    student.init_weights()
    with atomic_write(path) as temporary:
        torch.save(dict(state_dict=student.state_dict()), temporary)


def read_result(job: Job) -> dict | None:
    """The result of a job that is done; None if it is not, or was done with a different config."""
    result = read_json(os.path.join(job.work_dir, RESULT))
    return result if result.get('key') == job.key else None


def train_job(job: Job) -> dict:
    """Train from the last checkpoint of the same job, if there is one, and evaluate after the last epoch.

    The output goes to ``run.log`` in the work_dir. If another process trains there, which on a cluster may outlive its
    comparison for a moment, this one waits, and trains only what that one has not done.

    Args:
        job (Job): The job.

    Returns:
        dict: The result, written to ``result.json`` too: 'name', 'seed', 'budget', 'tuning', 'accuracy' (top-1 in % after
        the last epoch, on the test set or, of a trial, on held-out images), 'best' (the largest of several evaluations, or
        None if there was one), 'epochs', 'iterations', 'seconds', 'compute' (seconds of all cores, or of the GPU; NaN for
        a training that only had to be evaluated), 'after' (the stage that it needs) and 'key'.
    """
    cfg = passed_config(job.config._cfg_dict.to_dict(), job.config.filename)
    os.makedirs(cfg.work_dir, exist_ok=True)
    cfg.experiment_name = f'{job.name}_{job.seed}_{time.time_ns()}'
    with open(os.path.join(cfg.work_dir, 'run.log'), 'a') as log, contextlib.redirect_stdout(log), \
            contextlib.redirect_stderr(log), _alone_in(cfg.work_dir):
        done = read_result(job)
        if done:
            return done
        try:
            figures = _evaluate(job.checkpoint, cfg) if job.checkpoint else _train(cfg, job.key, not job.tuning)
        except Exception:
            traceback.print_exc(file=log)
            raise
        result = dict(name=job.name, seed=job.seed, budget=job.budget, tuning=job.tuning, **figures,
                      after=job.needs[-1].name if len(job.needs) > 1 else None, key=job.key)
        write_json(os.path.join(cfg.work_dir, RESULT), result, indent=1)
        return result


@contextlib.contextmanager
def _alone_in(work_dir: str) -> Iterator[None]:
    """Wait until no other process is in this context with the same folder."""
    with open(os.path.join(work_dir, LOCK), 'a') as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class MeasureHook(Hook):
    """Notes where a training starts or resumes and when it ends, and counts the evaluations between."""
    priority = 'VERY_LOW'

    def before_train(self, runner) -> None:
        """Note the iteration."""
        self.iteration, self.evaluations = runner.iter, 0

    def after_val(self, runner) -> None:
        """Count an evaluation."""
        self.evaluations += 1

    def after_train(self, runner) -> None:
        """Note the time. The report, which is written later, does not count."""
        self.seconds, self.compute = time.time(), time.process_time()


def _train(cfg: Config, key: str, report: bool) -> dict:
    started = os.path.join(cfg.work_dir, 'started.json')
    resume = 'auto' if read_json(started).get('key') == key else None
    if resume is None:  # checkpoints of a different config must not be resumed from after a kill
        for checkpoint in glob.glob(os.path.join(glob.escape(cfg.work_dir), '*.pth')):
            os.unlink(checkpoint)
    write_json(started, dict(key=key), indent=1)
    seconds, compute = time.time(), time.process_time()
    runner = build_trainer(cfg, resume=resume, report=report)
    measure = MeasureHook()
    runner.register_hook(measure)
    try:
        runner.train()
    except NotLearnedError as error:  # a valid result, as its accuracy shows
        print(f'warning: {error}')
    if not measure.evaluations:  # resumed from the last checkpoint, which is written before the last evaluation
        runner.val_loop.run()
    # The time of a resumed training is extrapolated from the part that was measured, unless rounds differ in cost.
    share = (runner.max_iters - measure.iteration) / runner.max_iters or float('nan')
    if measure.iteration and isinstance(runner.train_loop, Search) and runner.train_loop.in_rounds:
        share = float('nan')
    seconds, compute = (measure.seconds - seconds) / share, (measure.compute - compute) / share
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1')
    best = float(accuracy.data[0].max()) if len(accuracy.data[0]) > 1 else None
    return dict(accuracy=float(accuracy.current()), best=best, epochs=runner.max_epochs, iterations=runner.max_iters,
                seconds=seconds, compute=seconds if torch.cuda.is_available() else compute)


def _evaluate(checkpoint: str, cfg: Config) -> dict:
    """Evaluate a checkpoint that was trained elsewhere, and copy it to where a training would have written it."""
    seconds = time.time()
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator  # those that trainings are evaluated on
    accuracy = evaluate_student(cfg, checkpoint)['accuracy/top1']
    with atomic_write(os.path.join(cfg.work_dir, artefacts(cfg)['checkpoint'])) as temporary:
        shutil.copyfile(checkpoint, temporary)
    return dict(accuracy=float(accuracy), best=None, epochs=0, iterations=0, seconds=time.time() - seconds, compute=0.)
