"""The preprocessor of the student's toolbox, configured as there, and its effect on held-out images."""
import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

NETWORK = dict(_scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
               backbone=dict(type='CIFARResNet', depth=8), head=dict(type='LinearClsHead', num_classes=5, in_channels=64))
HOW = dict(mean=[1., 2., 3.], std=[4., 5., 6.])


def distpro(loss=dict(type='CrossEntropyLoss'), **options):
    student = dict(NETWORK, head=dict(NETWORK['head'], loss=loss))
    return MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture=student, teacher=NETWORK, input_shape=(3, 16, 16),
        distiller=dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')]), **options))


@pytest.mark.parametrize('cfg', [
    HOW, dict(HOW, type='ClsDataPreprocessor'), dict(HOW, type='mmpretrain.ClsDataPreprocessor'),
    dict(HOW, type='mmrazor.BatchPreprocessor'), dict(HOW, type=ImgDataPreprocessor)])
def test_it_is_looked_for_in_the_students_toolbox(cfg):
    preprocessor = distpro(data_preprocessor=cfg).data_preprocessor
    kind = cfg.get('type', 'ClsDataPreprocessor')
    assert type(preprocessor).__name__ == (kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__)
    assert preprocessor.mean.flatten().tolist() == HOW['mean'] and preprocessor.std.flatten().tolist() == HOW['std']


def test_held_out_images_are_prepared_as_for_training_but_not_mixed():
    mixed = dict(augments=[dict(type='Mixup', alpha=1.0)], probs=[1.0])
    model = distpro(dict(type='CrossEntropyLoss', use_soft=True),  # as mixed labels are
                    data_preprocessor=dict(HOW, num_classes=5, batch_augments=mixed))
    augments, seen, prepare = model.data_preprocessor.batch_augments, [], model.data_preprocessor.forward
    model.data_preprocessor.forward = lambda data, training: seen.append(training) or prepare(data, training)
    images = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(label) for label in range(4)]
    loss = model.held_out_loss(dict(inputs=images, data_samples=samples))
    assert seen == [True] and model.data_preprocessor.batch_augments is augments
    plain = (images.float() - torch.tensor(HOW['mean'])[:, None, None]) / torch.tensor(HOW['std'])[:, None, None]
    logits = model.student(plain)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.arange(4)))
