"""The line with the progress of a comparison, on a terminal."""
import time
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from ..engine.hooks.progress_hook import terminal

SHOWN = 3  # names of running trainings


class LiveLine:
    """Shows trainings done and planned, those that run, and the time left, below what is printed; a context manager.

    Without a terminal nothing is shown.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __enter__(self) -> 'LiveLine':
        console = terminal()
        if console is not None:
            self._progress = Progress(TextColumn('{task.description}'), BarColumn(bar_width=20), MofNCompleteColumn(),
                                      TimeLeftColumn(), console=console, transient=True)
            self._task = self._progress.add_task('comparison', total=None, deadline=None)
            self._progress.start()
        return self

    def __exit__(self, *error) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def show(self, done: int, planned: int, running: Sequence[str], left: float | None) -> None:
        """Update the line.

        Args:
            done (int): Trainings that are done, those that failed included.
            planned (int): All trainings.
            running (Sequence[str]): Titles of the trainings that run.
            left (float, optional): Estimated seconds until the end; None while no training has ended.
        """
        if self._progress is None:
            return
        more = f' and {len(running) - SHOWN} more' if len(running) > SHOWN else ''
        self._progress.update(
            self._task, completed=done, total=planned, description=f'{"; ".join(running[:SHOWN])}{more}' or 'comparison',
            deadline=None if left is None else time.monotonic() + left)


class TimeLeftColumn(ProgressColumn):
    """The time left until the field ``deadline`` of a task, in seconds of the monotonic clock."""

    def render(self, task: Task) -> Text:
        """Text: The time left; empty if it is not known."""
        deadline = task.fields['deadline']
        return Text('' if deadline is None else f'about {duration(max(0., deadline - time.monotonic()))} left')


def duration(seconds: float) -> str:
    """str: A time in seconds, minutes or hours."""
    if seconds < 7200:
        return f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'
