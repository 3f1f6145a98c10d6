"""The line with the progress of a comparison: on a terminal, and nowhere else."""
import io
import re

import pytest
from rich.console import Console

from distpro_mm.commands import compare
from distpro_mm.comparison import live_line

SMALL = ("""student='student.py', kd='kd.py',
        distpro=dict(config='replay.py', options={'custom_hooks.0.process': 'stage://search/process'})),""",
         "student='student.py'),")


@pytest.fixture
def small(folder):
    """A benchmark of the student alone: with the teacher, three trainings."""
    return folder.write(SMALL)


def test_a_terminal_has_a_line_with_trainings_and_time_left(small, monkeypatch, capsys):
    received = io.StringIO()
    monkeypatch.setattr(live_line, 'terminal', lambda: Console(file=received, force_terminal=True, width=120))
    compare(small, 'work', jobs=1)
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', received.getvalue())
    seen = list(dict.fromkeys(re.findall(r'(\w+(?:, seed \d)?) +\S+ (\d)/(\d)', text)))
    assert seen == [('teacher, seed 0', '0', '3'), ('student, seed 0', '1', '3'), ('student, seed 1', '2', '3')], text
    assert re.search(r'student, seed 1 .* 2/3 about \d+ (s|min) left', text)
    written = received.getvalue()
    assert written.rindex('\x1b[?25h') > written.rindex('\x1b[?25l'), 'the cursor is shown at the end'
    assert '[3/3] student, seed 1: ' in text + capsys.readouterr().out


def test_elsewhere_there_are_plain_lines(small, capfd):
    compare(small, 'work', jobs=1)
    printed = capfd.readouterr().out
    assert '\x1b' not in printed and re.findall(r'^\[(\d)/3\] ', printed, re.M) == ['1', '2', '3']


def test_the_line_names_three_trainings_and_counts_down(monkeypatch):
    received, now = io.StringIO(), [100.]
    monkeypatch.setattr(live_line, 'terminal', lambda: Console(file=received, force_terminal=True, width=120))
    monkeypatch.setattr(live_line.time, 'monotonic', lambda: now[0])
    with live_line.LiveLine() as line:
        line.show(2, 9, list('abcde'), 300.)
        line._progress.refresh()
        now[0] = 340.
        line._progress.refresh()
        line.show(3, 9, ['e'], None)
        line._progress.refresh()
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', received.getvalue())
    assert 'a; b; c and 2 more' in text and '2/9 about 5 min left' in text and '2/9 about 60 s left' in text
    assert re.search(r'e +\S+ 3/9 *\S*$', text.strip().splitlines()[-1].rstrip()), text[-200:]
