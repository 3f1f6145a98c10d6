"""The table of a comparison, against numbers worked out by hand."""
import csv

from distpro_mm.reporting import comparison_table, write_csv


def result(name, seed, accuracy, seconds=10.0):
    return dict(name=name, seed=seed, accuracy=accuracy, epochs=20, iterations=120, seconds=seconds)


RESULTS = [result('teacher', 0, 96.0), result('equal', 0, 90.0), result('equal', 1, 92.0), result('equal', 2, 91.0),
           result('distpro', 0, 93.0, 12.0), result('distpro', 1, 94.0, 14.0), result('distpro', 2, 92.0, 13.0)]


def cells(table):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]


def test_mean_spread_and_paired_difference():
    # equal: mean 91, standard deviation 1; distpro - equal = 3, 2, 1: mean 2, standard error 1 / sqrt(3).
    rows = {row[0]: row[1:] for row in cells(comparison_table(RESULTS, ['equal', 'distpro', 'teacher'], 'equal'))}
    assert rows['equal'] == ['91.00 +- 1.00', '', '3', '20', '10.0']
    assert rows['distpro'] == ['93.00 +- 1.00', '+2.00 +- 0.58', '3', '20', '13.0']
    assert rows['teacher'] == ['96.00', '', '1', '20', '10.0']


def test_only_runs_of_one_seed_are_paired():
    table = comparison_table(RESULTS[1:5] + [result('distpro', 9, 10.0)], ['equal', 'distpro'], 'equal')
    assert cells(table)[-1][2] == '+3.00'  # seed 0 alone; seed 9 has no partner


def test_methods_without_results_are_left_out():
    table = comparison_table(RESULTS, ['student', 'equal'], 'equal')
    assert [row[0] for row in cells(table)[2:]] == ['equal']


def test_csv_holds_every_run(tmp_path):
    path = str(tmp_path / 'results.csv')
    write_csv(RESULTS, path)
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['name'], int(row['seed']), float(row['accuracy'])) for row in rows] == [
        (r['name'], r['seed'], r['accuracy']) for r in RESULTS]
