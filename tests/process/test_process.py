import math

import numpy as np
import pytest
import torch
from made_process import NAMES, ORIGIN, make

from distpro.process import DistillationProcess, ProcessError, ablation, interpolate
from distpro.weighting import Weighting


def closed(process):
    """Weights at the knots of make()'s default weighting, by its formula."""
    exponentials = np.exp(np.stack(process.alpha))
    return len(process.names) * 0.8 * exponentials / (math.e + exponentials.sum(axis=1, keepdims=True))


# ---- weights over time


def test_at_a_knot_the_weights_are_exactly_those_of_its_alpha():
    process = make()
    assert np.allclose(process.weights, closed(process), rtol=1e-14, atol=0)
    for progress, alpha, weights in zip(process.progress, process.alpha, process.weights):
        assert process.at(progress).tobytes() == weights.tobytes()
        assert weights.tobytes() == process.weighting(torch.from_numpy(alpha)).numpy().tobytes()


def test_between_knots_the_weights_are_linear():
    process = make(seed=1)
    weights, knots = closed(process), process.progress
    for moment in np.random.RandomState(2).uniform(0.05, 0.9, 50):
        k = max(index for index, knot in enumerate(knots) if knot <= moment)
        share = (moment - knots[k]) / (knots[k + 1] - knots[k])
        assert np.allclose(process.at(moment), (1 - share) * weights[k] + share * weights[k + 1], rtol=1e-12)


def test_it_is_the_weights_that_are_linear_and_not_alpha():
    process = DistillationProcess(['a'], Weighting('exponential'), [0, 1], [[0.0], [2.0]])
    assert np.isclose(process.at(0.5)[0], (1 + math.exp(2)) / 2, rtol=1e-14)


def test_outside_the_knots_the_weights_are_constant():
    process = make(seed=3)
    assert all(process.at(moment).tobytes() == process.weights[0].tobytes() for moment in (0, 0.01, 0.05))
    assert all(process.at(moment).tobytes() == process.weights[-1].tobytes() for moment in (0.9, 0.95, 1))


def test_one_knot_holds_throughout():
    process = DistillationProcess(['a', 'b'], Weighting('exponential'), [0.4], [[0.5, -1.0]])
    assert np.allclose(process.weights_at(np.linspace(0, 1, 9)), np.tile(np.exp([0.5, -1.0]), (9, 1)), rtol=1e-14)


@pytest.mark.parametrize('length', [1, 2, 7, 1000])
def test_a_process_is_stretched_to_any_length(length):
    process = make(seed=4)
    moments = np.arange(length) / max(length - 1, 1)
    stretched = process.weights_at(moments)
    assert stretched.shape == (length, 4)
    weights = closed(process)
    for column in range(4):
        assert np.allclose(stretched[:, column], np.interp(moments, process.progress, weights[:, column]), rtol=1e-13)
    assert np.array_equal(stretched, interpolate(process.progress, process.weights, moments))


# ---- recording


def test_a_knot_is_appended_and_counts_at_once():
    process = DistillationProcess(['a', 'b'], Weighting('exponential'))
    with pytest.raises(ProcessError, match='no knots'):
        process.at(0.5)
    process.record(0.0, [0.0, 1.0])
    assert len(process) == 1 and np.allclose(process.at(1), [1, math.e], rtol=1e-14)
    process.record(0.5, torch.tensor([2.0, -1.0]))
    process.record(1.0, np.float32([3, 0]))
    assert process.progress == [0, 0.5, 1]
    assert np.allclose(process.weights, np.exp([[0, 1], [2, -1], [3, 0]]), rtol=1e-14)


def test_a_recorded_float32_knot_stays_when_alpha_changes():
    process, alpha = DistillationProcess(['a', 'b'], Weighting('exponential')), torch.zeros(2)
    for step in range(3):
        process.record(step / 2, alpha.numpy())
        alpha += 1
    assert np.array_equal(np.stack(process.alpha), [[0, 0], [1, 1], [2, 2]])


@pytest.mark.parametrize('progress, alpha', [
    (0.5, [0.0, 0.0]), (0.4, [0.0, 0.0]), (-0.1, [0.0, 0.0]), (1.1, [0.0, 0.0]), (float('nan'), [0.0, 0.0]),
    (0.6, [0.0]), (0.6, [0.0, 0.0, 0.0]), (0.6, [[0.0, 0.0]]), (0.6, [0.0, float('nan')]), (0.6, [float('inf'), 0.0]),
])
def test_a_bad_knot_is_refused_and_leaves_no_trace(progress, alpha):
    process = DistillationProcess(['a', 'b'], Weighting('exponential'), [0.5], [[1.0, 2.0]])
    with pytest.raises(ProcessError):
        process.record(progress, alpha)
    assert process.progress == [0.5] and len(process.alpha) == 1
    assert np.allclose(process.weights, np.exp([[1, 2]]), rtol=1e-14)


# ---- ablations


