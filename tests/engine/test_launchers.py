"""Processes that cannot be started, and models whose parameters are not all used."""

import pytest
import torch
import torch.distributed
from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.registry import LOOPS
from processes import free_port

from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.loops import DistProSearchLoop
from distpro_mm.errors import ConfigError


@LOOPS.register_module()
class OwnSearch(DistProSearchLoop):
    """A search in rounds of a user, registered in the toolbox of the config's default scope."""


def named(name):
    """A training loop of mmengine under the name of another one."""
    return type(name, (EpochBasedTrainLoop, ), {})


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('loop, unused', [(OwnSearch, True), ('OwnSearch', True), ('mmrazor.DistProSearchLoop', True),
                                          (named('DistProSearchLoop'), False), (named('Other'), False)])
def test_parameters_may_be_unused_in_every_search_in_rounds(make_config, monkeypatch, loop, unused):
    """A reference trial uses no transform, so its step would wait for their gradients."""
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1',
                            MASTER_PORT=str(free_port())).items():
        monkeypatch.setenv(name, value)
    cfg = make_config('whole_run' if unused else 'equal')
    cfg.train_cfg.type = loop
    try:
        assert build_trainer(cfg, 'pytorch').model.find_unused_parameters == unused
    finally:
        torch.distributed.destroy_process_group()


def test_processes_that_nobody_started_are_refused(make_config, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(ConfigError, match='use tools/dist_train.sh'):
        build_trainer(make_config('equal'), 'pytorch')


@pytest.mark.parametrize('variables', [dict(LOCAL_WORLD_SIZE='2', LOCAL_RANK='0'), dict(LOCAL_RANK='1')])
def test_more_processes_than_gpus_are_refused(make_config, monkeypatch, variables):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    for name, value in dict(variables, RANK='0').items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match='--launcher pytorch: 2 processes on this machine, which has 1 GPU'):
        build_trainer(make_config('equal'), 'pytorch')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_slurm_needs_gpus(make_config):
    with pytest.raises(ConfigError, match='--launcher slurm needs a GPU.*pytorch'):
        build_trainer(make_config('equal'), 'slurm')
