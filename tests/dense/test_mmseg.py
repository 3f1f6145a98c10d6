"""Configs, data sets, segmentors and evaluation of mmsegmentation, with the example's configs."""
import importlib
import os
import pathlib

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.utils import get_installed_path

from distpro.process import DistillationProcess
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, build_trainer, evaluate_student
from distpro_mm.export import export_student

mmseg = pytest.importorskip('mmseg', reason='mmsegmentation is not installed: see docs/dense.md')
apis, models = (importlib.import_module(f'mmseg.{part}') for part in ('apis', 'models'))
EXAMPLE = pathlib.Path(__file__).parents[2] / 'configs' / 'examples' / 'segmentation'
HEIGHT, WIDTH = 32, 64


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory):
    """Made-up images in the layout of Cityscapes: dark sky over a bright road, and nothing (255) in a corner."""
    root, generator = tmp_path_factory.mktemp('cityscapes'), np.random.RandomState(0)
    for part, count in (('train', 10), ('val', 2)):
        for index in range(count):
            horizon = generator.randint(10, 22)
            image = generator.randint(0, 60, (HEIGHT, WIDTH, 3), np.uint8)
            classes = np.full((HEIGHT, WIDTH), 10, np.uint8)
            image[horizon:] += 150
            classes[horizon:] = 0
            classes[:4, :4] = 255
            for kind, suffix, drawn in (('leftImg8bit', 'leftImg8bit', image), ('gtFine', 'gtFine_labelTrainIds', classes)):
                folder = root / kind / part / 'town'
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f'{index}_{suffix}.png'), drawn)
    return str(root)


def small(cityscapes, folder, kind):
    """An example's config for the made-up images and narrow networks."""
    cfg = load_config(str(EXAMPLE / f'{kind}.py'))
    cfg.update(work_dir=str(folder / kind), log_level='ERROR', randomness=dict(seed=0))
    cfg.experiment_name = f'{folder.name}_{kind}'
    cfg.model.teacher_ckpt = None
    for network, width in ((cfg.model.architecture, 8), (cfg.model.teacher, 12)):
        network.backbone.update(depth=18, base_channels=width, stem_channels=width)
        network.pretrained = None
        network.decode_head.update(in_channels=8 * width, channels=16)
        if network.get('auxiliary_head'):
            network.auxiliary_head.update(in_channels=4 * width, channels=8)
    cfg.data_preprocessor.size = (HEIGHT, WIDTH)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = cityscapes
        for step in loader.dataset.pipeline:
            for key in {'scale', 'crop_size'} & set(step):
                step[key] = (WIDTH, HEIGHT) if key == 'scale' else (HEIGHT, WIDTH)
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    return cfg


def test_the_example_is_mmsegs_own_training_with_a_published_teacher(tmp_path):
    folder = pathlib.Path(get_installed_path('mmsegmentation')) / '.mim'
    zoo = yaml.safe_load((folder / 'configs/fcn/metafile.yaml').read_text())['Models']
    published = {model['Weights']: folder / model['Config'] for model in zoo}
    cfg = load_config(str(EXAMPLE / 'search.py'))
    teacher = load_config(str(published[cfg.model.teacher_ckpt])).model
    for part in ('backbone', 'decode_head'):
        assert cfg.model.teacher[part] == teacher[part]
    cfg.model.teacher_ckpt = None
    model = build_model(cfg)
    assert len(model.distiller.grid.pathways) == 10 and type(model.data_preprocessor) is models.SegDataPreProcessor
    torch.save(dict(state_dict=model.student.state_dict()), tmp_path / 'student.pth')
    paths = export_student(cfg, str(tmp_path / 'student.pth'), str(tmp_path / 'exported'))
    assert apis.init_model(paths['config'], paths['checkpoint'], device='cpu').backbone.depth == 18
    replayed = load_config(str(EXAMPLE / 'distill.py')).custom_hooks[0].process
    assert replayed == os.path.join(cfg.work_dir, 'process.json')


def test_an_fcn_is_searched_distilled_exported_and_evaluated(cityscapes, tmp_path):
    cfg = small(cityscapes, tmp_path, 'search')
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    search = build_trainer(cfg)
    search.train()
    assert len(search.train_loop.dataloader.dataset) == 8 and search.model.distiller.grid.alpha.std() > 0
    process = DistillationProcess.load(str(tmp_path / 'search' / 'process.json'))
    assert len(process) == 8 and process.origin['student'].startswith('ResNetV1c(depth=18')

    cfg = small(cityscapes, tmp_path, 'distill')
    cfg.custom_hooks[0].process = str(tmp_path / 'search' / 'process.json')
    cfg.train_cfg.update(max_iters=20, val_interval=20)
    cfg.default_hooks.checkpoint.interval = 20
    replay = build_trainer(cfg)
    student = replay.train().student.eval()
    losses = replay.message_hub.get_scalar('train/student.decode.loss_ce').data[0]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])

    checkpoint = str(tmp_path / 'distill' / 'iter_20.pth')
    paths = export_student(cfg, checkpoint, str(tmp_path / 'exported'))
    plain = apis.init_model(paths['config'], paths['checkpoint'], device='cpu')
    assert not [name for name in torch.load(paths['checkpoint'])['state_dict'] if name.startswith(('teacher', 'distiller'))]
    assert plain.dataset_meta['classes'][0] == 'road' and list(plain.dataset_meta['palette'][0]) == [128, 64, 128]
    image = str(pathlib.Path(cityscapes) / 'leftImg8bit' / 'val' / 'town' / '0_leftImg8bit.png')
    found = apis.inference_model(plain, image).seg_logits.data
    student.cfg = plain.cfg  # which inference reads the pipeline from
    assert torch.equal(found, apis.inference_model(student, image).seg_logits.data)

    seen = [evaluate_student(small(cityscapes, tmp_path, 'distill'), path)['mIoU']
            for path in (checkpoint, paths['checkpoint'])]
    assert seen[0] == seen[1] == replay.message_hub.get_scalar('val/mIoU').current() > 30
