"""Losses of WKD against exact transport by a linear program, the distance of Gaussians, and the release's iterations."""
import math

import numpy as np
import pytest
import torch
from formulas import LABELS, B, C, K, assert_gradient, build, classes, differs, softmax
from scipy.optimize import linprog

from distpro_mm.errors import ConfigError

pytestmark = pytest.mark.usefixtures('fixed_values')

# ---- WKD-L


def cka(x, y):
    """Linear CKA of matrices [n, C] by the centred Gram matrices (Kornblith et al. 2019)."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n

    def hsic(a, b):
        return np.trace(a @ a.T @ centre @ b @ b.T @ centre)

    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


def transported(p, q, costs):
    """The least cost of transporting p to q, by a linear program."""
    n = len(p)
    rows = [np.kron(np.eye(n)[i], np.ones(n)) for i in range(n)] + [np.kron(np.ones(n), np.eye(n)[j]) for j in range(n)]
    found = linprog(costs.ravel(), A_eq=np.array(rows), b_eq=np.concatenate([p, q]), bounds=(0, None), method='highs')
    assert found.status == 0
    return found.fun


def wkd_l(s, t, costs, tau=2.0, weight=30.0, distance=transported, target=True, separate=True):
    total = 0
    for a, b, y in zip(s, t, LABELS):
        others = np.arange(K) != y if separate else np.full(K, True)
        total += -softmax(b)[y] * np.log(softmax(a)[y]) * target
        total += weight * distance(softmax(a[others] / tau), softmax(b[others] / tau), costs[np.ix_(others, others)])
    return total / len(s)


def learned(draw, **options):
    loss = build(type='WassersteinLogitLoss', num_classes=K, tau=2.0, loss_weight=30.0, **options)
    by_class, features, labels = classes(draw)
    loss.learn(features, labels, None, None)
    return loss, by_class


@pytest.mark.parametrize('kappa', [1.0, 2.0])
def test_the_costs_of_wkd_l_are_one_minus_the_kernel_alignment(draw, kappa):
    loss, by_class = learned(draw, sharpness=kappa)
    used = [x[:7] for x in by_class]  # as many as the smallest class has
    expected = np.array([[1 - math.exp(-kappa * (1 - cka(x, y))) for y in used] for x in used])
    np.testing.assert_allclose(loss.costs.numpy(), expected, atol=1e-7)  # learned in float64, stored in a buffer
    off = ~np.eye(K, dtype=bool)
    assert (expected[off] > 1e-3).all() and (loss.costs.diagonal() == 0).all() and loss.learned
    plain = np.array([[1 - cka(x, y) for y in used] for x in used])
    assert np.abs(plain - expected)[off].min() > 1e-4


def test_wkd_l_is_the_optimal_transport_if_it_is_hardly_regularised(draw):
    loss, _ = learned(draw, epsilon=0.01, iterations=1000)
    s, t = 3 * draw(B, K), 3 * draw(B, K)
    value = loss(torch.from_numpy(s), torch.from_numpy(t), torch.from_numpy(LABELS)).item()
    costs = loss.costs.numpy()
    assert value == pytest.approx(wkd_l(s, t, costs), rel=5e-3)  # what the regularisation leaves
    assert all(abs(wrong / value - 1) > 0.02 for wrong in (
        wkd_l(s, t, costs, separate=False), wkd_l(s, t, costs, target=False), wkd_l(s, t, costs, tau=1),
        wkd_l(s, t, 1 - np.eye(K)), wkd_l(s, t, costs**2)))


def sinkhorn(p, q, costs, epsilon=0.05, iterations=10):
    """The release's iterations, of the classes other than the label."""
    plan, u = np.exp(-costs / epsilon), np.full(len(p), 1 / len(p))
    for _ in range(iterations):
        v = q / (plan.T @ u)
        u = p / (plan @ v)
    return (u[:, None] * plan * v * costs).sum()


