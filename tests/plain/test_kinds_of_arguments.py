"""Kinds of arguments that users pass: numbers of numpy, paths, networks of TorchScript."""
import numpy as np
import pytest
import torch
from toys import network

import distpro
from distpro.networks.weights import read_state


def distillation(**kwargs):
    return distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16), **kwargs)


def test_numbers_of_numpy_and_paths_are_accepted(tmp_path):
    plain = distillation()
    names, path = plain.grid.names, tmp_path / 'process.json'
    distpro.DistillationProcess(names, distpro.Weighting('absolute'), [0, 1], [[1.0] * len(names)] * 2).save(path)
    kd = distillation(process=path, steps=np.int64(1000))
    assert kd(torch.randn(4, 3, 16, 16), progress=np.float32(0.5)).loss.isfinite()
    weights = tmp_path / 'weights.pth'
    torch.save(network().state_dict(), weights)
    network().load_state_dict(read_state(weights, 'checkpoint')[0])


def test_a_network_of_torchscript_is_refused():
    student = torch.jit.trace(network().eval(), torch.randn(2, 3, 16, 16))
    with pytest.raises(distpro.ArgumentError, match='^student: the layers of a TorchScript network cannot be read'):
        distpro.Distillation(student, network(8), torch.randn(2, 3, 16, 16))
