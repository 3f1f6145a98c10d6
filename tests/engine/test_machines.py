"""Several machines, here two agents of torchrun on this one: the same search as two processes of one machine."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from processes import free_port

ROOT = pathlib.Path(__file__).parents[2]
SEARCH = ['train_cfg.max_epochs=2', 'train_cfg.min_iterations=6', 'train_cfg.rounds=4', 'train_cfg.max_divisions=1',
          'train_dataloader.batch_size=20', 'model.teacher_ckpt=None', 'param_scheduler.T_max=2',
          'default_hooks.checkpoint.interval=1']


@pytest.fixture
def agent(tmp_path):
    """agent(folder, log, processes, **environment): tools/dist_train.sh in a new process; all end with the test."""
    started = []

    def start(folder, log, processes=1, **environment):
        with open(tmp_path / log, 'a') as output:
            started.append(subprocess.Popen(
                ['bash', ROOT / 'tools/dist_train.sh', 'configs/distpro/search.py', str(processes), '--resume', '--pair',
                 'resnet20_resnet8-half_digits', '--work-dir', tmp_path / folder, '--cfg-options', *SEARCH],
                cwd=ROOT, stdout=output, stderr=output,
                env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', **environment}))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def process(folder):
    found = json.loads((folder / 'process.json').read_text())
    return found['alpha'], found['origin']['trials']


def wait_for(condition, seconds=120):
    deadline = time.time() + seconds
    while not condition() and time.time() < deadline:
        time.sleep(0.1)


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(('127.0.0.1', port)) == 0


def finished(*agents):
    return [agent.wait(240) for agent in agents] == [0] * len(agents)


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes need two GPUs')
def test_two_machines_search_as_one_also_when_one_stops_and_comes_back(agent, tmp_path):
    assert finished(agent('one', 'one.log', 2, MASTER_PORT=free_port()))
    place = dict(NNODES='2', MASTER_PORT=free_port())
    assert finished(*(agent('two', f'two_{rank}.log', NODE_RANK=str(rank), **place) for rank in range(2)))
    port = free_port()
    place = dict(NNODES='2', RDZV_ENDPOINT=f'127.0.0.1:{port}')
    first = agent('back', 'first.log', **place)
    wait_for(lambda: listens(int(port)))  # on one machine, the agent that is there first has the store
    second = agent('back', 'second.log', **place)
    wait_for(lambda: list((tmp_path / 'back').glob('epoch_*.pth')))
    second.send_signal(signal.SIGTERM)
    second.wait(60)
    assert finished(first, agent('back', 'second.log', **place))
    assert 'resumed epoch' in (tmp_path / 'first.log').read_text()
    assert process(tmp_path / 'one') == process(tmp_path / 'two') == process(tmp_path / 'back')
