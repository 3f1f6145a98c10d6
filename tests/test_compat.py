"""The mends: what is broken works after ``import distpro_mm``, and nothing else has changed."""
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmrazor.registry import MODELS

from distpro_mm import compat


def python(code):
    return subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)


def test_a_fresh_process_imports_everything_in_silence():
    done = python('import distpro_mm; import mmrazor.models, mmrazor.engine, mmrazor.datasets, mmpretrain.apis, mmpretrain; '
                  'from mmpretrain import list_models; from mmrazor.models import KDSoftCELoss, SingleTeacherDistill; '
                  'import torchvision.transforms; import mmrazor, torch; '
                  'print(mmrazor.digit_version(torch.__version__)[:2], len(list_models("resnet18*")) > 0)')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert done.stdout.strip() == f'({", ".join(torch.__version__.split(".")[:2])}) True'  # the true function is back


def test_a_second_time_mends_nothing():
    assert not compat.mend_torchvision()
    assert not compat.mend_checkpoint_loading()
    compat.apply()


@pytest.mark.parametrize('cfg', [
    dict(type='mmrazor.MMArchitectureQuant', architecture=dict(type='mmpretrain.ImageClassifier'), quantizer=dict()),
    dict(type='mmrazor.OpenVINOQuantizer', global_qconfig=dict(), tracer=dict(type='mmrazor.CustomTracer')),
])
def test_quantization_says_that_it_is_unavailable(cfg):
    with pytest.raises(ImportError, match='cannot quantize on torch .* use torch 1.13 without distpro_mm'):
        MODELS.build(cfg)


def test_soft_cross_entropy_loss_of_mmrazor_has_its_value():
    from mmrazor.models import KDSoftCELoss
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    tau = 3.0
    expected = -((teacher / tau).softmax(1) * (student / tau).log_softmax(1)).sum(1).mean() * tau**2
    torch.testing.assert_close(KDSoftCELoss(tau=tau)(student, teacher), expected)


def test_a_training_checkpoint_loads_with_weights_only(tmp_path):
    history = HistoryBuffer(max_length=5)
    for value in (1.0, 2.5):
        history.update(value)
    path = str(tmp_path / 'epoch_1.pth')
    saved = dict(state_dict=dict(weight=torch.randn(3)), message_hub=dict(log_scalars=dict(loss=history)),
                 numbers=[np.float64(2), np.float32(3), np.int64(4), np.arange(3.0)])
    torch.save(saved, path)
    loaded = torch.load(path, weights_only=True)
    assert torch.equal(loaded['state_dict']['weight'], saved['state_dict']['weight'])
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 1.75
    assert loaded['numbers'][:3] == [2, 3, 4] and loaded['numbers'][3].tolist() == [0, 1, 2]


class RunsCode:

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('planted', [(os.system, 'touch {}'), (getattr, list, 'append'),
                                     (getattr, HistoryBuffer, '__init__'), (eval, "open('{}', 'w')")])
def test_a_checkpoint_cannot_run_code(tmp_path, planted):
    mark = tmp_path / 'ran'
    arguments = [part.format(mark) if isinstance(part, str) else part for part in planted[1:]]
    path = str(tmp_path / 'bad.pth')
    torch.save(dict(state_dict=RunsCode(planted[0], *arguments)), path, pickle_module=pickle)
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(path, weights_only=True)
    assert not mark.exists()
