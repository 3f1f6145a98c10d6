"""Search strategies on losses that are functions of a few numbers."""
import copy
import math

import numpy as np
import pytest
import torch
from searcher_runs import INITIAL, KD, KNOTS, LOG4, PATHWAYS, STUDENT, make, no_gradient, run, scripted

from distpro.searching import SEARCHERS
from distpro.weighting import OFF


def test_weights_are_divided_until_the_loss_rises_below_the_references():
    searcher = make()
    kinds = run(searcher, scripted(student=[1.0], kd=[2.0], level=[4.0, 1.2, 0.7, 0.8], logits=[0.9], step=[0.7] * 3),
                no_gradient)
    assert kinds == ['student', 'kd', *['level'] * 4, 'logits', *['step'] * 3]
    for place, trial in enumerate(searcher.of_kind('level')):
        assert torch.allclose(trial.alpha, INITIAL - place * LOG4)
    assert searcher.bar == 1.0 and searcher.best.loss == 0.7


def test_a_known_process_below_the_references_is_refined_at_its_own_level():
    searcher = make(known=True)
    kinds = run(searcher, scripted(student=[2.0], kd=[1.0], level=[0.7], step=[0.7] * 3), no_gradient)
    assert kinds == ['student', 'kd', 'level', 'step', 'step', 'step'] and searcher.best.loss == 0.7
    assert torch.equal(searcher.of_kind('step')[0].alpha, INITIAL)


@pytest.mark.parametrize('first', [1.0, 4.0, math.nan])
def test_a_known_process_that_is_not_below_the_references_is_divided_like_another(first):
    losses = dict(student=[2.0], kd=[1.0], level=[first, 0.7, 0.8], logits=[0.9], step=[0.7] * 3)
    kinds = [run(make(known=known), scripted(**losses), no_gradient) for known in (True, False)]
    assert kinds[0] == kinds[1] and kinds[0].count('level') == 3 and 'logits' in kinds[0]


@pytest.mark.parametrize('student, kd, column', [(1.0, 0.9, 0.0), (0.9, 1.0, OFF)])
def test_the_logits_are_tried_as_the_better_reference_has_them(student, kd, column):
    searcher = make()
    run(searcher, scripted(student=[student], kd=[kd], level=[0.8, 0.85], logits=[0.7, 0.6, 0.65], step=[0.5] * 3),
        no_gradient)
    tried = searcher.of_kind('logits')
    assert len(tried) == 3 and all((trial.alpha[:, -1] == column).all() for trial in tried)
    for place, trial in enumerate(tried):
        assert torch.allclose(trial.alpha[:, :-1], INITIAL[:, :-1] - place * LOG4)
    assert torch.equal(searcher.of_kind('step')[0].alpha, tried[1].alpha)


def test_levels_logits_and_shapes_divide_the_weights_alone():
    """The last column is a temperature or the weight of the cross-entropy."""
    initial = torch.cat([INITIAL, torch.full((KNOTS, 1), 0.5)], 1)
    references = {name: torch.cat([alpha, torch.zeros(KNOTS, 1)], 1) for name, alpha in dict(student=STUDENT, kd=KD).items()}
    searcher = SEARCHERS['RpropSearcher'](initial, references, 1, [PATHWAYS - 1], 1, 5.0, confirmations=0,
                                          other_shape=initial + torch.tensor([1., 1., 1., 1., 0.]))
    losses = scripted(student=[3], kd=[2], level=[4, 3, 3.5, 3.6], logits=[2.5, 2.4, 2.6], shape=[2.3, 2.2, 2.5], step=[2.0])
    kinds = run(searcher, losses, lambda trial: torch.zeros(KNOTS, PATHWAYS + 1))
    assert set(kinds) == {'student', 'kd', 'level', 'logits', 'shape', 'step'}
    for trial in searcher.history:
        assert (trial.alpha[:, -1] == (0 if trial.kind in ('student', 'kd') else 0.5)).all(), trial.kind
    assert searcher.history[3].alpha[0, 0] == pytest.approx(3 - LOG4)


def test_where_nothing_beats_a_reference_the_reference_is_the_result():
    for references, best in ((dict(student=[1.0], kd=[0.5]), 'kd'), (dict(student=[0.5], kd=[1.0]), 'student')):
        searcher = make()
        kinds = run(searcher, scripted(**references, level=[3, 2, 2.5, 2.6], logits=[1.9, 1.95]), no_gradient)
        assert 'step' not in kinds and searcher.best.kind == best


