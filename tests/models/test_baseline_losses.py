"""The baselines' losses, of mmrazor and fixed, against the papers' definitions, computed image by image."""
import copy
import math

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from distpro_mm.errors import ConfigError

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


LABELS = np.array([0, 8, 3, 3, 1, 5, 7])

# ---- definitions of the papers for features s of a student and t of a teacher


def kd(s, t, tau=4, power=2):  # Hinton et al. 2015
    return np.mean([tau**power * divergence(softmax(b / tau), softmax(a / tau)) for a, b in zip(s, t)])


def fitnet(s, t, count=math.prod(MAPS)):  # ICLR 2015, with the mean of RepDistiller
    return sum((a - b)**2 for a, b in zip(s.ravel(), t.ravel())) / count


def at(s, t, p=2, unit=True):  # ICLR 2017, eq. 2, with the mean of the authors' code
    total = 0
    for a, b in zip(s, t):
        qs, qt = ((np.abs(x)**p).mean(0).ravel() for x in (a, b))
        if unit:
            qs, qt = qs / np.linalg.norm(qs), qt / np.linalg.norm(qt)
        total += ((qs - qt)**2).mean()
    return total / len(s)


def ofd(s, t, partial=True):  # ICCV 2019, eq. 4: nothing where the student is below a teacher that is not positive
    total = 0
    for a, b in zip(s.ravel(), t.ravel()):
        total += 0 if partial and a <= b <= 0 else (a - b)**2
    return total / len(s) / 1000


def ab(s, t, mu=1.0):  # AAAI 2019, eq. 8
    total = 0
    for a, b in zip(s.ravel(), t.ravel()):
        total += max(mu - a, 0)**2 if b > 0 else max(mu + a, 0)**2
    return total / len(s) / 1000 * 3


def ft(s, t, p=1):  # NeurIPS 2018, eq. 3, with the mean of the authors' code
    unit = [x.reshape(len(x), -1) / np.linalg.norm(x.reshape(len(x), -1), axis=1, keepdims=True) for x in (s, t)]
    return (np.abs(unit[0] - unit[1])**p).mean()


def cwd(s, t, tau=2, axis='pixels'):  # ICCV 2021, eq. 4
    rows = [x.reshape(-1, 16) if axis == 'pixels' else x.reshape(5, 6, 16).transpose(0, 2, 1).reshape(-1, 6) for x in (s, t)]
    return tau**2 * divergence(softmax(rows[1] / tau), softmax(rows[0] / tau)).sum() / (5 * 6)


def mgd(s, t, count=MAPS[0]):  # ECCV 2022, eq. 3, after the generation
    return 7e-5 * ((s - t)**2).sum() / count


def pkd(s, t):  # NeurIPS 2022, eq. 4 and 5: 1 - r of every channel, up to the unbiased deviation
    s, t = (x.transpose(1, 0, 2, 3).reshape(6, -1) for x in (s, t))
    n = s.shape[1]
    return np.mean([(1 - np.corrcoef(a, b)[0, 1]) * (n - 1) / n for a, b in zip(s, t)])


def dkd(s, t, alpha=1.5, beta=8.0, tau=4, labels=LABELS):  # CVPR 2022, eq. 7
    total = 0
    for a, b, y in zip(s, t, labels):
        p, q = softmax(b / tau), softmax(a / tau)
        two = [np.array([x[y], np.delete(x, y).sum()]) for x in (p, q)]
        rest = [np.delete(x, y) / np.delete(x, y).sum() for x in (p, q)]
        total += (alpha * divergence(*two) + beta * divergence(*rest)) * tau**2
    return total / len(s)


def dist(s, t, beta=2.0, gamma=3.0, tau=4):  # NeurIPS 2022, eq. 8 to 10
    p, q = softmax(s / tau), softmax(t / tau)
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    return tau**2 * (beta * inter + gamma * intra)


def wsld(s, t, tau=2, weighted=True):  # ICLR 2021, eq. 12
    total = 0
    for a, b, y in zip(s, t, LABELS):
        weight = 1 - math.exp(-np.log(softmax(a)[y]) / np.log(softmax(b)[y])) if weighted else 1
        total += weight * -(softmax(b / tau) * np.log(softmax(a / tau))).sum()
    return tau**2 * total / len(s)


