import copy
import json
import math
import os
import signal
import stat
import time

import numpy as np
import pytest
import torch

from distpro.errors import ArgumentError
from distpro.process import DistillationProcess, ProcessError, ablation, interpolate
from distpro.weighting import Weighting

NAMES = ['stem>stem:pointwise', 'stem>layer1:pointwise', 'layer1>layer2:wide', 'layer3>layer3:pointwise']
ORIGIN = dict(config='search.py', seed=3, epochs=40, versions=dict(torch='2.13.0'), note='Straße')


def make(knots=6, seed=0, weighting=None, names=NAMES):
    """A process with irregular knots from 0.05 to 0.9 and random alpha."""
    generator = np.random.RandomState(seed)
    progress = np.sort(np.concatenate([[0.05, 0.9], generator.uniform(0.06, 0.89, knots - 2)]))
    return DistillationProcess(names, weighting or Weighting('biased_softmax', scale='num_pathways', kd_weight=0.8),
                               progress, generator.randn(knots, len(names)), ORIGIN)


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
    dict(progress=[0, 1], weights=dict(features=[1, 2])),
    dict(progress=[0, 1], weights=dict(features=[1], logits=[1, 2])),
    dict(progress=[0, 1], weights=dict(features=[1, 2, 3], logits=[1, 2, 9])),
    dict(progress=[0, 1], weights=dict(features=[1, 2], logits=[1, 2], others=[1, 2])),
    dict(progress=[0, 1], weights=[1, float('nan')]), dict(progress=[0], weights=[[1, 2]]), dict(progress=0, weights=1),
    dict(progress=[0, 1], weights=['a', 'b']), dict(progress=[0, 0.5, 1], weights=[5]), dict(progress=[0, 1], weights=5),
    dict(progress=[0, 0.5, 1], weights=[[1, 2, 3, 4]]), dict(progress=[0, 'x'], weights=[1, 2]),
    dict(progress=[0, 1], weights=[1, float('inf')]), dict(progress=[0, 1], weights=[1, 2], form='mean')])
def test_by_hand_what_does_not_fit_is_refused(given):
    with pytest.raises(ProcessError, match='a hand-tuned process has progress, K values in'):
        DistillationProcess.by_hand(NAMES, **given)


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


# ---- files


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
    (changed(version=4), 'has version 4 but this version of distpro reads 1 and 2 and 3'),
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
    with pytest.raises(TypeError):
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
