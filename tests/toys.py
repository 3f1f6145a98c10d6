"""The toy networks and toy images of the tests. Values come from torch's random generator: seed it first."""
import torch
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import nn

SHAPE = (1, 8, 8)  # of the images of a batch
MIXUP = dict(augments=[dict(type='Mixup', alpha=1.0)])  # the train_cfg of a classifier


class Once(torch.autograd.Function):
    """Doubles its input, and has no second derivative."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


def network(width=4, classes=5, image_channels=3):
    """nn.Sequential: A plain network of a stem and two stages, whose ReLUs work in place."""
    def block(before, after):
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, stride=2), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
                             nn.Conv2d(after, after, 3, padding=1))

    stem = nn.Sequential(nn.Conv2d(image_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    return nn.Sequential(stem, block(width, width), block(width, 2 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(2 * width, classes))


def labelled_images(count, classes=5):
    """list[tuple]: Noise [3, 16, 16] whose mean depends on the class, and the class."""
    labels = torch.arange(count) % classes
    return list(zip(torch.randn(count, 3, 16, 16) + 0.3 * labels[:, None, None, None], labels))


def classifier(width=4, classes=10, channels=None, depth=8):
    """dict: Config of mmpretrain's classifier for a batch: a stem with ``width`` channels and three stages."""
    channels = channels or (width, 2 * width, 4 * width)
    return dict(
        _scope_='mmpretrain', type='ImageClassifier',
        backbone=dict(type='CIFARResNet', depth=depth, in_channels=SHAPE[0], stem_channels=width, channels=channels),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=classes, in_channels=channels[-1]))


def batch(size=8, dtype=torch.float32, classes=10, shape=SHAPE):
    """tuple: Images [size, *shape] and data samples, labelled 0, 1, ... and again from 0 after the last class."""
    return torch.randn(size, *shape, dtype=dtype), [DataSample().set_gt_label(i % classes) for i in range(size)]


def distpro_model(teacher=None, student=None, **kwargs):
    """DistPro: Two small classifiers with pointwise pathways. Arguments of the distiller and of the model may be changed."""
    distiller = dict(dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')]),
                     **kwargs.pop('distiller', {}))
    return MODELS.build(dict(_scope_='mmrazor', type='DistPro', architecture=student or classifier(8),
                             teacher=teacher or classifier(12), input_shape=SHAPE, distiller=distiller, **kwargs))
