"""The record of a search: its scalars for the visualizer, and the pictures of the process."""
import os

import numpy as np
import pytest
from mmengine.runner import Runner
from resuming import NAMES
from runs import Watch, trained

from distpro.process import DistillationProcess
from distpro_mm.engine.hooks import process_record_hook
from distpro_mm.engine.weight_log import scalar_name
from distpro_mm.reporting import figures


def test_weights_reach_the_visualizer_under_names_that_are_not_summed(make_config):
    seen = []
    runner = Runner.from_cfg(make_config('search', custom_hooks=[dict(type='mmrazor.ProcessRecordHook', interval=4)]))
    plain = runner.visualizer.add_scalars
    runner.visualizer.add_scalars = lambda scalars, step, **kwargs: (seen.append((step, scalars)), plain(scalars, step=step))
    runner.train()
    logged = [(step, scalars) for step, scalars in seen if any(key.startswith('pathways/') for key in scalars)]
    assert [step for step, _ in logged] == [4, 8]
    assert list(logged[0][1]) == list(map(scalar_name, NAMES))
    assert not any('loss' in key for key in logged[0][1])


@pytest.fixture
def drawn(monkeypatch):
    """list[tuple]: For each picture that is written: the axes' number of points, and the knots of process.json beside it."""
    found = []

    def save(figure, path):
        process = DistillationProcess.load(os.path.splitext(path)[0] + '.json')
        found.append((len(figure.axes[0].lines[0].get_xdata()), len(process)))

    monkeypatch.setattr(figures, 'save_figure', save)
    return found


@pytest.mark.parametrize('seconds, points', [(60.0, [4]), (0.0, [1, 2, 3, 4])])
def test_a_process_is_drawn_at_the_end_and_at_checkpoints_once_a_minute(make_config, drawn, monkeypatch, seconds, points):
    """A checkpoint at each of four iterations, of a search that takes less than a minute, or of a slower one."""
    assert process_record_hook.DRAW_INTERVAL == 60.0
    monkeypatch.setattr(process_record_hook, 'DRAW_INTERVAL', seconds)
    cfg = make_config('search', train_cfg__max_epochs=1)
    cfg.default_hooks.checkpoint.update(interval=1, by_epoch=False)
    runner = trained(cfg)
    assert runner.max_iters == 4 and drawn == [(knots, knots) for knots in points]


def test_the_minute_between_drawings_is_counted_from_the_last_one(make_config, drawn, monkeypatch):
    clock = iter(np.arange(0, 2000, 25.0))  # seconds: at the start, at each checkpoint, and at each drawing
    monkeypatch.setattr(process_record_hook.time, 'monotonic', lambda: next(clock))
    cfg = make_config('search')
    cfg.default_hooks.checkpoint.update(interval=1, by_epoch=False)
    trained(cfg)
    assert [knots for knots, _ in drawn] == [3, 6, 8]


def test_a_search_that_fails_draws_the_process_so_far(make_config, drawn):
    def fail(runner):
        if runner.iter == 2:
            raise RuntimeError('no more')

    with pytest.raises(RuntimeError, match='no more'):
        trained(make_config('search'), Watch(after=fail))
    assert drawn == [(3, 3)]
