"""The machine's part of a comparison: its processes, the cores that they use, and the lock of its work_dir."""
import concurrent.futures as futures
import contextlib
import fcntl
import glob
import json
import multiprocessing
import os
import pathlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import IO, Any

import torch

from ..datasets import CACHED, cache_images
from ..engine.outcome import Outcome
from ..errors import ConfigError

LOCK = 'comparison.lock'


class Pool:
    """Worker processes that execute one call at a time each.

    Each worker is an executor of its own. If a worker is killed, most often by a lack of memory, only its own call fails,
    and the next call gets a new process.

    Args:
        workers (int): Number of processes, >= 1.
        threads (int): Threads of each process, >= 1.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.threads = threads
        self.context = multiprocessing.get_context('spawn')
        self.idle = list(range(workers))
        self.executors: dict[int, futures.Executor] = {}
        self.running: dict[futures.Future, int] = {}
        self.others = set(multiprocessing.active_children())

    def __enter__(self) -> 'Pool':
        return self

    def __exit__(self, kind, *error) -> None:
        if kind is not None:  # a Ctrl-C or a time limit must not wait for the calls to end
            for process in set(multiprocessing.active_children()) - self.others:
                process.kill()
        for executor in self.executors.values():
            executor.shutdown()

    @property
    def free(self) -> int:
        """int: Calls that may be submitted now."""
        return len(self.idle)

    def submit(self, function: Callable, *args: Any) -> futures.Future:
        """Let an idle worker execute a call; there must be one. Returns the call's handle."""
        worker = self.idle.pop(0)
        try:
            future = self._executor(worker).submit(function, *args)
        except BrokenProcessPool:  # its process was killed between two calls
            self.executors.pop(worker).shutdown()
            future = self._executor(worker).submit(function, *args)
        self.running[future] = worker
        return future

    def wait(self) -> list[tuple[futures.Future, Outcome]]:
        """Wait until at least one call has ended, and return all that have."""
        ended = []
        for future in futures.wait(self.running, return_when=futures.FIRST_COMPLETED).done:
            worker = self.running.pop(future)
            self.idle.insert(0, worker)
            error = future.exception()
            killed = isinstance(error, BrokenProcessPool)
            if killed:
                self.executors.pop(worker).shutdown()
            ended.append((future, Outcome(error=error, killed=killed) if error else Outcome(future.result())))
        return ended

    def _executor(self, worker: int) -> futures.Executor:
        if worker not in self.executors:
            self.executors[worker] = futures.ProcessPoolExecutor(1, self.context, _start_worker, (self.threads, worker))
        return self.executors[worker]


def _start_worker(threads: int, worker: int) -> None:
    """Set the threads of a worker process, and its GPU: with several GPUs, workers take them in turn."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, ), daemon=True).start()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(worker % torch.cuda.device_count())
    cache_images(CACHED)


def _end_with(parent: multiprocessing.Process) -> None:
    """End this process when its parent ends, so that a killed comparison does not train on beside the next one."""
    parent.join()
    os._exit(1)


def usable_cores(cgroups: str = '/sys/fs/cgroup', of_process: str = '/proc/self/cgroup') -> int:
    """Cores that this process may use: limited by its affinity and the quotas of its control groups (a container's limit).

    Args:
        cgroups (str): Where control groups are mounted. Defaults to '/sys/fs/cgroup'.
        of_process (str): File that names the control groups of this process. Defaults to '/proc/self/cgroup'.

    Returns:
        int: At least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quotas = [_words(cgroups, 'cpu/cpu.cfs_quota_us') + _words(cgroups, 'cpu/cpu.cfs_period_us')]  # version 1
    own = next((line[2] for line in (line.split(':', 2) for line in _words(of_process)) if line[0] == '0'), '/').strip('/')
    parts = own.split('/')
    quotas += [_words(cgroups, *parts[:depth], 'cpu.max') for depth in range(len(parts) + 1)]  # version 2
    for quota in quotas:
        if len(quota) == 2 and quota[0].isdecimal():  # 'max' and -1 are no limit
            cores = min(cores, round(int(quota[0]) / int(quota[1])))
    return max(1, cores)


def _words(*path: str) -> list[str]:
    """The words of a file; an empty list if there is no such file."""
    try:
        return pathlib.Path(*path).read_text().split()
    except OSError:
        return []


def requested_threads() -> int | None:
    """Threads of a training that the environment requests by ``OMP_NUM_THREADS``; None if it is not set.

    Raises:
        ConfigError: If its value is not a number of threads.
    """
    value = os.environ.get('OMP_NUM_THREADS', '').split(',')[0].strip()  # further numbers are for nested regions
    if not value:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"OMP_NUM_THREADS='{os.environ['OMP_NUM_THREADS']}' in the environment must be a whole number "
                          'from 1, the threads of one training; unset it to share the free cores')
    return int(value)


