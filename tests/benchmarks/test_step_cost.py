"""The benchmark of step costs runs on a small pair and writes all its files."""
import csv
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'step_cost.py'


@pytest.mark.slow
def test_writes_figures_of_every_variant(tmp_path):
    subprocess.run([sys.executable, SCRIPT, '--teacher', 'resnet8', '--student', 'resnet8', '--batch', '8', '--rounds', '1',
                    '--out', tmp_path], check=True, timeout=280)
    rows = list(csv.DictReader(open(tmp_path / 'step_cost.csv')))
    steps = {row['variant']: row for row in rows if row['section'] == 'step'}
    assert len(steps) == 10 and all(float(row['seconds']) > 0 and float(row['peak_mb']) > 1 for row in steps.values())
    assert float(steps['replay, 6 of 10 skipped']['peak_mb']) < float(steps['replay, none skipped']['peak_mb'])
    assert [row['section'] for row in rows].count('growth 40') == 2
    assert (tmp_path / 'step_cost.png').stat().st_size > 10000
    assert 'resnet8 teaches resnet8' in (tmp_path / 'step_cost.md').read_text()


@pytest.mark.slow
def test_writes_the_price_of_a_step(tmp_path):
    script = SCRIPT.with_name('step_price.py')
    subprocess.run([sys.executable, script, '--rehearse', '--out', tmp_path], check=True, timeout=280)
    rows = {row['variant']: row for row in csv.DictReader(open(tmp_path / 'step_price.csv')) if row['side'] == '16'}
    assert len(rows) == 9 and rows["plain KD (mmrazor's)"]['ratio'] == '1.0'
    maps, covariances = (float(rows[f'pathways from {way}, plain teacher']['peak_mb']) for way in ('maps', 'covariances'))
    assert covariances < maps
