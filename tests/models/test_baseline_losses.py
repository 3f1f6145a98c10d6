"""The baselines' losses, of mmrazor and fixed, against the papers' definitions, computed image by image."""
import math

import numpy as np
import pytest
import torch
from image_by_image import LOGITS, MAPS, build, divergence, drawn, kd, softmax

pytestmark = pytest.mark.usefixtures('fixed_values')

LABELS = np.array([0, 8, 3, 3, 1, 5, 7])


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


# ---- factor transfer's first stage


def test_reconstruction_is_of_the_teachers_map_alone():
    loss = build(type='ReconstructionLoss', loss_weight=2.0, autoencoder=dict(
        type='mmrazor.Paraphraser', phase='pretrain', in_channel=6, out_channel=3)).double()
    s, t = (torch.from_numpy(x) for x in drawn(MAPS, 4))
    rebuilt = loss.autoencoder.decoder(loss.autoencoder.encoder(t))
    assert loss(s, t).item() == pytest.approx(2 * ((rebuilt - t)**2).mean().item())
    assert loss(s, t).item() != pytest.approx(2 * ((rebuilt - s)**2).mean().item(), rel=1e-3)
    assert loss(None, t).requires_grad
