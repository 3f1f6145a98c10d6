"""Forms of a loss: every transformation and distance against its definition in numpy, and the rejection of useless ones."""
import itertools

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS
from scipy.special import log_softmax, softmax

from distpro.errors import ArgumentError
from distpro.pathways import DISTANCES, TRANSFORMATIONS, FormLoss, problem_of

pytestmark = pytest.mark.usefixtures('fixed_values')

B, C, H, W = 3, 4, 5, 6
AXES = dict(channels=1, positions=(2, 3), images=0)


def pooled(x, size):
    def edges(length):
        return [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]

    return np.array([[[[plane[a:b, c:d].mean() for c, d in edges(W)] for a, b in edges(H)] for plane in image]
                     for image in x])


def patches(x, size):
    rows, columns = H // size, W // size
    out = np.empty((B, C * size * size, rows, columns))
    for c, i, j in itertools.product(range(C), range(size), range(size)):
        out[:, (c * size + i) * size + j] = x[:, c, i:rows * size:size, j:columns * size:size]
    return out


BY_HAND = {
    'none': lambda x: x,
    'spatial_attention': lambda x: H * W * softmax(np.abs(x).mean(1, keepdims=True) / 0.5, (2, 3)),
    'channel_attention': lambda x: C * softmax(np.abs(x).mean((2, 3), keepdims=True) / 0.5, 1),
    'batch_attention': lambda x: B * softmax(x / 0.5, 0),
    'pool_1': lambda x: pooled(x, 1), 'pool_2': lambda x: pooled(x, 2), 'pool_4': lambda x: pooled(x, 4),
    'patches_2': lambda x: patches(x, 2), 'patches_4': lambda x: patches(x, 4),
    'batch_gram': lambda x: (np.einsum('ichw,jchw->ij', x, x) / (C * H * W))[None, None],
    'channel_gram': lambda x: (np.einsum('bihw,bjhw->bij', x, x) / (H * W))[:, None],
    'position_gram': lambda x: (np.einsum('bci,bcj->bij', *[x.reshape(B, C, -1)] * 2) / C)[:, None],
    **{f'norm_{name}': lambda x, axes=axes: x / np.sqrt((x**2).sum(axes, keepdims=True)) for name, axes in AXES.items()},
    **{f'softmax_{name}': lambda x, axes=axes: softmax(x, axes) for name, axes in AXES.items()},
    **{f'log_softmax_{name}': lambda x, axes=axes: log_softmax(x, axes) for name, axes in AXES.items()},
    'standardize': lambda x: (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5),
    'min_max': lambda x: np.array([(image - image.min()) / (image.max() - image.min() + 1e-6) for image in x]),
    'abs': np.abs, 'square': lambda x: x**2, 'sqrt': lambda x: np.sqrt(np.abs(x) + 1e-6),
    'log': lambda x: np.log(np.abs(x) + 1e-6), 'exp': np.exp, 'sigmoid': lambda x: 1 / (1 + np.exp(-x)), 'tanh': np.tanh,
    'relu': lambda x: np.maximum(x, 0)}


def kl(s, t, tau):
    return tau**2 * np.mean([(softmax(b / tau) * np.log(softmax(b / tau) / softmax(a / tau))).sum() for a, b in zip(s, t)])


def correlation(s, t, centred):
    pairs = [(a - a.mean() * centred, b - b.mean() * centred) for a, b in zip(s, t)]
    return 1 - np.mean([(a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()) for a, b in pairs])


DISTANCE_BY_HAND = {
    'l1': lambda s, t: np.abs(s - t).mean(), 'l2': lambda s, t: ((s - t)**2).mean(),
    'smooth_l1': lambda s, t: np.where(np.abs(s - t) < 1, (s - t)**2 / 2, np.abs(s - t) - 0.5).mean(),
    'kl_1': lambda s, t: kl(s, t, 1), 'kl_4': lambda s, t: kl(s, t, 4), 'kl_8': lambda s, t: kl(s, t, 8),
    'cosine': lambda s, t: correlation(s, t, 0), 'pearson': lambda s, t: correlation(s, t, 1)}


