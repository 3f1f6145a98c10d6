"""Transfer of a process to other networks, against np.interp and interpolation by hand."""
import itertools

import numpy as np
import pytest
from depths import ALL, NOT_SHALLOWER, SAME, drawn, grid, make, pair, places, with_total

from distpro.process import map_process
from distpro.process.transfer import interpolation


def test_the_same_pathways_have_the_same_weights_exactly():
    names, layers = pair(3, 4, NOT_SHALLOWER, ('wide', 'narrow'))
    process = drawn([*names, 'logits>logits:kl'], layers)
    order = np.random.RandomState(1).permutation(len(process.names))
    mapped = map_process(process, [process.names[i] for i in order], layers)
    assert mapped.weights.tobytes() == process.weights[:, order].tobytes()
    assert mapped.weighting.to_dict() == process.weighting.to_dict() and process.origin.items() <= mapped.origin.items()


@pytest.mark.parametrize('listed', [True, False])
def test_a_mapped_process_is_of_other_networks_whatever_their_layers_are_called(listed):
    names, layers = pair(3, 4, NOT_SHALLOWER)
    process = drawn(names, layers if listed else None)
    found = [map_process(process, asked, layers).origin['transfer'] for asked in (names, names[:-1])]
    assert found[0]['pathways'] == found[1]['pathways'] == process.names
    assert found[0]['layers_are_listed'] == found[1]['layers_are_listed'] == listed


def test_the_same_pathways_of_networks_with_more_layers_are_mapped_by_depth():
    """The second of three layers is in the middle; the second of five is at a quarter."""
    names = [f'{layer}>{layer}:pointwise' for layer in 'abc']
    weights = np.array([[1.0, 5.0, 9.0], [2.0, 4.0, 12.0]])
    process = make(names, weights, dict(transmitters=[*'abc'], receivers=[*'abc']))
    five = [*'abxyc']
    mapped = map_process(process, names, dict(transmitters=five, receivers=five))
    depths = np.array([[np.interp(depth, [0, 0.5, 1], row) for depth in (0, 0.25, 1)] for row in weights])
    expected = depths * (weights.sum(1) / depths.sum(1))[:, None]
    assert np.allclose(mapped.weights, expected)


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
