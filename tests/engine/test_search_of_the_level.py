"""References, levels and repeated rounds of a search, as in the shipped config."""
import os

import numpy as np
import pytest
import torch
from runs import Watch, trained, with_losses, written_process

from distpro.searching import Round
from distpro_mm.errors import TrainingError

ITERATIONS = 8  # of a round: two epochs of 80 images in batches of 20
DEFAULTS = dict(train_cfg__references=['student', 'kd'], train_cfg__max_divisions=5, train_cfg__initial_bump=3,
                train_cfg__feature_weight=16, train_cfg__max_epochs=1)


def test_references_and_levels_are_trained_with_their_own_weights(make_config, monkeypatch):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([2.0, 1.5, 3.0, 1.2, 1.3, 1.25, 1.22, 1.15, 1.05])))
    rounds = Watch(lambda runner: (runner.train_loop.search.trial.kind, runner.model.distiller.grid.weights(),
                                   runner.model.passes))
    runner = trained(make_config('whole_run', train_cfg__rounds=2, **DEFAULTS), rounds)
    kinds = [trial.kind for trial in runner.train_loop.searcher.history]
    assert kinds == ['student', 'kd', *['level'] * 3, 'logits', 'shape', 'step', 'step']
    first = {place: rounds.seen[place * ITERATIONS // 2 + 1] for place in range(len(kinds))}  # before the second iteration
    assert not first[0][1].any() and first[0][2]['teacher'] == 0, 'the student alone needs no teacher'
    assert first[1][1].tolist() == [0, 0, 0, 0, 1]
    for place in (2, 3, 4):
        weights = first[place][1]
        assert torch.allclose(weights[:4], 16 * weights[4]) and torch.allclose(4**(place - 2) * weights, first[2][1])
    one = first[5][1].new_ones(1)
    assert torch.allclose(first[5][1], torch.cat([first[3][1][:4], one])), 'KD was better than the student alone'
    level, rising = (torch.stack([seen[1] for seen in rounds.seen[place * ITERATIONS // 2 + 1:][:4]]) for place in (3, 6))
    assert torch.allclose(rising, level * level.new_tensor([0, -2, -1, 3]).exp()[:, None])
    origin = written_process(runner).origin
    assert origin['best'] == 'step' and origin['trials'][1] == dict(kind='kd', loss=1.5)
    assert origin['guessing'] == pytest.approx(np.log(10))


def test_a_search_without_a_successful_training_raises_an_error(make_config):
    with pytest.raises(TrainingError, match='the training loss is not finite.*lower optim_wrapper.optimizer.lr'):
        trained(make_config('whole_run', optim_wrapper__optimizer__lr=1e6, **DEFAULTS))
    with pytest.raises(TrainingError, match='none of its 2 trials has a finite held-out loss: lower optim_wrapper'):
        trained(make_config('whole_run', optim_wrapper__optimizer__lr=1e6, train_cfg__rounds=2, train_cfg__max_epochs=1))


def test_a_trial_is_followed_by_all_its_repeats_or_not_at_all(make_config, monkeypatch):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([1.0, 1.0, 0.9, float('nan'), 1.1, 1.1])))
    runner = trained(make_config('whole_run', train_cfg__rounds=3, train_cfg__max_epochs=1, train_cfg__min_iterations=8))
    first, second, third = (trial.alpha for trial in runner.train_loop.searcher.history)
    assert (second - first).abs().max() > 0.1 and torch.allclose(third - first, (second - first) / 2, atol=1e-6)


@pytest.mark.parametrize('unit, weight', [('variance', 1.0), ('loss', 0.5)])
def test_plain_kd_has_the_weight_of_one_logit_loss(make_config, unit, weight):
    logits = [dict(type='KLDivergence', tau=4, name=name) for name in ('one', 'two')]
    cfg = make_config('whole_run', model__distiller__logits=logits, train_cfg__references=['kd'], train_cfg__rounds=1,
                      train_cfg__max_epochs=1, model__distiller__weighting__unit=unit,
                      model__distiller__weighting__kd_weight=0.1)
    seen = Watch(lambda runner: (runner.train_loop.search.trial.kind, runner.model.distiller.grid.weights()))
    trained(cfg, seen)
    kd = next(weights for kind, weights in seen.seen[1:] if kind == 'kd')
    assert torch.allclose(kd[-2:], torch.tensor(weight)) and not kd[:-2].any()


@pytest.mark.parametrize('losses, weights', [([2.0, 1.0], [0, 0, 0, 0, 1]), ([1.0, 2.0], [0] * 5)])
def test_where_nothing_beats_a_reference_the_file_holds_the_reference_and_a_warning_is_logged(
        make_config, monkeypatch, losses, weights):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([*losses, 4.0, 3.0, 3.5, 3.6, 2.9, 2.95, 3.1])))
    cfg = make_config('whole_run', train_cfg__rounds=2, **DEFAULTS)
    cfg.log_level = 'WARNING'
    runner = trained(cfg)
    process = written_process(runner)
    assert process.origin['best'] in ('student', 'kd') and process.origin['complete']
    assert (process.weights == weights).all()
    with open(runner.logger.log_file if hasattr(runner.logger, 'log_file') else os.path.join(
            runner.work_dir, runner.timestamp, f'{runner.timestamp}.log')) as log:
        assert 'No process is better than' in log.read()


def test_a_reference_can_be_replayed(make_config, monkeypatch):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([2.0, 1.0, 4.0, 3.0, 3.5, 3.6, 2.9, 2.95, 3.1])))
    found = trained(make_config('whole_run', train_cfg__rounds=2, **DEFAULTS))
    cfg = make_config('equal', model=dict(distiller=found.cfg.model.distiller), custom_hooks=[
        dict(type='mmrazor.ProcessReplayHook', process=os.path.join(found.work_dir, 'process.json'))])
    active = Watch(lambda runner: list(runner.model.distiller.grid.active))
    trained(cfg, active)
    assert active.seen[1:] and all(seen == [4] for seen in active.seen[1:]), 'the logits alone are computed'


def test_short_rounds_are_longer_or_repeated(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__max_epochs=4, train_cfg__round_share=0.25,
                      train_cfg__min_iterations=ITERATIONS)
    loop = trained(cfg).train_loop
    assert (loop.epochs, loop.repeats) == (2, 1)  # four iterations an epoch
    cfg = make_config('whole_run', 'repeated', train_cfg__rounds=2, train_cfg__min_iterations=3 * ITERATIONS - 1)
    runner = trained(cfg)
    assert (runner.train_loop.epochs, runner.train_loop.repeats) == (2, 3)
    assert runner.iter == 2 * 3 * ITERATIONS and len(runner.train_loop.searcher.history) == 2


def test_repeats_are_averaged(make_config, monkeypatch, derivatives):
    monkeypatch.setattr(Round, 'measure', with_losses(iter([2.0, 1.0, 1.2, 1.0])))
    runner = trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1, train_cfg__min_iterations=8))
    first, second = runner.train_loop.searcher.history
    assert (first.loss, second.loss) == (1.5, 1.1) and len(derivatives) == 2


def test_a_round_has_the_trainings_schedule_scaled(make_config):
    rates = Watch(lambda runner: runner.optim_wrapper.get_lr()['lr'][0])
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__max_epochs=8, train_cfg__round_share=0.5)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=3),
                           dict(type='MultiStepLR', milestones=[4, 6], gamma=0.1)]
    trained(cfg, rates)
    lr = cfg.optim_wrapper.optimizer.lr
    assert np.allclose(rates.seen[::4], [0.1 * lr, lr, 0.1 * lr, 0.01 * lr])
