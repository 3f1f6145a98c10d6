"""A transferred process: its totals, transforms, logits, file, and what is refused."""
import json
import re

import numpy as np
import pytest
from depths import ALL, NOT_SHALLOWER, SAME, drawn, make, pair, places, with_total

from distpro.process import DistillationProcess, ProcessError, map_process
from distpro.weighting import Weighting


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