def test_a_level_near_the_bar_is_refined_too_and_wins_if_it_gets_below():
    for last, best in ((0.4, 'step'), (0.6, 'kd')):
        searcher = make(confirmations=0)
        kinds = run(searcher, scripted(student=[1.0], kd=[0.5], level=[1.2, 0.9, 1.0, 1.1], logits=[0.95],
                                       step=[0.8, 0.7, last]), lambda trial: torch.ones(KNOTS, PATHWAYS))
        assert kinds[-3:] == ['step'] * 3 and searcher.best.kind == best


def test_there_is_no_best_process_while_the_only_one_has_diverged_in_one_of_two_trials():
    searcher = make(references={}, max_divisions=0)
    run(searcher, scripted(step=[1.0, math.nan, math.nan]), lambda trial: torch.full((KNOTS, PATHWAYS), math.nan))
    assert searcher.history[0].finite and searcher.best is None


def test_a_refinement_ends_if_two_trainings_of_one_process_differ_much():
    searcher = make(confirmations=0)
    asked = []
    kinds = run(searcher, scripted(student=[1.0], kd=[2.0], level=[0.3, 0.4], logits=[0.5], step=[0.7]), asked.append)
    assert kinds == ['student', 'kd', 'level', 'level', 'logits', 'step'] and not asked
    assert searcher.best is searcher.of_kind('level')[1]  # 0.3 and 0.7 on average are worse


def test_another_schedule_is_tried_at_the_best_level_and_divided_while_it_is_the_best():
    rising = INITIAL + torch.linspace(-2, 2, KNOTS)[:, None]
    for logits, apart in ((0.9, False), (0.6, True)):
        searcher = make(confirmations=0, other_shape=rising)
        run(searcher, scripted(student=[1.0], kd=[2.0], level=[0.8, 0.7, 0.75], logits=[logits, 0.95],
                               shape=[0.5, 0.4, 0.45], step=[0.5] * 3), lambda trial: torch.ones(KNOTS, PATHWAYS))
        tried = searcher.of_kind('shape')
        assert len(tried) == 3 and torch.equal(searcher.of_kind('step')[0].alpha, tried[1].alpha)
        for place, trial in enumerate(tried):
            expected = rising - (1 + place) * LOG4
            assert torch.allclose(trial.alpha[:, :-1], expected[:, :-1])
            assert torch.allclose(trial.alpha[:, -1], STUDENT[:, -1] if apart else expected[:, -1])


def test_a_student_that_only_guesses_does_not_end_the_division():
    searcher = make(guessing=1.6, confirmations=0)
    run(searcher, scripted(student=[1.7], kd=[1.8], level=[4, 3, 2.5, 2, 1.5, 1.7], logits=[1.9], step=[1.5, 1.4, 1.45]),
        lambda trial: torch.ones(KNOTS, PATHWAYS))
    assert len(searcher.of_kind('level')) == 6 and searcher.best.loss == 1.4


def test_levels_that_diverge_are_divided_on_and_never_chosen():
    searcher = make()
    run(searcher, scripted(student=[1.0], kd=[1.0], level=[math.nan, math.nan, math.nan, 0.5, 0.6], logits=[math.nan],
                           step=[0.4, math.nan, 0.45]), no_gradient)
    assert [trial.finite for trial in searcher.of_kind('level')] == [False, False, False, True, True]
    assert torch.allclose(searcher.of_kind('step')[0].alpha, INITIAL - 3 * LOG4) and searcher.best.finite


def test_a_process_that_was_tried_twice_has_its_mean_loss():
    searcher = make(confirmations=0)
    run(searcher, scripted(student=[1.0], kd=[1.0], level=[0.3, 0.6], logits=[0.5], step=[0.9, 0.55, 0.58]),
        lambda trial: torch.ones(KNOTS, PATHWAYS))
    assert searcher.best is searcher.of_kind('logits')[0]  # the level had 0.3 and 0.9


def test_without_references_or_divisions_the_initial_process_is_refined_at_once():
    searcher = make(references={}, max_divisions=0)
    assert run(searcher, lambda trial: 1.0, no_gradient) == ['step', 'step', 'step']
    searcher = make(references={}, has_level=False)
    assert run(searcher, lambda trial: 1.0, no_gradient) == ['step', 'step', 'step']


def test_rprop_goes_down_a_bowl():
    torch.manual_seed(0)
    goal = INITIAL + torch.randn(KNOTS, PATHWAYS)
    goal_loss = lambda trial: 1 + float((trial.alpha - goal).square().sum()) / 100  # noqa: E731
    searcher = make(rounds=12, references={}, max_divisions=0)
    run(searcher, goal_loss, lambda trial: (trial.alpha - goal) / 50)
    losses = [trial.loss - 1 for trial in searcher.of_kind('step')]
    assert min(losses) < 0.1 * losses[0]
    first, second = searcher.of_kind('step')[:2]
    gradient = (first.alpha - goal) / 50
    size = gradient.abs()
    expected = first.alpha - gradient.sign() * 0.7 * size / (size + 0.25 * size.median())
    assert torch.allclose(second.alpha, expected, atol=1e-6)