def drawn(*shape):
    return 1.5 * np.random.randn(*shape)


def test_every_operator_has_its_definition():
    assert set(BY_HAND) == set(TRANSFORMATIONS) and set(DISTANCE_BY_HAND) == set(DISTANCES)
    x, s, t = drawn(B, C, H, W), drawn(B, C, H, W), drawn(B, C, H, W) + 0.5
    found = {name: TRANSFORMATIONS[name](torch.from_numpy(x)).numpy() for name in TRANSFORMATIONS}
    for name, value in found.items():
        np.testing.assert_allclose(value, BY_HAND[name](x), rtol=1e-7, atol=1e-9, err_msg=name)
    alike = [pair for pair in itertools.combinations(found, 2) if found[pair[0]].shape == found[pair[1]].shape and
             np.allclose(found[pair[0]], found[pair[1]])]
    assert not alike, 'two transformations are the same'
    values = {name: DISTANCES[name](*map(torch.from_numpy, (s, t))).item() for name in DISTANCES}
    for name, value in values.items():
        assert value == pytest.approx(DISTANCE_BY_HAND[name](s, t), rel=1e-7), name
    assert len({round(value, 8) for value in values.values()}) == len(values)


def test_operators_are_applied_in_order_to_both_maps_and_have_gradients():
    s, t = drawn(B, C, H, W), drawn(B, C, H, W)
    loss = MODELS.build(dict(type='mmrazor.FormLoss', transformations=['square', 'softmax_channels', 'pool_2'],
                             distance='l1', loss_weight=3.0))
    value = loss(*map(torch.from_numpy, (s, t))).item()
    after = [pooled(softmax(x**2, 1), 2) for x in (s, t)]
    assert value == pytest.approx(3 * np.abs(after[0] - after[1]).mean(), rel=1e-9)
    swapped = [pooled(softmax(x, 1)**2, 2) for x in (s, t)]
    assert abs(3 * np.abs(swapped[0] - swapped[1]).mean() / value - 1) > 1e-3
    names = [*TRANSFORMATIONS]
    for index, name in enumerate(names):  # pairs of operators on any shapes of the first one
        x = torch.randn(2, 3, 4, 4, requires_grad=True)
        FormLoss([name, names[index - 1], names[index - 7]])(x, torch.randn(2, 3, 4, 4)).backward()
        assert x.grad is not None and x.grad.shape == x.shape


def test_useless_forms_are_rejected_and_the_usual_losses_are_not():
    for transformations, distance in ((['none'], 'l2'), (['norm_channels'], 'l2'), (['channel_gram'], 'l1'),
                                      (['abs', 'softmax_positions'], 'kl_4'), (['pool_2', 'standardize'], 'pearson')):
        assert problem_of(FormLoss(transformations, distance)) is None
    assert problem_of(FormLoss(['exp', 'exp'], 'l2')) in ('not finite', 'explodes')
    assert problem_of(FormLoss(['square', 'square', 'square'], 'l2')) == 'explodes'
    assert problem_of(FormLoss(['pool_1', 'softmax_positions'])) == 'constant'
    assert problem_of(FormLoss(loss_weight=0.0)) == 'constant'


@pytest.mark.parametrize('options, text', [
    (dict(transformations=['softmax_channel']), "transformations='softmax_channel' is not one of none, .*nearest: softmax"),
    (dict(transformations='none'), "transformations='none' must be a list of names"),
    (dict(distance='l3'), "distance='l3' is not one of l1, l2"), (dict(loss_weight=-1), 'loss_weight=-1 must be')])
def test_wrong_names_are_refused(options, text):
    with pytest.raises(ArgumentError, match=f'^{text}'):
        FormLoss(**options)
