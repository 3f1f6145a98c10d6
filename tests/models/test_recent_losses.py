"""Losses of KD++, CTKD, DKD + LSKD, SRD and VkD against their papers' definitions, derived independently in float64."""
import math

import numpy as np
import pytest
import torch
from formulas import LABELS, B, C, K, assert_gradient, build, classes, differs, softmax

from distpro_mm.errors import ConfigError

pytestmark = pytest.mark.usefixtures('fixed_values')

# ---- KD++


def nd(s, t, means, larger=max, unit=True):
    total = 0
    for a, b, y in zip(s, t, LABELS):
        direction = means[y] / np.linalg.norm(means[y]) if unit else means[y]
        total += 1 - a @ direction / larger(np.linalg.norm(a), np.linalg.norm(b))
    return total / len(s)


def test_nd_is_the_projection_on_the_teachers_class_mean(draw):
    loss = build(type='NormDirectionLoss', num_classes=K, channels=C, loss_weight=2.0)
    by_class, features, labels = classes(draw)
    loss.learn(features, labels, None, None)
    means = [x.mean(0) for x in by_class]
    s, t = draw(B, C), draw(B, C)
    norms = np.linalg.norm(s, axis=1) > np.linalg.norm(t, axis=1)
    assert norms.any() and not norms.all(), 'both cases of the maximum'
    arguments = torch.from_numpy(t)[:, :, None, None], torch.from_numpy(LABELS)
    value = loss(torch.from_numpy(s), *arguments).item()
    assert value == pytest.approx(2 * nd(s, t, means), rel=1e-6)
    differs(value, 2 * nd(s, t, means, min), 2 * nd(s, t, means, unit=False), 2 * nd(s, t, means[::-1]), 2 * nd(t, s, means))
    assert_gradient(loss, s, *arguments)


@pytest.mark.parametrize('cfg', [dict(type='WassersteinLogitLoss'), dict(type='NormDirectionLoss', channels=C)])
def test_what_cannot_be_learned_of_the_classes_is_refused(draw, cfg):
    loss = build(num_classes=K, **cfg)
    name = cfg['type']
    with pytest.raises(ConfigError, match=f"{name} has no .*: add dict\\(type='mmrazor.TeacherClassesHook'\\)"):
        loss(torch.zeros(B, C), torch.zeros(B, C), torch.from_numpy(LABELS))
    features = torch.from_numpy(draw(12, C))
    with pytest.raises(ConfigError, match=f'{name}.num_classes=5: the training set has labels from 0 to 5'):
        loss.learn(features, torch.arange(12) % 6, None, None)
    with pytest.raises(ConfigError, match=f'{name}.num_classes=5: the training set has 0 images of class 4'):
        loss.learn(features, torch.arange(12) % 4, None, None)
    assert not loss.learned


def test_nd_names_other_channels(draw):
    with pytest.raises(ConfigError, match='NormDirectionLoss.channels=4: the teacher.s classifier is given 7 channels'):
        build(type='NormDirectionLoss', num_classes=K, channels=C).learn(torch.zeros(K, 7), torch.arange(K), None, None)


# ---- CTKD


def kd(s, t, tau, power=2):
    return tau**power * np.mean([(softmax(b / tau) * np.log(softmax(b / tau) / softmax(a / tau))).sum()
                                 for a, b in zip(s, t)])


@pytest.mark.parametrize('reversal', [0.0, 0.3, 1.0])
def test_ctkd_is_kd_at_a_temperature_whose_gradient_is_reversed(draw, reversal):
    score = -2.5  # a temperature of 2.5, where it matters
    loss = build(type='CurriculumKDLoss', loss_weight=0.9, initial=score, reversal=reversal)
    s, t = 3 * draw(B, K), 3 * draw(B, K)

    def at(score):
        return 0.9 * kd(s, t, 1 + 20 / (1 + math.exp(-score)))

    value = loss(torch.from_numpy(s), torch.from_numpy(t))
    assert value.item() == pytest.approx(at(score), rel=1e-6)
    sigmoid = 1 / (1 + math.exp(-score))
    differs(value.item(), 0.9 * kd(s, t, 20 * sigmoid), 0.9 * kd(s, t, 1 + 20 * sigmoid, 0), kd(s, t, 1 + 20 * sigmoid))
    value.backward()
    slope = (at(score + 1e-5) - at(score - 1e-5)) / 2e-5
    assert abs(slope) > 1e-4
    assert loss.score.grad.item() == pytest.approx(-reversal * slope, rel=1e-4, abs=1e-12)
    assert_gradient(loss, s, torch.from_numpy(t))


def test_a_step_of_ctkd_raises_the_loss_with_the_temperature_and_lowers_it_with_the_student(draw):
    loss = build(type='CurriculumKDLoss')
    s, t = torch.from_numpy(draw(B, K)).requires_grad_(), torch.from_numpy(draw(B, K))
    before = loss(s, t)
    before.backward()
    assert loss.tau.item() == pytest.approx(15.62, abs=0.01), "the release's initial temperature"
    with torch.no_grad():
        moved = loss(s - 0.1 * s.grad, t)
        loss.score -= 0.1 * loss.score.grad
        assert moved < before < loss(s, t)


# ---- DKD of standardised logits


def standardised(z):
    return (z - z.mean(1, keepdims=True)) / z.std(1, ddof=1, keepdims=True)


