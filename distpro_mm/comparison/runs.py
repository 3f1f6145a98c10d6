"""Runs the jobs of a benchmark, some at once, going on where an earlier call stopped."""
import concurrent.futures as futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import time
import traceback
from typing import Callable, Dict, List, Optional

import torch
from mmengine.config import Config

from ..engine.launch import build_trainer, load_config, replay_hooks
from ..files import whole_file
from .benchmark import Benchmark, Job

RESULT = 'result.json'


def run_benchmark(benchmark: Benchmark, processes: int, tell: Callable[[str], None] = print) -> List[dict]:
    """Run what is not yet done.

    Args:
        benchmark (Benchmark): The benchmark.
        processes (int): Trainings at once, >= 1.
        tell (Callable): Told about every finished job. Defaults to ``print``.

    Returns:
        list[dict]: Results of all jobs that succeeded, in the order of :meth:`Benchmark.jobs`; see :func:`train_job`.
    """
    jobs = benchmark.jobs()
    configs = {job: job_config(benchmark, job) for job in jobs}
    results: Dict[Job, Optional[dict]] = {job: finished(job, configs[job]) for job in jobs}
    waiting = [job for job in jobs if results[job] is None]
    done = len(jobs) - len(waiting)
    if done:
        tell(f'{done} of {len(jobs)} trainings were done before')
    total, start, first = len(jobs), time.time(), done
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context('spawn')
    with futures.ProcessPoolExecutor(processes, context, torch.set_num_threads, (threads, )) as pool:
        running: Dict[futures.Future, Job] = {}
        while waiting or running:
            achieved = {job.name for job in jobs if results[job]}
            hopeless = {job.name for job in jobs if results[job] == {}}
            for job in list(waiting):
                if hopeless & set(job.needs):
                    waiting.remove(job)
                    results[job] = {}
                    tell(f'{job.name}, seed {job.seed}: left out, because it needs {" and ".join(job.needs)}')
                elif set(job.needs) <= achieved and len(running) < 2 * processes:
                    waiting.remove(job)
                    running[pool.submit(train_job, configs[job], job)] = job
            if not running:
                break
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                job = running.pop(future)
                done += 1
                try:
                    results[job] = future.result()
                    left = (time.time() - start) / (done - first) * (total - done)
                    tell(f'[{done}/{total}] {job.name}, seed {job.seed}: {results[job]["accuracy"]:.1f}% in '
                         f'{results[job]["seconds"]:.0f} s; about {left:.0f} s left')
                except Exception as error:
                    results[job] = {}
                    tell(f'[{done}/{total}] {job.name}, seed {job.seed}: FAILED, see {job.work_dir}/run.log: '
                         f'{str(error).splitlines()[0] if str(error) else type(error).__name__}')
    return [results[job] for job in jobs if results[job]]


def job_config(benchmark: Benchmark, job: Job) -> Config:
    """The config of a job: its file with the benchmark's seed, folder, teacher and process."""
    cfg = load_config(job.config, pair=job.pair)
    cfg.work_dir = job.work_dir
    cfg.randomness = dict(seed=job.seed)
    if 'teacher_ckpt' in cfg.model:
        teacher = load_config(benchmark.teacher)
        cfg.model.teacher_ckpt = os.path.join(benchmark.work_dir, 'teacher', f'epoch_{teacher.train_cfg.max_epochs}.pth')
    for hook in replay_hooks(cfg):
        hook['process'] = benchmark.process
    return cfg


def _hash(cfg: Config) -> str:
    return hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:16]


def finished(job: Job, cfg: Config) -> Optional[dict]:
    """The result of a job that was done before with the same config, if there is one."""
    try:
        with open(os.path.join(job.work_dir, RESULT)) as file:
            result = json.load(file)
    except (OSError, json.JSONDecodeError):
        return None
    return result if result.get('config_hash') == _hash(cfg) else None


def train_job(cfg: Config, job: Job) -> dict:
    """Train and evaluate after the last epoch; the output goes to ``run.log`` in the work_dir.

    Args:
        cfg (Config): Its config.
        job (Job): The job.

    Returns:
        dict: 'name', 'seed', 'accuracy' (top-1 on the test set in %, last epoch), 'epochs', 'iterations', 'seconds'
        and 'config_hash'; written to ``result.json`` too.
    """
    result = dict(name=job.name, seed=job.seed, config_hash=_hash(cfg))
    os.makedirs(job.work_dir, exist_ok=True)
    cfg.experiment_name = f'{job.name}_{job.seed}_{time.time_ns()}'
    with open(os.path.join(job.work_dir, 'run.log'), 'w') as log, contextlib.redirect_stdout(log), \
            contextlib.redirect_stderr(log):
        try:
            start = time.time()
            runner = build_trainer(cfg)
            runner.train()
            result.update(
                accuracy=float(runner.message_hub.get_scalar('val/accuracy/top1').current()), epochs=runner.max_epochs,
                iterations=runner.max_iters, seconds=time.time() - start)
        except Exception:
            traceback.print_exc(file=log)
            raise
    with whole_file(os.path.join(job.work_dir, RESULT)) as beside, open(beside, 'w') as file:
        json.dump(result, file, indent=1)
    return result
