"""Exit codes of the command and the tools, and shell completion."""
import os
import signal
import subprocess
import sys
import time

import pytest
from folder_runs import PAIR, ROOT

from distpro_app.main import main

ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


@pytest.mark.parametrize('arguments, code, message', [
    (['--help'], 0, ''), (['process', 'list'], 0, ''),
    (['process', 'show', 'genral'], 1, "error: there is no process file 'genral' (nearest: general)"),
    (['distil'], 2, "Did you mean 'distill'?"), (['validate', '--buld'], 2, '--build'),
])
def test_done_an_error_and_wrong_usage(arguments, code, message, command):
    done = command(*arguments)
    assert done.returncode == code and message in done.stderr and 'Traceback' not in done.stderr


def heed_interrupts():
    """Programs that a shell has started in the background ignore Ctrl-C, and so do those that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted(arguments, started, folder):
    """A program that gets Ctrl-C once it has printed a line that starts so: its exit code and stderr."""
    process = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=folder, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=ENVIRONMENT, preexec_fn=heed_interrupts)
    for line in process.stdout:
        if started in line:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate()[1]
    return process.returncode, rest


@pytest.mark.long
def test_an_interrupt_of_the_command_is_130_and_one_line(photos, tmp_path):
    arguments = ['-m', 'distpro_app', 'distill', *PAIR, '--epochs', 2000, '--out', 'run']
    code, error = interrupted(arguments, 'student, epoch', tmp_path)
    assert code == 130 and 'Traceback' not in error
    assert error.strip().endswith('interrupted: distpro distill --settings run/settings.json --resume continues after the '
                                  'last epoch')


@pytest.mark.long
def test_an_interrupt_of_a_tool_is_130_and_one_line(tmp_path):
    arguments = [ROOT / 'tools' / 'train.py', ROOT / 'configs/teachers/resnet20_digits.py', '--work-dir', tmp_path,
                 '--cfg-options', 'train_cfg.max_epochs=1000', 'default_hooks.logger.interval=1']
    code, error = interrupted(arguments, 'Epoch(train)', tmp_path)
    assert code == 130 and 'Traceback' not in error and 'interrupted: a training continues' in error


def test_a_shell_completes_commands_and_options(monkeypatch, capsys):
    for words, found in (('distpro dis', 'distill'), ('distpro distill --teacher-w', '--teacher-weights')):
        monkeypatch.setenv('_DISTPRO_COMPLETE', 'complete_bash')
        monkeypatch.setenv('COMP_WORDS', words)
        monkeypatch.setenv('COMP_CWORD', str(len(words.split()) - 1))
        monkeypatch.setattr(sys, 'argv', ['distpro'])
        monkeypatch.setattr(sys, 'path', list(sys.path))
        assert main() == 0
        assert found in capsys.readouterr().out.split()


def test_every_help_has_an_example(command):
    for name in ('list', 'show', 'diff', 'convert', 'average'):
        assert f'\n  distpro process {name}' in command('process', name, '--help').stdout, name
