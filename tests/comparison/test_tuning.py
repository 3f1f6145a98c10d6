"""The choice of settings: one axis after the other, continued where the best value is at an edge."""
import itertools
import math

import pytest
from mmengine.config import Config

from distpro_mm.comparison.grid import axes_of, beyond, check_grid
from distpro_mm.comparison.scheduler import _short_names
from distpro_mm.comparison.tuning import Tuning
from distpro_mm.errors import ConfigError

CFG = Config(dict(loss=dict(weight=3.0, name='kl'), head=dict(weight=0.1), lr=0.2, hooks=[dict(share=0.0)]))


def tune(grid, accuracy, widen=4):
    """The tuning of a grid with that accuracy of (all keys of) the settings, and the settings that were trained in order."""
    tuning, trained = Tuning('kd', axes_of(check_grid(grid, 'grid'), CFG, 'grid'), widen), []
    while wanted := tuning.wanted():
        for settings in wanted:
            assert settings not in trained, 'nothing is trained twice'
            trained.append(settings)
            tuning.tell(settings, accuracy({'loss.weight': 3.0, 'head.weight': 0.1, 'lr': 0.2, **settings}))
    return tuning, trained


def bump(**peaks):
    """An accuracy that falls with the distance of the logarithms from the peaks."""
    peaks = {key.replace('__', '.'): value for key, value in peaks.items()}
    return lambda settings: 50 - sum(abs(math.log(settings[key] / peak)) for key, peak in peaks.items())


def test_an_interior_best_value_needs_no_further_trials():
    tuning, trained = tune({'loss.weight': [1, 3, 9]}, bump(loss__weight=3))
    assert tuning.chosen == {'loss.weight': 3} and len(trained) == 3
    assert [(row['chosen'], row['note']) for row in tuning.tried] == [(False, ''), (True, ''), (False, '')]


@pytest.mark.parametrize('peak, added', [(81, [27, 81, 243]), (1 / 9, [1 / 3, 1 / 9, 1 / 27])])
def test_an_axis_is_continued_until_the_best_value_is_inside(peak, added):
    tuning, trained = tune({'loss.weight': [1, 3, 9]}, bump(loss__weight=peak))
    assert tuning.chosen['loss.weight'] == pytest.approx(peak, rel=1e-5)
    assert [settings['loss.weight'] for settings in trained[3:]] == pytest.approx(added, rel=1e-5)
    values = [row['settings']['loss.weight'] for row in tuning.tried]
    assert values == sorted(values), 'the table has the values in order'
    assert [row['note'] for row in tuning.tried].count('added') == 3
    assert not any('edge' in row['note'] for row in tuning.tried)


@pytest.mark.parametrize('widen', [0, 2])
def test_the_number_of_added_values_is_bounded_and_the_table_says_so(widen):
    tuning, trained = tune({'loss.weight': [1, 3, 9]}, bump(loss__weight=1e9), widen)
    assert len(trained) == 3 + widen and tuning.chosen == {'loss.weight': 9 * 3**widen}
    assert tuning.tried[-1]['note'].endswith(f'still at the edge after {widen} more') and tuning.tried[-1]['chosen']


def test_keys_are_tuned_in_order_and_the_configs_own_value_is_not_trained_again():
    grid = {'loss.weight': [1, 3, 9], 'head.weight': [0.1, 0.3, 1], 'lr': dict(factors=[1 / 3, 1, 3])}
    tuning, trained = tune(grid, bump(loss__weight=3, head__weight=0.3, lr=0.2))
    assert tuning.chosen == {'loss.weight': 3, 'head.weight': 0.3}, "the learning rate is the config's"
    assert trained[:3] == [{'loss.weight': 1}, {'loss.weight': 3}, {'loss.weight': 9}]
    assert trained[3:5] == [{'loss.weight': 3, 'head.weight': 0.3}, {'loss.weight': 3, 'head.weight': 1}]
    assert [settings['lr'] for settings in trained[5:]] == pytest.approx([0.2 / 3, 0.6])
    assert all(settings['head.weight'] == 0.3 for settings in trained[5:]), 'what was chosen before holds'
    shown = [row['settings'] for row in tuning.tried]
    assert shown[3] == {'loss.weight': 3, 'head.weight': 0.1} and shown[7]['lr'] == 0.2, 'the table shows it nonetheless'
    assert len(trained) == 7 and len(shown) == 9


def test_the_choice_is_that_of_all_combinations_if_the_keys_do_not_interact():
    grid = {'loss.weight': [1, 3, 9, 27], 'head.weight': [0.1, 0.3, 1]}
    for peaks in itertools.product(grid['loss.weight'], grid['head.weight']):
        accuracy = bump(loss__weight=peaks[0], head__weight=peaks[1])
        tuning, _ = tune(grid, accuracy, widen=0)
        full = {'head.weight': 0.1, **tuning.chosen}
        assert (full['loss.weight'], full['head.weight']) == peaks


