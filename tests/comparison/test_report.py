"""The report of a comparison, as tools/compare.py leaves it."""
import json
import os
import pathlib
import re
import runpy
import sys

import pytest

from distpro_mm.reporting.report import write_report

pytest.importorskip('plotly')
ROOT = pathlib.Path(__file__).parents[2]


def test_the_tool_leaves_a_report_of_all_methods_and_links_to_the_runs(done, monkeypatch, capfd):
    monkeypatch.setattr(sys, 'argv', ['compare.py', 'small.py', '--work-dir', 'work', '--jobs', '1'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / 'tools' / 'compare.py'), run_name='__main__')
    assert not ended.value.code and f'report: {os.path.join("work", "report.html")}' in capfd.readouterr().out
    page = (done.path / 'work' / 'report.html').read_text()
    links = re.findall(r'<a href="([^#"]+)">report</a>', page)
    assert sorted(links) == sorted(['teacher/report.html', 'search/seed_0/report.html', *(
        f'{name}/seed_{seed}/report.html' for name in ('student', 'kd', 'distpro') for seed in (0, 1))])
    assert all((done.path / 'work' / link).is_file() for link in links)
    found = json.loads((done.path / 'work' / 'comparison.json').read_text())
    by_name = {(run['name'], run['seed']): run['accuracy'] for run in found['results']}
    mean = (by_name['kd', 0] + by_name['kd', 1]) / 2
    assert re.search(rf'>kd</th>\s*<td class="number" data-value="{mean!r}">{mean:.2f}</td>', page)
    assert 'benchmark = dict(' in page and found['failed'] == 0
    again = write_report(str(done.path / 'work'))
    assert again.endswith('report.html') and not list((done.path / 'work' / 'kd').rglob('*replayed*'))


def test_trials_of_settings_have_no_report(done):
    path = done.write(("kd='kd.py'", "kd=dict(config='kd.py', grid={'optim_wrapper.optimizer.lr': [0.05, 0.01]})"),
                      ('seeds=[0, 1]', 'seeds=[0], tuning=dict(ratio=0.2, seeds=[100], budget=0.5, widen=0)'))
    assert done.run(path, only=['kd']).failed == 0
    assert list((done.path / 'work' / 'tuning').rglob('result.json'))
    assert not list((done.path / 'work' / 'tuning').rglob('report.html'))
