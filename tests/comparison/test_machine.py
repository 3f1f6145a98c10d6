"""Cores and threads: what the user set, what the machine leaves, and one line about it."""
import os

import pytest

from distpro_mm.comparison.machine import share_cores, usable_cores, usual_trainings
from distpro_mm.errors import ConfigError


@pytest.fixture
def machine(monkeypatch):
    """machine(cores, load, affinity): what the operating system says."""
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
    assert usual_trainings() == 2
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
