"""Transfer of a process to other networks, against np.interp and interpolation by hand."""
import itertools
import json
import re

import numpy as np
import pytest

from distpro.process import DistillationProcess, ProcessError, map_process
from distpro.process.transfer import interpolation
from distpro.weighting import Weighting

ALL, NOT_SHALLOWER, SAME = (lambda t, s: True), (lambda t, s: s >= t - 1e-9), (lambda t, s: abs(t - s) < 1e-9)


def places(count):
    return [place / max(count - 1, 1) for place in range(count)] if count > 1 else [1.0]


def grid(teachers, students, keep=ALL):
    """Points of the pathways of a pair, ordered by the teacher's layers first."""
    return [(t, s) for t in places(teachers) for s in places(students) if keep(t, s)]


def pair(teachers, students, keep=ALL, transforms=('wide', ), letters='ts'):
    """Names of the pathways, and the layers."""
    layers = dict(transmitters=[f'{letters[0]}{i}' for i in range(teachers)],
                  receivers=[f'{letters[1]}{j}' for j in range(students)])
    names = [f'{t}>{s}:{transform}' for t, x in zip(layers['transmitters'], places(teachers))
             for s, y in zip(layers['receivers'], places(students)) if keep(x, y) for transform in transforms]
    return names, layers


def make(names, weights, layers=None, unit='loss'):
    """A process with these weights [K, N] and irregular knots."""
    weights = np.asarray(weights, dtype=float)
    progress = np.linspace(0, 0.9, len(weights)) ** 2
    return DistillationProcess(names, Weighting('exponential', unit=unit), progress, np.log(weights), dict(seed=3), layers)


def drawn(names, layers=None, seed=0, knots=4):
    return make(names, np.random.RandomState(seed).uniform(0.1, 2, (knots, len(names))), layers)


def with_total(values, process):
    """Values [K, N], scaled at each knot to the process's total."""
    return values * process.weights.sum(axis=1, keepdims=True) / values.sum(axis=1, keepdims=True)


# ---- the same pathways


def test_the_same_pathways_have_the_same_weights_exactly():
    names, layers = pair(3, 4, NOT_SHALLOWER, ('wide', 'narrow'))
    process = drawn([*names, 'logits>logits:kl'], layers)
    order = np.random.RandomState(1).permutation(len(process.names))
    mapped = map_process(process, [process.names[i] for i in order], dict(layers, receivers=layers['receivers'][::-1]))
    assert mapped.weights.tobytes() == process.weights[:, order].tobytes()
    assert mapped.weighting.to_dict() == process.weighting.to_dict() and mapped.origin == process.origin


@pytest.mark.parametrize('teachers, students, keep', [(4, 4, NOT_SHALLOWER), (3, 5, ALL), (7, 3, SAME), (1, 3, ALL)])
def test_layers_of_other_names_at_the_same_depths_have_the_same_weights_exactly(teachers, students, keep):
    names, layers = pair(teachers, students, keep, ('wide', 'narrow'))
    process = drawn(names, layers, seed=2, knots=50)
    names, layers = pair(teachers, students, keep, ('wide', 'narrow'), letters='uv')
    mapped = map_process(process, names[::-1], layers)
    assert mapped.names == names[::-1] and mapped.progress == process.progress
    assert mapped.weights[:, ::-1].tobytes() == process.weights.tobytes()


def test_in_the_unit_that_counts_pathways_the_mean_of_all_features_and_the_unit_are_preserved():
    names, layers = pair(3, 4, NOT_SHALLOWER, ('wide', 'narrow'))
    weights = np.random.RandomState(3).uniform(0.1, 2, (4, len(names)))
    by_unit = []
    for unit in ('variance', 'loss'):
        process = make([*names, 'logits>logits:kl'], np.hstack([weights, weights[:, :1]]), layers, unit)
        asked, asked_layers = pair(5, 6, NOT_SHALLOWER, ('wide', 'narrow'), letters='uv')
        mapped = map_process(process, [*asked, 'logits>logits:kl'], asked_layers)
        assert mapped.weighting.unit == unit and np.array_equal(mapped.weights[:, -1], process.weights[:, -1])
        by_unit.append(mapped.weights[:, :-1])
    assert np.allclose(by_unit[0].mean(1), weights.mean(1)) and np.allclose(by_unit[1].sum(1), weights.sum(1))
    assert np.allclose(by_unit[0] / by_unit[1], len(asked) / len(names))


