"""Process files: exact, readable, refused if damaged, and never half written."""
import copy
import json
import os
import signal
import stat
import time

import numpy as np
import pytest
from made_process import NAMES, ORIGIN, make

from distpro.errors import ArgumentError
from distpro.process import DistillationProcess, ProcessError
from distpro.weighting import Weighting


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'process.json')


@pytest.mark.filterwarnings('ignore:overflow encountered in cast')
def test_double_precision_alpha_comes_back_bit_for_bit(path):
    process = make(knots=50, seed=11)
    process.alpha[7] = np.array([-0.0, 5e-324, 1.7976931348623157e308, 0.1])
    process.alpha[8] = np.array([1 / 3, -1e-300, 1e300, np.nextafter(1, 2)])
    process.save(path)
    loaded = DistillationProcess.load(path)
    assert np.stack(loaded.alpha).tobytes() == np.stack(process.alpha).tobytes()
    assert np.array(loaded.progress).tobytes() == np.array(process.progress).tobytes()
    assert (loaded.names, loaded.origin) == (NAMES, ORIGIN)
    assert loaded.weighting.to_dict() == process.weighting.to_dict()


def test_single_precision_alpha_comes_back_bit_for_bit_and_short(path):
    single = np.random.RandomState(12).randn(50, 4).astype(np.float32)
    single[3] = [0.1, -0.0, 1e-45, 3.4028235e38]
    process = DistillationProcess(NAMES, Weighting('sigmoid'), np.linspace(0, 1, 50), single)
    process.save(path)
    loaded = DistillationProcess.load(path)
    assert np.stack(loaded.alpha).astype(np.float32).tobytes() == single.tobytes()
    assert np.allclose(loaded.weights, process.weights, rtol=1e-6)
    with open(path) as file:
        text = file.read()
    assert '[0.1, -0.0, 1e-45, 3.4028235e+38]' in text
    loaded.save(path)
    again = DistillationProcess.load(path)
    assert np.stack(again.alpha).tobytes() == np.stack(loaded.alpha).tobytes()


def test_the_file_is_plain_json_with_its_format(path):
    make(seed=13).save(path)
    with open(path) as file:
        data = json.load(file)
    assert (data['format'], data['version']) == ('distpro process', 3)
    assert data['pathways'] == NAMES and data['origin'] == ORIGIN
    assert Weighting.from_dict(data['weighting']).to_dict() == make().weighting.to_dict()
    assert data['progress'] == make(seed=13).progress
    assert np.array_equal(data['alpha'], np.stack(make(seed=13).alpha))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_a_file_of_version_1_has_weights_of_the_losses_as_they_are(path):
    process = make(seed=13)
    data = process.to_dict()
    data['version'] = 1
    data['weighting'] = dict(type='exponential', scale=1.0, kd_weight=1.0, bias=1.0, initial_alpha=0.0)
    with open(path, 'w') as file:
        json.dump(data, file)
    assert DistillationProcess.load(path).weighting.unit == 'loss'
    data['version'] = 2
    assert DistillationProcess.from_dict(data).weighting.unit == 'variance'
    data['weighting'] = dict(type='biased_softmax', scale=1.0, kd_weight=1.0, bias=2.5, initial_alpha=0.0)
    assert DistillationProcess.from_dict(data).weighting.parameters == dict(bias=2.5)


def test_a_process_is_saved_into_a_folder_that_is_not_there_yet(tmp_path):
    path = tmp_path / 'a' / 'b' / 'process.json'
    make().save(str(path))
    assert os.listdir(path.parent) == ['process.json'] and len(DistillationProcess.load(str(path))) == 6


# ---- files that are refused


def refused(path):
    """The one-line message that refuses a file."""
    with pytest.raises(ProcessError) as caught:
        DistillationProcess.load(path)
    message = str(caught.value)
    assert path in message and '\n' not in message and len(message) < 600
    assert isinstance(caught.value, ArgumentError)
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert 'run the search first' in refused(str(tmp_path / 'nowhere' / 'process.json'))