def dkd(s, t, alpha, beta, tau):
    total = 0
    for a, b, y in zip(s, t, LABELS):
        p, q = softmax(b / tau), softmax(a / tau)
        rest = [np.delete(x, y) / np.delete(x, y).sum() for x in (p, q)]
        total += alpha * (p[y] * np.log(p[y] / q[y]) + (1 - p[y]) * np.log((1 - p[y]) / (1 - q[y])))
        total += beta * (rest[0] * np.log(rest[0] / rest[1])).sum()
    return tau**2 * total / len(s)


def test_standardised_dkd_is_dkd_of_standardised_logits_with_both_terms_weighted(draw):
    loss = build(type='StandardizedDKDLoss', tau=2, alpha=1.0, beta=8.0, loss_weight=9.0)
    s, t = 5 * draw(B, K), 2 * draw(B, K)
    arguments = torch.from_numpy(t), torch.from_numpy(LABELS)
    value = loss(torch.from_numpy(s), *arguments).item()
    assert value == pytest.approx(dkd(standardised(s), standardised(t), 9, 72, 2), rel=1e-5)
    differs(value, dkd(s, t, 9, 72, 2), dkd(standardised(s), standardised(t), 9, 8, 2),
            dkd(standardised(s), standardised(t), 9, 72, 4))
    assert loss(torch.from_numpy(3 * s + 7), *arguments).item() == pytest.approx(value, rel=1e-5)
    assert_gradient(loss, s, *arguments)


# ---- projectors


def srd(s, t, power=4, eps=1e-4, normed=True, log=True):
    if normed:
        s, t = ((x - x.mean(0)) / np.sqrt(x.var(0) + eps) for x in (s, t))
    total = sum(abs(a - b)**power for a, b in zip(s.ravel(), t.ravel()))
    return 2 * (math.log(total) if log else total)


def test_srd_is_the_log_of_the_sum_of_powers_of_normalised_errors(draw):
    loss = build(type='SRDLoss', channels=C)
    s, t = draw(B, C), 3 * draw(B, C) + 1
    value = loss(torch.from_numpy(s), torch.from_numpy(t)).item()
    assert value == pytest.approx(srd(s, t), rel=1e-6)
    differs(value, srd(s, t, 2), srd(s, t, normed=False), srd(s, t, log=False), srd(s, t, eps=0.1))
    assert_gradient(loss, s, torch.from_numpy(t))
    loss.eval()  # with running statistics, like any batch norm
    assert loss(torch.from_numpy(s), torch.from_numpy(t)).item() != pytest.approx(value, rel=1e-3)


def vkd(s, t, norm=True, threshold=1.0):
    total = 0
    for a, b in zip(s, t):
        e = np.abs(a - ((b - b.mean()) / np.sqrt(b.var() + 1e-5) if norm else b))
        total += np.where(e < threshold, e**2 / 2, e - 0.5).sum()
    return total / s.size


def test_vkd_is_the_smooth_distance_to_the_layer_norm_of_the_teachers_features(draw):
    loss = build(type='VkDLoss', loss_weight=3.0)
    s, t = 2 * draw(B, C), 3 * draw(B, C) + 1
    value = loss(torch.from_numpy(s), torch.from_numpy(t)).item()
    assert value == pytest.approx(3 * vkd(s, t), rel=1e-9)
    differs(value, 3 * vkd(s, t, norm=False), 3 * vkd(t, s), 3 * vkd(s, t, threshold=1e9), vkd(s, t))
    assert_gradient(loss, s, torch.from_numpy(t))


@pytest.fixture
def double():
    """Modules are made in float64: the matrix that torch's parametrisation starts from is orthogonal to its precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize('channels', [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize('options', [{}, dict(orthogonal_map='householder')])
def test_the_projection_of_vkd_stays_orthogonal_while_it_is_trained(draw, channels, options, double):
    connector = build(type='OrthogonalConnector', in_channels=channels[0], out_channels=channels[1], **options)
    optimizer = torch.optim.SGD(connector.parameters(), lr=0.5, momentum=0.9)
    feature, target = torch.from_numpy(draw(B, channels[0], 2, 2)), torch.from_numpy(draw(B, channels[1]))
    losses = []
    for _ in range(5):
        weight = connector.project.weight
        small = weight @ weight.T if channels[0] > channels[1] else weight.T @ weight
        torch.testing.assert_close(small, torch.eye(min(channels), dtype=torch.float64), atol=1e-9, rtol=0)
        loss = (connector(feature) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    expected = feature.numpy().mean((2, 3)) @ connector.project.weight.detach().numpy().T
    np.testing.assert_allclose(connector(feature).detach().numpy(), expected)


def test_embeddings_are_projected_always_or_only_if_the_widths_differ(draw):
    feature = torch.from_numpy(draw(B, C, 3, 2))
    same = build(type='EmbeddingConnector', in_channels=C, out_channels=C, if_different=True)
    torch.testing.assert_close(same(feature), torch.from_numpy(feature.numpy().mean((2, 3))))
    always = build(type='EmbeddingConnector', in_channels=C, out_channels=C)
    assert len(list(always.parameters())) == 2 and not torch.allclose(always(feature), same(feature))
    other = build(type='EmbeddingConnector', in_channels=C, out_channels=C + 1, if_different=True)
    kinds = [type(part).__name__ for part in other.project]
    assert kinds == ['BatchNorm1d', 'Dropout', 'Linear'] and other(feature).shape == (B, C + 1)
    assert always(torch.from_numpy(draw(B, C))).shape == (B, C)
