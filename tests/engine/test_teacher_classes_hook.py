"""What losses learn of the teacher's features of each class, before the training and in a resumed one."""
import os

import numpy as np
import pytest
import torch
from mmpretrain.registry import DATASETS
from runs import trained

from distpro_mm.errors import ConfigError
from distpro_mm.models.losses.class_features import LearnsFromTeacher

HOOK = dict(type='mmrazor.TeacherClassesHook')


def features_of(runner, limit=None):
    """The teacher's pooled features by class, image by image, of images without augmentation."""
    dataset = dict(type='SklearnDigits', split='train', images_per_class=10, pipeline=[dict(type='PackInputs')])
    dataset = DATASETS.build(dataset)
    found = {label: [] for label in range(10)}
    model = runner.model
    for index in range(len(dataset)):
        item = dataset[index]
        images = (item['inputs'][None].float() - 78) / 97
        with torch.no_grad():
            feature = model.teacher.backbone(images)[-1].mean((2, 3))[0]
        rows = found[int(item['data_samples'].gt_label)]
        if limit is None or len(rows) < limit:
            rows.append(feature.double().numpy())
    return [np.stack(rows) for rows in found.values()]


def in_memory(cfg):
    """The same images in memory, with a strong augmentation."""
    cfg.train_dataloader.collate_fn = dict(type='collate_free')
    cfg.train_dataloader.dataset = dict(
        type='InMemoryDataset', dataset=cfg.train_dataloader.dataset, augments=[dict(type='BatchRandomCrop', padding=4)])
    return cfg


def augmented(cfg):
    """The same images one by one, with an augmentation that the evaluation does not have."""
    cfg.train_dataloader.dataset.pipeline = [dict(type='RandomFlip', prob=0.5), *cfg.train_dataloader.dataset.pipeline]
    return cfg


def repeated(cfg):
    """The same images in wrappers that do not give their classes."""
    part = dict(type='RepeatDataset', times=1, dataset=cfg.train_dataloader.dataset)
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[part])
    return cfg


@pytest.mark.parametrize('images', [in_memory, augmented, repeated])
def test_class_means_are_those_of_the_images_without_augmentation(make_config, images):
    runner = trained(images(make_config('kdpp')))
    loss, = runner.model.distiller.pair_losses.values()
    means = np.stack([rows.mean(0) for rows in features_of(runner)])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(loss.directions.numpy(), expected, rtol=1e-4, atol=1e-5)
    off = np.abs(expected[:, None] - expected[None]).max(2) + np.eye(10)
    assert off.min() > 1e-3, 'the classes differ'


def test_costs_use_the_first_images_of_each_class_if_they_are_limited(make_config):
    runner = trained(in_memory(make_config('wkd_l', custom_hooks=[dict(HOOK, images_per_class=6, batch_size=7)])))
    loss = runner.model.distiller.distill_losses['loss_wkd']
    rows = [x - x.mean(0) for x in features_of(runner, limit=6)]
    hsic = np.array([[np.trace(x @ x.T @ y @ y.T) for x in rows] for y in rows])
    cka = hsic / np.sqrt(np.outer(hsic.diagonal(), hsic.diagonal()))
    np.testing.assert_allclose(loss.costs.numpy(), 1 - np.exp(cka - 1), rtol=1e-3, atol=1e-4)


def test_a_resumed_run_has_what_was_learned(make_config):
    cfg = make_config('kdpp', default_hooks__checkpoint__max_keep_ckpts=-1)
    trained(cfg)
    again = make_config('kdpp')
    again.load_from, again.resume = os.path.join(cfg.work_dir, 'epoch_1.pth'), True

    def refuse(*args):
        raise AssertionError('the teacher runs over the training set again')

    def watch(runner):
        for module in runner.model.modules():
            if isinstance(module, LearnsFromTeacher):
                module.learn = refuse

    resumed = trained(again, prepare=watch).model.state_dict()
    assert any(name.endswith('learned') and value for name, value in resumed.items())


@pytest.mark.parametrize('method, options, message', [
    ('kd', dict(custom_hooks=[HOOK]), 'TeacherClassesHook finds no loss that learns classes'),
    ('student', dict(custom_hooks=[HOOK]), 'TeacherClassesHook finds no loss that learns classes'),
    ('kdpp', dict(custom_hooks=[]), r'NormDirectionLoss has no class means: add dict\(type=.mmrazor.TeacherClassesHook'),
    ('wkd_l', dict(custom_hooks=[]), r'WassersteinLogitLoss has no costs of the classes: add dict\(type='),
    ('wkd_l', dict(custom_hooks=[dict(HOOK, images_per_class=1)]), 'has 1 images of class 0; each class needs at least 2'),
    ('wkd_l', dict(custom_hooks=[dict(HOOK, batch_size=0)]), 'TeacherClassesHook.batch_size=0 must be a whole number')])
def test_what_does_not_fit_is_refused(make_config, method, options, message):
    with pytest.raises(ConfigError, match=message):
        trained(make_config(method, **options))
