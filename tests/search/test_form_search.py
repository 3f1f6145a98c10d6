"""Evolution and tree search over settings: better than random draws, resumed alike, no candidate twice."""
import copy
import itertools
import math

import numpy as np
import pytest

from distpro.errors import ArgumentError, SearchError
from distpro.searching import EvolutionSearcher, GridSearcher, TreeSearcher

CHOICES = {name: list(range(6)) for name in 'abcd'}  # 1296 combinations
GOAL = dict(a=4, b=1, c=3, d=0)


def loss_of(settings):
    """The settings matter by themselves, the first ones most; a share of the candidates diverges."""
    if settings['b'] == 5:
        return math.nan
    return sum(weight * (settings[name] - GOAL[name])**2 for name, weight in zip('abcd', (8, 4, 2, 1)))


def searched(kind, trials=120, told=loss_of, **options):
    searcher = kind(CHOICES, trials, **options)
    while not searcher.finished:
        trial = searcher.ask()
        searcher.tell(trial, told(trial.settings))
    return searcher


def as_tuples(searcher):
    return [tuple(trial.settings.values()) for trial in searcher.history]


@pytest.mark.parametrize('kind', [EvolutionSearcher, TreeSearcher])
def test_it_finds_better_settings_than_random_draws(kind):
    best = {searcher: [searched(searcher, 80, seed=seed).best.loss for seed in range(8)]
            for searcher in (kind, GridSearcher)}
    assert np.mean(best[kind]) < 0.6 * np.mean(best[GridSearcher])


@pytest.mark.parametrize('kind', [EvolutionSearcher, TreeSearcher])
def test_nothing_is_tried_twice_and_all_is_tried_in_the_end(kind):
    choices = dict(a=[1, 2, 3], b=['x', 'y'], c=[True, False])
    searcher, tried = kind(choices, trials=50, reject=lambda settings: settings['a'] == 2 and settings['c']), []
    while not searcher.finished:
        trial = searcher.ask()
        tried.append(tuple(trial.settings.values()))
        searcher.tell(trial, math.nan if trial.settings['b'] == 'x' else float(trial.number))
    everything = {found for found in itertools.product(*choices.values()) if not (found[0] == 2 and found[2])}
    assert len(tried) == len(set(tried)) == 10 and set(tried) == everything


@pytest.mark.parametrize('kind', [EvolutionSearcher, TreeSearcher])
def test_a_resumed_search_continues_alike(kind):
    options = dict(reject=lambda settings: sum(settings.values()) % 3 == 0, seed=5)
    complete = as_tuples(searched(kind, 40, **options))
    assert not any(sum(settings) % 3 == 0 for settings in complete)
    assert complete != as_tuples(searched(kind, 40, **{**options, 'seed': 6}))
    searcher = kind(CHOICES, 40, **options)
    for _ in range(23):
        trial = searcher.ask()
        searcher.tell(trial, loss_of(trial.settings))
    searcher.ask()
    resumed = kind(CHOICES, 40, **options)
    resumed.load_state_dict(copy.deepcopy(searcher.state_dict()))
    while not resumed.finished:
        trial = resumed.ask()
        resumed.tell(trial, loss_of(trial.settings))
    assert as_tuples(resumed) == complete


def test_a_generation_is_open_together_and_told_in_any_order():
    orders = []
    for turn in (1, -1):
        searcher = EvolutionSearcher(CHOICES, 30, population=6, seed=2)
        while not searcher.finished:
            trials = []
            while not searcher.waits and len(searcher.history) + len(searcher.open) < 30:
                trials.append(searcher.ask())
            assert len(trials) == 6
            if len(searcher.history) < 24:
                with pytest.raises(SearchError, match='proposes nothing more before an open trial is told'):
                    searcher.ask()
            for trial in trials[::turn]:
                searcher.tell(trial, loss_of(trial.settings))
        orders.append(as_tuples(searcher))
    assert orders[0] == orders[1]


def test_children_have_the_settings_of_parents_but_for_mutations():
    searcher = searched(EvolutionSearcher, 30, population=10, mutation=0.0, seed=1)
    first = searcher.history[:10]
    parents = sorted((trial for trial in first if math.isfinite(trial.loss)), key=lambda trial: trial.loss)[:2]
    for trial in searcher.history[10:20]:
        assert all(value in [parent.settings[name] for parent in parents] for name, value in trial.settings.items())


def test_a_shrunk_space_has_no_value_that_only_the_worse_half_had():
    def told(settings):
        return math.nan if settings['d'] == CHOICES['d'][0] else loss_of(settings)

    for seed in range(4):
        searcher = searched(EvolutionSearcher, 60, told, population=12, mutation=1.0, shrink=True, seed=seed)
        dropped = 0
        for trial in searcher.history[12:]:
            before = searcher.history[:trial.number // 12 * 12]
            finite = sorted((other for other in before if math.isfinite(other.loss)), key=lambda other: other.loss)
            good = finite[:math.ceil(len(finite) / 2)]
            for name, value in trial.settings.items():
                seen, kept = ({other.settings[name] for other in trials} for trials in (before, good))
                assert value in kept or value not in seen
                dropped += len(seen - kept)
        assert dropped


def test_the_tree_follows_the_rule_of_upper_confidence_bounds():
    """One level: after each value once, the value with the largest mean reward plus the bound."""
    losses = dict(zip(range(4), (0.0, 1.0, 3.0, 4.0)))
    searcher = TreeSearcher(dict(a=list(range(4)), b=list(range(50))), 40, exploration=0.7, seed=3)
    while not searcher.finished:
        trial = searcher.ask()
        if len(searcher.history) >= 4:
            counts = [sum(other.settings['a'] == a for other in searcher.history) for a in range(4)]
            bounds = [(4 - losses[a]) / 4 + 0.7 * math.sqrt(math.log(sum(counts)) / counts[a]) for a in range(4)]
            assert trial.settings['a'] == int(np.argmax(bounds))
        searcher.tell(trial, losses[trial.settings['a']])
    assert sorted(trial.settings['a'] for trial in searcher.history[:4]) == [0, 1, 2, 3]


@pytest.mark.parametrize('kind, options, text', [
    (EvolutionSearcher, dict(choices={}), 'choices='), (EvolutionSearcher, dict(trials=0), 'trials=0 must'),
    (EvolutionSearcher, dict(population=1), 'population=1 must'), (EvolutionSearcher, dict(mutation=2), 'mutation=2 must'),
    (EvolutionSearcher, dict(seed=-1), 'seed=-1 must'),
    (EvolutionSearcher, dict(shrink=2), 'shrink=2'), (TreeSearcher, dict(choices=dict(a=[])), 'choices='),
    (TreeSearcher, dict(trials=1.5), 'trials=1.5 must'), (TreeSearcher, dict(exploration=-1), 'exploration=-1 must'),
    (TreeSearcher, dict(seed=2**32), 'seed=4294967296 must')])
def test_wrong_arguments_are_refused(kind, options, text):
    with pytest.raises(ArgumentError, match=f'^{text}'):
        kind(**{'choices': CHOICES, 'trials': 5, **options})
