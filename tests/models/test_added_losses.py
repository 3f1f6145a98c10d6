"""The losses that mmrazor lacks, against the definitions of their papers, computed image by image."""
import math

import numpy as np
import pytest
import torch
from image_by_image import LOGITS, MAPS, build, drawn, kd, softmax

pytestmark = pytest.mark.usefixtures('fixed_values')


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
    loss.scale.data.copy_(torch.linspace(-2, 2, 6)[:, None, None])  # not drawn: the wrong values below are to differ
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
