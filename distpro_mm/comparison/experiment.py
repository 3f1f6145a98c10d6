"""A comparison from start to end: which trainings are done when, and which settings are chosen."""
import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ..engine.ray_pool import RayOptions, RayPool
from .benchmark import Benchmark, Method
from .jobs import JobMaker
from .pool import Pool, default_workers, lock_work_dir, share_cores
from .scheduler import Scheduler
from .searched_tuning import SearchedTuning
from .training import Job, write_initial_student
from .tuning import Tuning


def run_benchmark(benchmark: Benchmark, workers: int | None = None, log: Callable[[str], None] = print,
                  show: Callable[[int, int, Sequence[str], float | None], None] | None = None,
                  ray: RayOptions | None = None) -> dict:
    """Run a comparison, except for trainings that are done: the teacher, the tuning, and every method, seed and budget.

    Args:
        benchmark (Benchmark): The benchmark.
        workers (int, optional): Trainings at a time, >= 1. Defaults to None: one per GPU; without GPUs one per core, or one
            per ``OMP_NUM_THREADS`` cores; on a Ray cluster as many as it has room for.
        log (Callable): Called with a message about every training that ends, and other news. Defaults to ``print``.
        show (Callable, optional): Called when a training starts or ends, see :meth:`.LiveLine.show`. Defaults to None.
        ray (RayOptions, optional): A Ray cluster whose nodes train. Defaults to None: this machine trains.

    Returns:
        dict: 'results': a list of the results of all trainings that succeeded, see :func:`.training.train_job`, with
        their 'settings' and 'work_dir' (relative to that of the benchmark); 'failed': the number of those that failed;
        'choices': a list of the settings that were tried, see :class:`.tuning.Tuning`, with the accuracy on held-out images.

    Raises:
        ConfigError: If a job cannot be made from a config, another comparison runs in the same work_dir, or the Ray cluster
            cannot be used.
    """
    if ray is not None:
        with lock_work_dir(benchmark.work_dir, 0), RayPool(ray, benchmark.work_dir, workers) as cluster:
            log(f'trainings: {cluster}')
            return _run(benchmark, Scheduler(cluster, log, show), log)
    workers = workers or torch.cuda.device_count() or default_workers()
    with lock_work_dir(benchmark.work_dir, workers) as others:
        for other in others:
            log(f"another comparison runs on this machine, process {other.get('pid')} in '{other.get('work_dir')}': both "
                'share its cores and its memory')
        threads, message = share_cores(workers, sum(other.get('cores', 1) for other in others))
        log(message)
        with Pool(workers, threads) as pool:
            return _run(benchmark, Scheduler(pool, log, show), log)


def _run(benchmark: Benchmark, scheduler: Scheduler, log: Callable[[str], None]) -> dict:
    maker = JobMaker(benchmark)
    tunings = {method.name: _tuning(benchmark, maker, method) for method in benchmark.methods.values()}
    trials = _trials(benchmark, maker, tunings)
    tried = [job for several in trials.values() for job in several]
    runs = [maker.run(method, seed, budget) for method, seed, budget in _runs(benchmark)]
    for name, file in sorted({(job.name, file) for job in runs for file in job.reads}):
        log(f"{name} reads '{file}', which is from before this comparison")
    scheduler.plan([*tried, *runs])
    for seed in {other.seed for job in [*tried, *runs] for other in (*job.needs, job)}:
        write_initial_student(maker.student, seed, maker.initial_student(seed))
    while trials:
        jobs = [job for several in trials.values() for job in several]
        scheduler.plan(jobs)
        scheduler.train(jobs)
        for (name, _), several in trials.items():
            tunings[name].tell(several[0].settings, float(np.mean(scheduler.values(several) or [-np.inf])))
        trials = _trials(benchmark, maker, tunings)
    chosen = {name: tuning.chosen for name, tuning in tunings.items()}
    choices = [choice for tuning in tunings.values() for choice in tuning.tried]
    runs = [maker.run(method, seed, budget, chosen.get(method.ablation_of or method.name))
            for method, seed, budget in _runs(benchmark)]
    scheduler.train(runs)
    if benchmark.extended_to:
        extended = _extended(benchmark, maker, scheduler, runs, chosen)
        scheduler.train(extended)
        runs += extended
    reported = {job.key: job for job in (other for job in runs for other in (*job.needs, job))}.values()
    results = [dict(scheduler[job], settings=job.settings, work_dir=os.path.relpath(job.work_dir, benchmark.work_dir))
               for job in reported if scheduler[job]]
    return dict(results=results,
                failed=sum(scheduler[job] is None for job in reported), choices=choices)


def _tuning(benchmark: Benchmark, maker: JobMaker, method: Method) -> Tuning | SearchedTuning:
    """How the settings of a method are chosen."""
    if method.searcher is None:
        return Tuning(method.name, maker.axes(method), benchmark.tuning['widen'])
    return SearchedTuning(method.name, method.grid, method.searcher, lambda settings: maker.config(method, settings))


def _runs(benchmark: Benchmark) -> Iterator[tuple[Method, int, float]]:
    """Methods, seeds and budgets to report; seed by seed, so that a comparison that is stopped early has whole seeds."""
    for seed in benchmark.seeds:
        for method in benchmark.methods.values():
            for budget in method.budgets or benchmark.budgets:
                yield method, seed, budget


def _trials(benchmark: Benchmark, maker: JobMaker,
            tunings: dict[str, Tuning | SearchedTuning]) -> dict[tuple[str, int], list[Job]]:
    """The trials that the tunings need next, of all seeds, by method and place among its settings."""
    return {(name, place): [maker.trial(benchmark.methods[name], settings, seed) for seed in benchmark.tuning['seeds']]
            for name, tuning in tunings.items() for place, settings in enumerate(tuning.wanted())}


def _extended(benchmark: Benchmark, maker: JobMaker, scheduler: Scheduler, runs: list[Job],
              chosen: dict[str, dict]) -> list[Job]:
    """Runs of the best rival with as much compute as a method and its stage together."""
    full = {name: [job for job in runs if job.name == name and job.budget == 1 and scheduler[job]]
            for name in benchmark.methods}
    rivals = [name for name in benchmark.extended_to.best_of if full[name]]
    own = full[benchmark.extended_to.compute_of]
    if not rivals or not own:
        return []
    best = max(rivals, key=lambda name: np.mean(scheduler.values(full[name])))
    stages = {job.needs[-1].key: job.needs[-1] for job in own if len(job.needs) > 1}.values()
    compute = _median(scheduler.values(own, 'compute')) + (_median(scheduler.values(stages, 'compute')) if stages else 0)
    share = round(compute / _median(scheduler.values(full[best], 'compute')), 2)
    if not share > 1:  # nor if it is not known, after a stage that was interrupted
        return []
    method = benchmark.methods[best]
    tuned = method.ablation_of or best
    method = dataclasses.replace(method, name=f'{best}_longer', ablation_of=tuned)
    scheduler.log(f'{best} is the best rival; it is trained again with {share:.2f} times its epochs')
    extended = [maker.run(method, seed, share, chosen.get(tuned)) for seed in benchmark.seeds]
    scheduler.plan(extended)
    return extended


def _median(compute: Sequence[float]) -> float:
    """The median of those that are known; NaN if none is."""
    known = [value for value in compute if math.isfinite(value)]
    return statistics.median(known) if known else math.nan
