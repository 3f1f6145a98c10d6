"""Methods side by side: what is trained, what is skipped, what a failure costs."""
import json
import os
import pathlib
import textwrap

import pytest
import torch

from distpro_mm.comparison import Benchmark, run_benchmark, runs
from distpro_mm.errors import ConfigError

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def write(folder, text, name='small.py'):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark of one epoch on a few digits."""
    small = textwrap.dedent("""
        train_cfg = dict(max_epochs=1)
        train_dataloader = dict(batch_size=20, dataset=dict(dataset=dict(images_per_class=10)))
        val_dataloader = dict(dataset=dict(dataset=dict(indices=100)))
        """)
    for name, base in dict(teacher='teachers/resnet20_digits.py', student='baselines/student.py', kd='baselines/kd.py',
                           search='distpro/search.py', distpro='distpro/distill.py').items():
        write(tmp_path, f"_base_ = '{CONFIGS / base}'\n{small}log_level = 'ERROR'\n", f'{name}.py')
    return write(tmp_path, '''
        benchmark = dict(
            pair='resnet20_resnet8-half_digits',
            teacher='teacher.py', search='search.py',
            methods=dict(student='student.py', kd='kd.py', distpro='distpro.py'), reference='student', seeds=[0, 1])''')


class InOrder:
    """Stands for the pool of processes: runs each job at once, in this process."""

    def __init__(self, *args):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def submit(self, function, *args):
        future = runs.futures.Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(runs.futures, 'ProcessPoolExecutor', InOrder)


def student_weights(folder, seed):
    return torch.load(folder / 'work' / 'kd' / f'seed_{seed}' / 'epoch_1.pth')['state_dict']


def test_trains_all_then_only_what_has_changed(benchmark, here, tmp_path):
    told = []
    first = Benchmark(benchmark, str(tmp_path / 'work'))
    results = run_benchmark(first, 1, told.append)
    assert [(r['name'], r['seed']) for r in results] == [
        ('teacher', 0), ('search', 0), ('student', 0), ('kd', 0), ('distpro', 0), ('student', 1), ('kd', 1), ('distpro', 1)]
    assert all(0 <= r['accuracy'] <= 100 and r['iterations'] > 0 for r in results)
    assert os.path.exists(first.process)
    again = run_benchmark(Benchmark(benchmark, str(tmp_path / 'work')), 1, told.append)
    assert again == results and told[-1] == '8 of 8 trainings were done before'
    weights = [student_weights(tmp_path, seed) for seed in (0, 1)]
    assert not torch.equal(weights[0]['architecture.head.fc.weight'], weights[1]['architecture.head.fc.weight'])
    # One config is changed and one result damaged: those two are trained again, and nothing else.
    with open(tmp_path / 'student.py', 'a') as file:
        file.write('optim_wrapper = dict(optimizer=dict(lr=0.01))\n')
    damaged = tmp_path / 'work' / 'kd' / 'seed_1' / 'result.json'
    damaged.write_text(damaged.read_text()[:20])
    told.clear()
    changed = run_benchmark(Benchmark(benchmark, str(tmp_path / 'work')), 1, told.append)
    assert told[0] == '5 of 8 trainings were done before' and len(told) == 4
    again = student_weights(tmp_path, 1)
    assert all(torch.equal(again[name], weights[1][name]) for name in again)
    same = {('teacher', 0), ('search', 0), ('kd', 0), ('kd', 1), ('distpro', 0), ('distpro', 1)}
    accuracy = {(r['name'], r['seed']): r['accuracy'] for r in results}
    assert {(r['name'], r['seed']) for r in changed if accuracy[r['name'], r['seed']] == r['accuracy']} >= same


def test_a_failure_leaves_out_what_needs_it_and_no_more(benchmark, here, tmp_path):
    with open(tmp_path / 'search.py', 'a') as file:
        file.write("train_cfg = dict(max_epochs=1, held_out=dict(ratio=0.001))\n")
    told = []
    results = run_benchmark(Benchmark(benchmark, str(tmp_path / 'work')), 1, told.append)
    assert {r['name'] for r in results} == {'teacher', 'student', 'kd'} and len(results) == 5
    failed = [line for line in told if 'search, seed 0: FAILED' in line]
    assert len(failed) == 1 and 'held_out' in failed[0]
    assert sum('left out, because it needs teacher and search' in line for line in told) == 2
    assert 'held_out' in (tmp_path / 'work' / 'search' / 'run.log').read_text()


def test_runs_in_processes_of_their_own(tmp_path, benchmark):
    text = (tmp_path / 'small.py').read_text().replace("search='search.py',", '').replace(", distpro='distpro.py'", '')
    path = write(tmp_path, text.replace(", kd='kd.py'", '').replace('[0, 1]', '[0]'), 'tiny.py')
    results = run_benchmark(Benchmark(path, str(tmp_path / 'work')), 2, lambda line: None)
    assert [r['name'] for r in results] == ['teacher', 'student']
    assert json.loads((tmp_path / 'work' / 'student' / 'seed_0' / 'result.json').read_text()) == results[1]


@pytest.mark.parametrize('change, message', [
    (("reference='student'", "reference='best'"),
     r"reference='best' is not one of the methods \['student', 'kd', 'distpro'\]"),
    (('seeds=[0, 1]', 'seeds=[0, 0]'), r'seeds=\[0, 0\] must be one or more different numbers'),
    (('seeds=[0, 1]', 'seeds=[]'), r'seeds=\[\] must be'),
    (("kd='kd.py'", "kd='nothing.py'"), "names the config 'nothing.py', and there is no file"),
    (("teacher='teacher.py', ", ''), 'is not a benchmark'),
    (('resnet8-half_digits', 'nonsense'), 'no such pair; nearest: resnet20_resnet8-half_digits'),
    (("search='search.py',", ''), "'distpro' replays a process, and benchmark.search is missing"),
])
def test_a_benchmark_that_cannot_run_is_refused(benchmark, tmp_path, change, message):
    text = (tmp_path / 'small.py').read_text()
    assert change[0] in text
    path = write(tmp_path, text.replace(*change), 'wrong.py')
    with pytest.raises(ConfigError, match=message):
        Benchmark(path, str(tmp_path / 'work')).jobs()