def test_of_equal_values_the_one_nearest_to_the_middle_is_chosen():
    tuning, trained = tune({'loss.weight': [1, 3, 9]}, lambda settings: 10.0)
    assert tuning.chosen == {'loss.weight': 3} and len(trained) == 3


def test_a_value_that_fails_is_not_chosen():
    tuning, _ = tune({'loss.weight': [1, 3, 9]}, lambda s: -math.inf if s['loss.weight'] > 9 else s['loss.weight'])
    assert tuning.chosen == {'loss.weight': 9} and tuning.tried[-1]['accuracy'] == -math.inf


def test_a_single_value_is_taken_without_a_trial():
    tuning, trained = tune({'loss.weight': [9], 'head.weight': [0.1, 0.3, 1]}, bump(head__weight=0.3))
    assert tuning.chosen == {'loss.weight': 9, 'head.weight': 0.3} and len(trained) == 3
    assert tune({}, None)[0].chosen == {}


def test_a_list_of_settings_is_one_axis():
    grid = [{'loss.weight': 1 * f, 'head.weight': 2 * f} for f in (1, 3)]
    tuning, trained = tune(grid, bump(head__weight=18, loss__weight=9))
    assert tuning.chosen == {'loss.weight': 9, 'head.weight': 18} and len(trained) == 4


def test_values_are_in_order_whatever_the_config_says():
    tuning, trained = tune({'loss.weight': [9, 1, 3]}, bump(loss__weight=3))
    assert len(trained) == 3 and tuning.chosen == {'loss.weight': 3}


def test_beyond_an_edge_numbers_continue_with_their_ratio():
    assert beyond([dict(a=1), dict(a=3)], True) == dict(a=9)
    assert beyond([dict(a=1), dict(a=4)], False) == dict(a=0.25)
    assert beyond([dict(a=[3, 17, 100]), dict(a=[3, 34, 300])], True) == dict(a=[3, 68, 900])
    assert beyond([dict(a=[1, 2], b=5), dict(a=[2, 4], b=5)], True) == dict(a=[4, 8], b=5)
    assert beyond([dict(a=0.3), dict(a=0.9)], True, (0, 1)) == dict(a=1)
    for settings, upper, limits in (
            ([dict(a=1)], True, None), ([dict(a=0), dict(a=1)], False, None), ([dict(a=0), dict(a=1)], True, None),
            ([dict(a=-1), dict(a=-2)], True, None), ([dict(a='x'), dict(a='y')], True, None),
            ([dict(a=True), dict(a=False)], True, None), ([dict(a=[1]), dict(a=[1, 2])], True, None),
            ([dict(a=0.3), dict(a=1)], True, (0, 1))):
        assert beyond(settings, upper, limits) is None


def test_an_edge_that_has_no_next_value_is_named():
    tuning, trained = tune({'hooks.0.share': dict(values=[0, 0.5, 1], limits=(0, 1))}, lambda s: s['hooks.0.share'])
    assert len(trained) == 3 and tuning.tried[-1]['note'] == 'at the edge, which has no next value'


@pytest.mark.parametrize('grid, message', [
    ({'loss.weight': dict(values=[1], factors=[1])}, "grid: 'loss.weight' has .*'factors', 'values'.*; give a list"),
    ({'loss.weight': dict(factor=[1])}, "grid: 'loss.weight' has .*'factor'"),
    ({'loss.weight': []}, r"grid: 'loss.weight' has \[\]; give a list with at least one value"),
    ({'loss.weight': 3}, "grid: 'loss.weight' has 3; give a list"),
    ({'loss.weight': dict(values=[1, 2], limits=(1, 0))}, r"has limits=\(1, 0\), which must be two increasing"),
    ({'loss.weight': dict(factors=['a'])}, r"'loss.weight' has factors=\['a'\], which must be numbers"),
    ({'loss.name': dict(factors=[1, 3])}, "'loss.name' has factors, and the config has 'kl' there"),
    ({'loss.wieght': dict(factors=[1, 3])}, "'loss.wieght' has factors, and the config has None there"),
])
def test_a_grid_that_cannot_be_tried_is_refused(grid, message):
    with pytest.raises(ConfigError, match=message):
        axes_of(check_grid(grid, 'grid'), CFG, 'grid')


def test_a_trial_is_named_by_the_ends_of_its_keys_that_differ():
    assert _short_names(['model.distiller.loss.loss_weight', 'optimizer.lr']) == {
        'model.distiller.loss.loss_weight': 'loss_weight', 'optimizer.lr': 'lr'}
    assert list(_short_names(['a.kl.loss_weight', 'a.head.loss.loss_weight', 'warm_up', 'hooks.0.warm_up']).values()) == [
        'kl.loss_weight', 'loss.loss_weight', 'warm_up', '0.warm_up']
