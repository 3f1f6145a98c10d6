"""The processes of a comparison: cores and threads, GPUs, killed processes, and the lock of a work_dir."""
import contextlib
import json
import multiprocessing
import os
import pathlib
import runpy
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from concurrent.futures.process import ProcessPoolExecutor

import pytest
import torch
from processes import started

from distpro_mm.comparison import Benchmark, pool, run_benchmark, training
from distpro_mm.comparison.pool import default_workers, lock_work_dir, share_cores, usable_cores
from distpro_mm.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def machine(monkeypatch):
    """machine(cores, load, affinity): set what the operating system reports."""
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)

    def have(cores, load=0.0, affinity=None):
        monkeypatch.setattr(os, 'cpu_count', lambda: cores)
        monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(affinity or cores)), raising=False)
        monkeypatch.setattr(os, 'getloadavg', lambda: (load, 99.0, 99.0))

    return have


@pytest.mark.parametrize('cores, load, taken, trainings, threads, free', [
    (2, 0.1, 0, 2, 1, 2), (2, 0.1, 0, 1, 2, 2), (2, 1.2, 0, 1, 1, 1), (16, 0.0, 0, 3, 5, 16), (16, 8.0, 0, 2, 4, 8),
    (16, 40.0, 0, 2, 1, 0), (16, 0.0, 8, 2, 4, 8), (4, 0.0, 0, 8, 1, 4)])
def test_trainings_share_the_cores_that_are_free(machine, cores, load, taken, trainings, threads, free):
    machine(cores, load)
    found, line = share_cores(trainings, taken)
    assert found == threads and f'{free} of {cores} cores' in line and f'load of {load:.1f}' in line
    assert ('slow each other down' in line) == (trainings * threads > max(1, free))


def test_what_the_user_set_is_taken_as_it_is(machine, monkeypatch):
    machine(16, 12.0)
    monkeypatch.setenv('OMP_NUM_THREADS', '6,2')
    threads, line = share_cores(2)
    assert threads == 6 and 'set by OMP_NUM_THREADS' in line and 'lower --jobs' in line
    assert default_workers() == 2
    monkeypatch.setenv('OMP_NUM_THREADS', 'all')
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS='all' in the environment must be a whole number from 1"):
        share_cores(1)


@pytest.mark.parametrize('files, cores', [
    ({}, 12), ({'cpu.max': '250000 100000'}, 2), ({'cpu.max': 'max 100000'}, 12), ({'cpu.max': '50000 100000'}, 1),
    ({'a/cpu.max': '400000 100000', 'a/b/cpu.max': '300000 100000'}, 3), ({'c/cpu.max': '100000 100000'}, 12),
    ({'cpu/cpu.cfs_quota_us': '400000', 'cpu/cpu.cfs_period_us': '100000'}, 4),
    ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 12), ({'cpu.max': ''}, 12)])
def test_a_containers_quota_and_the_affinity_are_limits(machine, tmp_path, files, cores):
    machine(64, affinity=12)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + '\n')
    (tmp_path / 'own').write_text('4:memory:/x\n0::/a/b\n')
    assert usable_cores(str(tmp_path), str(tmp_path / 'own')) == cores


def test_processes_take_the_gpus_in_turn(monkeypatch):
    taken, threads = [], []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', taken.append)
    monkeypatch.setattr(pool, 'cache_images', lambda count: None)
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    for worker in range(3):
        pool._start_worker(5, worker)
    assert taken == [0, 1, 0] and threads == [5, 5, 5]


KILLER = """
    import os, pathlib, signal

    from mmengine.hooks import Hook
    from mmrazor.registry import HOOKS


    @HOOKS.register_module()
    class KillOnce(Hook):
        def __init__(self, mark):
            self.mark = pathlib.Path(mark)

        def before_train_epoch(self, runner):
            if runner.epoch == 1 and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
    """


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_process_that_is_killed_fails_no_job(done, monkeypatch):
    """Two real processes at a time and a real SIGKILL. They are forked from a server that has imported the toolbox."""
    forkserver = multiprocessing.get_context('forkserver')
    forkserver.set_forkserver_preload(['distpro_mm'])
    monkeypatch.setattr(pool.multiprocessing, 'get_context', lambda method: forkserver)
    monkeypatch.setattr(pool.futures, 'ProcessPoolExecutor', ProcessPoolExecutor)
    (done.path / 'modules').mkdir()  # a module of the user, which the config imports
    (done.path / 'modules' / 'killer.py').write_text(textwrap.dedent(KILLER))
    monkeypatch.syspath_prepend(str(done.path / 'modules'))
    done.append('kd', "custom_imports = dict(imports=['distpro_mm', 'killer'])\n"
                "custom_hooks = [dict(type='mmrazor.KillOnce', mark='mark')]")
    shutil.rmtree(done.path / 'work' / 'student' / 'seed_0')  # it is trained beside kd
    messages = []
    path = done.write(('seeds=[0, 1]', 'seeds=[0]'))
    ran = run_benchmark(Benchmark(path, 'work', only=['kd']), 2, messages.append)
    assert ran['failed'] == 0 and [r['name'] for r in ran['results']] == ['teacher', 'student', 'kd']
    assert messages[0].startswith('2 trainings at a time, 1 thread each (set by OMP_NUM_THREADS): ')  # by conftest.py
    assert [line.partition(':')[0] for line in messages if 'its process was killed' in line] == ['kd, seed 0']
    assert 'kd/seed_0/epoch_1.pth' in (done.path / 'work' / 'kd' / 'seed_0' / 'run.log').read_text()
    written = json.loads((done.path / 'work' / 'student' / 'seed_0' / 'result.json').read_text())
    assert {**written, 'settings': {}, 'work_dir': os.path.join('student', 'seed_0')} == ran['results'][1]


