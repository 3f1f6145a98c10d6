"""Patches: broken functions work after ``import distpro_mm``, and nothing else has changed."""
import os
import pickle
import subprocess
import sys

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmpretrain.evaluation import RetrievalAveragePrecision, RetrievalRecall
from mmrazor.registry import MODELS, TRANSFORMS
from PIL import Image

from distpro_mm import compat


def python(code):
    return subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)


@pytest.mark.long
def test_a_fresh_process_imports_everything_in_silence():
    done = python('import distpro_mm; import mmrazor.models, mmrazor.engine, mmrazor.datasets, mmpretrain.apis, mmpretrain; '
                  'from mmpretrain import list_models; from mmrazor.models import KDSoftCELoss, SingleTeacherDistill; '
                  'import torchvision.transforms; import mmrazor, torch; '
                  'print(mmrazor.digit_version(torch.__version__)[:2], len(list_models("resnet18*")) > 0); '
                  'import importlib.util, sys; dense = any(map(importlib.util.find_spec, ("mmseg", "mmdet"))); '
                  'assert ("mmcv._ext" in sys.modules) == dense, "mmcv\'s operators stand for mmseg and mmdet alone"')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert done.stdout.strip() == f'({", ".join(torch.__version__.split(".")[:2])}) True'  # the original is restored


@pytest.mark.long
def test_mmrazor_is_imported_beside_an_mmcv_that_it_refuses():
    newer = "import mmcv; mmcv.__version__ = '2.3.6'; "
    assert 'MMCV==2.3.6 is used but incompatible' in python(newer + 'import mmrazor').stderr
    done = python(newer + 'import distpro_mm, mmrazor.models; print(mmcv.__version__)')
    assert done.stdout.strip() == '2.3.6', done.stderr


def test_a_missing_toolbox_is_named_with_the_extra_that_installs_it():
    done = python('import sys; sys.modules.update(mmrazor=None, joblib=None); import distpro_mm')
    assert done.returncode == 1
    assert "ImportError: distpro_mm needs mmrazor, joblib: pip install 'distpro_mm[mm]'" in done.stderr


def test_the_core_imports_torch_and_numpy_alone():
    done = python("""
import importlib, pkgutil, sys
import numpy, torch, torch.func, torch.fx, torch._dynamo  # the last one imports Triton where there is one
before = {name.partition('.')[0] for name in sys.modules}
import distpro
for module in pkgutil.walk_packages(distpro.__path__, 'distpro.'):
    importlib.import_module(module.name)
print({name.partition('.')[0] for name in sys.modules} - before - set(sys.stdlib_module_names))
""")
    assert done.stdout.strip() == "{'distpro'}", done.stderr


def test_a_second_time_patches_nothing():
    assert not compat.patch_torchvision()
    assert not compat.patch_checkpoint_loading()
    assert not compat.patch_mmcv_operators()
    assert not compat.patch_mmrazor_version()
    assert not compat.patch_adjust_hue()
    assert not compat.patch_retrieval_metrics()
    compat.apply()


@pytest.mark.parametrize('cfg', [
    dict(type='mmrazor.MMArchitectureQuant', architecture=dict(type='mmpretrain.ImageClassifier'), quantizer=dict()),
    dict(type='mmrazor.OpenVINOQuantizer', global_qconfig=dict(), tracer=dict(type='mmrazor.CustomTracer')),
])
def test_quantization_says_that_it_is_unavailable(cfg):
    with pytest.raises(ImportError, match='cannot quantize on torch .* use torch 1.13 without distpro_mm'):
        MODELS.build(cfg)


def test_a_missing_operator_raises_when_it_is_called():
    operators = compat._WithoutOperators('mmcv._ext')
    assert operators.get_compiler_version() == 'n/a' and not hasattr(operators, '__path__')
    with pytest.raises(ImportError, match="mmcv's compiled operator roi_align_forward was called, .* the full mmcv 2.1.0"):
        operators.roi_align_forward(torch.ones(1), output=None)


