"""A label must mean the same class in training, validation, test and teacher, or an error is raised."""
import copy
import os

import pytest
import torch

from distpro_mm.datasets.class_names import check_class_names
from distpro_mm.engine.launch import build_trainer, evaluate_student
from distpro_mm.errors import ConfigError

PIPELINE = [dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='PackInputs')]


@pytest.fixture
def config(make_config, folder):
    """config(kind): trains and evaluates on folders of the classes a, b, c."""
    datasets = [dict(folder(dict.fromkeys('abc', 10), part, seed), pipeline=PIPELINE)
                for seed, part in enumerate(('train', 'test'))]

    def make(kind, **options):
        cfg = make_config(kind, train_cfg__max_epochs=1, **options)
        cfg.train_dataloader.dataset = datasets[0]
        for key in ('val_dataloader', 'test_dataloader'):
            cfg[key].dataset, cfg[key].collate_fn = datasets[1], dict(type='default_collate')
        return cfg

    return make


@pytest.mark.parametrize('kind', ['student', 'whole_run'])
def test_a_validation_folder_that_lacks_a_class_is_refused(config, folder, kind, tmp_path):
    cfg = config(kind)
    cfg.val_dataloader.dataset = dict(folder(dict(a=5, c=5), 'few', seed=2), pipeline=PIPELINE)
    with pytest.raises(ConfigError, match="val_dataloader: label 1 is 'c', and 'b' in train_dataloader; it lacks 'b'"):
        build_trainer(cfg).train()


def test_held_out_images_in_a_folder_that_lacks_a_class_are_refused(config, folder):
    cfg = config('whole_run')
    few = dict(folder(dict(a=5, c=5), 'few', seed=2), pipeline=PIPELINE)
    cfg.train_cfg.held_out_dataloader = dict(cfg.train_dataloader, batch_size=5, dataset=few)
    with pytest.raises(ConfigError, match="train_cfg.held_out_dataloader: label 1 is 'c', and 'b' in train_dataloader"):
        build_trainer(cfg).train()


def test_a_run_is_not_resumed_on_other_classes(config, folder):
    cfg = config('student')
    build_trainer(copy.deepcopy(cfg)).train()
    cfg.train_dataloader.dataset = dict(folder(dict.fromkeys('acd', 10), 'others', seed=0), pipeline=PIPELINE)
    with pytest.raises(ConfigError, match="--resume '.*epoch_1.pth': label 1 is 'b', and 'c' in train_dataloader"):
        build_trainer(cfg, resume='auto').train()


def test_a_plain_loop_of_mmengine_is_checked_too(config, folder):
    cfg = config('student')
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.val_dataloader.dataset = dict(folder(dict(a=5, c=5), 'few', seed=2), pipeline=PIPELINE)
    with pytest.raises(ConfigError, match="val_dataloader: label 1 is 'c'"):
        build_trainer(cfg).train()


def test_a_checkpoint_is_not_tested_on_a_folder_that_lacks_a_class(config, folder, tmp_path):
    cfg = config('student')
    build_trainer(copy.deepcopy(cfg)).train()
    checkpoint = os.path.join(cfg.work_dir, 'epoch_1.pth')
    few = dict(folder(dict(a=5, c=5), 'few', seed=2), pipeline=PIPELINE)
    cfg.test_dataloader.dataset = few
    with pytest.raises(ConfigError, match="test_dataloader: label 1 is 'c', and 'b' in checkpoint='.*; it lacks 'b'"):
        evaluate_student(cfg, checkpoint)
    lines = [f'{label}/{label}_{number}.png {"abc".index(label)}' for label in 'ac' for number in range(5)]
    (tmp_path / 'labels.txt').write_text('\n'.join(lines))
    cfg.test_dataloader.dataset = dict(few, data_root='', data_prefix=few['data_root'],
                                       ann_file=str(tmp_path / 'labels.txt'))
    right = evaluate_student(cfg, checkpoint)
    os.mkdir(os.path.join(few['data_root'], 'b'))  # as the message advises
    cfg.test_dataloader.dataset = few
    assert evaluate_student(cfg, checkpoint) == right


def test_a_teacher_that_numbers_the_classes_differently_is_refused(config, tmp_path):
    cfg = config('student')
    build_trainer(copy.deepcopy(cfg)).train()
    checkpoint = torch.load(os.path.join(cfg.work_dir, 'epoch_1.pth'), weights_only=False)
    for classes, message in ((('a', 'c', 'b'), "label 1 is 'c', and 'b' in train_dataloader"), (('a', 'b', 'c'), None)):
        checkpoint['meta']['dataset_meta'] = dict(classes=classes)
        torch.save(checkpoint, tmp_path / 'teacher.pth')
        cfg = config('equal', name=f'equal_{classes[1]}')
        cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
        runner = build_trainer(cfg)
        if message:
            with pytest.raises(ConfigError, match=f"model.teacher_ckpt='.*teacher.pth': {message}"):
                runner.train()
        else:
            runner.train()


@pytest.mark.parametrize('found, outcome', [
    ('abc', 'silent'), ('ab', 'silent'), ('', 'silent'), ('ac', 'refused'), ('bac', 'refused'), ('bcd', 'refused'),
    ('abd', 'logged'), ('abcd', 'logged'), ('xyz', 'logged'),
])
def test_names_that_moved_are_refused_and_other_names_are_logged(found, outcome, monkeypatch):
    logged = []
    monkeypatch.setattr('distpro_mm.datasets.class_names.print_log', lambda message, *args: logged.append(message))
    if outcome == 'refused':
        with pytest.raises(ConfigError, match='val: label'):
            check_class_names(tuple('abc'), 'train', tuple(found), 'val')
    else:
        check_class_names(tuple('abc'), 'train', tuple(found), 'val')
        assert len(logged) == (outcome == 'logged')
    check_class_names((), 'train', tuple(found), 'val')