def test_rprop_takes_half_the_step_back_from_a_trial_that_is_worse():
    gradient = torch.ones(KNOTS, PATHWAYS)
    searcher = make(rounds=4, references={}, max_divisions=0)
    run(searcher, scripted(step=[1.0, 2.0, math.nan, 1.5]), lambda trial: gradient)
    alphas = [trial.alpha for trial in searcher.of_kind('step')]
    assert torch.allclose(alphas[2] - alphas[0], (alphas[1] - alphas[0]) / 2)
    assert torch.allclose(alphas[3] - alphas[0], (alphas[1] - alphas[0]) / 4)


def test_rprop_follows_a_trial_that_is_nearly_as_good_and_differentiates_all_but_the_last():
    searcher, asked = make(rounds=3, references={}, max_divisions=0), []
    run(searcher, scripted(step=[2.0, 2.09, 2.2]),
        lambda trial: asked.append(trial) or torch.ones(KNOTS, PATHWAYS))
    assert len(asked) == 2


def test_a_gradient_that_is_not_finite_is_not_followed():
    searcher = make(rounds=3, references={}, max_divisions=0)
    run(searcher, scripted(step=[1.0, 0.9, 0.8]), lambda trial: torch.full((KNOTS, PATHWAYS), math.nan))
    assert all(torch.equal(trial.alpha, INITIAL) for trial in searcher.of_kind('step'))


def test_a_random_search_draws_for_knots_and_pathways():
    alphas = []
    for seed in (0, 1):
        searcher = make('RandomSearcher', rounds=40, references={}, max_divisions=0, seed=seed)
        run(searcher, lambda trial: 1.0)
        alphas.append(np.stack([(trial.alpha - INITIAL).numpy() for trial in searcher.of_kind('step')]))
    assert 0.8 < np.std(alphas[0]) / 3**0.5 < 1.2 and not np.allclose(*alphas)


@pytest.mark.parametrize('name', ['RandomSearcher', 'CMAESSearcher'])
def test_what_is_switched_off_stays_off(name):
    searcher = make(name, confirmations=0, rounds=8, off=OFF)
    run(searcher, scripted(student=[0.9], kd=[1.0], level=[0.8, 0.85], logits=[0.7, 0.75], step=[0.6] * 8))
    assert all((trial.alpha[:, -1] == OFF).all() for trial in searcher.of_kind('step'))
    assert all((trial.alpha[:, :-1] > OFF).all() for trial in searcher.of_kind('step'))


def test_evolution_goes_where_the_loss_is_low():
    goal = INITIAL.clone()
    goal[0] += 3
    goal[:, 1] -= 3
    searcher = make('CMAESSearcher', rounds=42, references={}, max_divisions=0, guessing=math.inf)
    run(searcher, lambda trial: 3 + float((trial.alpha - goal).square().sum()))
    losses = [trial.loss - 3 for trial in searcher.of_kind('step')]
    assert np.mean(losses[-7:]) < 0.7 * np.mean(losses[:7])


def test_evolution_takes_a_diverged_trial_for_the_worst():
    losses = iter([2.0, math.nan, *[1.0 + 0.1 * place for place in range(12)]])
    searcher = make('CMAESSearcher', rounds=14, references={}, max_divisions=0)
    run(searcher, lambda trial: next(losses))
    assert all(trial.alpha.isfinite().all() for trial in searcher.history)


@pytest.mark.parametrize('name, rounds', [('RpropSearcher', 5), ('RandomSearcher', 5), ('CMAESSearcher', 16)])
def test_a_search_that_is_resumed_anywhere_continues_identically(name, rounds):
    def loss(trial):
        return 1 + float((trial.alpha.clamp(min=-3) - 1.5).square().mean())

    def gradient(trial):
        return (trial.alpha - 1.5) / PATHWAYS

    whole = make(name, rounds=rounds)
    run(whole, loss, gradient)
    for stop in range(1, len(whole.history)):
        begun = make(name, rounds=rounds)
        while len(begun.history) < stop:
            trial = begun.ask()
            found = loss(trial)
            begun.tell(trial, found, gradient(trial) if begun.wants_gradient(trial, found) else None)
        resumed = make(name, rounds=rounds)
        resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
        run(resumed, loss, gradient)
        assert len(resumed.history) == len(whole.history)
        assert all(torch.equal(a.alpha, b.alpha) and a.kind == b.kind for a, b in zip(resumed.history, whole.history))