@pytest.mark.parametrize('offset', [0, 1])
def test_plain_non_maximum_suppression_keeps_what_no_better_kept_box_overlaps(offset):
    corners, scores = torch.rand(60, 2) * 20, torch.rand(60).round(decimals=1)  # with ties: the first of equals wins
    boxes = torch.cat([corners, corners + 1 + torch.rand(60, 2) * 12], 1)

    def overlap(one, other):
        sides = [max(0.0, min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) + offset) for axis in (0, 1)]
        areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (one, other)]
        return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])

    kept = []
    for index in sorted(range(60), key=lambda i: -scores[i].item()):
        if all(overlap(boxes[index].tolist(), boxes[other].tolist()) <= 0.4 for other in kept):
            kept.append(index)
    assert compat.plain_nms(boxes, scores, iou_threshold=0.4, offset=offset).tolist() == kept and 5 < len(kept) < 60
    assert compat.plain_nms(boxes[:0], scores[:0], iou_threshold=0.4, offset=offset).tolist() == []


def test_soft_cross_entropy_loss_of_mmrazor_has_its_value():
    from mmrazor.models import KDSoftCELoss
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    tau = 3.0
    expected = -((teacher / tau).softmax(1) * (student / tau).log_softmax(1)).sum(1).mean() * tau**2
    torch.testing.assert_close(KDSoftCELoss(tau=tau)(student, teacher), expected)


@pytest.mark.parametrize('hue', [-0.5, -0.3, -0.001, 0.25, 0.5])
def test_color_jitter_shifts_the_hue_cyclically(hue):
    image = np.random.randint(256, size=(6, 5, 3), dtype=np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(hue * 255)) % 256
    jitter = TRANSFORMS.build(dict(type='mmpretrain.ColorJitter', hue=(hue, hue), backend='cv2'))
    assert np.array_equal(jitter(dict(img=image))['img'], cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL))


def test_color_jitter_shifts_the_hue_with_pillow_too():
    image = np.random.randint(256, size=(6, 5, 3), dtype=np.uint8)
    hsv = np.array(Image.fromarray(image[..., ::-1].copy()).convert('HSV'))
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(-0.3 * 255)) % 256
    jitter = TRANSFORMS.build(dict(type='mmpretrain.ColorJitter', hue=(-0.3, -0.3), backend='pillow'))
    assert np.array_equal(jitter(dict(img=image))['img'], np.array(Image.fromarray(hsv, 'HSV').convert('RGB'))[..., ::-1])


def test_a_hue_that_is_out_of_range_is_refused_as_by_mmcv():
    with pytest.raises(ValueError, match=r'hue_factor:0.6 is not in \[-0.5, 0.5\]'):
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), 0.6)


def test_retrieval_metrics_have_their_values():
    scores = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.1, 0.2, 0.3, 0.4]])  # ranked 0, 2, 3, 1 and 3, 2, 1, 0
    target = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0]])
    assert RetrievalRecall.calculate(scores, target, topk=(1, 2, 3)) == [0, 50, 100]
    average_precision = ((1 / 2 + 2 / 3) / 2 + 1 / 3) / 2
    assert RetrievalAveragePrecision.calculate(scores, target, topk=4) == pytest.approx(100 * average_precision)


def test_a_training_checkpoint_loads_with_weights_only(tmp_path):
    history = HistoryBuffer(max_length=5)
    for value in (1.0, 2.5):
        history.update(value)
    path = str(tmp_path / 'epoch_1.pth')
    saved = dict(state_dict=dict(weight=torch.randn(3)), message_hub=dict(log_scalars=dict(loss=history)),
                 numbers=[np.float64(2), np.float32(3), np.int64(4), np.arange(3.0)])
    torch.save(saved, path)
    assert CheckpointLoader.load_checkpoint(path, 'cpu').keys() == saved.keys()
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
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        CheckpointLoader.load_checkpoint(path, 'cpu')
    assert not mark.exists()
