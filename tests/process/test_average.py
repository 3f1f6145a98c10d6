"""The average of processes, against geometric means that are worked out here."""
import numpy as np
import pytest

from distpro.process import DistillationProcess, ProcessError, average_processes
from distpro.weighting import OFF, Weighting


def process(weights, names, layers=2, progress=(0, 1), unit='variance'):
    """A process with these weights [K, N] of a pair with some layers."""
    sides = dict(transmitters=[f't{i}' for i in range(layers)], receivers=[f's{i}' for i in range(layers)])
    weights = np.asarray(weights, dtype=float)
    alpha = np.log(weights, out=np.full(weights.shape, OFF), where=weights > 0)
    return DistillationProcess(names, Weighting('exponential', unit=unit), progress, alpha, layers=sides)


NAMES = ['t0>s0:pointwise', 't0>s1:pointwise', 't1>s1:pointwise', 'logits>logits:kl']
A = [[1, 2, 4, 3], [8, 4, 2, 5]]
B = [[4, 2, 1, 27], [2, 4, 8, 45]]


def test_weights_are_geometric_means_at_the_same_depths():
    mean = average_processes([process(A, NAMES), process(B, NAMES)], layers=2, knots=2)
    assert mean.names == ['layer1>layer1:pointwise', 'layer1>layer2:pointwise', 'layer2>layer2:pointwise',
                          'logits>logits:kl']
    assert np.allclose(mean.weights, [[2, 2, 2, 9], [4, 4, 4, 15]], rtol=1e-12)
    assert mean.layers == dict(transmitters=['layer1', 'layer2'], receivers=['layer1', 'layer2'])


def test_names_and_labels_of_the_processes_do_not_matter():
    other = ['u0>s0:linear', 'u0>s1:linear', 'u1>s1:linear', 'logits>logits:dkd']
    layers = dict(transmitters=['u0', 'u1'], receivers=['s0', 's1'])
    renamed = DistillationProcess(other, Weighting('exponential', unit='variance'), [0, 1], np.log(B), layers=layers)
    assert np.allclose(average_processes([process(A, NAMES), renamed], 2, 2).weights,
                       average_processes([process(A, NAMES), process(B, NAMES)], 2, 2).weights, rtol=1e-12)


def test_several_transforms_count_by_their_mean():
    names = [name.replace('pointwise', transform) for name in NAMES[:3] for transform in ('pointwise', 'attention')]
    weights = np.asarray(A, dtype=float)[:, :3]
    doubled = np.stack([0.5 * weights, 1.5 * weights], axis=2).reshape(2, 6)
    both = process(np.hstack([doubled, np.asarray(A)[:, 3:]]), [*names, NAMES[3]])
    assert np.allclose(average_processes([both], 2, 2).weights, A, rtol=1e-12)


def test_knots_lie_on_the_lines_between_those_of_a_process():
    mean = average_processes([process(A, NAMES)], layers=2, knots=3)
    assert np.allclose(mean.weights[1], (np.asarray(A[0]) + A[1]) / 2, rtol=1e-12)
    assert mean.progress == [0, 0.5, 1]


def test_the_mean_over_pathways_is_kept_for_more_layers():
    mean = average_processes([process(A, NAMES)], layers=3, knots=2)
    assert len(mean.names) == 7
    assert np.allclose(mean.weights[:, :6].mean(axis=1), np.asarray(A)[:, :3].mean(axis=1), rtol=1e-12)


def test_a_pathway_without_weight_in_one_process_has_almost_none():
    off = [[0, 2, 4, 3], [8, 4, 2, 5]]
    assert average_processes([process(off, NAMES), process(A, NAMES)], 2, 2).weights[0, 0] < 1e-12


@pytest.mark.parametrize('processes, arguments, message', [
    ([], {}, 'an average needs one process or more and at least 2 layers and knots, got 0 processes'),
    ([process(A, NAMES)], dict(layers=1), 'got 1 processes, layers=1, knots=4'),
    ([process(A, NAMES)], dict(knots=1), 'got 1 processes, layers=4, knots=1'),
    ([process(A, NAMES, unit='loss')], {}, "in the unit 'variance', got one in 'loss'"),
    ([process(np.ones((2, 3)), NAMES[:3])], {}, 'got 3 and 0'),
    ([process(np.ones((2, 1)), NAMES[3:])], {}, 'got 0 and 1'),
])
def test_what_cannot_be_averaged_is_refused(processes, arguments, message):
    with pytest.raises(ProcessError, match=message):
        average_processes(processes, **arguments)
