"""Trains the jobs of a comparison on a pool of processes, each after the jobs that it needs, and reports progress."""
import concurrent.futures as futures
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from distpro.errors import first_line

from ..engine.outcome import Outcome
from ..engine.ray_pool import RayPool
from .live_line import duration
from .pool import Pool
from .training import Job, read_result, train_job


class Scheduler:
    """Trains jobs and stores their results.

    Args:
        pool (Pool or RayPool): Executes the trainings.
        log (Callable): Called with a message about every job that ends.
        show (Callable, optional): Called when a job starts or ends, with the arguments of :meth:`.LiveLine.show`. Defaults
            to None.
    """

    def __init__(self, pool: Pool | RayPool, log: Callable[[str], None],
                 show: Callable[[int, int, Sequence[str], float | None], None] | None = None) -> None:
        self.pool, self.log = pool, log
        self._show = show or (lambda *progress: None)
        self.planned: set[str] = set()  # keys of the jobs of the whole comparison, for the time left
        self.results: dict[str, dict] = {}  # by the job's key; {} of a job that failed
        self.killed: set[str] = set()  # keys of jobs whose process was killed once
        self.started, self.trained = time.time(), 0

    def __getitem__(self, job: Job) -> dict | None:
        """The result of a job; None if it failed or has not been trained."""
        return self.results.get(job.key) or None

    def values(self, jobs: Iterable[Job], name: str = 'accuracy') -> list[float]:
        """A value of each job's result; jobs that failed are left out."""
        return [self[job][name] for job in jobs if self[job]]

    def plan(self, jobs: Iterable[Job]) -> None:
        """Count jobs, and the jobs that they need, among those that the comparison has to train."""
        self.planned |= {other.key for job in jobs for other in (*job.needs, job)}

    def train(self, jobs: Iterable[Job]) -> None:
        """Train the jobs that are not done yet, and the jobs that they need."""
        found: dict[str, Job] = {}

        def collect(job: Job) -> None:
            for needed in job.needs:
                collect(needed)
            found.setdefault(job.key, job)

        for job in jobs:
            collect(job)
        results = {key: read_result(job) for key, job in found.items() if key not in self.results}
        done = {key: result for key, result in results.items() if result}
        self.results.update(done)
        if done:
            self.log(f'{len(done)} of {len(found)} trainings were done before')
        waiting = [job for key, job in found.items() if key not in self.results]
        if waiting:
            self._train(waiting)

    def _train(self, waiting: list[Job]) -> None:
        running: dict[futures.Future, Job] = {}
        while waiting or running:
            self._give_up(waiting)
            ready = [job for job in waiting if all(self[needed] for needed in job.needs)]
            first = [job for job in ready if job.key not in self.killed][:self.pool.free]
            if not first and not running:  # a job that was killed is trained again alone, with all of the memory
                first = ready[:1]
            for job in first:
                waiting.remove(job)
                running[self.pool.submit(train_job, job)] = job
            if not running:
                break
            self._show(*self._done_and_planned(), [_title(job) for job in running.values()], self._left())
            for future, outcome in self.pool.wait():
                job = running.pop(future)
                if outcome.killed and job.key not in self.killed:
                    self.killed.add(job.key)
                    waiting.append(job)
                    self.log(f'{_title(job)}: its process was killed, most likely by a lack of memory; it resumes from '
                             'its last checkpoint when no other training runs')
                else:
                    self._store(job, outcome)

    def _give_up(self, waiting: list[Job]) -> None:
        """Remove the jobs that need a job that has failed."""
        for job in list(waiting):
            failed = [needed.name for needed in job.needs if self.results.get(needed.key) == {}]
            if failed:
                waiting.remove(job)
                self.results[job.key] = {}
                self.log(f'{_title(job)}: left out, because it needs {" and ".join(failed)}')

    def _done_and_planned(self) -> tuple[int, int]:
        """Numbers of the jobs that are done, those that failed included, and of all jobs."""
        return len(self.results), max(len(self.planned), len(self.results))

    def _left(self) -> float | None:
        """Seconds until the end, by the jobs that have ended; None before the first one has."""
        done, planned = self._done_and_planned()
        return (time.time() - self.started) / self.trained * (planned - done) if self.trained else None

    def _store(self, job: Job, outcome: Outcome) -> None:
        """Store the result of a job that has ended, and report it."""
        self.trained += 1
        error = outcome.error
        self.results[job.key] = {} if error else outcome.result
        done, planned = self._done_and_planned()
        if error is None:
            result = self[job]
            message = f'{result["accuracy"]:.1f}% in {result["seconds"]:.0f} s; about {duration(self._left())} left'
        else:
            reason = first_line(error) if str(error).strip() else type(error).__name__
            if outcome.killed:
                reason = 'its process was killed again, although no other training ran: is there enough memory?'
            message = f'FAILED, see {job.work_dir}/run.log: {reason}'
        self.log(f'[{done}/{planned}] {_title(job)}: {message}')


def _title(job: Job) -> str:
    names = _short_names(job.settings)
    settings = ', '.join(f'{names[option]}={_rounded(value)}' for option, value in job.settings.items())
    return ', '.join(filter(None, [job.name, f'trial of {settings}' if job.tuning and settings else '',
                                   f'{job.budget:.0%} of the epochs' if job.budget != 1 else '', f'seed {job.seed}']))


def _short_names(options: Iterable[str]) -> dict[str, str]:
    """Of each dotted key, as many of its last parts as no other key ends in."""
    options = list(options)
    found = {}
    for option in options:
        parts = option.split('.')
        ends = ('.'.join(parts[-count:]) for count in range(1, len(parts) + 1))
        found[option] = next((end for end in ends if sum(f'.{other}'.endswith(f'.{end}') for other in options) == 1), option)
    return found


def _rounded(value: Any) -> Any:
    return f'{value:.4g}' if isinstance(value, float) else value
