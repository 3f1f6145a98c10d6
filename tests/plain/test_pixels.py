"""Distillation of logits for each pixel, as docs/plain_loop.md says."""
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

import distpro

CLASSES = 5
BY_HAND = dict(progress=[0, 1], weights=dict(features=[10, 10], logits=[3, 3]))


class Segmentor(nn.Module):
    """Logits of each pixel [B, CLASSES, H, W]."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.classify = nn.Conv2d(2 * width, CLASSES, 1)

    def forward(self, x):
        return functional.interpolate(self.classify(self.stage(self.stem(x))), x.shape[2:], mode='bilinear')


def by_pixel(logits):
    return logits.movedim(1, -1).flatten(0, -2)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def batches(count):
    return [(torch.randn(4, 3, 8, 8), torch.randint(CLASSES, (4, 8, 8))) for _ in range(count)]


def test_the_logits_of_all_pixels_are_compared_and_the_features_as_usual():
    student, teacher, images = Segmentor(4), Segmentor(8), torch.randn(4, 3, 8, 8)
    kd = distpro.Distillation(student, teacher, images[:2], process=BY_HAND, get_logits=by_pixel, fast_teacher=False)
    out = kd(images, progress=0.5)
    assert len(out.pathways) > 1
    with torch.no_grad():
        taught = teacher.eval()(images)
    log_q, log_p = ((logits.double() / 4).log_softmax(1) for logits in (out.output, taught))
    divergence = 16 * (log_p.exp() * (log_p - log_q)).sum(1).mean()  # mean over images and pixels
    assert out.output.shape == (4, CLASSES, 8, 8) and out.logits.shape == (4 * 64, CLASSES)
    assert float(out.pathways['logits>logits:kl']) == pytest.approx(float(divergence), rel=1e-4)
    out.loss.backward()
    assert student.stem[0].weight.grad.abs().sum() > 0


def test_a_search_is_judged_by_the_loss_of_the_pixels():
    asked = []

    def criterion(logits, classes):
        asked.append(logits.shape)
        return functional.cross_entropy(logits, classes.flatten())

    process = distpro.search(
        Segmentor(4), Segmentor(8), batches(6), batches(2), criterion, lambda weights: torch.optim.SGD(weights, lr=0.05),
        epochs=2, min_iterations=4, rounds=2, get_logits=by_pixel, report=lambda line: None)
    assert (4 * 64, CLASSES) in asked and all(shape[1:] == (CLASSES, ) for shape in asked)
    assert 'logits>logits:kl' in process.names and process.origin['complete']


def test_logits_of_pixels_without_a_function_are_refused_with_the_advice():
    with pytest.raises(distpro.ArgumentError, match=r'returns \(2, 5, 8, 8\), .* lambda logits: logits\.movedim\('):
        distpro.Distillation(Segmentor(4), Segmentor(8), torch.randn(2, 3, 8, 8), process=BY_HAND,
                             logits=dict(kl=distpro.pathways.KLDivergence(4)))
