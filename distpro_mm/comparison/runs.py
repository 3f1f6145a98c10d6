"""Runs the trainings of a benchmark, some at once, going on where an earlier call stopped."""
import concurrent.futures as futures
import contextlib
import glob
import json
import multiprocessing
import os
import shutil
import threading
import time
import traceback
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, Dict, Iterable, List, Optional, Set

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.utils import import_modules_from_strings

from distpro.files import atomic_write

from ..datasets import keep_loaded, seed_all
from ..engine.launch import build_model, build_trainer, evaluate_student
from ..engine.search import Search
from ..errors import NotLearnedError
from .benchmark import Benchmark, Method
from .jobs import Job, JobMaker
from .machine import only_comparison, share_cores

RESULT = 'result.json'


class Workers:
    """Processes that train one job at a time each.

    Each is alone in its pool: one that is killed, by a lack of memory mostly, fails its own job and no other, and the next
    job gets a new process.

    Args:
        count (int): Processes, >= 1.
        threads (int): Threads of each, >= 1.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.threads = threads
        self.context = multiprocessing.get_context('spawn')
        self.idle = list(range(count))
        self.pools: Dict[int, futures.Executor] = {}
        self.running: Dict[futures.Future, int] = {}
        self.others = set(multiprocessing.active_children())

    def __enter__(self) -> 'Workers':
        return self

    def __exit__(self, kind, *error) -> None:
        if kind is not None:  # a Ctrl-C or a time limit must not wait for the trainings to end
            for process in set(multiprocessing.active_children()) - self.others:
                process.kill()
        for pool in self.pools.values():
            pool.shutdown()

    def submit(self, job: Job) -> futures.Future:
        """Let an idle process train a job."""
        place = self.idle.pop(0)
        try:
            future = self._pool(place).submit(train_job, job)
        except BrokenProcessPool:  # its process was killed between two jobs
            self.pools.pop(place).shutdown()
            future = self._pool(place).submit(train_job, job)
        self.running[future] = place
        return future

    def _pool(self, place: int) -> futures.Executor:
        if place not in self.pools:
            self.pools[place] = futures.ProcessPoolExecutor(1, self.context, _prepare, (self.threads, place))
        return self.pools[place]

    def wait(self) -> Iterable[futures.Future]:
        """Wait until at least one job is done; those that are."""
        done = futures.wait(self.running, return_when=futures.FIRST_COMPLETED).done
        for future in done:
            place = self.running.pop(future)
            self.idle.insert(0, place)
            if isinstance(future.exception(), BrokenProcessPool):
                self.pools.pop(place).shutdown()
        return done


class Results:
    """Runs jobs and keeps what they gave.

    Args:
        processes (int): Trainings at once, >= 1.
        threads (int): Threads of each, >= 1.
        tell (Callable): Told about every finished job.
        planned (int): Jobs that will be asked for in all, for the time left.
    """

    def __init__(self, processes: int, threads: int, tell: Callable[[str], None], planned: int) -> None:
        self.processes, self.threads, self.tell, self.planned = processes, threads, tell, planned
        self.found: Dict[str, dict] = {}  # by the job's key; {} for one that failed
        self.killed: Set[str] = set()  # keys of jobs whose process was killed
        self.started, self.trained = time.time(), 0

    def __getitem__(self, job: Job) -> Optional[dict]:
        return self.found.get(job.key) or None

    def of(self, jobs: Iterable[Job], what: str = 'accuracy') -> List[float]:
        """A figure of those jobs that succeeded."""
        return [self[job][what] for job in jobs if self[job]]

    def train(self, asked: Iterable[Job]) -> None:
        """Train what is not yet trained, and before it what it needs."""
        jobs: Dict[str, Job] = {}

        def collect(job: Job) -> None:
            for other in job.needs:
                collect(other)
            jobs.setdefault(job.key, job)

        for job in asked:
            collect(job)
        done = {key: finished(job) for key, job in jobs.items() if key not in self.found}
        done = {key: result for key, result in done.items() if result}
        self.found.update(done)
        if done:
            self.tell(f'{len(done)} of {len(jobs)} trainings were done before')
        waiting = [job for key, job in jobs.items() if key not in self.found]
        if waiting:
            self._run(waiting)

    def _run(self, waiting: List[Job]) -> None:
        with Workers(self.processes, self.threads) as workers:
            running: Dict[futures.Future, Job] = {}
            while waiting or running:
                for job in list(waiting):
                    hopeless = [other.name for other in job.needs if self.found.get(other.key) == {}]
                    if hopeless:
                        waiting.remove(job)
                        self.found[job.key] = {}
                        self.tell(f'{_title(job)}: left out, because it needs {" and ".join(hopeless)}')
                ready = [job for job in waiting if all(self[other] for other in job.needs)]
                first = [job for job in ready if job.key not in self.killed][:len(workers.idle)]
                if not first and not running:  # what was killed is tried again alone, with all of the memory
                    first = ready[:1]
                for job in first:
                    waiting.remove(job)
                    running[workers.submit(job)] = job
                if not running:
                    break
                for future in workers.wait():
                    job = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool) and job.key not in self.killed:
                        self.killed.add(job.key)
                        waiting.append(job)
                        self.tell(f'{_title(job)}: its process was killed, as by a lack of memory; it goes on from its last '
                                  'checkpoint when nothing else runs')
                    else:
                        self._note(job, future)

    def _note(self, job: Job, future: futures.Future) -> None:
        self.trained += 1
        try:
            result = self.found[job.key] = future.result()
            done = len(self.found)
            left = (time.time() - self.started) / self.trained * max(self.planned - done, 0)
            self.tell(f'[{done}/{max(self.planned, done)}] {_title(job)}: {result["accuracy"]:.1f}% in '
                      f'{result["seconds"]:.0f} s; about {_duration(left)} left')
        except Exception as error:
            self.found[job.key] = {}
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if isinstance(error, BrokenProcessPool):
                reason = 'its process was killed again, with nothing beside it: is there enough memory?'
            self.tell(f'[{len(self.found)}/{self.planned}] {_title(job)}: FAILED, see {job.work_dir}/run.log: {reason}')


def run_benchmark(benchmark: Benchmark, processes: int, tell: Callable[[str], None] = print) -> dict:
    """Run what is not yet done: the teacher, the choice of settings, and every method with every seed and budget.

    Args:
        benchmark (Benchmark): The benchmark.
        processes (int): Trainings at once, >= 1.
        tell (Callable): Told about every finished job, and what else there is to say. Defaults to ``print``.

    Returns:
        dict: 'results': of all that succeeded, see :func:`train_job`; 'failed': how many did not; 'choices': by method
        the settings that were tried with their accuracies on held-out images, and the one chosen.

    Raises:
        ConfigError: If a job cannot be made of a config, or another comparison runs in the same work_dir.
    """
    with only_comparison(benchmark.work_dir, processes) as others:
        for other in others:
            tell(f"another comparison runs on this machine, process {other.get('pid')} in '{other.get('work_dir')}': both "
                 'share its cores and its memory')
        threads, line = share_cores(processes, sum(other.get('cores', 1) for other in others))
        tell(line)
        return _run_benchmark(benchmark, processes, threads, tell)


def _run_benchmark(benchmark: Benchmark, processes: int, threads: int, tell: Callable[[str], None]) -> dict:
    maker = JobMaker(benchmark)
    trials = {method: [[maker.trial(method, choice, seed) for seed in benchmark.tuning['seeds']]
                       for choice in method.choices()]
              for method in benchmark.methods.values() if len(method.choices()) > 1}
    planned = _all(job for tried in trials.values() for alike in tried for job in alike)
    runs = [maker.run(method, seed, budget) for method, seed, budget in _runs(benchmark)]
    planned |= _all(runs)
    for name, file in sorted({(job.name, file) for job in runs for file in job.reads}):
        tell(f"{name} reads '{file}', which was there before this comparison")
    results = Results(processes, threads, tell, len(planned))
    of_stages = (seed for stage in benchmark.stages.values() for seed in stage.seeds or ())
    for seed in {*benchmark.seeds, *of_stages, *(benchmark.tuning['seeds'] if trials else ())}:
        make_initial_student(maker, seed)
    results.train(job for tried in trials.values() for runs in tried for job in runs)
    chosen, choices = {}, []
    for method, tried in trials.items():
        means = [float(np.mean(results.of(runs))) if results.of(runs) else float('-inf') for runs in tried]
        best = int(np.argmax(means))
        chosen[method.name] = method.choices()[best]
        choices += [dict(method=method.name, settings=choice, accuracy=mean, chosen=place == best)
                    for place, (choice, mean) in enumerate(zip(method.choices(), means))]
    reported = [maker.run(method, seed, budget, chosen.get(method.like or method.name))
                for method, seed, budget in _runs(benchmark)]
    results.train(reported)
    if benchmark.longer:
        longer = _longer(benchmark, maker, results, reported, chosen)
        results.train(longer)
        reported += longer
    shown = {job.key: job for job in (other for job in reported for other in (*job.needs, job))}
    return dict(results=[dict(results[job], settings=job.settings) for job in shown.values() if results[job]],
                failed=sum(results[job] is None for job in shown.values()), choices=choices)


def _runs(benchmark: Benchmark):
    """Methods, seeds and budgets to report; seed by seed, so that a benchmark that is broken off compares what it has."""
    for seed in benchmark.seeds:
        for method in benchmark.methods.values():
            for budget in method.budgets or benchmark.budgets:
                yield method, seed, budget


def _all(jobs: Iterable[Job]) -> set:
    return {key for job in jobs for key in (job.key, *(other.key for other in job.needs))}


def _longer(benchmark: Benchmark, maker: JobMaker, results: Results, reported: List[Job], chosen: dict) -> List[Job]:
    """The best of the rivals with the compute of a method and its stage."""
    whole = {name: [job for job in reported if job.name == name and job.budget == 1 and results[job]]
             for name in benchmark.methods}
    rivals = [name for name in benchmark.longer.of if whole[name]]
    mine = whole[benchmark.longer.than]
    if not rivals or not mine:
        return []
    best = max(rivals, key=lambda name: np.mean(results.of(whole[name])))
    stages = {job.needs[-1].key: job.needs[-1] for job in mine if len(job.needs) > 1}
    compute = np.nanmedian(results.of(mine, 'compute')) + np.nanmedian(results.of(stages.values(), 'compute') or [0])
    share = round(float(compute / np.nanmedian(results.of(whole[best], 'compute'))), 2)
    if share <= 1:
        return []
    method = benchmark.methods[best]
    longer = Method(f'{best}_longer', method.config, method.options, method.after, like=best)
    results.tell(f'{best} is the best rival; it is trained once more for {share:.2f} times its epochs')
    results.planned += len(benchmark.seeds)
    return [maker.run(longer, seed, share, chosen.get(best)) for seed in benchmark.seeds]


def make_initial_student(maker: JobMaker, seed: int) -> None:
    """Write the weights that every student of a seed starts from."""
    path = maker.initial_student(seed)
    if os.path.exists(path):
        return
    seed_all(seed)
    student = build_model(maker.student)
    student.init_weights()
    with atomic_write(path) as beside:
        torch.save(dict(state_dict=student.state_dict()), beside)


def finished(job: Job) -> Optional[dict]:
    """The result of a job that was done before, if there is one."""
    try:
        with open(os.path.join(job.work_dir, RESULT)) as file:
            result = json.load(file)
    except (OSError, json.JSONDecodeError):
        return None
    return result if result.get('key') == job.key else None


class Start(Hook):
    """Notes the iteration at which a run starts or goes on."""

    def before_train(self, runner) -> None:
        """Note it."""
        self.iteration = runner.iter


def train_job(job: Job) -> dict:
    """Train, going on from a checkpoint of the same job, and evaluate after the last epoch.

    The output goes to ``run.log`` in the work_dir.

    Args:
        job (Job): The job.

    Returns:
        dict: 'name', 'seed', 'budget', 'tuning', 'accuracy' (top-1 in % of the last epoch; on the test set, or of a trial
        on the held-out part), 'epochs', 'iterations', 'seconds', 'compute' (seconds of all cores, or of the GPU;
        NaN for a run that had only to be evaluated),
        'after' (the stage that it needs) and 'key'; written to ``result.json`` too.
    """
    cfg = Config(job.config._cfg_dict.to_dict(), filename=job.config.filename)
    cfg.pop('default_dir')
    import_modules_from_strings(**(cfg.get('custom_imports') or dict(imports=None)))  # a process has read no config file
    os.makedirs(cfg.work_dir, exist_ok=True)
    cfg.experiment_name = f'{job.name}_{job.seed}_{time.time_ns()}'
    with open(os.path.join(cfg.work_dir, 'run.log'), 'a') as log, contextlib.redirect_stdout(log), \
            contextlib.redirect_stderr(log):
        try:
            figures = _take(job.checkpoint, cfg) if job.checkpoint else _train(cfg, job.key)
        except Exception:
            traceback.print_exc(file=log)
            raise
    result = dict(name=job.name, seed=job.seed, budget=job.budget, tuning=job.tuning, **figures,
                  after=job.needs[-1].name if len(job.needs) > 1 else None, key=job.key)
    with atomic_write(os.path.join(cfg.work_dir, RESULT)) as beside, open(beside, 'w') as file:
        json.dump(result, file, indent=1)
    return result


def _train(cfg: Config, key: str) -> dict:
    started = os.path.join(cfg.work_dir, 'started.json')
    resume = 'auto' if _read(started).get('key') == key else None
    if resume is None:  # what another config left here must not be gone on with after a kill
        for checkpoint in glob.glob(os.path.join(glob.escape(cfg.work_dir), '*.pth')):
            os.unlink(checkpoint)
    with atomic_write(started) as beside, open(beside, 'w') as file:
        json.dump(dict(key=key), file)
    seconds, compute = time.time(), time.process_time()
    runner = build_trainer(cfg, resume=resume)
    start = Start()
    runner.register_hook(start)
    try:
        runner.train()
    except NotLearnedError as error:  # a result like any other, and its accuracy shows it
        print(f'warning: {error}')
    if 'val/accuracy/top1' not in runner.message_hub.log_scalars:  # killed after the last checkpoint
        runner.val_loop.run()
    # A run that went on is rated by the part that was seen of it, unless its rounds differ in cost.
    share = (runner.max_iters - start.iteration) / runner.max_iters or float('nan')
    if start.iteration and isinstance(runner.train_loop, Search) and runner.train_loop.in_rounds:
        share = float('nan')
    seconds, compute = (time.time() - seconds) / share, (time.process_time() - compute) / share
    return dict(accuracy=float(runner.message_hub.get_scalar('val/accuracy/top1').current()), epochs=runner.max_epochs,
                iterations=runner.max_iters, seconds=seconds, compute=seconds if torch.cuda.is_available() else compute)


def _take(checkpoint: str, cfg: Config) -> dict:
    """Evaluate a checkpoint that was trained elsewhere, and put it where a training would have."""
    seconds = time.time()
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator  # what trainings are evaluated on
    accuracy = evaluate_student(cfg, checkpoint)['accuracy/top1']
    with atomic_write(os.path.join(cfg.work_dir, f'epoch_{cfg.train_cfg.max_epochs}.pth')) as beside:
        shutil.copyfile(checkpoint, beside)
    return dict(accuracy=float(accuracy), epochs=0, iterations=0, seconds=time.time() - seconds, compute=0.)


def _prepare(threads: int, place: int) -> None:
    """Make a process ready to train one job after another, on a GPU of its own where there are several."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, ), daemon=True).start()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    keep_loaded(6)  # training and test images, whole and in the parts of a trial


def _end_with(parent: multiprocessing.Process) -> None:
    """End this process when its parent ends: a comparison that was killed must not train on beside its successor."""
    parent.join()
    os._exit(1)


def _read(path: str) -> dict:
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, json.JSONDecodeError):
        return {}


def _title(job: Job) -> str:
    settings = ', '.join(f'{option.rpartition(".")[2]}={value}' for option, value in job.settings.items())
    return ', '.join(filter(None, [job.name, f'trial of {settings}' if job.tuning and settings else '',
                                   f'{job.budget:.0%} of the epochs' if job.budget != 1 else '', f'seed {job.seed}']))


def _duration(seconds: float) -> str:
    if seconds < 7200:
        return f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'
