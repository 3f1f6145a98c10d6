"""The tables of a comparison, against numbers computed by hand."""
import csv

import numpy as np
import pytest

from distpro_mm.reporting import budgets_table, choices_table, comparison_table, reach_table, write_csv
from distpro_mm.reporting.table import paired_difference


def result(name, seed, accuracy, budget=1.0, compute=10.0, after=None, tuning=False):
    return dict(name=name, seed=seed, accuracy=accuracy, budget=budget, epochs=int(20 * budget), iterations=120, seconds=5.0,
                compute=compute, after=after, tuning=tuning, settings={})


RESULTS = [result('teacher', 0, 96.0), result('search', 0, 50.0, compute=8.0),
           result('equal', 0, 90.0), result('equal', 1, 92.0), result('equal', 2, 91.0), result('equal', 0, 80.0, 0.5, 5.0),
           result('distpro', 0, 93.0, compute=12.0, after='search'),
           result('distpro', 1, 94.0, compute=14.0, after='search'),
           result('distpro', 2, 92.0, compute=13.0, after='search'), result('distpro', 0, 91.5, 0.5, 6.0, 'search'),
           result('distpro', 0, 99.9, tuning=True)]


def cells(table):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]


def test_mean_spread_paired_difference_and_compute():
    rows = {row[0]: row[1:] for row in cells(comparison_table(RESULTS, ['equal', 'distpro', 'teacher'], 'equal'))}
    assert rows['equal'] == ['91.00 +- 1.00', '', '', '3', '20', '10', '']
    # Differences 3, 2, 1; the mean of three draws from them is 1 with a chance of 1 / 27 > 2.5%: the interval is the range.
    assert rows['distpro'] == ['93.00 +- 1.00', '+2.00', '+1.00 to +3.00', '3', '20', '13', '21']
    assert rows['teacher'] == ['96.00', '', '', '1', '20', '10', '']


def test_the_bootstrap_interval_is_that_of_the_mean():
    differences = np.random.RandomState(1).randn(200) + 0.5
    mean, lower, upper = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(200), 0.0))
    assert mean == pytest.approx(differences.mean())
    assert [lower, upper] == pytest.approx(mean + np.array([-1.96, 1.96]) * differences.std() / np.sqrt(200), abs=0.01)
    assert np.isnan(paired_difference({0: 1.0}, {0: 0.0})[1]) and paired_difference({0: 1.0}, {1: 0.0}) is None


def test_only_runs_of_one_seed_are_paired():
    table = comparison_table(RESULTS[2:7] + [result('distpro', 9, 10.0)], ['equal', 'distpro'], 'equal')
    assert cells(table)[-1][2] == '+3.00'  # seed 0 alone; seed 9 has no partner


def test_methods_without_results_are_left_out():
    table = comparison_table(RESULTS, ['student', 'equal'], 'equal')
    assert [row[0] for row in cells(table)[2:]] == ['equal']


def test_budgets_and_what_reaches_a_rival():
    table = budgets_table(RESULTS, ['equal', 'distpro'])
    assert cells(table)[2:] == [['equal', '80.00', '91.00'], ['distpro', '91.50', '93.00']]
    # Half the epochs reach 91: 6 s and the search's 8 s, against the rival's 10 s.
    row = cells(reach_table(RESULTS, ['distpro'], ['equal']))[-1]
    assert row == ['equal', '91.00', '50% of the epochs, 1.40 x the compute']
    assert cells(reach_table(RESULTS, ['equal'], ['distpro']))[-1][2] == 'not reached'


def test_choices_say_what_was_tried():
    table = choices_table([dict(method='kd', settings={'a.b': 1}, accuracy=50.0, chosen=False, note='added'),
                           dict(method='kd', settings={'a.b': 0.05 * 3}, accuracy=51.0, chosen=True, note='')])
    assert cells(table)[2:] == [['kd', 'a.b = 1', '50.00', '', 'added'], ['kd', 'a.b = 0.15', '51.00', 'yes', '']]


def test_the_best_epoch_stands_beside_the_last_where_every_run_has_one():
    results = [dict(result('equal', seed, 70.0 + seed), best=72.0 + seed) for seed in (0, 1)]
    results += [dict(result('kd', 0, 60.0), best=65.0), dict(result('kd', 1, 61.0), best=None)]
    rows = cells(comparison_table(results, ['equal', 'kd'], 'equal'))
    assert rows[0][1:4] == ['top-1 (%)', 'best epoch (%)', 'against equal']
    assert [row[2] for row in rows[2:]] == ['72.50', ''] and rows[3][3] == '-10.00', 'differences are of the last epoch'
    assert 'best epoch (%)' not in comparison_table(RESULTS, ['equal'], 'equal')


def test_csv_holds_every_run(tmp_path):
    path = str(tmp_path / 'results.csv')
    write_csv(RESULTS, path)
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['name'], int(row['seed']), float(row['accuracy'])) for row in rows] == [
        (r['name'], r['seed'], r['accuracy']) for r in RESULTS]