def test_the_forms_are_what_they_are_called():
    process = make(seed=5)
    weights = closed(process)
    assert np.array_equal(ablation(process, 'process', process.progress), process.weights)
    assert np.allclose(ablation(process, 'uniform', process.progress), weights.sum() / weights.size, rtol=1e-13)
    last, mean = ablation(process, 'last', process.progress), ablation(process, 'mean', process.progress)
    together = ablation(process, 'mean_over_pathways', process.progress)
    for knot in range(6):
        assert np.allclose(together[knot], sum(weights[knot]) / 4, rtol=1e-13)
        assert np.array_equal(last[knot], process.weights[5])
        assert np.allclose(mean[knot], [sum(weights[:, p]) / 6 for p in range(4)], rtol=1e-13)
    for form in ('uniform', 'last', 'mean', 'mean_over_pathways', 'shuffled'):
        assert ablation(process, form, process.progress).shape == (6, 4)


def test_an_average_over_time_is_one_over_the_run_and_not_over_knots():
    process = DistillationProcess(['a', 'b'], Weighting('absolute'), [0, 0.2, 1], [[0, 6], [4, 6], [4, 6]])
    moments = np.linspace(0, 1, 2001)
    assert np.allclose(ablation(process, 'mean', moments), [3.6, 6], rtol=1e-3)
    assert np.allclose(ablation(process, 'uniform', moments), 4.8, rtol=1e-3)


def test_a_random_process_divides_the_same_total_at_every_moment():
    process = make(knots=12, seed=6)
    found = ablation(process, 'random', process.progress, seed=1)
    assert np.allclose(found.sum(axis=1), process.weights.sum(axis=1)) and (found >= 0).all()
    shares = found / found.sum(axis=1, keepdims=True)
    assert np.ptp(shares, axis=0).min() > 0.02  # the weights change
    assert np.array_equal(found, ablation(process, 'random', process.progress, seed=1))
    assert not np.array_equal(found, ablation(process, 'random', process.progress, seed=2))
    drawn = np.concatenate([ablation(process, 'random', [0], seed=seed) / process.weights[:1].sum() for seed in range(400)])
    assert np.allclose(drawn.mean(axis=0), 0.25, atol=0.04)  # no pathway is preferred


def test_shuffled_knots_are_a_permutation_given_by_the_seed():
    process = make(knots=12, seed=6)
    shuffled = ablation(process, 'shuffled', process.progress, seed=1)
    assert not np.array_equal(shuffled, process.weights)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, process.weights))
    assert np.array_equal(shuffled, ablation(make(knots=12, seed=6), 'shuffled', process.progress, seed=1))
    assert not np.array_equal(shuffled, ablation(process, 'shuffled', process.progress, seed=2))


def test_forms_neither_touch_the_process_nor_numpys_random_state():
    process, state = make(seed=7), np.random.get_state()[1].tobytes()
    before = process.weights.copy()
    for form in ('uniform', 'last', 'mean', 'mean_over_pathways', 'shuffled'):
        ablation(process, form, process.progress)[:] = -1
    assert np.array_equal(process.weights, before) and np.random.get_state()[1].tobytes() == state


