"""Calls that the nodes of a Ray cluster execute."""
import concurrent.futures as futures
import contextlib
import dataclasses
import logging
import os
import pathlib
import socket
import uuid
from collections.abc import Callable
from typing import Any

import torch

from distpro.checks import check_number, check_that, check_whole
from distpro.errors import first_line

from ..datasets import CACHED, cache_images
from ..errors import ConfigError, TrainingError
from .outcome import Outcome

RETRIES = 3  # of a call whose process or node was lost
PROBE_SECONDS, KNOCK_SECONDS, WAIT_SECONDS = 120, 10, 5


@dataclasses.dataclass(frozen=True)
class RayOptions:
    """Where a Ray cluster is, and what each call needs.

    Args:
        address (str): 'auto': the cluster that this machine belongs to; 'local': processes of this machine alone; or
            ``'<host>:<port>'`` of the head node. Defaults to 'auto'.
        cpus (int): Cores and threads of a call, >= 1. Defaults to 1.
        gpus (float, optional): GPUs of a call, >= 0; a fraction lets several share one. Defaults to None: 1 if the cluster
            has any, else 0.
        memory (float, optional): Main memory of a call in GiB, > 0. Ray does not start more calls on a node than its memory
            has room for. Defaults to None: not counted.

    Raises:
        ArgumentError: If a value is out of range.
    """
    address: str = 'auto'
    cpus: int = 1
    gpus: float | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        check_that('address', self.address, isinstance(self.address, str) and self.address,
                   "'auto', 'local' or '<host>:<port>'")
        check_whole('cpus', self.cpus)
        if self.gpus is not None:
            check_number('gpus', self.gpus, least=0)
            check_that('gpus', self.gpus, self.gpus <= 1 or self.gpus == int(self.gpus),
                       'a whole number or a fraction below 1')
        if self.memory is not None:
            check_number('memory', self.memory, above=0)


