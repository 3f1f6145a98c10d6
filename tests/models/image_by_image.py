"""What tests of the losses of baselines share: toy features, and definitions computed image by image."""
import numpy as np
from mmrazor.registry import MODELS

MAPS, LOGITS = (5, 6, 4, 4), (7, 9)


def build(**cfg):
    return MODELS.build(dict(_scope_='mmrazor', **cfg))


def drawn(shape, seed):
    generator = np.random.RandomState(seed)
    return generator.randn(*shape), generator.randn(*shape) * 1.5 + 0.3


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p, q):
    return (p * np.log(p / q)).sum(-1)


# ---- definitions of the papers for features s of a student and t of a teacher


def kd(s, t, tau=4, power=2):  # Hinton et al. 2015
    return np.mean([tau**power * divergence(softmax(b / tau), softmax(a / tau)) for a, b in zip(s, t)])
