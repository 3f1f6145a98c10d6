"""The race between processes that single trainings do not distinguish."""
import math

import numpy as np
import torch

from distpro.searching.searchers.confirmation import Confirmation, Contender
from distpro.searching.searchers.trial import Trial


def race(means, scatter, passes, seed):
    """Winner and number of trials of a race with normally distributed log losses."""
    random = np.random.RandomState(seed)
    losses = [[] for _ in means]
    while True:
        contenders = [Contender(Trial('level', torch.tensor(float(place))), found) for place, found in enumerate(losses)]
        confirmation = Confirmation(contenders, passes)
        if confirmation.asks is None:
            return int(confirmation.winner.trial.alpha), sum(map(len, losses))
        place = int(confirmation.asks.trial.alpha)
        losses[place].append(math.exp(random.normal(means[place], scatter)))


def test_a_clear_race_ends_after_two_passes_and_a_close_one_after_all():
    assert race([0.0, -1.0, 0.5], 1e-3, passes=6, seed=0) == (1, 6)
    assert race([0.0, 0.0], 0.5, passes=4, seed=0)[1] <= 8
    assert sum(race([0.0, 0.0, 0.0], 0.5, passes=4, seed=seed)[1] for seed in range(20)) > 20 * 8


def test_the_better_process_wins_more_often_than_by_a_single_trial():
    won = [race([0.0, -0.7], 0.7, passes=3, seed=seed)[0] for seed in range(400)]
    single = [race([0.0, -0.7], 0.7, passes=1, seed=seed)[0] for seed in range(400)]
    assert abs(np.mean(single) - 0.76) < 0.05  # P(N(0.7, 0.99) > 0)
    assert np.mean(won) > 0.85


def test_one_that_diverged_is_out_after_its_pass():
    def contenders(*losses):
        return [Contender(Trial('level', torch.tensor(float(place))), list(found)) for place, found in enumerate(losses)]

    left = Confirmation(contenders([0.5], [math.nan], [0.6]), 3)
    assert [int(contender.trial.alpha) for contender in left.left] == [0, 2] and int(left.asks.trial.alpha) == 0
    assert Confirmation(contenders([math.nan], [math.nan]), 3).winner is None
    assert int(Confirmation(contenders([0.0, 0.0], [0.5, 0.4]), 2).winner.trial.alpha) == 0
    assert Confirmation(contenders([]), 3).winner is None
