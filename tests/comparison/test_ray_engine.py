"""Comparisons on the nodes of a Ray cluster: several node processes of this machine, of which some are killed."""
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest
import torch

from distpro_mm.comparison import Benchmark, run_benchmark
from distpro_mm.engine import ray_pool
from distpro_mm.engine.ray_pool import RayOptions, RayPool
from distpro_mm.errors import ConfigError

ray = pytest.importorskip('ray')
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
ROOT = pathlib.Path(__file__).parents[2]


def wait_for_a_checkpoint(folder, process=None):
    until = time.time() + 400
    while not list(folder.glob('epoch_*.pth')):
        assert time.time() < until and (process is None or process.poll() is None)
        time.sleep(0.05)


def result(folder, name='kd', work='work'):
    return json.loads((folder.path / work / name / 'seed_0' / 'result.json').read_text())['accuracy']


def resumed(folder):
    return 'from path: work/kd/seed_0/epoch_' in (folder / 'run.log').read_text()


@pytest.fixture
def longer(done):
    """The benchmark, whose teacher and student are done, with more epochs of KD."""
    done.append('kd', 'train_cfg = dict(max_epochs=40)\nparam_scheduler = dict(T_max=40)')
    done.write(('seeds=[0, 1]', 'seeds=[0]'))
    return done


@pytest.fixture
def expected(longer):
    """KD's accuracy after a training in this process that nothing has stopped."""
    longer.run(only=['kd'])
    (longer.path / 'work' / 'kd').rename(longer.path / 'undisturbed')
    assert not resumed(longer.path / 'undisturbed' / 'seed_0')
    return json.loads((longer.path / 'undisturbed' / 'seed_0' / 'result.json').read_text())['accuracy']


def compare(folder, cluster):
    """Compare KD in a separate process."""
    return subprocess.Popen([
        sys.executable, ROOT / 'tools' / 'compare.py', 'small.py', '--work-dir', 'work', '--methods', 'kd', '--engine',
        'ray', '--address', cluster.address], cwd=folder.path, stdout=subprocess.PIPE, text=True)


def test_a_training_goes_on_from_its_checkpoint_on_another_node_when_its_node_dies(longer, expected, ray_cluster, ray_node):
    training = longer.path / 'work' / 'kd' / 'seed_0'
    comparison = compare(longer, ray_cluster)
    wait_for_a_checkpoint(training, comparison)
    ray_cluster.remove_node(ray_node, allow_graceful=False)
    ray_cluster.add()
    printed, _ = comparison.communicate()
    assert comparison.returncode == 0 and 'trainings: 1 at a time on 2 nodes of a Ray cluster, with 1 core each' in printed
    assert '2 of 3 trainings were done before' in printed
    assert resumed(training) and result(longer) == expected


def test_a_comparison_that_is_killed_loses_nothing_and_goes_on(longer, expected, ray_cluster, ray_node):
    """Its trainings end with it, or the next comparison would train in the same folders."""
    training = longer.path / 'work' / 'kd' / 'seed_0'
    killed = compare(longer, ray_cluster)
    wait_for_a_checkpoint(training, killed)
    killed.kill()
    killed.wait()
    done = run_benchmark(
        Benchmark('small.py', 'work', only=['kd']), log=lambda text: None, ray=RayOptions(ray_cluster.address))
    assert done['failed'] == 0 and resumed(training) and result(longer) == expected


def test_what_a_training_needs_is_declared(longer, ray_cluster, ray_node):
    with pytest.raises(ConfigError, match=r'no node of the Ray cluster has room for a training with cpus=2, gpus=0 and '
                       r'memory=None; they have: 0 cores, 0 GPUs, .* GiB; 1 cores, 0 GPUs'):
        with RayPool(RayOptions(ray_cluster.address, cpus=2), 'work'):
            pass
    with RayPool(RayOptions(ray_cluster.address, memory=1e-3), 'work') as pool:
        assert pool.room == pool.free == 1
        handle = pool.submit(lambda: (
            torch.get_num_threads(), ray.get_runtime_context().get_assigned_resources(), os.getcwd()))
        assert pool.free == 0
        (ended, outcome), = pool.wait()
    assert ended is handle and outcome.result == (1, {'CPU': 1, 'memory': 0.001 * 2**30 // 1}, os.getcwd())


def test_an_error_of_a_training_is_that_of_its_config(longer, ray_cluster, ray_node):
    longer.append('kd', 'optim_wrapper = dict(optimizer=dict(lr=-1.0))')
    messages = []
    done = run_benchmark(
        Benchmark('small.py', 'work', only=['kd']), log=messages.append, ray=RayOptions(ray_cluster.address))
    assert done['failed'] == 1 and 'kd, seed 0: FAILED' in messages[-1] and 'optimizer.lr=-1.0 must be' in messages[-1]


def test_a_node_with_other_versions_is_refused(longer, ray_cluster, ray_node, monkeypatch):
    monkeypatch.setattr(ray_pool, '_versions', lambda: {'torch': '1.0'})
    with pytest.raises(ConfigError, match=f"node '{socket.gethostname()}' of the Ray cluster has torch .* and not 1.0: "
                       'install the same version everywhere'):
        with RayPool(RayOptions(ray_cluster.address), 'work'):
            pass