def test_by_hand_the_weights_are_as_given():
    together = DistillationProcess.by_hand(NAMES, [0, 0.5, 1], [3, 30, 10])
    assert np.allclose(together.weights_at([0, 0.25, 0.5, 1]), np.array([[3.0], [16.5], [30], [10]]) * np.ones(4))
    each = [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert np.allclose(DistillationProcess.by_hand(NAMES, [0, 1], each).weights_at([0, 1]), each)
    groups = DistillationProcess.by_hand([*NAMES, 'logits>logits:kl'], [0, 1], dict(features=[0, 2], logits=[3, 0]))
    assert np.allclose(groups.weights, [[0, 0, 0, 0, 3], [2, 2, 2, 2, 0]]) and (groups.weights == 0).sum() == 5
    assert groups.weighting.unit == 'variance'
    assert DistillationProcess.by_hand(NAMES, [0], [1], unit='loss').weighting.unit == 'loss'


@pytest.mark.parametrize('given', [
    dict(), dict(progress=[0, 1]), dict(progress=[0, 1], weights=[1, 2, 3]), dict(progress=[0, 1], weights=[1, -1]),
    dict(progress=[0, 1], weights=dict(logits=[0, 0])),
    dict(progress=[0, 1], weights=dict(features=[1])),
    dict(progress=[0, 1], weights=dict(features=[1, 2, 3])),
    dict(progress=[0, 1], weights=dict(features=[1, 2], others=[1, 2])),
    dict(progress=[0, 1], weights=[1, float('nan')]), dict(progress=[0], weights=[[1, 2]]), dict(progress=0, weights=1),
    dict(progress=[0, 1], weights=['a', 'b']), dict(progress=[0, 0.5, 1], weights=[5]), dict(progress=[0, 1], weights=5),
    dict(progress=[0, 0.5, 1], weights=[[1, 2, 3, 4]]), dict(progress=[0, 'x'], weights=[1, 2]),
    dict(progress=[0, 1], weights=[1, float('inf')]), dict(progress=[0, 1], weights=[1, 2], form='mean')])
def test_by_hand_what_does_not_fit_is_refused(given):
    with pytest.raises(ProcessError, match='a hand-tuned process has progress, K values in'):
        DistillationProcess.by_hand(NAMES, **given)


@pytest.mark.parametrize('weights', [
    dict(features=[1, 2]), dict(features=[1], logits=[1, 2]), dict(features=[1, 2, 3], logits=[1, 2, 9])])
def test_by_hand_both_parts_need_weights_at_every_knot(weights):
    with pytest.raises(ProcessError, match='a hand-tuned process has progress, K values in'):
        DistillationProcess.by_hand([*NAMES, 'logits>logits:kl'], [0, 1], weights)


def test_by_hand_weights_of_pathways_that_do_not_exist_are_refused():
    with pytest.raises(ProcessError, match=r"weights\['logits'\]=\[0, 3\] is of no pathway: leave it out, or add"):
        DistillationProcess.by_hand(NAMES, [0, 1], dict(features=[1, 2], logits=[0, 3]))
    with pytest.raises(ProcessError, match=r"weights\['features'\]=\[1, 2\] is of no pathway"):
        DistillationProcess.by_hand(['logits>logits:kl'], [0, 1], dict(features=[1, 2], logits=[0, 3]))
    only = DistillationProcess.by_hand(NAMES, [0, 1], dict(features=[1, 2]))
    assert np.allclose(only.weights, [[1] * 4, [2] * 4])
    without = DistillationProcess.by_hand(NAMES, [0, 1], dict(features=[1, 2], logits=[0, 0]))
    assert np.array_equal(without.weights, only.weights)


def test_an_unknown_form_is_refused():
    with pytest.raises(ProcessError, match="ablation='best' is not one of process, uniform, last, shuffled, mean, mean"):
        ablation(make(), 'best', [0])


# ---- smoothing and reordering


def test_reordering_takes_each_pathways_column_along():
    process = make(seed=10)
    names = [NAMES[2], NAMES[0], NAMES[3], NAMES[1]]
    other = process.reorder(names, 'the run')
    assert other.names == names and other.progress == process.progress and other.origin == ORIGIN
    for column, name in enumerate(names):
        own = NAMES.index(name)
        assert [a[column] for a in other.alpha] == [a[own] for a in process.alpha]
        assert np.array_equal(other.weights[:, column], other.weights_at(process.progress)[:, column])
        assert np.allclose(other.weights[:, column], closed(process)[:, own], rtol=1e-13)
    assert process.names == NAMES
    back = other.reorder(NAMES, 'the run')
    assert np.stack(back.alpha).tobytes() == np.stack(process.alpha).tobytes()


def test_missing_and_unknown_pathways_are_both_listed():
    process = make()
    with pytest.raises(ProcessError) as caught:
        process.reorder([NAMES[0], NAMES[3], 'x>y:z', 'u>v:z'], 'model.distiller')
    message = str(caught.value)
    assert 'model.distiller' in message and 'lacks x>y:z, u>v:z ' in message and '\n' not in message
    assert f'has {NAMES[1]}, {NAMES[2]}, unknown to model.distiller' in message
    with pytest.raises(ProcessError, match='lacks x>y:z;'):
        process.reorder([*NAMES, 'x>y:z'], 'model.distiller')
    with pytest.raises(ProcessError, match=f'it has {NAMES[3]}, unknown'):
        process.reorder(NAMES[:3], 'model.distiller')
    with pytest.raises(ProcessError):
        process.reorder([*NAMES, NAMES[0]], 'model.distiller')


def test_a_recorded_alpha_is_a_copy():
    alpha = np.zeros(2)
    process = DistillationProcess(['a', 'b'], Weighting('exponential'))
    for moment in (0, 0.5, 1):
        process.record(moment, alpha)
        alpha += 1
    assert [a.tolist() for a in process.alpha] == [[0, 0], [1, 1], [2, 2]]
    given = np.ones((1, 2))
    process = DistillationProcess(['a', 'b'], Weighting('exponential'), [0], given)
    given += 5
    assert process.alpha[0].tolist() == [1, 1]


def test_weights_that_are_not_finite_are_refused():
    process = DistillationProcess(['a', 'b'], Weighting('exponential'), [0], [[800, 0]])
    with pytest.raises(ProcessError, match="weights that are not finite with weighting.type='exponential'"):
        process.at(0)
    with pytest.raises(ProcessError, match='the file is damaged .*not finite'):
        DistillationProcess.from_dict(process.to_dict(), 'the file')


def test_the_weights_at_the_knots_cannot_be_written_to():
    process = DistillationProcess(['a', 'b'], Weighting('exponential'), [0, 1], [[0, 1], [1, 0]])
    before = process.weights.copy()
    with pytest.raises(ValueError, match='read-only'):
        process.weights[0] = 7
    assert np.array_equal(process.at(0), before[0])