# ---- complete grids


@pytest.mark.parametrize('before, after', itertools.product([(3, 3), (4, 6), (5, 2), (1, 4), (3, 1)],
                                                            [(4, 4), (3, 5), (7, 3), (1, 4), (2, 9)]))
def test_a_full_grid_is_interpolated_in_one_depth_and_then_in_the_other(before, after):
    process = drawn(*pair(*before))
    mapped = map_process(process, *pair(*after, letters='uv'))
    values = process.weights.reshape(-1, *before)
    values = np.stack([[np.interp(places(after[1]), places(before[1]), row) for row in knot] for knot in values])
    values = np.stack([[np.interp(places(after[0]), places(before[0]), row) for row in knot.T] for knot in values])
    expected = values.transpose(0, 2, 1).reshape(len(process), -1)
    assert np.allclose(mapped.weights, with_total(expected, process), rtol=1e-12)


@pytest.mark.parametrize('before, after', [((3, 3), (4, 4)), ((5, 5), (3, 3)), ((4, 3), (5, 8))])
def test_a_function_bilinear_in_the_depths_is_met_exactly(before, after):
    def function(points):
        x, y = np.array(points).T
        return np.stack([1 + 2 * x + 0.5 * y + 3 * x * y, 4 - 2 * x - y + 0.5 * x * y])

    names, layers = pair(*before)
    process = make(names, function(grid(*before)), layers)
    mapped = map_process(process, *pair(*after, letters='uv'))
    assert np.allclose(mapped.weights, with_total(function(grid(*after)), process), rtol=1e-12)


# ---- grids with holes


@pytest.mark.parametrize('before, after', [(3, 4), (5, 3), (4, 6), (6, 5), (2, 3)])
def test_on_a_triangle_a_linear_function_is_met_exactly(before, after):
    """'student_not_shallower' on both sides: the new pathways lie between known ones, also along the diagonal."""
    def function(points):
        x, y = np.array(points).T
        return np.stack([1 + 2 * x + 0.5 * y, 4 - 2 * x - y])

    names, layers = pair(before, before, NOT_SHALLOWER)
    process = make(names, function(grid(before, before, NOT_SHALLOWER)), layers)
    mapped = map_process(process, *pair(after, after, NOT_SHALLOWER, letters='uv'))
    assert np.allclose(mapped.weights, with_total(function(grid(after, after, NOT_SHALLOWER)), process), rtol=1e-12)


@pytest.mark.parametrize('before, after', [(3, 4), (5, 3), (4, 9), (2, 5), (3, 1)])
def test_nearest_depth_is_interpolated_along_the_diagonal(before, after):
    process = drawn(*pair(before, before, SAME))
    mapped = map_process(process, *pair(after, after, SAME, letters='uv'))
    expected = np.stack([np.interp(places(after), places(before), row) for row in process.weights])
    assert np.allclose(mapped.weights, with_total(expected, process), rtol=1e-12)


def test_four_layers_become_eight_of_half_the_weight():
    process = make(*pair(4, 4, SAME)[:1], np.ones((2, 4)))
    assert np.allclose(map_process(process, *pair(8, 8, SAME, letters='uv')).weights, 0.5, rtol=1e-12)


@pytest.mark.parametrize('asked, shares', [
    ((1.0, 0.0), {(0.5, 0.5): 1}),                         # the nearest of a hole
    ((0.5, 0.0), {(0.0, 0.0): 1 / 2, (0.5, 0.5): 1 / 2}),   # nearest on the diagonal of a cell, not at a corner
    ((0.3, 0.1), {(0.0, 0.0): 0.6, (0.5, 0.5): 0.4}),
    ((0.1, 0.3), {(0.0, 0.0): 0.4, (0.0, 0.5): 0.4, (0.5, 0.5): 0.2}),
    ((0.2, 0.9), {(0.0, 0.5): 0.12, (0.0, 1.0): 0.48, (0.5, 0.5): 0.08, (0.5, 1.0): 0.32}),
])
def test_by_hand_on_the_triangle_of_three_layers(asked, shares):
    known = grid(3, 3, NOT_SHALLOWER)
    assert np.allclose(interpolation(known, [asked]), [[shares.get(point, 0) for point in known]], atol=1e-12)


