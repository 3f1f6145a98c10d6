"""Searches whose trials run on the nodes of a Ray cluster: node processes of this machine, of which one is killed."""
import copy
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.loops import ray_search_loop
from distpro_mm.engine.outcome import Outcome
from distpro_mm.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
SHORT = ['train_cfg.max_epochs=2', 'train_cfg.min_iterations=6', 'train_cfg.max_divisions=1',
         'train_dataloader.batch_size=20', 'model.teacher_ckpt=None', 'param_scheduler.T_max=2']


def search(folder, *options):
    """tools/train.py of a short search in a separate process."""
    return subprocess.Popen(
        [sys.executable, ROOT / 'tools/train.py', 'configs/distpro/search.py', '--resume', '--pair',
         'resnet20_resnet8-half_digits', '--work-dir', folder, '--cfg-options', *SHORT, *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def process(folder):
    found = json.loads((folder / 'process.json').read_text())
    assert found['origin']['complete']
    return found['alpha'], found['origin']['trials']


def finished(started):
    printed, _ = started.communicate(timeout=400)
    assert started.returncode == 0
    return printed


def wait_for(condition, running):
    until = time.time() + 400
    while not condition():
        assert time.time() < until and running.poll() is None
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize('options', [
    ['train_cfg.searcher.type=RpropSearcher', 'train_cfg.rounds=2'],
    ['train_cfg.searcher.type=RandomSearcher', 'train_cfg.rounds=4']])
def test_a_search_on_a_cluster_is_the_same_also_after_a_kill_and_a_lost_node(options, ray_cluster, ray_node, tmp_path):
    finished(search(tmp_path / 'alone', *options))
    ray_cluster.add()
    spread = [*options, 'train_cfg.type=mmrazor.RaySearchLoop', f'train_cfg.ray.address={ray_cluster.address}']
    logs = tmp_path / 'spread' / 'trials'
    killed = search(tmp_path / 'spread', *spread)
    wait_for(lambda: list(tmp_path.glob('spread/epoch_*.pth')), killed)  # after the first trials
    killed.kill()
    killed.wait()
    done = json.loads((tmp_path / 'spread' / 'process.json').read_text())['origin']['trials']
    again = search(tmp_path / 'spread', *spread)
    wait_for(lambda: any(len(list(trial.glob('2*'))) > 1 for trial in logs.glob('*')), again)  # an open trial, again
    ray_cluster.remove_node(ray_node, allow_graceful=False)
    printed = finished(again)
    assert 0 < len(done) < 7 and 'Trials: 2 at a time on 3 nodes of a Ray cluster, with 1 core each' in printed
    assert 'resumed epoch' in printed
    assert process(tmp_path / 'spread') == process(tmp_path / 'alone')


class SameProcess:
    """A pool with room for three calls, of which each is executed at once in this process; the last one ends first."""

    def __init__(self, *args):
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    @property
    def free(self):
        return 3 - len(self.running)

    def submit(self, function, *args):
        self.running.append((object(), Outcome(function(*copy.deepcopy(args)))))
        return self.running[-1][0]

    def wait(self):
        return [self.running.pop()]


def test_trials_that_end_in_another_order_give_the_same_process_and_leave_checkpoints(make_config, monkeypatch):
    def searched(name, **options):
        cfg = make_config('whole_run', name, train_cfg__rounds=4, train_cfg__searcher=dict(type='RandomSearcher'),
                          train_cfg__references=['student'], train_cfg__max_divisions=1, train_cfg__max_epochs=1,
                          train_cfg__initial_bump=3, **options)
        cfg.default_hooks.checkpoint = dict(type='mmrazor.AtomicCheckpointHook', interval=3, by_epoch=False)
        runner = build_trainer(cfg)
        runner.train()
        return runner.train_loop.process(), list(pathlib.Path(cfg.work_dir).glob('*_*.pth'))

    monkeypatch.setattr(ray_search_loop, 'RayPool', SameProcess)
    process, _ = searched('alone')
    spread, checkpoints = searched('spread', train_cfg__type='mmrazor.RaySearchLoop')
    assert np.array_equal(process.alpha, spread.alpha) and process.origin['trials'] == spread.origin['trials']
    assert len(checkpoints) == len(process.origin['trials'])


@pytest.mark.parametrize('ray, message', [
    (dict(cpu=2), r"train_cfg.ray has no argument 'cpu' \(nearest: cpus\)"),
    (dict(cpus=0), 'train_cfg.ray.cpus=0 must be a whole number from 1')])
def test_a_misspelt_or_wrong_option_is_refused_before_the_data_are_read(make_config, ray, message):
    cfg = make_config('whole_run', 'spread', train_cfg__type='mmrazor.RaySearchLoop', train_cfg__ray=ray)
    with pytest.raises(ConfigError, match=message):
        build_trainer(cfg).train()
