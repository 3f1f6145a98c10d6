"""The line with the progress of a training: on a terminal, and nowhere else."""
import io
import os
import pathlib
import pty
import re
import subprocess
import sys

import pytest
from mmengine.runner import Runner
from rich.console import Console
from runs import Watch

from distpro_mm.engine.hooks import ProgressHook, progress_hook
from distpro_mm.engine.launch import build_trainer

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of 100 columns receives."""
    received = io.StringIO()
    monkeypatch.setattr(progress_hook, 'terminal', lambda: Console(file=received, force_terminal=True, width=100))
    return received


def tasks(runner):
    """The line after an iteration: what it says, and how much is done."""
    hook, = (hook for hook in runner.hooks if isinstance(hook, ProgressHook))
    task, = hook._progress.tasks
    return task.description, task.completed, task.total


def test_a_training_shows_its_epoch_and_share(make_config, screen):
    runner = build_trainer(make_config('student'))
    watch = Watch(after=tasks)
    runner.register_hook(watch, 'LOWEST')
    runner.train()
    assert watch.seen == [(f'epoch {1 + i // 5} of 2', i + 1, 10) for i in range(10)]
    text = screen.getvalue()
    assert 'epoch ' in text and ' left' in text
    assert text.rindex('\x1b[?25h') > text.rindex('\x1b[?25l'), 'the cursor is shown'


def test_a_search_shows_the_present_trial(make_config, screen):
    cfg = make_config('whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1)
    runner = build_trainer(cfg)
    watch = Watch(after=tasks)
    runner.register_hook(watch, 'LOWEST')
    runner.train()
    batches = len(watch.seen) // 2
    assert watch.seen == [(f'search, trial {trial}', i + 1, batches) for trial in (1, 2) for i in range(batches)]


def test_an_error_leaves_the_terminal_in_order(make_config, screen):
    def fail(runner):
        raise RuntimeError('broken')

    runner = build_trainer(make_config('student'))
    runner.register_hook(Watch(after=fail))
    with pytest.raises(RuntimeError, match='broken'):
        runner.train()
    hook, = (hook for hook in runner.hooks if isinstance(hook, ProgressHook))
    before = sys.stdout
    hook.stop()  # as at the end of the program
    assert '\x1b[?25h' in screen.getvalue() and sys.stdout is not before
    hook.stop()


def test_without_a_terminal_nothing_is_shown(make_config, capfd):
    cfg = make_config('student')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(ProgressHook())
    runner.train()
    output = ''.join(capfd.readouterr())
    assert '\x1b' not in output and ' left' not in output


@pytest.mark.slow
def test_the_log_and_the_line_share_a_terminal(tmp_path):
    main, side = pty.openpty()
    options = ['train_cfg.max_epochs=2', 'train_dataloader.dataset.dataset.images_per_class=10',
               'train_dataloader.batch_size=20', 'default_hooks.logger.interval=1']
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools' / 'train.py', ROOT / 'configs/teachers/resnet20_digits.py', '--work-dir', tmp_path,
         '--cfg-options', *options], stdout=side, stderr=side, env={**os.environ, 'TERM': 'xterm', 'COLUMNS': '200'})
    os.close(side)
    received = b''
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        received += chunk
    text = received.decode()
    assert process.wait() == 0, text
    assert re.search(r'epoch \d of 2', text) and 'left' in text
    plain = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)
    lines = [line for line in re.split(r'[\r\n]+', plain) if 'Epoch(train)' in line]
    assert len(lines) >= 10 and all(re.match(r'\d\d/\d\d [\d:]+ - mmengine - INFO - ', line) for line in lines)
    assert text.rindex('\x1b[?25h') > text.rindex('\x1b[?25l'), 'the cursor is shown at the end'