@pytest.mark.parametrize('known, asked, expected', [
    ([(0, 0), (1, 1)], (1, 0), [0.5, 0.5]),                                    # onto the diagonal
    ([(0, 0), (1, 1)], (0.5, 0.75), [0.375, 0.625]),
    ([(0, 0), (0, 1), (1, 0)], (0.25, 0.5), [0.25, 0.5, 0.25]),
    ([(0, 0), (0, 1), (1, 0)], (1, 0.5), [0, 0.25, 0.75]),                     # beyond the side that faces the hole
    ([(0.5, 0.5)], (0, 1), [1]),
    ([(0.25, 0.5), (0.25, 1)], (0.75, 0.625), [0.75, 0.25]),                    # one teacher layer
    ([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)], (0, 0.5), [0.5, 0, 0.5, 0]),  # outside the grid
    ([(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)], (0, 0.5), [0.25, 0.25, 0, 0, 0.5]),  # two diagonals equally near
    ([(0, 0), (0.25, 1), (1, 0.25), (1, 1)], (0.25, 0), [1, 0, 0, 0]),          # an isolated corner is the nearest
    ([(2 / 7, 3 / 7), (1, 4 / 7), (0, 5 / 7)], (0, 3 / 7), [0.5, 0, 0.5]),      # two equally near, one in more cells
])
def test_by_hand_where_corners_are_missing(known, asked, expected):
    shares = interpolation([(float(x), float(y)) for x, y in known], [asked])
    assert np.allclose(shares, [expected], atol=1e-12)


@pytest.mark.parametrize('seed', range(6))
def test_any_holes_leave_a_mean_of_known_weights(seed):
    """Shares sum to 1 and are not negative. Known points are reproduced. The order of the points does not matter."""
    generator = np.random.RandomState(seed)
    full = grid(*generator.randint(1, 6, 2))
    known = [full[i] for i in generator.permutation(len(full))[:generator.randint(1, len(full) + 1)]]
    asked = [*known, *grid(4, 7), *map(tuple, generator.uniform(0, 1, (20, 2)))]
    shares = interpolation(known, asked)
    assert (shares >= 0).all() and np.allclose(shares.sum(axis=1), 1, rtol=1e-12)
    assert np.array_equal(shares[:len(known)], np.eye(len(known)))
    order = generator.permutation(len(known))
    assert np.allclose(interpolation([known[i] for i in order], asked), shares[:, order], atol=1e-12)
    mirrored = interpolation([(y, x) for x, y in known], [(y, x) for x, y in asked])
    assert np.allclose(mirrored, shares, atol=1e-9)  # teacher and student alike


def test_known_points_keep_theirs_to_the_last_bit():
    known = [(0.0, 0.8), (0.5, 0.2), (1 / 6, 0.4), (0.5, 0.0), (1 / 6, 0.2)]  # where solving for the shares would round
    assert np.array_equal(interpolation(known, known), np.eye(5))


# ---- totals and transforms


def test_each_transforms_total_is_preserved_at_all_progress():
    names, layers = pair(3, 3, NOT_SHALLOWER, ('wide', 'narrow'))
    process = drawn([*names, 'logits>logits:kl'], layers, knots=7)
    names, layers = pair(5, 4, NOT_SHALLOWER, ('narrow', 'wide'), letters='uv')
    mapped = map_process(process, ['logits>logits:kl', *names], layers)
    moments = np.random.RandomState(1).uniform(0, 1, 40)
    for end in ('wide', 'narrow', 'logits:kl'):
        totals = [p.weights_at(moments)[:, [name.endswith(end) for name in p.names]].sum(axis=1) for p in (process, mapped)]
        assert np.allclose(*totals, rtol=1e-12)
    assert np.array_equal(mapped.weights[:, 0], process.weights[:, -1])


def test_each_transform_is_transferred_by_itself():
    names, layers = pair(3, 3, SAME, ('wide', 'narrow'))
    process = drawn(names, layers)
    mapped = map_process(process, *pair(4, 4, SAME, ('wide', 'narrow'), letters='uv'))
    for transform in range(2):
        alone = map_process(make(names[transform::2], process.weights[:, transform::2], layers),
                            pair(4, 4, SAME, ('wide', 'narrow'), letters='uv')[0][transform::2])
        assert np.allclose(mapped.weights[:, transform::2], alone.weights, rtol=1e-12)


