"""What TensorBoard gets of a search and of a distillation, read from its event files."""
import glob

import numpy as np
import pytest

from distpro.process import DistillationProcess
from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.weight_log import scalar_name

NAMES = ['stem>stem:pointwise', 'layer1>layer1:pointwise', 'layer2>layer2:pointwise', 'layer3>layer3:pointwise']
BACKENDS = [dict(type='TensorboardVisBackend')]


def scalars(cfg):
    """dict[str, list]: Steps and values of all scalars that the training of a config writes."""
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    cfg.visualizer.vis_backends = BACKENDS
    cfg.default_hooks.logger.interval = 2
    runner = build_trainer(cfg)
    runner.train()
    for backend in runner.visualizer._vis_backends.values():
        backend.close()
    file, = glob.glob(f'{cfg.work_dir}/**/events.out.tfevents.*', recursive=True)
    events = accumulator.EventAccumulator(file)
    events.Reload()
    return runner, {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()['scalars']}


COMMON = {'grad_norm', 'time', 'data_time', 'loss', 'lr'}


def test_of_a_search_in_rounds(make_config):
    record = dict(type='mmrazor.ProcessRecordHook', interval=2)
    runner, found = scalars(make_config('whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1, custom_hooks=[record]))
    assert COMMON <= set(found), sorted(found)
    trials = runner.train_loop.searcher.history
    assert [value for _, value in found['search/held_out_loss']] == pytest.approx([trial.loss for trial in trials])
    assert set(map(scalar_name, runner.model.distiller.grid.names)) <= set(found)
    assert all(value > 0 for _, value in found['grad_norm'] + found['time'])


def test_of_the_published_search(make_config):
    _, found = scalars(make_config('search', custom_hooks=[dict(type='mmrazor.ProcessRecordHook', interval=2)]))
    assert [step for step, _ in found['search/held_out_loss']] == [4, 8] and COMMON - {'lr'} <= set(found), sorted(found)
    assert len(found[scalar_name(NAMES[0])]) == 4


def test_of_a_distillation(make_config, tmp_path):
    process = DistillationProcess.by_hand(NAMES, [0, 1], [[1, 2, 3, 4], [5, 6, 7, 8]])
    process.save(str(tmp_path / 'process.json'))
    replay = dict(type='mmrazor.ProcessReplayHook', process=str(tmp_path / 'process.json'), interval=2)
    cfg = make_config('distill', custom_hooks=[replay])
    runner, found = scalars(cfg)
    assert COMMON <= set(found), sorted(found)
    for place, name in enumerate(NAMES):
        steps, values = zip(*found[scalar_name(name)])
        wanted = np.interp((np.array(steps) - 1) / (runner.max_iters - 1), [0, 1], [place + 1, place + 5])
        np.testing.assert_allclose(values, wanted, rtol=1e-5)


@pytest.mark.parametrize('pathway, name', [
    ('stem>layer1:pointwise', 'pathways/stem to layer1:pointwise'), ('large:stem>stem:kl', 'pathways/large:stem to stem:kl'),
    ('blocks[0]>a.b:c', 'pathways/blocks_0_ to a.b:c')])
def test_names_of_scalars_have_no_sign_that_mlflow_refuses(pathway, name):
    """It allows alphanumerics, underscores, dashes, periods, spaces, colons and slashes."""
    assert scalar_name(pathway) == name