def rkd_distance(s, t, normalise=True):  # CVPR 2019, eq. 5 and 6
    d = [np.array([[np.linalg.norm(a - b) for b in x] for a in x]) for x in (s, t)]
    if normalise:
        d = [x / x[x > 0].mean() for x in d]
    e = np.abs(d[0] - d[1])
    return 25 * np.where(e < 1, e**2 / 2, e - 0.5).mean()


def rkd_angle(s, t, weight=50):  # CVPR 2019, eq. 7 and 8: the angle at j between i and k
    def angle(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / max(np.linalg.norm(a), 1e-12) / max(np.linalg.norm(b), 1e-12)

    n = range(len(s))
    e = np.array([abs(angle(s, i, j, k) - angle(t, i, j, k)) for i in n for j in n for k in n])
    return weight * np.where(e < 1, e**2 / 2, e - 0.5).mean()


# name: (config, shape, what is called with beside the two features, definition, its nearest wrong formulas)
CASES = {
    'KD': (dict(type='KLDivergence', tau=4), LOGITS, {}, kd, [
        lambda s, t: kd(t, s), lambda s, t: kd(s, t, power=0), lambda s, t: kd(s, t) / LOGITS[1]]),
    'FitNet': (dict(type='L2Loss', normalize=False, div_element=True), MAPS, {}, fitnet, [
        lambda s, t: fitnet(s, t, len(s)), lambda s, t: math.sqrt(fitnet(s, t))]),
    'AT': (dict(type='ATLoss'), MAPS, {}, at, [
        lambda s, t: at(s, t, p=1), lambda s, t: at(s, t, unit=False)]),
    'OFD': (dict(type='OFDLoss'), MAPS, {}, ofd, [lambda s, t: ofd(s, t, partial=False), lambda s, t: ofd(t, s)]),
    'AB': (dict(type='ABLoss'), MAPS, {}, ab, [lambda s, t: ab(s, t, mu=0), lambda s, t: ab(t, s)]),
    'FT': (dict(type='FTLoss'), MAPS, {}, ft, [lambda s, t: ft(s, t, p=2), lambda s, t: np.abs(s - t).mean()]),
    'CWD': (dict(type='ChannelWiseDivergence', tau=2), MAPS, {}, cwd, [
        lambda s, t: cwd(s, t, axis='channels'), lambda s, t: cwd(t, s), lambda s, t: cwd(s, t) / 4]),
    'MGD': (dict(type='MGDLoss', alpha_mgd=7e-5), MAPS, {}, mgd, [lambda s, t: mgd(s, t, s.size)]),
    'PKD': (dict(type='PKDLoss'), MAPS, {}, pkd, [lambda s, t: 2 * pkd(s, t), lambda s, t: fitnet(s, t)]),
    'DKD': (dict(type='DecoupledKDLoss', tau=4, alpha=1.5, beta=8.0), LOGITS, dict(gt_labels=torch.tensor(LABELS)), dkd, [
        lambda s, t: dkd(s, t, alpha=8.0, beta=1.5), lambda s, t: dkd(s, t, labels=LABELS[::-1]), lambda s, t: dkd(t, s),
        lambda s, t: dkd(s, t) * len(s)]),
    'DIST': (dict(type='DISTLoss', tau=4, inter_loss_weight=2.0, intra_loss_weight=3.0), LOGITS, {}, dist, [
        lambda s, t: dist(s, t, 3.0, 2.0), lambda s, t: dist(s, t) / 16]),
    'WSLD': (dict(type='WSLDLoss', tau=2), LOGITS, dict(gt_labels=torch.tensor(LABELS)), wsld, [
        lambda s, t: wsld(s, t, weighted=False), lambda s, t: wsld(t, s)]),
    'RKD, distances': (dict(type='DistanceWiseRKD', with_l2_norm=False), LOGITS, {}, rkd_distance, [
        lambda s, t: rkd_distance(s, t, normalise=False), lambda s, t: rkd_distance(s, t) / 25]),
    'RKD, angles': (dict(type='AngleWiseRKD', with_l2_norm=False), LOGITS, {}, rkd_angle, [
        lambda s, t: rkd_angle(s, t, weight=25)]),
}


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('name', CASES)
def test_a_loss_is_its_papers(name, seed):
    cfg, shape, beside, definition, wrong = CASES[name]
    s, t = drawn(shape, seed)
    value = build(**cfg)(torch.from_numpy(s), torch.from_numpy(t), **beside).item()
    # Some of mmrazor's divide by a deviation or a norm plus up to 1e-6.
    assert value == pytest.approx(definition(s, t), rel=5e-6)
    for formula in wrong:
        assert abs(formula(s, t) / value - 1) > 1e-4, 'the comparison would not notice this wrong formula'


# ---- errors of mmrazor, fixed


@pytest.mark.parametrize('reduction, expected', [
    ('batchmean', lambda each: each.mean()), ('mean', lambda each: each.mean()), ('sum', lambda each: each.sum()),
    ('none', lambda each: each)])
def test_dkd_has_every_reduction(reduction, expected):
    s, t = drawn(LOGITS, 2)
    each = np.array([dkd(s[i:i + 1], t[i:i + 1], labels=LABELS[i:i + 1]) for i in range(len(s))])
    arguments = torch.from_numpy(s), torch.from_numpy(t), torch.tensor(LABELS)
    options = dict(tau=4, alpha=1.5, beta=8.0, reduction=reduction)
    np.testing.assert_allclose(build(type='DecoupledKDLoss', **options)(*arguments).numpy(), expected(each), rtol=1e-9)
    if reduction in ('mean', 'none'):  # mmrazor always sums
        assert build(type='DKDLoss', **options)(*arguments).item() == pytest.approx(each.sum())


def test_wsld_takes_any_number_of_classes():
    s, t = (torch.from_numpy(x) for x in drawn(LOGITS, 3))
    assert torch.isfinite(build(type='WSLDLoss', tau=2)(s, t, torch.tensor(LABELS)))
    with pytest.raises(RuntimeError):  # mmrazor's form
        build(type='WSLD', tau=2)(s, t, torch.tensor(LABELS))


# ---- CRD: a loss with a memory

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


# ---- factor transfer's first stage


def test_reconstruction_is_of_the_teachers_map_alone():
    loss = build(type='ReconstructionLoss', loss_weight=2.0, autoencoder=dict(
        type='mmrazor.Paraphraser', phase='pretrain', in_channel=6, out_channel=3)).double()
    s, t = (torch.from_numpy(x) for x in drawn(MAPS, 4))
    rebuilt = loss.autoencoder.decoder(loss.autoencoder.encoder(t))
    assert loss(s, t).item() == pytest.approx(2 * ((rebuilt - t)**2).mean().item())
    assert loss(s, t).item() != pytest.approx(2 * ((rebuilt - s)**2).mean().item(), rel=1e-3)
    assert loss(None, t).requires_grad


# ---- losses that mmrazor does not have


def sp(s, t, rows=True):  # ICCV 2019, eq. 1 to 4
    g = []
    for x in (s, t):
        products = np.array([[a.ravel() @ b.ravel() for b in x] for a in x])
        g.append(products / (np.linalg.norm(products, axis=1, keepdims=True) if rows else np.linalg.norm(products)))
    return ((g[0] - g[1])**2).sum() / len(s)**2


def cc(s, t, gamma=0.4, order=2):  # ICCV 2019, eq. 8 to 10
    def kernel(a, b):
        cosine = (a / np.linalg.norm(a)) @ (b / np.linalg.norm(b))
        return math.exp(-2 * gamma) * sum((2 * gamma * cosine)**p / math.factorial(p) for p in range(order + 1))

    e = np.array([[kernel(s[i], s[j]) - kernel(t[i], t[j]) for i in range(len(s))] for j in range(len(s))])
    return (e**2).sum() / len(s)**2


def cc_of_repdistiller(s, t):
    e = np.abs(s - t)
    return (e[:-1] * e[1:]).sum(1).mean()


def vid(s, t, variance, half=0.5):  # CVPR 2019, eq. 5
    total = 0
    for image_s, image_t in zip(s, t):
        for a, b, v in zip(image_s, image_t, variance):
            total += (half * (a - b)**2 / v + half * math.log(v)).sum()
    return total / s.size


def standardised(z, unbiased=1):
    return (z - z.mean(1, keepdims=True)) / z.std(1, ddof=unbiased, keepdims=True)


def lskd(s, t, tau=2, unbiased=1):  # CVPR 2024, algorithm 1
    return kd(standardised(s, unbiased), standardised(t, unbiased), tau)


def mlkd(s, t, taus=(2, 3, 4, 5, 6), weights=(1, 1, 1)):  # CVPR 2023, eq. 3 to 8
    total = 0
    for tau in taus:
        p, q = softmax(t / tau), softmax(s / tau)
        images = sum((p[i] @ p[j] - q[i] @ q[j])**2 for i in range(len(p)) for j in range(len(p))) / len(p)
        classes = sum((p[:, k] @ p[:, m] - q[:, k] @ q[:, m])**2 for k in range(9) for m in range(9)) / 9
        total += weights[0] * kd(s, t, tau) + weights[1] * images + weights[2] * classes
    return total


LACKING = {
    'SP': (dict(type='SPLoss', loss_weight=3000.0), MAPS, lambda s, t: 3000 * sp(s, t), [
        lambda s, t: 3000 * sp(s, t, rows=False), lambda s, t: 3000 * sp(s, t) * len(s)]),
    'CC': (dict(type='CCLoss', loss_weight=2.0), LOGITS, lambda s, t: 2 * cc(s, t), [
        lambda s, t: 2 * cc(s, t, order=1), lambda s, t: 2 * cc(s, t, gamma=0.2), cc_of_repdistiller]),
    'LSKD': (dict(type='StandardizedKLDivergence', tau=2, loss_weight=9.0), LOGITS, lambda s, t: 9 * lskd(s, t), [
        lambda s, t: 9 * lskd(s, t, unbiased=0), lambda s, t: 9 * kd(s, t, 2), lambda s, t: 9 * lskd(t, s)]),
    'MLKD': (dict(type='MultiLevelLogitLoss', instance_weight=0.5, batch_weight=30.0, class_weight=20.0), LOGITS,
             lambda s, t: mlkd(s, t, weights=(0.5, 30, 20)), [
                 lambda s, t: mlkd(s, t, weights=(0.5, 20, 30)), lambda s, t: mlkd(s, t, weights=(0.5, 30, 0)),
                 lambda s, t: mlkd(s, t, (4, ), (0.5, 30, 20))]),
}


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('name', LACKING)
def test_a_loss_that_mmrazor_lacks_is_its_papers(name, seed):
    cfg, shape, definition, wrong = LACKING[name]
    s, t = drawn(shape, seed)
    loss = build(**cfg)
    value = loss(torch.from_numpy(s), torch.from_numpy(t)).item()
    assert value == pytest.approx(definition(s, t), rel=1e-6)
    for formula in wrong:
        assert abs(formula(s, t) / value - 1) > 1e-3, 'the comparison would not notice this wrong formula'


@pytest.mark.parametrize('name', ['SP', 'CC'])
def test_similarities_need_no_equal_shapes(name):
    cfg, _, definition, _ = LACKING[name]
    s, t = np.random.randn(5, 6), np.random.randn(5, 8)
    assert build(**cfg)(torch.from_numpy(s), torch.from_numpy(t)).item() == pytest.approx(definition(s, t), rel=1e-6)


def test_logits_of_another_mean_and_scale_are_the_same_to_logit_standardisation():
    s, t = (torch.from_numpy(x) for x in drawn(LOGITS, 5))
    loss = build(type='StandardizedKLDivergence', tau=2)
    torch.testing.assert_close(loss(3 * s + 7, t), loss(s, t), rtol=1e-5, atol=0)
    assert loss(3 * t + 7, t) < 1e-12


def test_vid_is_the_negative_log_likelihood_of_a_gaussian():
    s, t = drawn(MAPS, 6)
    loss = build(type='VIDLoss', channels=6, loss_weight=2.0).double()
    assert (torch.nn.functional.softplus(loss.scale) + loss.eps).tolist() == [[[pytest.approx(5.0, rel=1e-6)]]] * 6
    torch.nn.init.normal_(loss.scale)
    variance = np.log1p(np.exp(loss.scale.detach().numpy().ravel())) + 1e-5
    value = loss(torch.from_numpy(s), torch.from_numpy(t)).item()
    assert value == pytest.approx(2 * vid(s, t, variance), rel=1e-9)
    normal = torch.distributions.Normal(torch.from_numpy(s), torch.from_numpy(variance).sqrt()[:, None, None])
    likelihood = -normal.log_prob(torch.from_numpy(t)).mean().item() - math.log(2 * math.pi) / 2
    assert value == pytest.approx(2 * likelihood, rel=1e-9)
    for wrong in (vid(s, t, variance**2), vid(s, t, variance, half=1), vid(s, t, variance[::-1])):
        assert abs(2 * wrong / value - 1) > 1e-3


def test_vids_variances_are_trained():
    loss = build(type='VIDLoss', channels=6)
    s, t = (torch.from_numpy(x).float() for x in drawn(MAPS, 7))
    loss(s, t).backward()
    assert (loss.scale.grad != 0).all() and [name for name, _ in loss.named_parameters()] == ['scale']
