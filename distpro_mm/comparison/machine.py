"""What a comparison may use of the machine: its cores, and who else compares."""
import contextlib
import fcntl
import glob
import json
import os
import pathlib
import socket
import tempfile
import time
from typing import IO, Iterator, List, Optional, Tuple

from ..errors import ConfigError

LOCK = 'comparison.lock'


def usable_cores(cgroups: str = '/sys/fs/cgroup', of_process: str = '/proc/self/cgroup') -> int:
    """Cores that this process may use: by its affinity and the quotas of its control groups (a container's limit).

    Args:
        cgroups (str): Where control groups are mounted. Defaults to '/sys/fs/cgroup'.
        of_process (str): File that names those of this process. Defaults to '/proc/self/cgroup'.

    Returns:
        int: At least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quotas = [_read(cgroups, 'cpu/cpu.cfs_quota_us') + _read(cgroups, 'cpu/cpu.cfs_period_us')]  # version 1
    own = next((line[2] for line in (line.split(':', 2) for line in _read(of_process)) if line[0] == '0'), '/').strip('/')
    parts = own.split('/')
    quotas += [_read(cgroups, *parts[:depth], 'cpu.max') for depth in range(len(parts) + 1)]  # version 2
    for quota in quotas:
        if len(quota) == 2 and quota[0].isdecimal():  # not 'max' or -1, which are no limit
            cores = min(cores, round(int(quota[0]) / int(quota[1])))
    return max(1, cores)


def _read(*path: str) -> List[str]:
    """The words of a file; none if there is no such file."""
    try:
        return pathlib.Path(*path).read_text().split()
    except OSError:
        return []


def threads_set() -> Optional[int]:
    """Threads of a training that the user's environment asks for by ``OMP_NUM_THREADS``; None if it does not.

    Raises:
        ConfigError: If that is no number of threads.
    """
    asked = os.environ.get('OMP_NUM_THREADS', '').split(',')[0].strip()  # the others are for nested regions
    if not asked:
        return None
    if not asked.isdecimal() or int(asked) < 1:
        raise ConfigError(f"OMP_NUM_THREADS='{os.environ['OMP_NUM_THREADS']}' in the environment must be a whole number "
                          'from 1, the threads of one training; unset it to share the free cores')
    return int(asked)


def usual_trainings() -> int:
    """int: Trainings at once where there is no GPU: as many as the usable cores have room for."""
    return max(1, usable_cores() // (threads_set() or 1))


def share_cores(trainings: int, taken: int = 0) -> Tuple[int, str]:
    """Divide the cores that nobody uses among trainings.

    A training whose threads outnumber the free cores is many times slower than one with a single thread, because at every
    operation all its threads wait for the one that has no core. So busy cores, by the load average of the last minute, are
    left out. ``OMP_NUM_THREADS`` is taken as it is.

    Args:
        trainings (int): Trainings at once, >= 1.
        taken (int): Cores that other comparisons use, whether or not they do at this moment. Defaults to 0.

    Returns:
        tuple[int, str]: Threads of each training, >= 1, and a line that says why.

    Raises:
        ConfigError: If ``OMP_NUM_THREADS`` is no number of threads.
    """
    cores, load = usable_cores(), os.getloadavg()[0]
    free = max(0, min(cores, (os.cpu_count() or 1) - max(round(load), taken)))
    threads = threads_set()
    source = 'set by OMP_NUM_THREADS' if threads else 'set OMP_NUM_THREADS to change that'
    threads = threads or max(1, free // trainings)
    line = (f'{trainings} training{"s" * (trainings > 1)} at once, {threads} thread{"s" * (threads > 1)} each ({source}): '
            f'{free} of {cores} cores {"is" if free == 1 else "are"} free, at a load of {load:.1f}')
    if trainings * threads > max(1, free):
        line += '; more threads than free cores slow each other down: ' + (
            'lower --jobs' if trainings > 1 else 'lower OMP_NUM_THREADS' if threads > 1 else 'stop other programs')
    return threads, line


@contextlib.contextmanager
def only_comparison(work_dir: str, cores: int) -> Iterator[List[dict]]:
    """Keep other comparisons out of a work_dir, and see those of other work_dirs on this machine.

    Both end with the process, however it ends.

    Args:
        work_dir (str): Folder of the comparison.
        cores (int): Cores that this one uses, for others to know.

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
        with contextlib.suppress(OSError):  # of another user, who may write there too
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, 0o1777)
        others = [found for path in glob.glob(os.path.join(folder, '*.lock')) if (found := _holder(path))]
        with contextlib.suppress(OSError):
            path = os.path.join(folder, f'{os.getpid()}_{time.time_ns()}.lock')
            entry, _ = _lock(path, note)
            stack.callback(os.unlink, path)
            stack.enter_context(entry)
        yield others


def _lock(path: str, note: dict) -> Tuple[Optional[IO], dict]:
    """Lock a file, until it is closed, and write a note to it; None and the holder's note if it is locked."""
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


def _holder(path: str) -> Optional[dict]:
    """The note of the process that holds a lock; None, and the file is removed, if none does."""
    try:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _note(file)
        os.unlink(path)
    except OSError:  # gone by now, or of another user
        pass
    return None


def _note(file: IO) -> dict:
    file.seek(0)
    try:
        note = json.load(file)
    except json.JSONDecodeError:  # it is being written
        note = {}
    return note if isinstance(note, dict) else {}