def test_wkd_l_has_the_iterations_of_its_release(draw):
    loss, _ = learned(draw)
    s, t = draw(B, K), draw(B, K)
    value = loss(torch.from_numpy(s), torch.from_numpy(t), torch.from_numpy(LABELS)).item()
    assert value == pytest.approx(wkd_l(s, t, loss.costs.numpy(), distance=sinkhorn), rel=1e-5)
    costs = loss.costs.numpy()
    differs(value, *(wkd_l(s, t, costs, distance=lambda *args, n=n: sinkhorn(*args, iterations=n)) for n in (1, 2)))
    assert_gradient(loss, s, torch.from_numpy(t), torch.from_numpy(LABELS))


def test_wkd_l_is_least_at_the_teachers_predictions_and_computed_in_float32(draw):
    loss, _ = learned(draw, target_weight=0.0, epsilon=0.01, iterations=200)
    t = torch.from_numpy(draw(B, K))
    labels = torch.from_numpy(LABELS)
    assert 0 <= loss(t, t, labels) < 1e-3 * loss(t.flip(0), t, labels)
    full = loss.float()(t.flip(0).float(), t.float(), labels)
    assert full.dtype == torch.float32
    half = loss(t.flip(0).bfloat16(), t.bfloat16(), labels)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(full.item(), rel=0.05)


# ---- WKD-F


def wkd_f(s, t, ratio=3.0, weight=0.3, cells=1, eps=1e-5, power=0.5, unbiased=1):
    total, size = 0, s.shape[-1]
    edges = [(i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)]
    for a, b in zip(s, t):
        for top, bottom in edges:
            for left, right in edges:
                for x, y in zip(a[:, top:bottom, left:right], b[:, top:bottom, left:right]):
                    total += ratio * (x.mean() - y.mean())**2
                    total += ((x.var(ddof=unbiased) + eps)**power - (y.var(ddof=unbiased) + eps)**power)**2
    return weight * total / len(s) / cells**2


@pytest.mark.parametrize('cells', [1, 2, 3])  # 3 cells of 4 positions overlap
def test_wkd_f_is_the_distance_of_gaussians_with_diagonal_covariances(draw, cells):
    loss = build(type='GaussianWassersteinLoss', mean_ratio=3.0, grid=cells, loss_weight=0.3)
    s, t = draw(B, C, 4, 4), 2 * draw(B, C, 4, 4) + 0.5
    value = loss(torch.from_numpy(s), torch.from_numpy(t)).item()
    assert value == pytest.approx(wkd_f(s, t, cells=cells), rel=1e-9)
    differs(value, wkd_f(s, t, cells=cells % 3 + 1), wkd_f(s, t, cells=cells, power=1), wkd_f(s, t, cells=cells, unbiased=0),
            wkd_f(s, t, 1, cells=cells))
    assert_gradient(loss, s, torch.from_numpy(t))


def test_wkd_f_is_the_bures_distance_of_any_maps(draw):
    """With a ratio of 1: the 2-Wasserstein distance of two Gaussians by their covariance matrices, of maps of two sizes."""
    loss = build(type='GaussianWassersteinLoss', mean_ratio=1.0, eps=0.0, loss_weight=1.0)
    s, t = draw(1, C, 4, 4), draw(1, C, 3, 5)
    means, variances = zip(*((x[0].mean((1, 2)), x[0].reshape(C, -1).var(1, ddof=1)) for x in (s, t)))
    first, second = map(np.diag, variances)
    root = np.linalg.cholesky(first)  # diagonal, so it is the square root
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root)).sum()
    expected = ((means[0] - means[1])**2).sum() + np.trace(first) + np.trace(second) - 2 * cross
    assert loss(torch.from_numpy(s), torch.from_numpy(t)).item() == pytest.approx(expected, rel=1e-9)


def test_wkd_f_is_finite_for_cells_of_one_position(draw):
    s, t = torch.from_numpy(draw(B, C, 2, 2)).requires_grad_(), torch.from_numpy(draw(B, C, 2, 2))
    loss = build(type='GaussianWassersteinLoss', grid=4)(s, t)
    loss.backward()
    assert loss > 0 and torch.isfinite(s.grad).all()
    with pytest.raises(ConfigError, match='model.distiller.loss.grid=0 must be a whole number'):
        build(type='GaussianWassersteinLoss', grid=0)
