"""What tests of losses share that derive them independently, in float64."""
import numpy as np
import torch
from mmrazor.registry import MODELS

B, K, C = 6, 5, 4  # images, classes, channels
LABELS = np.array([0, 4, 2, 2, 1, 3])


def build(**cfg):
    return MODELS.build(dict(_scope_='mmrazor', **cfg)).double()


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def assert_gradient(loss, student, *beside):
    """The gradient by the student's logits or features is that of finite differences."""
    student = torch.from_numpy(student).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, *beside), (student, ), rtol=1e-4, atol=1e-6)


def differs(value, *wrong, by=1e-3):
    assert all(abs(other / value - 1) > by for other in wrong), 'the comparison would not notice this wrong formula'


def classes(draw, sizes=(7, 9, 7, 8, 11)):
    """Features by class, and all of them with their labels in mixed order."""
    by_class = [draw(size, C) + 2 * draw(C) for size in sizes]
    features, labels = np.concatenate(by_class), np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(np.concatenate([np.arange(size) for size in sizes]), kind='stable')
    return by_class, torch.from_numpy(features[order]), torch.from_numpy(labels[order])
