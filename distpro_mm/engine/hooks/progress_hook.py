import atexit
import logging
import sys

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ..search import Search


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a line with the progress and the time left below the log, if the output is a terminal.

    The default search does not know its length before its end, so the line is about the present trial. Without a terminal,
    the log is unchanged. :func:`.build_trainer` adds this hook to every training.
    """
    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._moved: list[logging.StreamHandler] = []  # handlers of the log that write above the line

    def before_train(self, runner) -> None:
        """Show the line."""
        console = terminal()
        if console is None or not is_main_process():
            return
        stream = sys.stdout
        self._progress = Progress(TextColumn('{task.description}'), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
                                  TextColumn('left'), console=console, transient=True)
        self._task = self._progress.add_task('training', total=None)
        self._progress.start()
        atexit.register(self.stop)  # after an error too, or the cursor stays hidden
        self._moved = [handler for handler in runner.logger.handlers
                       if isinstance(handler, logging.StreamHandler) and handler.stream is stream]
        for handler in self._moved:
            handler.setStream(sys.stdout)  # the one that writes above the line

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Start anew with a trial of a search."""
        loop = runner.train_loop
        if self._progress is not None and isinstance(loop, Search) and loop.iterations and runner.iter == loop.round_start:
            self._progress.reset(self._task, total=loop.iterations)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Move the line on."""
        if self._progress is None:
            return
        loop, done = runner.train_loop, runner.iter + 1
        if isinstance(loop, Search) and loop.iterations:
            text, total = f'search, trial {len(loop.searcher.history) + 1}', loop.iterations
            done -= loop.round_start
        else:
            text, total = f'epoch {runner.epoch + 1} of {runner.max_epochs}', runner.max_iters
        self._progress.update(self._task, completed=done, total=total, description=text)

    def after_train(self, runner) -> None:
        """Remove the line."""
        self.stop()

    def stop(self) -> None:
        """Remove the line, and let the log write as before."""
        if self._progress is None:
            return
        progress, self._progress = self._progress, None
        progress.stop()
        for handler in self._moved:
            handler.setStream(sys.stdout)
        self._moved = []
        atexit.unregister(self.stop)


def terminal() -> Console | None:
    """The terminal that the output goes to; None if it goes elsewhere."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else None
