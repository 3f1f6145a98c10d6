"""A process of short searches in a long training: features end, logits continue, the first layer has no pathway."""
import numpy as np
import pytest

from distpro.errors import ArgumentError
from distpro.process import DistillationProcess, fit_length, is_of_short_rounds, load_process
from distpro.weighting import Weighting, log_weights

NAMES = ['b>b:pointwise', 'c>c:pointwise', 'logits>logits:kl', 'logits>logits:dkd']
WEIGHTS = np.array([[4., 8., 1., 9.], [100., 50., 5., 4.], [60., 90., 15., 3.], [2., 6., 3., 1.]])


@pytest.fixture
def process():
    return DistillationProcess(NAMES, Weighting('exponential'), np.linspace(0, 1, 4), log_weights(WEIGHTS), dict(a=1),
                               dict(transmitters=['a', 'b', 'c'], receivers=['a', 'b', 'c']))


def expected(progress, end, faded):
    """By the definition, at one share of the training."""
    knots = [0, 1 / 3, 2 / 3, 1]

    def original(column, at):
        return np.interp(at, knots, WEIGHTS[:, column])

    found = []
    for column in (0, 1):
        if progress <= end:
            found.append(original(column, progress))
        else:  # straight from the weight at the end of the features to 0, unless a knot is between
            found.append(np.interp(progress, [end, faded], [original(column, end), 0]))
    found.append(original(2, progress) if progress <= 2 / 3 else 15)
    found.append(9)  # highest at the start
    return found


@pytest.mark.parametrize('steps, end, faded', [(1000, 0.5, 0.625), (100_000, 0.5, 0.625), (555, 500 / 555, 1)])
def test_features_end_and_logits_continue(process, steps, end, faded):
    long = fit_length(process, steps)
    for progress in [0, 0.1, 0.3, 0.45, end, (end + faded) / 2, faded, 0.99, 1]:
        got = long.weights_at([progress])[0]
        assert got == pytest.approx(expected(progress, end, faded), rel=1e-6), progress
    assert long.names == NAMES and long.layers == process.layers and long.origin['a'] == 1
    assert (long.weights_at([faded, 1.0])[:, :2] == 0).all(), 'skipped, not merely small'


@pytest.mark.parametrize('steps', [1, 280, 500])
def test_a_short_training_has_the_process_as_it_is(process, steps):
    assert fit_length(process, steps) is process


def test_the_end_is_continuous_in_the_length(process):
    before, after = (fit_length(process, steps).weights_at(np.linspace(0, 0.99, 50).tolist()) for steps in (999, 1001))
    assert np.abs(before - after).max() < 1


def test_the_first_layer_of_the_student_has_no_weight(process):
    layers = dict(transmitters=['t'], receivers=['b', 'c'])
    first = DistillationProcess(NAMES, process.weighting, process.progress, process.alpha, layers=layers)
    weights = fit_length(first, 1000).weights
    assert (weights[:, 0] == 0).all() and np.array_equal(weights[:, 1:], fit_length(process, 1000).weights[:, 1:])
    alone = dict(transmitters=['t', 'u'], receivers=['b'])
    of_one = DistillationProcess(NAMES[:1], process.weighting, [0, 1], [[1], [1]], layers=alone)
    assert fit_length(of_one, 1000).weights[0, 0] > 0, 'the only layer'


def test_a_process_without_logits_is_left_alone(process):
    features = DistillationProcess(NAMES[:2], process.weighting, process.progress, log_weights(WEIGHTS[:, :2]))
    assert fit_length(features, 2000) is features, 'nothing would teach any more'


def test_the_general_process_has_two_phases():
    general = fit_length(load_process('general'), 2000)
    late = general.weights_at([0.8])[0]
    assert (late[:-1] == 0).all() and late[-1] == general.weights[:, -1].max() > 0


@pytest.mark.parametrize('steps', [0, -1, 2.5, True, None])
def test_what_is_no_number_of_steps_is_refused(process, steps):
    with pytest.raises(ArgumentError, match='steps='):
        fit_length(process, steps)


@pytest.mark.parametrize('origin, short', [
    ({}, False), (dict(trials=[], iterations=999), True), (dict(trials=[], iterations=1000), False),
    (dict(iterations=280), False), (dict(average_of=['a']), True), (dict(transfer='by_depth'), True),
    (dict(trials=[]), True)])
def test_a_process_is_of_short_rounds_if_a_search_found_it_in_fewer_steps(process, origin, short):
    process.origin = origin
    assert is_of_short_rounds(process, 1000) is short


def test_the_first_layer_keeps_its_weight_if_no_other_has_a_pathway():
    names = ['a>b:pointwise', 'c>b:pointwise', 'logits>logits:kl', 'logits>logits:dkd']
    layers = dict(transmitters=['a', 'c'], receivers=['b', 'c'])
    process = DistillationProcess(names, Weighting('exponential'), np.linspace(0, 1, 4), log_weights(WEIGHTS), layers=layers)
    assert (fit_length(process, 1000).weights_at([0.4])[:, :2] > 0).all()
