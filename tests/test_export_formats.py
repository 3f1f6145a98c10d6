"""ONNX and torch.export of the student of a config: its own logits, from what student.json says alone."""
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from distpro.errors import ArgumentError
from distpro_app.config_export import CONFIG_FORMATS, export_config
from distpro_app.settings import formats_of
from distpro_mm import commands
from distpro_mm.deployable import deployable_student
from distpro_mm.engine.launch import build_model
from distpro_mm.errors import ConfigError

onnxruntime = pytest.importorskip('onnxruntime')


@pytest.fixture
def trained(make_config, tmp_path):
    """A config, and a checkpoint with drawn statistics and names of classes."""
    cfg = make_config('equal')
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    path = str(tmp_path / 'trained.pth')
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=list('abcdefghij')))), path)
    return cfg, path, model.student.eval()


def logits(session, images):
    return session.run(None, dict(images=images))[0]


def test_onnx_and_pt2_give_the_logits_of_the_student(trained, tmp_path, capsys):
    cfg, checkpoint, student = trained
    export_config(commands, cfg, checkpoint, ('pt2', 'onnx'), str(tmp_path / 'out'))
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['student.json', 'student.onnx', 'student.pt2']
    assert 'onnx: ' in capsys.readouterr().out
    described = json.loads((tmp_path / 'out' / 'student.json').read_text())
    given = described['input']
    assert described['classes'] == list('abcdefghij') and described['num_classes'] == 10
    assert given['shape'] == ['batch', 1, 8, 8] and given['color'] == 'grey' and given['center_crop'] is None
    assert given['test_pipeline'] == [dict(type='PackInputs')]
    raw = np.random.randint(0, 256, (5, 1, 8, 8))
    # As a user of the file prepares images, and as the toolbox does.
    images = ((raw * given['scale'] - given['mean'][0]) / given['std'][0]).astype('float32')
    with torch.no_grad():
        expected = student(torch.from_numpy((raw - 78.0) / 97.0).float(), mode='tensor').numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / 'out' / 'student.onnx'))
    program = torch.export.load(tmp_path / 'out' / 'student.pt2').module()
    for count in (5, 1, 3):
        np.testing.assert_allclose(logits(session, images[:count]), expected[:count], rtol=1e-3, atol=1e-4)
        with torch.no_grad():
            found = program(torch.from_numpy(images[:count])).numpy()
        np.testing.assert_allclose(found, expected[:count], rtol=1e-3, atol=1e-4)
    stored = session.get_modelmeta().custom_metadata_map
    assert json.loads(stored['classes']) == described['classes'] and json.loads(stored['input']) == given


def test_the_tool_writes_all_formats_side_by_side(trained, tool, tmp_path):
    cfg, checkpoint, student = trained
    cfg.dump(str(tmp_path / 'config.py'))
    done = tool('export_student', tmp_path / 'config.py', checkpoint, '--formats', 'mm,onnx', '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / 'out').glob('student.*')) == [
        'student.json', 'student.onnx', 'student.pth', 'student.py']
    plain = MODELS.build(Config.fromfile(tmp_path / 'out' / 'student.py').model)
    plain.load_state_dict(torch.load(tmp_path / 'out' / 'student.pth')['state_dict'])


@pytest.mark.parametrize('pipeline, shape, expected', [
    ([dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=12, interpolation='bicubic'),
      dict(type='CenterCrop', crop_size=(8, 10))], None,
     dict(shape=(1, 10, 8), resize_shorter_side=12, interpolation='bicubic, by cv2', center_crop=[10, 8])),
    ([dict(type='LoadImageFromFile'), dict(type='Resize', scale=(9, 8))], None, dict(shape=(1, 8, 9), center_crop=None)),
    ([dict(type='PackInputs')], (1, 16, 16), dict(shape=(1, 16, 16), resize_shorter_side=None))])
def test_the_size_is_that_of_the_test_pipeline_or_of_the_config(trained, pipeline, shape, expected):
    cfg, checkpoint, _ = trained
    cfg.test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=99)]  # a variable of the config, unused
    cfg.test_dataloader.dataset.dataset.pipeline = pipeline
    if shape:
        cfg.model.input_shape = shape
    found = deployable_student(cfg, checkpoint)
    seen = dict(found.preparation, shape=found.shape)
    assert {key: seen[key] for key in expected} == expected


@pytest.mark.parametrize('to_rgb, pipeline, color', [
    (True, [dict(type='LoadImageFromFile')], 'rgb'), (False, [dict(type='LoadImageFromFile')], 'bgr'), (False, [], 'rgb')])
def test_the_order_of_colours_is_what_the_network_gets(trained, tmp_path, to_rgb, pipeline, color):
    cfg, _, _ = trained
    cfg.model.architecture.backbone.in_channels = cfg.model.teacher.backbone.in_channels = 3
    cfg.data_preprocessor = dict(type='ClsDataPreprocessor', mean=[51, 102, 204], std=[51, 51, 51], to_rgb=to_rgb)
    cfg.model.input_shape, cfg.test_dataloader.dataset.dataset.pipeline = (3, 8, 8), pipeline
    torch.save(dict(state_dict=build_model(cfg).state_dict()), tmp_path / 'coloured.pth')
    found = deployable_student(cfg, str(tmp_path / 'coloured.pth'))
    assert found.preparation['color'] == color and found.classes == []
    assert found.mean == pytest.approx((0.2, 0.4, 0.8)) and found.std == pytest.approx((0.2, 0.2, 0.2))


def test_other_networks_and_formats_are_refused_in_one_line(trained, tmp_path):
    cfg, checkpoint, _ = trained
    with pytest.raises(ArgumentError, match="formats='onx': 'onx' is not one of mm, pt2, onnx"):
        formats_of('onx', CONFIG_FORMATS)
    cfg.test_dataloader = dict(dataset=dict(type='CustomDataset', data_root='nowhere', pipeline=[]))
    cfg.pop('test_pipeline', None)
    cfg.model.input_shape = None
    with pytest.raises(ConfigError, match=r'first test image cannot be read .*: pass model.input_shape=\[C,H,W\]'):
        deployable_student(cfg, checkpoint)
