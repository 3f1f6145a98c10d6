"""The library of processes: names, a user's own folders, and what comes with the package."""
import numpy as np
import pytest
import torch
from toys import network

import distpro
from distpro.process import (
    DistillationProcess,
    ProcessError,
    average_processes,
    fit_process,
    library,
    load_process,
    map_process,
)

SOURCE = ('data', 'teacher', 'student', 'epochs', 'commit', 'command', 'licence')
LAYERS = dict(transmitters=['a', 'b', 'c'], receivers=['x', 'y'])
NAMES = ['a>x:linear', 'b>y:linear', 'c>y:linear', 'logits>logits:dkd']


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of a user's own processes with one of them, 'faces/small'."""
    process = DistillationProcess.by_hand(NAMES, [0, 1], [[1, 2, 3, 4], [5, 6, 7, 8]])
    process.save(str(tmp_path / 'own' / 'faces' / 'small.json'))
    monkeypatch.setenv('DISTPRO_PROCESSES', str(tmp_path / 'own'))
    return process


def test_every_process_of_the_package_says_where_it_comes_from():
    assert len(library()) > 5
    for name in library():
        process = load_process(name)
        assert process.weighting.unit == 'variance' and process.layers and process.origin.get('complete', True)
        if name != 'general':
            assert all(process.origin['source'][key] for key in SOURCE)
            held_out = {trial['kind']: trial['loss'] for trial in process.origin['trials'][::-1]}
            assert min(trial['loss'] for trial in process.origin['trials']) < min(held_out['student'], held_out['kd'])


def test_the_general_process_is_the_average_of_the_others():
    general = load_process('general')
    others = [name for name in library() if name != 'general']
    assert general.origin['average_of'] == others
    average = average_processes([load_process(name) for name in others])
    np.testing.assert_allclose(general.weights, average.weights, rtol=1e-12)  # logarithms of other numpys differ in bits


def test_a_process_of_the_library_is_mapped_to_any_pathways():
    fitted = fit_process('general', NAMES, LAYERS)
    assert np.array_equal(fitted.weights, map_process(load_process('general'), NAMES, LAYERS).weights)
    kl = load_process('general').weights[:, -1]
    assert fitted.names == NAMES and np.array_equal(fitted.weights[:, -1], kl)
    assert fit_process('general', NAMES[:-1], LAYERS).names == NAMES[:-1]


@pytest.mark.parametrize('name', library())
def test_every_process_of_the_library_serves_a_pair_with_one_transform(name):
    process = load_process(name)
    fitted = fit_process(name, NAMES, LAYERS)
    assert fitted.names == NAMES and np.isfinite(fitted.weights).all() and (fitted.weights > 0).all()
    columns = [column for column, own in enumerate(process.names) if not own.startswith('logits')]
    new = [column for column, own in enumerate(NAMES) if not own.startswith('logits')]
    # In the unit 'variance' the mean over all pathways stays the same.
    assert np.allclose(fitted.weights[:, new].mean(1), process.weights[:, columns].mean(1), rtol=1e-6)


def test_a_teacher_without_logits_teaches_by_the_features_of_the_general_process():
    teacher, student = network(4), network(2)
    kd = distpro.Distillation(student, teacher, torch.rand(2, 3, 8, 8), process='general', logits={})
    out = kd(torch.rand(4, 3, 8, 8), progress=0.5)
    assert out.loss.isfinite() and not any(name.startswith('logits') for name in out.pathways)


def test_processes_of_ones_own_have_names_too(own):
    assert 'general' in library() and np.array_equal(load_process('faces/small').weights, own.weights)
    assert np.array_equal(fit_process('faces/small', NAMES[::-1]).weights, own.weights[:, ::-1])


def test_a_file_is_not_mapped_unless_wanted(own, tmp_path):
    file = str(tmp_path / 'own' / 'faces' / 'small.json')
    assert np.array_equal(fit_process(file, NAMES).weights, own.weights)
    with pytest.raises(ProcessError, match='it has c>y:linear, unknown to these networks'):
        fit_process(file, [NAMES[0], NAMES[1], NAMES[3]])
    assert fit_process(file, [NAMES[0], NAMES[1], NAMES[3]], transfer=True).origin['transfer']['pathways'] == NAMES


def test_a_folder_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('DISTPRO_PROCESSES', str(tmp_path / 'nowhere'))
    with pytest.raises(ProcessError, match=r"DISTPRO_PROCESSES in the environment names '.*nowhere', which is not a folder"):
        library()


def test_a_name_that_is_taken_is_refused(own, tmp_path):
    own.save(str(tmp_path / 'own' / 'general.json'))
    with pytest.raises(ProcessError, match=r"two processes have the name 'general': .*shipped.general.json and .*own"):
        load_process('general')


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ProcessError, match="there is no process file 'genral' .nearest: general.: .*by name: .*, general"):
        load_process('genral')
