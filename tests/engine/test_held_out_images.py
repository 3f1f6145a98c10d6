"""Held-out images that are trained or tested on are refused, and a loader of them is accepted."""
import os
import shutil

import cv2
import numpy as np
import pytest
from runs import trained

from distpro_mm.engine.loops.reproducible_train_loop import start_at
from distpro_mm.errors import ConfigError

TEST = dict(type='SklearnDigits', split='test', pipeline=[dict(type='PackInputs')])


@pytest.mark.parametrize('dataset, common, where', [
    (dict(type='InMemoryDataset', dataset=TEST), '700 of the 700', 'test'),
    (TEST, '700 of the 700', 'test'),
    (dict(type='InMemoryDataset', dataset=TEST, augments=[dict(type='BatchRandomFlip')]), '700 of the 700', 'test'),
    (dict(TEST, indices=50), '50 of the 50', 'test'),
    (dict(type='HeldOutSplit', part='held_out', ratio=0.1, dataset=dict(type='RepeatDataset', times=2, dataset=TEST)),
     '70 of the 70', 'test'),
    (dict(type='ConcatDataset', datasets=[dict(TEST, split='train', indices=20), dict(TEST, indices=3)]),
     '3 of the 23', 'test'),
    (dict(type='RepeatDataset', times=2, dataset=dict(TEST, split='train', images_per_class=10, indices=5)),
     '10 of the 10', 'train'),
])
def test_held_out_images_that_are_tested_or_trained_on_are_refused(make_config, dataset, common, where):
    cfg = make_config('search')
    cfg.train_dataloader.dataset.pop('images_per_class')
    cfg.train_dataloader.dataset.indices = list(range(1000, 1090)) if where == 'test' else 100
    cfg.train_cfg.held_out_dataloader = dict(cfg.train_dataloader, dataset=dataset)
    message = f'train_cfg.held_out_dataloader: {common} held-out images are in {where}_dataloader too, the first is image'
    with pytest.raises(ConfigError, match=f'{message} .* leave it out'):
        trained(cfg)


def test_a_split_of_a_training_set_with_test_images_is_refused(make_config):
    cfg = make_config('search')
    train = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[train, dict(TEST, indices=100)])
    with pytest.raises(ConfigError, match='train_cfg.held_out: 2. of the 40 held-out images are in test_dataloader too'):
        trained(cfg)


@pytest.mark.parametrize('spelling', [dict(data_root='{}/val/'), dict(data_root='{}', data_prefix='val'),
                                      dict(data_root='{}/linked/../linked'), dict(data_root='{}/copied')])
def test_test_images_in_files_are_refused_however_they_are_spelled(make_config, tmp_path, spelling):
    random = np.random.RandomState(0)
    for part in ('train', 'val'):
        for label in 'ab':
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(3):
                image = random.randint(0, 256, (8, 8, 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / part / label / f'{number}.png'), image)
    os.symlink(tmp_path / 'val', tmp_path / 'linked')
    shutil.copytree(tmp_path / 'val', tmp_path / 'copied')
    cfg = make_config('search')
    for key, part in (('train_dataloader', 'train'), ('val_dataloader', 'val'), ('test_dataloader', 'val')):
        cfg[key].dataset = dict(type='CustomDataset', data_root=str(tmp_path / part), pipeline=TEST['pipeline'])
    spelling = {key: value.format(tmp_path) for key, value in spelling.items()}
    cfg.train_cfg.held_out_dataloader = dict(cfg.train_dataloader, dataset=dict(
        type='CustomDataset', pipeline=TEST['pipeline'], **spelling))
    with pytest.raises(ConfigError, match="6 of the 6 held-out images are in test_dataloader too, the first .*0.png'"):
        trained(cfg)


def test_a_custom_held_out_loader(make_config):
    cfg = make_config('search')
    cfg.train_dataloader.dataset.pop('images_per_class')
    cfg.train_dataloader.dataset.indices = 100
    cfg.train_cfg.held_out_dataloader = dict(cfg.train_dataloader, drop_last=True, dataset=dict(
        cfg.train_dataloader.dataset, indices=list(range(500, 561))))
    cfg.test_dataloader.dataset.dataset.split = 'not on this machine'  # which a search does not read
    runner = trained(cfg)
    loop = runner.train_loop
    assert len(loop.dataloader.dataset) == 100
    passes = [[sample.sample_idx for batch in start_at(loop.held_out_dataloader, epoch, 0)
               for sample in batch['data_samples']] for epoch in (0, 1)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(61)) and passes[0] != passes[1]
    assert [len(batch['inputs']) for batch in start_at(loop.held_out_dataloader, 0, 0)] == [15, 15, 15, 16]


def test_a_model_without_pathways_is_refused(make_config):
    cfg = make_config('kd')
    cfg.train_cfg = dict(type='mmrazor.DistProOneStepSearchLoop', max_epochs=1)
    with pytest.raises(ConfigError, match='needs model.type=DistPro, got TapDistill'):
        trained(cfg)
