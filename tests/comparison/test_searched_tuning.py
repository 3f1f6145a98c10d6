"""Settings of a method that a search chooses from the lists of its grid."""
import itertools

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from distpro_mm.comparison.benchmark import Benchmark
from distpro_mm.comparison.grid import check_grid, with_lists
from distpro_mm.comparison.jobs import JobMaker
from distpro_mm.comparison.searched_tuning import SearchedTuning, check_searcher, problem_of_form
from distpro_mm.errors import ConfigError

GRID = check_grid({'loss.weight': [1, 3, 9], 'loss.names.1': ['a', 'b', 'c'], 'layers': [[(-1, -1)], [(-2, -2)]]}, 'grid')
FORMS = 'configs/benchmarks/forms.py'


def search(searcher, accuracy, config=lambda settings: Config(dict(model={}))):
    """A finished tuning, and what it tried in order."""
    tuning, trained = SearchedTuning('form', GRID, searcher, config), []
    while wanted := tuning.wanted():
        assert tuning.chosen == {}, 'nothing is chosen before the end'
        for settings in reversed(wanted):  # the order of the results does not matter
            trained.append(settings)
            tuning.tell(settings, accuracy(settings))
    return tuning, trained


def score(settings):
    return 10 * settings['loss.weight'] - (settings['loss.names.1'] != 'b') + settings['layers'][0][0] / 2


@pytest.mark.parametrize('kind', ['EvolutionSearcher', 'TreeSearcher', 'GridSearcher'])
def test_a_search_finds_the_best_settings_and_lists_what_it_tried(kind):
    tuning, trained = search(dict(type=kind, trials=18), score)
    everything = [dict(zip(GRID, values)) for values in itertools.product(*(entry['values'] for entry in GRID.values()))]
    assert len(trained) == 18 and all(trained.count(settings) == 1 for settings in everything)
    assert tuning.chosen == max(everything, key=score)
    assert [row['settings'] for row in tuning.tried if row['chosen']] == [tuning.chosen]
    assert {row['accuracy'] for row in tuning.tried} == {float(score(settings)) for settings in everything}


def test_evolution_has_a_generation_at_a_time_and_a_tree_one():
    evolution = SearchedTuning('form', GRID, dict(type='EvolutionSearcher', trials=9, population=4), lambda settings: None)
    evolution._searcher.reject = None
    first = evolution.wanted()
    assert len(first) == 4 and evolution.wanted() == first, 'asking again gives the same'
    tree = SearchedTuning('form', GRID, dict(type='TreeSearcher', trials=9), lambda settings: Config(dict(model={})))
    assert len(tree.wanted()) == 1


def test_failed_settings_are_not_chosen_and_a_search_where_all_fail_chooses_nothing():
    def failing(settings):
        return float('-inf') if settings['loss.weight'] == 9 else score(settings)

    tuning, _ = search(dict(type='TreeSearcher', trials=18), failing)
    assert tuning.chosen['loss.weight'] == 3
    nothing, trained = search(dict(type='EvolutionSearcher', trials=5), lambda settings: float('-inf'))
    assert nothing.chosen == {} and len(trained) == 5 and not any(row['chosen'] for row in nothing.tried)


def test_forms_that_cannot_train_a_student_are_not_tried():
    init_default_scope('mmpretrain')  # as after the initial students of a comparison

    def config(settings):
        transformations = ['none', 'square', 'square', 'exp'] if settings['loss.weight'] == 3 else ['none']
        return Config(dict(model=dict(distiller=dict(loss=dict(type='FormLoss', transformations=transformations)))))

    assert problem_of_form(config({'loss.weight': 3})) == 'explodes'
    assert problem_of_form(config({'loss.weight': 1})) is None
    assert problem_of_form(Config(dict(model=dict(distiller=dict(loss=dict(type='L2Loss')))))) is None
    for kind in ('EvolutionSearcher', 'TreeSearcher'):
        _, trained = search(dict(type=kind, trials=18), score, config)
        assert len(trained) > 9 and not any(settings['loss.weight'] == 3 for settings in trained)


def test_an_entry_of_a_list_is_replaced_and_the_others_stay():
    cfg = Config(dict(loss=dict(names=['x', 'y', 'z'], weight=1), hooks=[dict(share=0)]))
    options = {'loss.names.1': 'b', 'loss.names.0': 'a', 'hooks.0.share': 2, 'loss.weight': 3, 'loss.names.7': 'c'}
    found = with_lists(cfg, options)
    assert found == {'loss.names': ['a', 'b', 'z'], 'hooks.0.share': 2, 'loss.weight': 3, 'loss.names.7': 'c'}
    assert cfg.loss.names == ['x', 'y', 'z']


@pytest.mark.parametrize('searcher, grid, message', [
    ('TreeSearcher', GRID, 'must be a dict such as'),
    (dict(type='TreeSearch', trials=3), GRID, r'searcher\.type.*nearest: TreeSearcher'),
    (dict(type='TreeSearcher'), GRID, 'lacks trials'),
    (dict(type='TreeSearcher', trials=0), GRID, 'trials=0'),
    (dict(type='TreeSearcher', trials=3, mutation=1), GRID, "no argument 'mutation'"),
    (dict(type='TreeSearcher', trials=3, choices={}), GRID, 'choices, which the comparison sets itself'),
    (dict(type='TreeSearcher', trials=3), {}, 'needs a grid that is a dict of lists'),
    (dict(type='TreeSearcher', trials=3), check_grid({'lr': dict(factors=[1, 3])}, 'grid'), 'dict of lists of values'),
    (dict(type='TreeSearcher', trials=3), [dict(lr=1)], 'dict of lists of values')])
def test_a_wrong_searcher_is_refused_by_the_name_of_its_method(searcher, grid, message):
    with pytest.raises(ConfigError, match=f"methods: 'form': .*{message}|methods: 'form'.*{message}"):
        check_searcher(searcher, grid, "benchmark.methods: 'form'")


def test_the_shipped_benchmark_makes_trials_of_forms(tmp_path, teacher_file):
    benchmark = Benchmark(FORMS, str(tmp_path), teacher_file, ['form_tree'])
    maker, method = JobMaker(benchmark), benchmark.methods['form_tree']
    tuning = SearchedTuning(method.name, method.grid, method.searcher, lambda settings: maker.config(method, settings))
    settings, = tuning.wanted()
    job = maker.trial(method, settings, 100)
    loss = job.config.model.distiller.loss
    assert loss.transformations == [settings[f'model.distiller.loss.transformations.{place}'] for place in range(3)]
    assert loss.distance == settings['model.distiller.loss.distance'] and job.tuning and job.budget == 0.3


@pytest.fixture()
def teacher_file(tmp_path):
    file = tmp_path / 'teacher.pth'
    file.touch()
    return str(file)