@pytest.mark.parametrize('transforms', [('other', ), ('one', 'two'), ('wide', 'two')])
def test_a_single_transform_serves_all_and_its_total_is_theirs(transforms):
    process = drawn(*pair(3, 3, SAME))
    mapped = map_process(process, *pair(4, 4, SAME, transforms, letters='uv'))
    expected = np.stack([np.interp(places(4), places(3), row) for row in process.weights])
    assert np.allclose(mapped.weights, with_total(expected.repeat(len(transforms), axis=1), process), rtol=1e-12)


def test_logits_have_their_labels_weights():
    names, layers = pair(2, 2)
    process = drawn(['logits>logits:kl', *names, 'logits>logits:dkd'], layers)
    names, layers = pair(3, 3, letters='uv')
    mapped = map_process(process, ['logits>logits:dkd', 'logits>logits:kl', *names], layers)
    assert np.array_equal(mapped.weights[:, :2], process.weights[:, [-1, 0]])
    assert np.allclose(mapped.weights[:, 2:].sum(axis=1), process.weights[:, 1:-1].sum(axis=1), rtol=1e-12)


def test_moments_without_any_weight_stay_so():
    names, layers = pair(2, 2, SAME)
    process = DistillationProcess(names, Weighting('absolute'), [0, 1], [[0, 0], [1, 3]], layers=layers)
    mapped = map_process(process, *pair(3, 3, SAME, letters='uv'))
    assert np.allclose(mapped.weights, [[0, 0, 0], [2 / 3, 4 / 3, 2]], rtol=1e-12)


# ---- depths


def test_depth_is_the_place_among_all_layers_connected_or_not():
    """Pairs in any order, of some layers only: c and e lie at 1/2 and 1 of a list of five."""
    layers = dict(transmitters=list('abcde'), receivers=['x', 'y'])
    process = drawn(['e>y:wide', 'c>y:wide'], layers)
    mapped = map_process(process, *pair(4, 1, letters='uv'))
    expected = np.stack([np.interp(places(4), [0.5, 1], row[::-1]) for row in process.weights])
    assert np.allclose(mapped.weights, with_total(expected, process), rtol=1e-12)
    back = map_process(mapped, ['e>y:wide', 'c>y:wide'], layers)
    names, told = pair(4, 1, letters='uv')
    assert mapped.layers == told and back.layers == layers
    expected = np.stack([np.interp([1, 0.5], places(4), row) for row in mapped.weights])
    assert np.allclose(back.weights, with_total(expected, process), rtol=1e-12)


def test_without_layers_their_order_in_the_names_is_used():
    names, layers = pair(3, 4, NOT_SHALLOWER)
    new, new_layers = pair(4, 5, NOT_SHALLOWER, letters='uv')
    expected = map_process(drawn(names, layers), new, new_layers)
    assert np.array_equal(map_process(drawn(names), new).weights, expected.weights)
    assert map_process(drawn(names), new).origin['transfer'] == dict(
        pathways=names, layers=layers, layers_are_listed=False)


def test_the_new_process_is_one_like_any_other(tmp_path):
    mapped = map_process(drawn(*pair(3, 3)), *pair(4, 2, letters='uv'))
    mapped.save(str(tmp_path / 'process.json'))
    loaded = DistillationProcess.load(str(tmp_path / 'process.json'))
    assert loaded.weights.tobytes() == mapped.weights.tobytes() and loaded.layers == mapped.layers
    assert loaded.origin == mapped.origin and loaded.origin['seed'] == 3


# ---- the layers in the file


def test_layers_are_in_the_file_and_in_every_copy(tmp_path):
    names, layers = pair(3, 4, NOT_SHALLOWER)
    process, path = drawn(names, layers), str(tmp_path / 'process.json')
    process.save(path)
    with open(path) as file:
        assert json.load(file)['layers'] == layers
    for copy in (DistillationProcess.load(path), process.reorder(names[::-1], 'the run')):
        assert copy.layers == layers


def test_a_file_without_layers_is_read():
    data = drawn(*pair(2, 2)[:1]).to_dict()
    assert 'layers' not in data and DistillationProcess.from_dict(data).layers is None


