"""Configs, data sets, detectors and evaluation of mmdetection, with the example's configs."""
import importlib
import json
import os
import pathlib

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.utils import get_installed_path

from distpro.process import DistillationProcess
from distpro_mm import compat
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, build_trainer, evaluate_student
from distpro_mm.export import export_student

pytest.importorskip('mmdet', reason='mmdetection is not installed: see docs/dense.md')
apis, models = (importlib.import_module(f'mmdet.{part}') for part in ('apis', 'models'))
EXAMPLE = pathlib.Path(__file__).parents[2] / 'configs' / 'examples' / 'detection'
LONG, SHORT = 96, 64


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """Made-up images in the layout of COCO, portrait and landscape: one or two bright rectangles on noise."""
    root, generator = tmp_path_factory.mktemp('coco'), np.random.RandomState(0)
    (root / 'annotations').mkdir()
    classes = importlib.import_module('mmdet.datasets').CocoDataset.METAINFO['classes']
    categories = [dict(id=number, name=name) for number, name in enumerate(classes, 1)]
    for part, count in (('train', 10), ('val', 2)):
        folder = root / f'{part}2017'
        folder.mkdir()
        images, annotations = [], []
        for index in range(count):
            height, width = (LONG, SHORT) if index % 3 else (SHORT, LONG)
            image = generator.randint(0, 80, (height, width, 3), np.uint8)
            for place in range(1 + index % 2):
                left = int(generator.randint(0, width - 32))
                top = int(place * height // 2 + generator.randint(0, height // 2 - 30))
                image[top:top + 28, left:left + 28] += 150
                annotations.append(dict(id=len(annotations), image_id=index, category_id=1, bbox=[left, top, 28, 28],
                                        area=28 * 28, iscrowd=0))
            cv2.imwrite(str(folder / f'{index}.jpg'), image)
            images.append(dict(id=index, file_name=f'{index}.jpg', height=height, width=width))
        (root / 'annotations' / f'instances_{part}2017.json').write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return f'{root}/'


def small(coco, folder, kind):
    """An example's config for the made-up images and narrow networks."""
    cfg = load_config(str(EXAMPLE / f'{kind}.py'))
    cfg.update(work_dir=str(folder / kind), log_level='ERROR', randomness=dict(seed=0))
    cfg.experiment_name = f'{folder.name}_{kind}'
    cfg.model.teacher_ckpt = None
    for network, width in ((cfg.model.architecture, 8), (cfg.model.teacher, 12)):
        network.backbone.update(depth=18, base_channels=width, stem_channels=width, frozen_stages=-1, norm_eval=False,
                                init_cfg=None)
        network.neck.update(in_channels=[width, 2 * width, 4 * width, 8 * width], out_channels=2 * width)
        network.bbox_head.update(in_channels=2 * width, feat_channels=2 * width, stacked_convs=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = coco
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = (LONG, SHORT)
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{coco}annotations/instances_val2017.json'
    return cfg


def test_the_example_is_mmdets_own_training_with_a_published_teacher():
    folder = pathlib.Path(get_installed_path('mmdet')) / '.mim'
    zoo = yaml.safe_load((folder / 'configs/retinanet/metafile.yml').read_text())['Models']
    published = {model['Weights']: folder / model['Config'] for model in zoo}
    cfg = load_config(str(EXAMPLE / 'search.py'))
    teacher = load_config(str(published[cfg.model.teacher_ckpt])).model
    cfg.model.teacher.backbone.init_cfg = teacher.backbone.init_cfg  # the published weights are all that it needs
    for part in ('backbone', 'neck', 'bbox_head'):
        assert cfg.model.teacher[part] == teacher[part]
    cfg.model.teacher_ckpt = None
    model = build_model(cfg)
    assert len(model.distiller.grid.pathways) == 6 and type(model.data_preprocessor) is models.DetDataPreprocessor
    replayed = load_config(str(EXAMPLE / 'distill.py')).custom_hooks[0].process
    assert replayed == os.path.join(cfg.work_dir, 'process.json')


def test_a_retinanet_is_searched_distilled_exported_and_evaluated(coco, tmp_path):
    cfg = small(coco, tmp_path, 'search')
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    search = build_trainer(cfg)
    search.train()
    assert len(search.train_loop.dataloader.dataset) == 8 and search.model.distiller.grid.alpha.std() > 0
    process = DistillationProcess.load(str(tmp_path / 'search' / 'process.json'))
    assert len(process) == 8 and process.names[0] == 'p3>p3:pointwise'

    cfg = small(coco, tmp_path, 'distill')
    cfg.custom_hooks[0].process = str(tmp_path / 'search' / 'process.json')
    cfg.train_cfg.update(max_epochs=10, val_interval=10)
    cfg.default_hooks.checkpoint.interval = 10
    cfg.param_scheduler, cfg.optim_wrapper.optimizer = [], dict(type='Adam', lr=5e-3)
    replay = build_trainer(cfg)
    student = replay.train().student.eval()
    losses = replay.message_hub.get_scalar('train/student.loss_cls').data[0]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])

    checkpoint = str(tmp_path / 'distill' / 'epoch_10.pth')
    paths = export_student(cfg, checkpoint, str(tmp_path / 'exported'))
    plain = apis.init_detector(paths['config'], paths['checkpoint'], device='cpu')
    assert not [name for name in torch.load(paths['checkpoint'])['state_dict'] if name.startswith(('teacher', 'distiller'))]
    assert plain.dataset_meta['classes'][0] == 'person' and len(plain.dataset_meta['palette']) == 80
    image = str(pathlib.Path(coco) / 'val2017' / '0.jpg')
    found = apis.inference_detector(plain, image).pred_instances
    student.cfg = plain.cfg  # which inference reads the pipeline from
    own = apis.inference_detector(student, image).pred_instances
    assert len(found) and torch.equal(found.scores, own.scores) and torch.equal(found.bboxes, own.bboxes)

    seen = [evaluate_student(small(coco, tmp_path, 'distill'), path)['coco/bbox_mAP_50']
            for path in (checkpoint, paths['checkpoint'])]
    assert seen[0] == seen[1] == replay.message_hub.get_scalar('val/coco/bbox_mAP_50').current() > 0.3


