"""Searches that begin from the process 'general', as the shipped configs do."""
import os
import pathlib

import numpy as np
import pytest
from runs import trained, with_losses, written_process

from distpro.process import load_process, map_process
from distpro.searching import Round

SHORT = dict(train_cfg__min_iterations=1, train_cfg__round_share=1, train_cfg__max_epochs=1)


def general(process):
    """The weights of 'general' at the knots of a search, mapped to its pathways."""
    return map_process(load_process('general'), process.names, process.layers).weights_at(process.progress)


def test_a_refinement_trains_twice_and_the_result_is_replayed(make_config, derivatives):
    runner = trained(make_config('refine', **SHORT))
    process = written_process(runner)
    trials = runner.train_loop.searcher.history
    assert [trial.kind for trial in trials] == ['step', 'step'] and len(derivatives) == 1
    assert np.allclose(np.exp(trials[0].alpha), general(process)), 'the first is general as it is'
    changed = (trials[1].alpha - trials[0].alpha).abs()
    assert 0 < changed.max() <= 0.7 + 1e-6
    assert np.allclose(process.alpha, runner.train_loop.searcher.best.alpha) and process.origin['complete']
    replay = make_config('distill_refined', custom_hooks=[dict(
        type='mmrazor.ProcessReplayHook', process=os.path.join(runner.work_dir, 'process.json'))])
    trained(replay)


@pytest.mark.parametrize('loss, kind', [(0.985, 'initial'), (0.975, 'step'), (1.02, 'initial')])
def test_general_stays_unless_the_refinement_is_two_percent_better(make_config, monkeypatch, loss, kind):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([1.0, loss])))
    runner = trained(make_config('refine', **SHORT, log_level='INFO'))
    process = written_process(runner)
    assert process.origin['best'] == kind
    assert np.allclose(process.weights_at(process.progress), general(process)) == (kind == 'initial')
    log, = pathlib.Path(runner.work_dir).glob('*/*.log')
    assert ('and is the initial one: another must be 2% below it' in log.read_text()) == (kind == 'initial')


@pytest.mark.parametrize('options, used', [
    ({}, 16), (dict(train_cfg__batch_share=0.9), 18), (dict(train_cfg__batch_share=1), 20)])
def test_a_share_of_each_batch_of_20_images_is_differentiated(make_config, differentiated, options, used):
    trained(make_config('refine', **SHORT, **options))
    assert differentiated == {used}


@pytest.mark.parametrize('first, levels', [(1.0, 1), (1.6, 3)])
def test_a_search_divides_the_weights_of_general_if_it_is_no_better_than_kd(make_config, monkeypatch, first, levels):
    losses = [2.0, 1.5, first, *([1.2, 1.3, 1.25] if levels == 3 else []), *[1.0] * 20]
    monkeypatch.setattr(Round, 'measure', with_losses(iter(losses)))
    runner = trained(make_config('search_from_general', train_cfg__rounds=2, train_cfg__searcher__confirmations=0, **SHORT))
    kinds = [trial.kind for trial in runner.train_loop.searcher.history]
    assert kinds == ['student', 'kd', *['level'] * levels, *['logits'] * (levels == 3), 'step', 'step']


def test_the_level_alone_is_searched_for_with_any_first_loss(make_config, monkeypatch):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([2.0, 1.5, 1.0, 1.2, 1.3, 1.3, 1.3])))
    runner = trained(make_config('search_from_general', train_cfg__rounds=0, train_cfg__searcher__confirmations=0, **SHORT))
    assert [trial.kind for trial in runner.train_loop.searcher.history] == ['student', 'kd', 'level', 'level', 'logits']