def default_workers() -> int:
    """int: Number of trainings at a time where there is no GPU: as many as the usable cores have room for."""
    return max(1, usable_cores() // (requested_threads() or 1))


def share_cores(workers: int, taken: int = 0) -> tuple[int, str]:
    """Divide the free cores among the workers.

    A training with more threads than free cores is many times slower than a training with a single thread, because all
    threads wait at every operation for the one that has no core. So busy cores, by the load average of the last minute, are
    not counted. ``OMP_NUM_THREADS`` is taken as it is.

    Args:
        workers (int): Trainings at a time, >= 1.
        taken (int): Cores that other comparisons use, busy at this moment or not. Defaults to 0.

    Returns:
        tuple[int, str]: Threads of each training, >= 1, and a message with the reason.

    Raises:
        ConfigError: If ``OMP_NUM_THREADS`` is not a number of threads.
    """
    cores, load = usable_cores(), os.getloadavg()[0]
    free = max(0, min(cores, (os.cpu_count() or 1) - max(round(load), taken)))
    threads = requested_threads()
    source = 'set by OMP_NUM_THREADS' if threads else 'set OMP_NUM_THREADS to change that'
    threads = threads or max(1, free // workers)
    message = (f'{workers} training{"s" * (workers > 1)} at a time, {threads} thread{"s" * (threads > 1)} each ({source}): '
               f'{free} of {cores} cores {"is" if free == 1 else "are"} free, at a load of {load:.1f}')
    if workers * threads > max(1, free):
        message += '; more threads than free cores slow each other down: ' + (
            'lower --jobs' if workers > 1 else 'lower OMP_NUM_THREADS' if threads > 1 else 'stop other programs')
    return threads, message


@contextlib.contextmanager
def lock_work_dir(work_dir: str, cores: int) -> Iterator[list[dict]]:
    """Lock the work_dir of a comparison, and list the comparisons in other work_dirs of this machine.

    The lock and the entry in the list end with the process, however it ends.

    Args:
        work_dir (str): Folder of the comparison.
        cores (int): Cores that this comparison uses, for others to read.

    Yields:
        list[dict]: The other comparisons that run on this machine: 'pid', 'work_dir' and 'cores'.

    Raises:
        ConfigError: If a comparison runs in that folder.
    """
    note = dict(pid=os.getpid(), host=socket.gethostname(), started=time.strftime('%Y-%m-%d %H:%M:%S'), cores=cores,
                work_dir=os.path.abspath(work_dir))
    os.makedirs(work_dir, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock, holder = _lock(os.path.join(work_dir, LOCK), note)
        if lock is None:
            raise ConfigError(f"--work-dir '{work_dir}': another comparison runs there since {holder.get('started')}, "
                              f"process {holder.get('pid')} on {holder.get('host')}: wait for it, stop it or give "
                              'another folder')
        stack.enter_context(lock)
        folder = os.path.join(tempfile.gettempdir(), 'distpro_mm_comparisons')
        with contextlib.suppress(OSError):  # the folder of another user, who lets others write there too
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, 0o1777)
        others = [found for path in glob.glob(os.path.join(folder, '*.lock')) if (found := _holder(path))]
        with contextlib.suppress(OSError):
            path = os.path.join(folder, f'{os.getpid()}_{time.time_ns()}.lock')
            entry, _ = _lock(path, note)
            stack.callback(pathlib.Path(path).unlink, missing_ok=True)  # what cleans the folder may have been here
            stack.enter_context(entry)
        yield others


def _lock(path: str, note: dict) -> tuple[IO | None, dict]:
    """Lock a file until it is closed, and write a note to it; None and the holder's note if it is locked."""
    file = open(path, 'a+')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            return None, _note(file)
    except OSError:  # a file system without locks
        pass
    file.truncate(0)
    json.dump(note, file)
    file.flush()
    return file, note


def _holder(path: str) -> dict | None:
    """The note of the process that holds a lock. If none does, the file is removed and None is returned."""
    try:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _note(file)
        os.unlink(path)
    except OSError:  # removed meanwhile, or of another user
        pass
    return None


def _note(file: IO) -> dict:
    file.seek(0)
    try:
        note = json.load(file)
    except json.JSONDecodeError:  # it is being written
        note = {}
    return note if isinstance(note, dict) else {}
