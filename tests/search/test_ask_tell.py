"""Searches with several open trials, whose losses are functions of a few numbers or categories."""
import copy
import itertools
import math
import random

import pytest
import torch

from distpro.errors import ArgumentError, SearchError
from distpro.searching import SEARCHERS, GridSearcher, Searcher, Trial
from distpro.weighting import OFF

KNOTS, PATHWAYS = 3, 4
INITIAL = torch.full((KNOTS, PATHWAYS), 3.0)
STUDENT = torch.full((KNOTS, PATHWAYS), OFF)
KD = STUDENT.clone()
KD[:, -1] = 0
SEARCHES = {'RpropSearcher': 6, 'RandomSearcher': 9, 'CMAESSearcher': 17}  # refinements, of two generations and a part
CHOICES = dict(tau=[1, 2, 4], loss=['kl', 'dkd'], before_activation=[True, False])


class BestSoFarSearcher(Searcher):
    """A strategy of a user, whose next trial depends on all before."""

    def refine(self, step):
        return self.shift(self.best_alpha, torch.full_like(self.best_alpha, -0.1))


def make(kind, **kwargs):
    kind = SEARCHERS.get(kind, kind)
    arguments = dict(references=dict(student=STUDENT, kd=KD), rounds=SEARCHES.get(kind.__name__, 4),
                     logits=[PATHWAYS - 1], guessing=30.0, seed=5)
    return kind(INITIAL, **{**arguments, **kwargs})


def loss_of(trial):
    return 1 + float((trial.alpha.clamp(min=-3) - 1.5).square().mean())


def tell(searcher, trial, loss=None):
    loss = loss_of(trial) if loss is None else loss
    gradient = (trial.alpha - 1.5) / PATHWAYS if searcher.wants_gradient(trial, loss) else None
    searcher.tell(trial, loss, *(() if gradient is None else (gradient, )))


def one_by_one(searcher):
    while not searcher.finished:
        tell(searcher, searcher.ask())
    return searcher


def several_at_a_time(searcher, most=math.inf, until=math.inf):
    """Ask for all trials that are given out, at most ``most``, and report one at random. Returns the numbers open."""
    counts = []
    while not searcher.finished and len(searcher.history) < until:
        while not searcher.waits and len(searcher.open) < most and searcher.ask() is not None:
            pass
        counts.append((len(searcher.open), searcher.open[0].kind))
        tell(searcher, random.choice(searcher.open))
    return counts


def same(one, other):
    assert [trial.number for trial in one.history] == list(range(len(one.history)))
    assert [(t.number, t.kind, t.loss, t.confirms) for t in one.history] == [
        (t.number, t.kind, t.loss, t.confirms) for t in other.history]
    return all(torch.equal(mine.alpha, theirs.alpha) for mine, theirs in zip(one.history, other.history))


@pytest.mark.parametrize('kind', [*SEARCHES, BestSoFarSearcher])
@pytest.mark.parametrize('most', [2, math.inf])
def test_the_order_in_which_trials_are_told_changes_nothing(kind, most):
    together = make(kind)
    several_at_a_time(together, most)
    assert same(together, one_by_one(make(kind))) and together.best.number == one_by_one(make(kind)).best.number


@pytest.mark.parametrize('kind, parallel', [
    ('RpropSearcher', 1), (BestSoFarSearcher, 1), ('CMAESSearcher', 7), ('RandomSearcher', math.inf)])
def test_as_many_refinements_are_open_as_the_strategy_says(kind, parallel):
    searcher = make(kind)
    assert searcher.parallel == parallel
    counts = several_at_a_time(searcher)
    assert max(count for count, kind in counts if kind == 'step') == min(parallel, searcher.rounds)
    assert counts[0] == (3, 'student'), 'both references and the first level depend on nothing'


@pytest.mark.parametrize('kind', ['RpropSearcher', 'CMAESSearcher'])
def test_a_trial_that_depends_on_an_open_one_is_not_given_out(kind):
    searcher = make(kind, references={}, max_divisions=0)
    asked = [searcher.ask() for _ in range(searcher.parallel)]
    assert searcher.waits and not searcher.finished
    with pytest.raises(SearchError, match=f'^{kind} proposes nothing more before an open trial is told: of '
                                          f'{searcher.parallel} open, number 0 is the first'):
        searcher.ask()
    assert searcher.open == asked
    for trial in asked[::-1]:
        tell(searcher, trial)
    assert not searcher.waits and searcher.ask().number == searcher.parallel