class RayPool:
    """Executes calls on the nodes of a Ray cluster; a context manager.

    A call whose process or node is lost is executed again, on another node if need be, up to three times. So calls must be
    able to start again from what they left in the shared folder. All nodes need the same versions of ``distpro_mm`` and
    torch, and must see the current folder and ``shared`` at the same paths.

    Args:
        options (RayOptions): The cluster, and what a call needs.
        shared (str): Folder in which calls leave files. It must exist.
        most (int, optional): Calls at a time, >= 1. Defaults to None: as many as the cluster has room for, which may change.

    Raises:
        ConfigError: If Ray is not installed, there is no such cluster, a node cannot be used, or none has room for a call.
    """

    def __init__(self, options: RayOptions, shared: str, most: int | None = None) -> None:
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # nothing is sent to anybody
        try:
            import ray
        except ImportError as error:
            raise ConfigError("Ray is not installed: pip install 'distpro_mm[ray]'") from error
        self._ray, self._options, self._shared, self._most = ray, options, os.path.abspath(shared), most
        self._running: dict[futures.Future, Any] = {}

    def __enter__(self) -> 'RayPool':
        address = self._options.address
        try:
            _knock(address)
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"address='{address}': no Ray cluster can be reached ({first_line(error)}); start one by "
                              "`ray start --head`, or give 'local' or '<host>:<port>'") from error
        self._mark, content = os.path.join(self._shared, '.cluster'), uuid.uuid4().hex
        with open(self._mark, 'w') as file:  # a node may have a separate folder at the same path
            file.write(content)
        self._needed = os.getcwd(), self._mark, content, _versions()
        try:
            self._gpus = self._options.gpus
            if self._gpus is None:
                self._gpus = min(1, int(self._ray.cluster_resources().get('GPU', 0)))
            self._check_nodes()
        except BaseException:
            self.__exit__(None)
            raise
        needs = dict(num_cpus=self._options.cpus, num_gpus=self._gpus, max_retries=RETRIES)
        if self._options.memory is not None:
            needs['memory'] = int(self._options.memory * 2**30)
        self._execute = self._ray.remote(**needs)(_execute)
        return self

    def __exit__(self, kind, *error) -> None:
        for reference in self._running.values():
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._mark)

    @property
    def room(self) -> int:
        """int: Calls that the cluster has room for at a time."""
        needs = dict(CPU=self._options.cpus, GPU=self._gpus, memory=(self._options.memory or 0) * 2**30)
        return sum(min(int(node['Resources'].get(name, 0) / need) for name, need in needs.items() if need)
                   for node in self._nodes())

    @property
    def free(self) -> int:
        """int: Calls that may be submitted now; 1 if none is running, although there may be no node for it yet."""
        return max((self._most or self.room) - len(self._running), not self._running)

    def __str__(self) -> str:
        nodes, most = len(self._nodes()), self._most or self.room
        gpus = f' and {self._gpus:g} GPU{"s" * (self._gpus != 1)}' if self._gpus else ''
        return (f'{most} at a time on {nodes} node{"s" * (nodes > 1)} of a Ray cluster, with {self._options.cpus} '
                f'core{"s" * (self._options.cpus > 1)}{gpus} each')

    def submit(self, function: Callable, *args: Any) -> futures.Future:
        """Let a node execute a call; returns its handle."""
        reference = self._execute.remote(function, args, self._needed, self._options.cpus)
        future = reference.future()
        self._running[future] = reference
        return future

    def wait(self) -> list[tuple[futures.Future, Outcome]]:
        """Wait until at least one call has ended, or for some seconds, after which there may be room for more calls.

        Returns:
            list[tuple]: Handle and outcome of all calls that have ended.
        """
        done = futures.wait(self._running, WAIT_SECONDS, futures.FIRST_COMPLETED).done
        for future in done:
            del self._running[future]
        return [(future, self._outcome(future)) for future in done]

    def _outcome(self, future: futures.Future) -> Outcome:
        error = future.exception()
        if error is None:
            return Outcome(future.result())
        if isinstance(error, self._ray.exceptions.RayTaskError):
            return Outcome(error=getattr(error, 'cause', None) or error)
        return Outcome(error=TrainingError(f'its process or node was lost {RETRIES + 1} times ({first_line(error)}): is '
                                           'there enough memory? Declare what a training needs, so that fewer share a node'))

    def _nodes(self) -> list[dict]:
        return [node for node in self._ray.nodes() if node['Alive']]

    def _check_nodes(self) -> None:
        """Refuse a cluster that a call would not run on."""
        nodes = self._nodes()
        if not self.room:
            has = '; '.join(sorted(', '.join(f'{node["Resources"].get(name, 0) / unit:g} {word}' for name, unit, word in (
                ('CPU', 1, 'cores'), ('GPU', 1, 'GPUs'), ('memory', 2**30, 'GiB'))) for node in nodes))  # Ray has no order
            raise ConfigError(f'no node of the Ray cluster has room for a training with cpus={self._options.cpus}, '
                              f'gpus={self._gpus:g} and memory={self._options.memory}; they have: {has}')
        try:
            on = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
            probe = self._ray.remote(num_cpus=0, max_retries=0)(_problem)
            found = [probe.options(scheduling_strategy=on(node['NodeID'], soft=False)).remote(
                *self._needed) for node in nodes if node['Resources'].get('CPU')]
            problems = [self._answer(reference) for reference in found]
        except self._ray.exceptions.RayError as error:
            raise ConfigError(f'a node of the Ray cluster cannot be used: {_reason(error)}; all nodes need distpro_mm[mm] '
                              'and the same versions of Python and Ray') from error
        problem = next(filter(None, problems), None)
        if problem:
            raise ConfigError(problem)

    def _answer(self, reference: Any) -> str | None:
        """What a node answers to :func:`_problem`; None also of a node that has just been lost."""
        lost = self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.WorkerCrashedError
        try:
            return self._ray.get(reference, timeout=PROBE_SECONDS)
        except lost:
            return None


def _knock(address: str) -> None:
    """Raise an OSError if nothing listens at ``<host>:<port>``, for which Ray itself would wait for many minutes."""
    host, _, port = address.rpartition(':')
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _versions() -> dict[str, str]:
    from .. import __version__
    return {'distpro_mm': __version__, 'torch': torch.__version__}


def _problem(folder: str, mark: str, content: str, versions: dict[str, str]) -> str | None:
    """Why calls cannot run on this node; None if they can."""
    work_dir = os.path.dirname(mark)
    problems = [f"does not see '{path}': the current folder and the work_dir must be on a disk that all nodes share, at the "
                'same path' for path in (folder, work_dir) if not os.path.isdir(path)]
    if not os.path.exists(mark) or pathlib.Path(mark).read_text() != content:
        problems.append(f"has another folder at '{work_dir}': the work_dir must be on a disk that all nodes share")
    problems += [f'has {name} {_versions()[name]} and not {wanted}: install the same version everywhere'
                 for name, wanted in versions.items() if _versions()[name] != wanted]
    return f"node '{socket.gethostname()}' of the Ray cluster {problems[0]}" if problems else None


def _execute(function: Callable, args: tuple, needed: tuple, threads: int) -> Any:
    """A call in a process of a node, which may have joined after the check at the start."""
    problem = _problem(*needed)
    if problem:
        raise ConfigError(problem)
    os.chdir(needed[0])
    torch.set_num_threads(threads)
    cache_images(CACHED)
    return function(*args)