def test_a_two_stage_detector_teaches_a_detr(coco, tmp_path):
    """Neither detector runs completely without annotations. The head of the first one needs compiled operators."""
    folder = pathlib.Path(get_installed_path('mmdet')) / '.mim' / 'configs'
    cfg = small(coco, tmp_path, 'search')
    cfg.train_cfg.update(max_epochs=1, val_interval=2)
    narrow = dict(depth=18, base_channels=8, stem_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None)
    teacher = cfg.model.teacher = load_config(str(folder / '_base_/models/faster-rcnn_r50_fpn.py')).model
    teacher.neck.in_channels = [8, 16, 32, 64]
    student = cfg.model.architecture = load_config(str(folder / 'detr/detr_r50_8xb2-150e_coco.py')).model
    student.neck.in_channels = [64]
    student.num_queries = student.test_cfg.max_per_img = 10
    student.encoder.num_layers = student.decoder.num_layers = 1
    for network in (teacher, student):
        network.backbone.update(narrow)
        network.pop('data_preprocessor')
        network._scope_ = 'mmdet'
    cfg.data_preprocessor = small(coco, tmp_path, 'equal').model.architecture.data_preprocessor
    cfg.model.distiller = dict(
        type='DistProDistiller', connections='nearest_depth', transforms=[dict(type='PointwiseTransform')])
    search = build_trainer(cfg)
    search.train()
    assert search.iter == 4 and search.model.distiller.grid.names == [f'{name}>{name}:pointwise' for name in (
        'stem', 'layer1', 'layer2', 'layer3', 'layer4')]
    assert search.model.distiller.grid.alpha.std() > 0 and type(search.model.data_preprocessor) is models.DetDataPreprocessor


def test_an_operator_that_mmcv_lite_lacks_is_named():
    ops = importlib.import_module('mmcv.ops')
    if isinstance(importlib.import_module('mmcv._ext'), compat._WithoutOperators):
        with pytest.raises(ImportError, match='roi_align_forward was called, which mmcv-lite does not have'):
            ops.RoIAlign(2)(torch.ones(1, 1, 8, 8), torch.tensor([[0., 0, 0, 4, 4]]))
    boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 10, 10], [20, 0, 30, 10]])
    assert ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)[1].tolist() == [1, 2]
