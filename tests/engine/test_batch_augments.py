"""Mixup and other options of preprocessors in searches and distillations."""
import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.models import ImageClassifier
from toys import MIXUP

from distpro_mm.engine.launch import build_model, build_trainer
from distpro_mm.errors import ConfigError


def batch(count=8):
    from mmpretrain.structures import DataSample
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 8, 8) * 20
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in range(count)])


@pytest.mark.parametrize('kind', ['mmrazor.BatchPreprocessor', 'mmpretrain.ClsDataPreprocessor', None])
@pytest.mark.parametrize('method', ['equal', 'kd', 'dkd', 'crd', 'simkd', 'student'])
def test_mixup_of_the_students_model_config_mixes(make_config, method, kind):
    cfg = make_config(method)
    (cfg.model if method == 'student' else cfg.model.architecture).train_cfg = MIXUP
    cfg.data_preprocessor.type = kind
    if kind is None:
        cfg.data_preprocessor.pop('type')
    if method == 'student' and kind is not None:
        cfg.data_preprocessor.type = 'ClsDataPreprocessor'
    model = build_model(cfg)
    prepared = model.data_preprocessor(batch(), True)
    assert any((sample.gt_score > 0).sum() > 1 for sample in prepared['data_samples'])
    if method != 'student':
        prepared = model.data_preprocessor(batch(), False)
        assert all('gt_score' not in sample or sample.gt_score.max() == 1 for sample in prepared['data_samples'])


@pytest.mark.parametrize('method', ['equal', 'kd'])
def test_mixup_of_a_students_config_in_another_toolbox_mixes(make_config, method):
    cfg = make_config(method, model__input_shape=(3, 32, 32)) if method == 'equal' else make_config(method)
    cfg.model.architecture = dict(cfg_path='mmpretrain::_base_/models/resnet50_mixup.py')
    cfg.model.teacher = dict(_scope_='mmpretrain', type='ImageClassifier', backbone=dict(type='ResNet', depth=18),
                             neck=dict(type='GlobalAveragePooling'),
                             head=dict(type='LinearClsHead', num_classes=1000, in_channels=512))
    cfg.data_preprocessor = dict(num_classes=1000, mean=[78.], std=[97.])
    preprocessor = build_model(cfg).data_preprocessor
    assert type(preprocessor).__name__ == 'ClsDataPreprocessor'
    assert [type(augment).__name__ for augment in preprocessor.batch_augments.augments] == ['Mixup']


def test_mixup_reaches_the_training_and_not_the_held_out_images(make_config):
    seen = []

    class Look(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            prepared = runner.model.data_preprocessor(data_batch, True)
            seen.append(any((sample.gt_score > 0).sum() > 1 for sample in prepared['data_samples']))

    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__max_epochs=1)
    cfg.model.architecture.train_cfg = MIXUP
    cfg.model.architecture.head.loss = dict(type='CrossEntropyLoss', use_soft=True)
    runner = build_trainer(cfg)
    runner.register_hook(Look())
    runner.train()
    assert any(seen)


def test_augments_that_no_preprocessor_makes_are_refused(make_config):
    cfg = make_config('equal')
    cfg.model.architecture.train_cfg = MIXUP
    cfg.data_preprocessor = dict(type='mmengine.ImgDataPreprocessor')
    with pytest.raises(ConfigError, match="model.architecture.train_cfg.augments: data_preprocessor.type='ImgDataPreproc"):
        build_trainer(cfg)


def test_a_preprocessor_of_the_student_that_is_not_used_is_refused(make_config):
    cfg = make_config('equal')
    cfg.model.architecture.data_preprocessor = dict(type='ClsDataPreprocessor', mean=[0.], std=[1.], num_classes=10)
    with pytest.raises(ConfigError, match='model.architecture.data_preprocessor=.* is not used, because the config'):
        build_trainer(cfg)
    cfg.model.architecture.data_preprocessor.update(mean=[78.], std=[97.])
    build_trainer(cfg)


class OwnClassifier(ImageClassifier):
    """A classifier of a user."""


@pytest.mark.parametrize('kind', ['kd', 'equal'])
def test_a_preprocessor_without_a_type_is_that_of_a_classifier(make_config, kind):
    cfg = make_config(kind, train_cfg__max_epochs=1)
    cfg.model.architecture.type = OwnClassifier
    cfg.data_preprocessor = dict(num_classes=10, mean=[78.], std=[97.], to_rgb=False)
    runner = build_trainer(cfg)
    runner.train()
    model = runner.model
    assert {type(part.data_preprocessor).__name__ for part in (model, model.architecture)
            if part.data_preprocessor is not None} == {'ClsDataPreprocessor'}


def test_a_preprocessor_without_a_type_is_refused_where_the_student_has_no_default(make_config):
    cfg = make_config('kd', model__type='SingleTeacherDistill', model__distiller__type='ConfigurableDistiller')
    cfg.model.architecture = dict(type='mmrazor.ModuleClassifier')
    cfg.data_preprocessor = dict(mean=[78.], std=[97.])
    with pytest.raises(ConfigError, match="data_preprocessor={'mean': .* has no type: .*'mmpretrain.ClsDataPreprocessor'"):
        build_model(cfg)
