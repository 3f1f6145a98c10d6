"""The files of a training are read as they were logged."""
import json

import numpy as np
import pytest

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.errors import ConfigError
from distpro_mm.reporting.run_files import read_run


def log(folder, name, lines):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')


def train(epoch, iteration, loss, **others):
    return dict(lr=0.1, loss=loss, time=0.5, data_time=0.1, epoch=epoch, iter=iteration, step=iteration, **others)


def test_evaluations_are_placed_at_the_iterations_of_their_epochs(tmp_path):
    log(tmp_path, '1', [train(1, 5, 3.0), train(2, 10, 2.0), {'accuracy/top1': 40.0, 'time': 1.0, 'step': 2},
                        train(3, 15, 1.5), train(4, 20, 1.0), {'accuracy/top1': 60.0, 'data_time': 1.0, 'step': 4}])
    run = read_run(str(tmp_path))
    assert run.metric == 'accuracy/top1' and run.curve('accuracy/top1') == ([10, 20], [40.0, 60.0])
    assert run.curve('loss') == ([5, 10, 15, 20], [3.0, 2.0, 1.5, 1.0]) and not run.searched and run.facts == {}


def test_evaluations_of_a_loop_of_iterations_keep_their_iteration(tmp_path):
    log(tmp_path, '1', [dict(loss=1.0, iter=7, step=7), {'mIoU': 3.0, 'step': 7}])
    assert read_run(str(tmp_path)).curve('mIoU') == ([7], [3.0])


def test_the_logs_of_a_resumed_training_are_joined_and_others_ignored(tmp_path):
    log(tmp_path, '20260101_1', [train(1, 5, 9.9)])  # an earlier training in the same folder
    log(tmp_path, '20260102_1', [train(1, 5, 3.0), train(2, 10, 2.0), train(3, 15, 77.0), '{"lr": 0.1, "lo'])
    log(tmp_path, '20260103_1', [train(3, 15, 1.5), train(4, 20, float('nan')), {'accuracy/top1': 60.0, 'step': 4}])
    assert read_run(str(tmp_path)).curve('loss')[0] == [15]  # without run.json, only the last log is known to belong to it
    (tmp_path / 'run.json').write_text(json.dumps(dict(
        sessions=['20260102_1', '20260103_1'], kind='distillation', iterations=20, epochs=4)))
    run = read_run(str(tmp_path))
    assert run.curve('loss') == ([5, 10, 15], [3.0, 2.0, 1.5])  # the loss of iteration 20 is not finite
    assert run.curve('accuracy/top1') == ([20], [60.0])


def test_the_process_is_that_of_the_search_or_of_the_replay(tmp_path):
    process = DistillationProcess(['a>b:c'], Weighting('exponential'), [0, 1], np.random.randn(2, 1))
    process.save(str(tmp_path / 'process.json'))
    (tmp_path / 'run.json').write_text('{"kind": "distillation", "sessions": []}')
    assert read_run(str(tmp_path)).process is None
    process.save(str(tmp_path / 'replayed.json'))
    assert np.array_equal(read_run(str(tmp_path)).process.weights, process.weights)
    (tmp_path / 'run.json').write_text('{"kind": "search", "process_file": "mine.json", "sessions": []}')
    assert read_run(str(tmp_path)).process is None and read_run(str(tmp_path)).searched


def test_a_folder_without_a_training_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='has no files of a training: neither run.json nor'):
        read_run(str(tmp_path))
