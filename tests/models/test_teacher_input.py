"""The images are converted for a teacher that expects a different normalisation from the student's."""
import copy
import pathlib

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError
from distpro_mm.models.algorithms.teacher_input import teacher_input

ROOT = pathlib.Path(__file__).parents[2]
STUDENT = dict(mean=[129.3, 124.1, 112.4], std=[68.2, 65.4, 70.4], to_rgb=True)
TEACHERS = dict(
    same=dict(STUDENT), renormalised=dict(mean=[100.0, 90.0, 80.0], std=[1.0, 50.0, 200.0], to_rgb=True),
    swapped=dict(mean=[112.4, 124.1, 129.3], std=[70.4, 65.4, 68.2], to_rgb=False),
    both=dict(mean=[10.0, 20.0, 30.0], std=[40.0, 50.0, 60.0], to_rgb=False))
NETWORK = dict(_scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
               backbone=dict(type='CIFARResNet', depth=8), head=dict(type='LinearClsHead', num_classes=5, in_channels=64))


@pytest.fixture
def raw():
    return torch.randint(256, (4, 3, 16, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def prepared(images, how):
    data = dict(inputs=images, data_samples=[DataSample() for _ in images])
    return ClsDataPreprocessor(**how)(copy.deepcopy(data))['inputs']


@pytest.mark.parametrize('teacher', TEACHERS)
def test_images_are_as_if_prepared_for_the_teacher(raw, teacher):
    how = TEACHERS[teacher]
    convert = teacher_input(ClsDataPreprocessor(**STUDENT), ClsDataPreprocessor(**how), None)
    if teacher == 'same':
        assert convert is None, 'no work is done where nothing differs'
        return
    torch.testing.assert_close(convert(prepared(raw, STUDENT)), prepared(raw, how), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(prepared(raw, STUDENT), prepared(raw, how), atol=0.1)


@pytest.mark.parametrize('swap', ['to_rgb', '_channel_conversion', 'channel_conversion'])
def test_a_preprocessor_of_any_toolbox_is_asked_whether_it_swaps_colours(raw, swap):
    """The attribute has different names in mmpretrain, in mmengine and mmdet, and in mmseg."""
    student = torch.nn.Module()
    setattr(student, swap, True)
    convert = teacher_input(student, None, dict(to_rgb=False))
    assert torch.equal(convert(raw.float()), raw.float().flip(1))
    assert teacher_input(student, None, dict(to_rgb=True)) is None


def test_the_config_wins_and_may_ask_for_a_size(raw):
    given = dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], size=(8, 6))
    convert = teacher_input(ClsDataPreprocessor(**STUDENT), ClsDataPreprocessor(**TEACHERS['both']), given)
    expected = raw.float() / 255  # not swapped: the teacher's own preprocessor says so
    # Halving with antialias: a triangle of four pixels, whose weights are cut at the border.
    rows = torch.zeros(8, 16, dtype=torch.float64)
    for row in range(8):
        for place, weight in zip(range(2 * row - 1, 2 * row + 3), (0.25, 0.75, 0.75, 0.25)):
            if 0 <= place < 16:
                rows[row, place] = weight
    rows /= rows.sum(1, keepdim=True)
    halved = torch.einsum('ij,bcjw->bciw', rows, expected.double())
    found = convert(prepared(raw, STUDENT))
    assert found.shape == (4, 3, 8, 6)
    columns = F.interpolate(halved.float(), (8, 6), mode='bilinear', antialias=True)
    torch.testing.assert_close(found, columns, rtol=1e-4, atol=1e-4)


def test_no_preprocessing_on_a_side_is_a_mean_of_nought(raw):
    convert = teacher_input(ClsDataPreprocessor(), ClsDataPreprocessor(**TEACHERS['renormalised']), None)
    bgr = prepared(raw, TEACHERS['renormalised'])
    torch.testing.assert_close(convert(raw.float()), bgr, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('given, message', [
    (dict(means=[1.0]), r"model.teacher_input has \['means'\]; valid keys are mean, std, to_rgb, size"),
    (dict(mean=[1.0]), 'the numbers of channels must be equal'),
    (dict(std=[1.0, 0.0, 1.0]), 'every std must be above 0')])
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        teacher_input(ClsDataPreprocessor(**STUDENT), None, given)


def test_the_teacher_of_a_distillation_gets_its_images_and_the_student_its_own(raw):
    torch.manual_seed(0)
    model = MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture=NETWORK, input_shape=(3, 16, 12),
        teacher=dict(NETWORK, data_preprocessor=dict(TEACHERS['both'])),
        data_preprocessor=dict(_scope_='mmpretrain', type='ClsDataPreprocessor', **STUDENT),
        distiller=dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')])))
    model = copy.deepcopy(model).eval()
    assert not any('teacher_images' in name for name in model.state_dict())
    images = prepared(raw, STUDENT)
    seen = {}
    for side, network in (('teacher', model.teacher), ('student', model.student)):
        network.backbone.register_forward_pre_hook(
            lambda module, inputs, side=side: seen.__setitem__(side, inputs[0].clone()))
    model.loss(images, [DataSample().set_gt_label(0) for _ in raw])
    torch.testing.assert_close(seen['teacher'], prepared(raw, TEACHERS['both']), rtol=1e-5, atol=1e-5)
    assert torch.equal(seen['student'], images)


def test_mmrazors_own_distillation_refuses_to_convert():
    cfg = load_config(str(ROOT / 'configs/baselines/kd.py'), pair='resnet20_resnet8-half_digits')
    cfg.model.type, cfg.model.distiller.type = 'SingleTeacherDistill', 'ConfigurableDistiller'
    cfg.model.teacher.data_preprocessor = dict(mean=[1.0], std=[2.0])
    with pytest.raises(ConfigError, match="gives the teacher the student's images, made by .*: remove it if"):
        build_trainer(cfg)