def test_a_trial_is_told_once():
    searcher = make('RandomSearcher')
    trial = searcher.ask()
    tell(searcher, trial)
    searcher.ask()
    for wrong in (trial, Trial('step', INITIAL, number=9)):
        with pytest.raises(ArgumentError, match=rf'^trial: number {wrong.number} is not open; open are \[1\]'):
            searcher.tell(wrong, 1.0)


@pytest.mark.parametrize('kind', [*SEARCHES, BestSoFarSearcher])
def test_open_trials_are_given_out_again_by_a_search_that_is_resumed(kind):
    whole = one_by_one(make(kind))
    for stop in range(len(whole.history)):
        begun = make(kind)
        several_at_a_time(begun, until=stop)
        while not begun.waits and begun.ask() is not None:
            pass
        resumed = make(kind)
        resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
        assert not resumed.finished
        again = [resumed.ask() for _ in begun.open]
        assert [trial.number for trial in again] == [trial.number for trial in begun.open]
        assert all(torch.equal(mine.alpha, theirs.alpha) for mine, theirs in zip(again, begun.open))
        if again:
            tell(resumed, begun.open[-1])  # by a process that has survived
            assert again[-1].number not in [trial.number for trial in resumed.open]
        several_at_a_time(resumed)
        assert same(resumed, whole)


def test_a_trial_that_diverges_is_the_worst_in_any_order():
    def loss(trial):
        return math.nan if trial.number % 5 == 3 else loss_of(trial)

    histories = []
    for order in (0, -1):
        searcher = make('CMAESSearcher', references={}, max_divisions=0)
        while not searcher.finished:
            while not searcher.waits and searcher.ask() is not None:
                pass
            trial = searcher.open[order]
            tell(searcher, trial, loss(trial))
        histories.append([trial.alpha for trial in searcher.history])
    assert all(map(torch.equal, *histories)) and torch.stack(histories[0]).isfinite().all()


def accuracy_like(tau, loss, before_activation):
    """A function of categories whose lowest value is known."""
    return dict(kl=1.0, dkd=0.8)[loss] + abs(tau - 2) + 0.3 * before_activation


def test_a_grid_tries_every_combination_once_and_finds_the_best():
    searcher = GridSearcher(CHOICES)
    asked = [searcher.ask() for _ in range(12)]
    assert not searcher.finished and searcher.waits
    assert [tuple(trial.settings.values()) for trial in asked] == list(itertools.product(*CHOICES.values()))
    random.shuffle(asked)
    for trial in asked:
        searcher.tell(trial, accuracy_like(**trial.settings))
    assert searcher.finished and searcher.ask() is None
    assert searcher.best.settings == dict(tau=2, loss='dkd', before_activation=False) and searcher.best.loss == 0.8


def test_some_combinations_are_drawn_without_repetition():
    drawn = {seed: [tuple(GridSearcher(CHOICES, 5, seed).propose().settings.values())] for seed in range(20)}
    assert len({settings[0] for settings in drawn.values()}) > 4, 'another seed draws others'
    searcher = GridSearcher(CHOICES, trials=7, seed=3)
    settings = [tuple(searcher.ask().settings.values()) for _ in range(7)]
    assert len(set(settings)) == 7 and set(settings) <= set(itertools.product(*CHOICES.values())) and searcher.waits
    resumed = GridSearcher(CHOICES, trials=7, seed=3)
    resumed.load_state_dict(copy.deepcopy(searcher.state_dict()))
    assert [tuple(resumed.ask().settings.values()) for _ in range(7)] == settings
    for trial in searcher.open:
        resumed.tell(trial, math.nan)
    assert resumed.finished and resumed.best is None


@pytest.mark.parametrize('arguments, message', [
    (dict(choices={}), r'^choices=\{\} must be a dict of lists'),
    (dict(choices=['kl']), '^choices=.* must be a dict of lists'),
    (dict(choices=dict(tau=[])), '^choices=.* must be a dict of lists'),
    (dict(choices=dict(loss='kl')), '^choices=.* must be a dict of lists'),
    (dict(trials=0), '^trials=0 must be a whole number from 1 to 12'),
    (dict(trials=13), '^trials=13 must be a whole number from 1 to 12'),
    (dict(seed=-1), '^seed=-1 must be a whole number from 0')])
def test_wrong_arguments_of_a_grid_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        GridSearcher(**{'choices': CHOICES, **arguments})
