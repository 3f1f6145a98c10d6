"""CRD, a loss with a memory, against the definition of its paper, one image at a time."""
import copy
import math

import numpy as np
import pytest
import torch
from image_by_image import build
from mmpretrain.structures import DataSample

from distpro_mm.errors import ConfigError

pytestmark = pytest.mark.usefixtures('fixed_values')

SIZE, DIM, NEGATIVES, TAU, MOMENTUM, EPS = 12, 3, 40, 0.3, 0.5, 1e-7


def embedded(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator, dtype=torch.float64)) for _ in 'st']


def images(places, labels=None):
    samples = [DataSample(metainfo=dict(sample_idx=place)) for place in places]
    for sample, label in zip(samples, labels or [0] * len(samples)):
        sample.set_gt_label(label)
    return samples, torch.tensor(labels or [0] * len(samples))


def crd(**options):
    torch.manual_seed(0)
    cfg = dict(type='SupervisedCRDLoss', sample_n=SIZE, neg_num=NEGATIVES, dim_out=DIM, temperature=TAU, **options)
    return build(**cfg).double()


def contrast(own, memory, places, drawn_places, z):
    """ICLR 2020, eq. 17 and 18, one image and one side at a time. z: the constant estimated from the first batch."""
    total = 0
    for feature, place, others in zip(own.tolist(), places, drawn_places):
        scores = [math.exp(np.dot(feature, memory[other]) / TAU) / z for other in [place, *others]]
        ratio = NEGATIVES / SIZE
        total -= math.log(scores[0] / (scores[0] + ratio + EPS))
        total -= sum(math.log(ratio / (score + ratio + EPS)) for score in scores[1:])
    return total / len(places)


def test_crd_is_the_papers_contrast_against_a_memory(monkeypatch):
    loss, drawn_places = crd(loss_weight=0.8), []
    true_negatives = loss._negatives
    monkeypatch.setattr(loss, '_negatives', lambda labels: drawn_places.append(true_negatives(labels)) or drawn_places[-1])
    z = {}
    for step, places in enumerate([[3, 0, 7, 9], [7, 1, 3, 2]]):
        s, t = embedded(step)
        memory = {side: getattr(loss.contrast, name).clone() for side, name in (('s', 'memory_v1'), ('t', 'memory_v2'))}
        value = loss(s, t, *images(places, [0, 1, 0, 2])).item()
        expected = 0
        for own, other, feature in (('s', 't', s), ('t', 's', t)):  # each side against the memory of the other
            rows = memory[other].numpy()
            if step == 0:
                everything = [[math.exp(np.dot(f, rows[i]) / TAU) for i in [p, *n]]
                              for f, p, n in zip(feature.tolist(), places, drawn_places[0].tolist())]
                z[own] = np.mean(everything) * SIZE
            expected += contrast(feature, rows, places, drawn_places[step].tolist(), z[own])
            moved = memory[own].clone()  # each memory is updated with its own side
            moved[places] = torch.nn.functional.normalize(MOMENTUM * moved[places] + (1 - MOMENTUM) * feature)
            torch.testing.assert_close(getattr(loss.contrast, 'memory_v1' if own == 's' else 'memory_v2'), moved)
        assert loss.labels[places].tolist() == [0, 1, 0, 2], 'so that the next batch tells negatives'
        assert value == pytest.approx(0.8 * expected, rel=1e-6)
        assert value != pytest.approx(expected, rel=1e-2)  # mmrazor ignores the weight


def test_crd_draws_no_negative_of_the_images_own_class():
    loss = crd()
    loss.labels.copy_(torch.arange(SIZE) % 3)
    negatives = loss._negatives(torch.tensor([0, 1, 2, 0]))
    assert negatives.shape == (4, NEGATIVES)
    for row, label in zip(negatives, [0, 1, 2, 0]):
        others = [place for place in range(SIZE) if place % 3 != label]
        assert set(row.tolist()) == set(others), 'all of the others, with repetition where more are wanted than there are'
    loss.contrast.neg_sample = len(others)
    assert sorted(loss._negatives(torch.tensor([0]))[0].tolist()) == [i for i in range(SIZE) if i % 3]  # without repetition


def test_crd_draws_images_that_were_never_seen_only_until_there_are_enough_others():
    loss = crd()
    loss.contrast.neg_sample = 3
    loss.labels[:5] = torch.tensor([0, 0, 1, 1, 1])
    assert set(loss._negatives(torch.tensor([0]))[0].tolist()) == {2, 3, 4}
    drawn = {place for _ in range(50) for place in loss._negatives(torch.tensor([1]))[0].tolist()}  # two others were seen
    assert drawn == {0, 1, *range(5, SIZE)}


def test_crd_can_be_copied_after_a_batch():
    s, t = embedded(0)
    s.requires_grad_()
    loss = crd()
    loss(s, t, *images([0, 1, 2, 3]))
    copy.deepcopy(loss)
    plain = build(type='CRDLoss', sample_n=SIZE, neg_num=NEGATIVES, dim_out=DIM).double()
    samples = [DataSample() for _ in range(4)]
    for place, sample in enumerate(samples):
        sample.set_data(dict(sample_idx=torch.tensor(place)))
    plain(s, t, samples)
    with pytest.raises(RuntimeError, match='deepcopy'):  # mmrazor's form
        copy.deepcopy(plain)


def test_crd_names_what_does_not_fit():
    s, t = embedded(0)
    with pytest.raises(ConfigError, match='sample_n=12 is too small: an image has sample_idx=12'):
        crd()(s, t, *images([0, 12, 2, 3]))
    with pytest.raises(ConfigError, match='needs the sample_idx of every image'):
        crd()(s, t, [DataSample()] * 4, torch.zeros(4, dtype=torch.long))
    with pytest.raises(ConfigError, match='images of different classes have sample_idx=3'):  # in one batch
        crd()(s, t, *images([0, 3, 2, 3], [0, 1, 2, 2]))
    loss = crd()
    loss(s, t, *images([0, 1, 2, 3], [0, 1, 2, 2]))
    loss(s, t, *images([4, 1, 2, 3], [0, 1, 2, 2]))
    with pytest.raises(ConfigError, match='images of different classes have sample_idx=1'):  # in two
        loss(s, t, *images([4, 1, 2, 3], [0, 0, 2, 2]))