def test_a_folder_is_refused(tmp_path):
    assert 'cannot be read' in refused(str(tmp_path))


@pytest.mark.parametrize('share', [0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_file_cut_off_anywhere_is_refused(path, share):
    make(knots=30).save(path)
    with open(path) as file:
        text = file.read()
    with open(path, 'w') as file:
        file.write(text[:int(share * len(text))])
    assert 'is not valid JSON' in refused(path)


def test_a_file_that_is_no_text_is_refused(path):
    with open(path, 'wb') as file:
        file.write(bytes(range(128, 256)))
    assert 'is not valid JSON' in refused(path)


def changed(**changes):
    return lambda data: {**data, **changes}


def without(*keys):
    return lambda data: {key: value for key, value in data.items() if key not in keys}


@pytest.mark.parametrize('change, message', [
    (lambda data: [data], 'is not a process file'),
    (lambda data: 'process', 'is not a process file'),
    (lambda data: None, 'is not a process file'),
    (without('format'), 'is not a process file'),
    (changed(format='onnx'), 'is not a process file'),
    (changed(version=5), 'has version 5 but this version of distpro reads 1 to 4'),
    (without('version'), 'has version None but this'),
    (without('pathways'), 'lacks pathways'),
    (without('weighting'), 'lacks weighting'),
    (without('progress'), 'lacks progress'),
    (without('alpha'), 'lacks alpha'),
    (without('alpha', 'pathways'), 'lacks pathways, alpha'),
    (changed(pathways=[]), 'one or more different pathways'),
    (changed(pathways=[NAMES[0]] * 4), 'one or more different pathways'),
    (changed(pathways=NAMES[:3]), '3 pathways and 6 knots'),
    (changed(pathways=7), 'is damaged'),
    (lambda data: {**data, 'alpha': data['alpha'][:-1]}, '4 pathways and 6 knots'),
    (lambda data: {**data, 'progress': data['progress'][1:]}, '4 pathways and 5 knots'),
    (lambda data: {**data, 'alpha': [*data['alpha'][:-1], data['alpha'][-1][:3]]}, '4 pathways and 6 knots'),
    (lambda data: {**data, 'alpha': [[row] for row in data['alpha']]}, '4 pathways and 6 knots'),
    (lambda data: {**data, 'alpha': [*data['alpha'][:-1], [0, 0, [0], 0]]}, 'is damaged'),
    (changed(alpha='much'), 'is damaged'),
    (changed(alpha=None), 'is damaged'),
    (lambda data: {**data, 'alpha': [*data['alpha'][:-1], [0, 0, float('nan'), 0]]}, 'finite alpha'),
    (lambda data: {**data, 'alpha': [*data['alpha'][:-1], [0, 0, float('-inf'), 0]]}, 'finite alpha'),
    (lambda data: {**data, 'alpha': [*data['alpha'][:-1], [0, 0, None, 0]]}, 'finite alpha'),
    (lambda data: {**data, 'progress': data['progress'][::-1]}, 'must be in ascending order'),
    (changed(progress=[0.1, 0.2, 0.2, 0.3, 0.4, 0.5]), 'must be in ascending order'),
    (changed(progress=[-0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), 'must be in ascending order'),
    (changed(progress=[0.1, 0.2, 0.3, 0.4, 0.5, 1.1]), 'must be in ascending order'),
    (changed(progress=[0.1, 0.2, float('nan'), 0.4, 0.5, 0.6]), 'must be in ascending order'),
    (changed(progress=[0.1, 0.2, 'half', 0.4, 0.5, 0.6]), 'is damaged'),
    (changed(weighting=dict(type='softmaxx')), "type='softmaxx' is not one of"),
    (changed(weighting=dict(kind='softmax')), 'is damaged'),
    (changed(weighting=dict(type='softmax', scale=-1)), 'scale=-1'),
    (changed(weighting='softmax'), 'is damaged'),
    (changed(progress=[], alpha=[]), 'has no knots'),
])
def test_a_damaged_file_is_refused_in_one_sentence(path, change, message):
    data = json.loads(json.dumps(make().to_dict()))
    with open(path, 'w') as file:
        json.dump(change(copy.deepcopy(data)), file)
    assert message in refused(path)
    with open(path, 'w') as file:
        json.dump(data, file)
    assert len(DistillationProcess.load(path)) == 6  # only the change is an error


def test_a_file_without_an_origin_is_read(path):
    data = without('origin')(make().to_dict())
    with open(path, 'w') as file:
        json.dump(data, file)
    assert DistillationProcess.load(path).origin == {}


@pytest.mark.parametrize('names, progress, alpha', [
    ([], [0.5], [[]]), (['a', 'a'], [0.5], [[1, 1]]), (['a'], [0.5], []), (['a'], [], [[1]]), (['a'], [0.5], [[1, 1]]),
    (['a'], [0.5], [[float('nan')]]), (['a'], [0.5, 0.5], [[1], [1]]), (['a'], [1.5], [[1]]), (['a'], [-0.5], [[1]]),
])
def test_parts_that_do_not_fit_are_refused(names, progress, alpha):
    with pytest.raises(ProcessError):
        DistillationProcess(names, Weighting(), progress, alpha)


# ---- saves that fail


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
@pytest.mark.parametrize('function', ['fsync', 'replace'])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, path, monkeypatch, function, error):
    make(seed=14).save(path)
    with open(path, 'rb') as file:
        before = file.read()

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            make(seed=15).save(path)
    with open(path, 'rb') as file:
        assert file.read() == before
    assert os.listdir(tmp_path) == ['process.json']
    make(seed=15).save(path)
    assert np.array_equal(DistillationProcess.load(path).alpha, make(seed=15).alpha)


def test_an_origin_that_is_no_json_leaves_the_old_file(tmp_path, path):
    make(seed=14).save(path)
    process = make(seed=15)
    process.origin['model'] = object()
    with pytest.raises(ProcessError, match='cannot be written: object .* is neither a number, a text'):
        process.save(path)
    assert os.listdir(tmp_path) == ['process.json']
    assert np.array_equal(DistillationProcess.load(path).alpha, make(seed=14).alpha)


def killed_while_saving(process, path):
    """Save in another process and kill it when the first bytes are on disk. Returns whether the kill came in time."""
    folder = os.path.dirname(path)

    def on_disk():
        with os.scandir(folder) as entries:
            return [(entry.name, entry.stat().st_size) for entry in entries]

    before = on_disk()
    child = os.fork()
    if not child:
        try:
            process.save(path)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if sum(size for _, size in on_disk()) != sum(size for _, size in before):
                break
        except FileNotFoundError:  # the atomic write was finished in the meantime
            break
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_kill_during_the_writing_leaves_the_old_file(tmp_path):
    """A real SIGKILL. Repeated if the save was finished before the kill, as on a busy machine."""
    long = make(knots=20000, seed=15)
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        path = str(folder / 'process.json')
        make(seed=14).save(path)
        with open(path, 'rb') as file:
            before = file.read()
        if killed_while_saving(long, path):
            break
    else:
        pytest.fail('five saves were over before they could be killed')
    with open(path, 'rb') as file:
        assert file.read() == before
    assert np.array_equal(DistillationProcess.load(path).alpha, make(seed=14).alpha)
    beside, = [name for name in os.listdir(folder) if name != 'process.json']
    assert 0 < os.path.getsize(folder / beside) < len(json.dumps(long.to_dict()))
    long.save(path)  # the file that the killed process left is ignored
    assert len(DistillationProcess.load(path)) == 20000