@pytest.mark.parametrize('layers', [
    7, ['t0'], dict(transmitters=['t0']), dict(transmitters='t0', receivers=['s0']),
    dict(transmitters=['t0', 't0'], receivers=['s0']), dict(transmitters=[1], receivers=[[]]),
])
def test_damaged_layers_are_refused(layers):
    data = dict(drawn(*pair(2, 2)).to_dict(), layers=layers)
    with pytest.raises(ProcessError, match='is damaged .*layers of a process are lists of different names'):
        DistillationProcess.from_dict(data)


# ---- refusals


@pytest.mark.parametrize('before, after, message', [
    (('wide', 'narrow'), ('wide', 'other'), 'the process has the transforms wide, narrow and the new pair has '
     'wide, other: give both the same (name= sets the label), or search with one transform, which is used for all'),
    (('wide', 'narrow'), ('wide', ), 'the transforms wide, narrow and the new pair has wide: '),
    ((), ('wide', ), 'the transforms none and the new pair has wide: '),
    (('wide', ), (), 'the transforms wide and the new pair has none: '),
])
def test_other_transforms_are_refused(before, after, message):
    logits = ['logits>logits:kl']
    with pytest.raises(ProcessError, match=re.escape(message)):
        map_process(drawn([*pair(2, 2, ALL, before)[0], *logits]), [*pair(3, 3, ALL, after, letters='uv')[0], *logits])


def with_logits(names, labels):
    return [*names, *[f'logits>logits:{label}' for label in labels]]


@pytest.mark.parametrize('before, after', [([], ['kl']), (['kl', 'dkd'], ['dkd']), (['kl', 'dkd'], [])])
def test_other_logits_are_refused(before, after):
    told = [', '.join(labels) or 'none' for labels in (before, after)]
    with pytest.raises(ProcessError, match=f'has the logits {told[0]} and the new pair has {told[1]}: give both the '
                       r'same \(name= sets the label\)$'):
        map_process(drawn(with_logits(pair(2, 2)[0], before)), with_logits(pair(2, 2, letters='uv')[0], after))


@pytest.mark.parametrize('after', [[], ['dkd'], ['dkd', 'mse']])
def test_a_single_logit_pathway_serves_all(after):
    process = drawn(with_logits(pair(2, 2)[0], ['kl']))
    features = pair(2, 2, letters='uv')[0]
    mapped = map_process(process, with_logits(features, after))
    assert np.array_equal(mapped.weights[:, len(features):], np.repeat(process.weights[:, -1:], len(after), axis=1))
    assert np.allclose(mapped.weights[:, :len(features)], process.weights[:, :-1], rtol=1e-12)


def test_names_without_layers_and_layers_that_are_not_listed_are_refused():
    names, layers = pair(2, 2)
    with pytest.raises(ProcessError, match="the process has a pathway 'a', whose depth is not known"):
        map_process(drawn(['a']), names, layers)
    with pytest.raises(ProcessError, match="the new pair has a pathway 't0-s0', whose depth is not known"):
        map_process(drawn(names), ['t0-s0'])
    with pytest.raises(ProcessError, match=r"the process has a pathway 't1>s0:wide', whose layer 't1' is not one of its "
                       r"transmitters \['t0', 'x'\]"):
        map_process(drawn(names, dict(layers, transmitters=['t0', 'x'])), *pair(3, 3, letters='uv'))
    with pytest.raises(ProcessError, match=r"the new pair has .* layer 'v2' is not one of its receivers \['v0', 'v1'\]"):
        map_process(drawn(names), pair(2, 3, letters='uv')[0], pair(2, 2, letters='uv')[1])


def test_a_total_that_no_new_pathway_has_a_share_of_is_refused():
    names, layers = pair(3, 3, SAME)
    process = DistillationProcess(names, Weighting('absolute'), [0, 0.5], [[1, 1, 1], [0, 2, 0]], layers=layers)
    with pytest.raises(ProcessError, match='at 50% of the run, the process has weights only at depths'):
        map_process(process, *pair(2, 2, SAME, letters='uv'))


def test_a_process_without_knots_is_refused():
    with pytest.raises(ProcessError, match='no knots'):
        map_process(DistillationProcess(pair(2, 2)[0], Weighting()), *pair(3, 3, letters='uv'))