def test_a_job_whose_process_is_killed_twice_has_failed(done, monkeypatch):
    done.append('kd', 'optim_wrapper = dict(optimizer=dict(lr=0.01))')
    tries = []

    def killed(cfg, resume=None, **options):
        tries.append(cfg.work_dir)
        raise pool.BrokenProcessPool('A process in the process pool was terminated abruptly')

    monkeypatch.setattr(training, 'build_trainer', killed)
    ran = done.run(done.write(('seeds=[0, 1]', 'seeds=[0]')), only=['kd'])
    assert ran.failed == 1 and [r['name'] for r in ran.results] == ['teacher', 'student'] and len(tries) == 2
    assert 'kd, seed 0: FAILED' in ran.messages[-1] and 'killed again, although no other training' in ran.messages[-1]


def _is_running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _compare(path):
    """Run compare.py with a worker in a new session, so that its processes are a group."""
    os.setsid()
    os.chdir(path)
    tempfile.tempdir = str(path)
    pool.futures.ProcessPoolExecutor = ProcessPoolExecutor  # the worker is a process, started as for a user
    sys.argv = ['compare.py', 'small.py', '--work-dir', 'work', '--jobs', '1']
    runpy.run_path(str(ROOT / 'tools' / 'compare.py'), run_name='__main__')


@contextlib.contextmanager
def _comparison(folder, has_begun):
    """Run compare.py in a separate process, which has imported the toolbox already."""
    comparison = started(_compare, folder.path)
    try:
        _wait_until(lambda: has_begun(comparison), 400, comparison)  # imports are slow on a busy machine
        yield comparison
        _wait_until(lambda: not _is_running(comparison.pid), 60)
    finally:
        if _is_running(comparison.pid):
            os.killpg(comparison.pid, signal.SIGKILL)


def _wait_until(condition, seconds, process=None):
    until = time.time() + seconds
    while not condition():
        assert time.time() < until and (process is None or process.is_alive())
        time.sleep(0.1)


def test_a_comparison_ends_well_though_its_note_for_others_is_gone(tmp_path, monkeypatch):
    """What cleans the folder of temporary files may remove it during a long comparison."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    with lock_work_dir(str(tmp_path / 'work'), 1):
        note, = tmp_path.glob('distpro_mm_comparisons/*.lock')
        note.unlink()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_comparison_that_ends_leaves_nothing_running_and_is_alone_until_then(folder):
    def trains(comparison):
        return list(folder.path.glob('work/teacher/*/vis_data'))

    def has_a_worker(comparison):
        children = pathlib.Path(f'/proc/{comparison.pid}/task/{comparison.pid}/children').read_text().split()
        return any('multiprocessing.spawn' in pathlib.Path(f'/proc/{child}/cmdline').read_text() for child in children)

    folder.append('teacher', 'train_cfg = dict(max_epochs=1000)')
    with _comparison(folder, trains) as killed:
        with pytest.raises(ConfigError, match=f"'work': another comparison runs there since .*, process {killed.pid} on"):
            folder.run()
        with lock_work_dir('elsewhere', 1) as others:  # the lock reports where the other one runs
            assert (killed.pid, str(folder.path / 'work')) in [(other['pid'], other['work_dir']) for other in others]
        killed.kill()
        killed.join()
    shutil.rmtree(folder.path / 'work' / 'teacher')
    with _comparison(folder, has_a_worker) as stopped:  # the killed one holds no lock
        stopped.terminate()
        stopped.join(400)  # a worker may have to end its imports first
        assert stopped.exitcode == 128 + signal.SIGTERM
    assert not list(folder.path.glob('work/**/result.json'))
    with lock_work_dir('work', 1) as others:
        assert not {killed.pid, stopped.pid} & {other['pid'] for other in others}
