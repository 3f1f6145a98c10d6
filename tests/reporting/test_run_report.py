"""The report of a training, written and read as a user does."""
import html.parser
import json
import pathlib
import re

import numpy as np
import pytest
import torch
from runs import written_process

from distpro.pathways.cost import OPERATIONS_A_NUMBER, forward_cost
from distpro.process import load_process, map_process
from distpro_mm.engine.hooks import ReportHook, report_hook
from distpro_mm.engine.launch import build_trainer
from distpro_mm.models.cost import teacher_cost
from distpro_mm.reporting import page
from distpro_mm.reporting.report import write_report
from distpro_mm.reporting.words import parse_name

pytest.importorskip('plotly')
PAIR = ['--pair', 'resnet20_resnet8-half_digits']
SMALL = ['train_cfg.max_epochs=2', 'train_dataloader.dataset.dataset.images_per_class=10', 'train_dataloader.batch_size=20',
         'model.teacher_ckpt=None', 'train_cfg.val_interval=1', 'val_dataloader.dataset.dataset.indices=100']


class Page(html.parser.HTMLParser):
    """The parts of a report that a program can read: text, figures, tables, and what would be loaded."""

    def __init__(self, path):
        super().__init__()
        self.text, self.figures, self.maps, self.rows, self.loads = '', [], [], [], []
        self._script = None
        self.feed(pathlib.Path(path).read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._script = given if tag == 'script' else None
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th') and self.rows:
            self.rows[-1].append('')
        self.loads += [given[name] for name in ('src', 'href', 'action') if not given.get(name, '#').startswith('#')]

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.text += data
            if self.rows and self.rows[-1]:
                self.rows[-1][-1] += data.strip()
        elif 'data-chart' in self._script:
            self.figures.append(json.loads(data))
        elif 'data-map' in self._script:
            self.maps.append(json.loads(data))


def test_a_distillation_leaves_a_report_of_what_was_trained(tmp_path, tool):
    folder = tmp_path / 'run & <b>more</b>'
    done = tool('train', 'configs/distpro/distill.py', *PAIR, '--work-dir', folder, '--cfg-options', *SMALL)
    assert done.returncode == 0 and f'The report is in {folder}/report.html' in done.stdout + done.stderr
    found = Page(folder / 'report.html')
    assert found.loads == [], 'nothing is loaded from elsewhere'
    assert 'Distillation: ' in found.text and 'run & <b>more</b>' in found.text and 'process: general' in found.text
    logged = [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    accuracy, losses, curves, *_ = found.figures
    assert accuracy['data'][0]['y'] == [line['accuracy/top1'] for line in logged if 'accuracy/top1' in line]
    assert accuracy['data'][0]['x'] == [5, 10]
    assert losses['data'][0]['name'] == 'total' and losses['data'][0]['y'] == [
        line['loss'] for line in logged if 'loss' in line]
    replayed = load_process(str(folder / 'replayed.json'))
    names, iterations = replayed.names, np.arange(10) / 9
    general = map_process(load_process('general'), names, replayed.layers)
    assert np.allclose(replayed.weights_at(iterations), general.weights_at(iterations))  # the report interpolates between
    for trace in curves['data']:
        name = next(place for place, name in enumerate(names) if str(parse_name(name)) == trace['text'])
        assert [trace['y'][0], trace['y'][-1]] == pytest.approx(general.weights_at([0, 1])[:, name], rel=1e-3)
    table = {row[0]: row[1:] for row in found.rows if len(row) == 6}
    heaviest = names[int(general.weights_at(np.linspace(0, 1, 1001)).mean(axis=0).argmax())]
    assert table[str(parse_name(heaviest))][0] == f'{general.at(0)[names.index(heaviest)]:.3g}'
    facts = json.loads((folder / 'run.json').read_text())
    assert (facts['kind'], facts['complete'], facts['dataset']) == ('distillation', True, 'SklearnDigits')
    assert facts['seconds'] > 0
    assert facts['iterations'] == 10 and set(facts['costs']['pathways']) == set(names)
    (folder / 'report.html').unlink()
    assert tool('report', folder).stdout == f'report: {folder}/report.html\n'
    assert Page(folder / 'report.html').figures == found.figures


def test_a_search_leaves_a_report_with_its_trials(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1)
    runner = build_trainer(cfg)
    runner.train()
    found = Page(f'{cfg.work_dir}/report.html')
    process, trials = written_process(runner), found.figures[3]
    assert 'Search of a process' in found.text and trials['data'][0]['name'] in ('level of the weights', 'refinement')
    shown = sorted((x, y) for trace in trials['data'] for x, y in zip(trace['x'], trace['y']))
    assert [y for _, y in shown] == [trial['loss'] for trial in process.origin['trials']]
    chart, = found.maps
    assert chart['student'] == ['stem', 'layer1', 'layer2', 'layer3', 'logits'] == chart['teacher']
    assert [chart['weights']['all transforms'][100][place][place] for place in range(4)] == pytest.approx(
        process.at(1.0)[:4], rel=1e-3)
    assert chart['weights']['all transforms'][0][0][1] is None  # not connected


def test_a_training_that_is_resumed_has_one_report(make_config):
    for epochs in (1, 2):
        cfg = make_config('student', train_cfg__max_epochs=epochs, train_cfg__val_interval=1)
        build_trainer(cfg, resume='auto' if epochs == 2 else None).train()
    losses, = [figure for figure in Page(f'{cfg.work_dir}/report.html').figures if figure['data'][0]['name'] == 'total']
    assert losses['data'][0]['x'] == [5, 10]
    facts = json.loads(pathlib.Path(cfg.work_dir, 'run.json').read_text())
    assert facts['first_iteration'] == 5 and facts['kind'] == 'training'
    assert facts['sessions'] == sorted(path.name for path in pathlib.Path(cfg.work_dir).glob('2*'))  # one if in a second


def test_without_plotly_a_line_says_what_to_install(tmp_path, tool, monkeypatch):
    monkeypatch.setattr(page, 'LIBRARIES', ('a_library_that_is_missing', 'jinja2'))
    done = tool('train', 'configs/teachers/resnet20_digits.py', '--work-dir', tmp_path, '--cfg-options',
                'train_cfg.max_epochs=1', *SMALL[1:3])
    lines = [line for line in (done.stdout + done.stderr).splitlines() if 'No report was written' in line]
    assert done.returncode == 0 and len(lines) == 1 and not (tmp_path / 'report.html').exists()
    assert lines[0].endswith("No report was written: report.html needs a_library_that_is_missing: pip install "
                             f"'distpro_mm[report]', then python tools/report.py {tmp_path}")
    done = tool('report', tmp_path)
    assert done.returncode == 1 and done.stderr.startswith('error: report.html needs a_library_that_is_missing: pip install')


def test_a_report_that_fails_does_not_fail_the_training(make_config, monkeypatch):
    def full(work_dir):
        raise OSError('No space left on device')

    cfg = make_config('student', log_level='WARNING')
    monkeypatch.setattr(report_hook, 'write_report', full)
    build_trainer(cfg).train()
    log, = pathlib.Path(cfg.work_dir).glob('*/*.log')
    assert 'No report was written (OSError: No space left on device); the training is not affected' in log.read_text()


def test_a_hook_is_added_once_and_may_be_left_out(make_config):
    cfg = make_config('student')
    assert sum(isinstance(hook, ReportHook) for hook in build_trainer(cfg, report=False).hooks) == 0
    cfg = make_config('student', 'again', custom_hooks=[dict(type='mmrazor.ReportHook')])
    assert sum(isinstance(hook, ReportHook) for hook in build_trainer(cfg).hooks) == 1


def test_a_process_file_has_a_report_next_to_it(tmp_path, tool):
    process = load_process('digits/resnet20-resnet8')
    process.save(str(tmp_path / 'mine.json'))
    assert tool('report', tmp_path / 'mine.json').stdout == f'report: {tmp_path}/mine.html\n'
    found = Page(tmp_path / 'mine.html')
    assert len(found.maps) == 1 and len(found.figures) == 2 and '300 digits of scikit-learn' in found.text
    (tmp_path / 'mine.json').write_text('{}')
    done = tool('report', tmp_path / 'mine.json')
    assert done.returncode == 1 and f"error: the process file '{tmp_path}/mine.json' is not a process file" in done.stderr


def test_a_folder_without_results_is_one_line(tmp_path, tool):
    done = tool('report', tmp_path)
    assert done.returncode == 1 and re.fullmatch(
        rf"error: '{tmp_path}' is neither a process file nor the work_dir of a training or a comparison: .*\n", done.stderr)


def test_text_of_configs_and_names_is_escaped():
    assert page.embedded_json({'a': '</script><script>', 'b': float('nan'), 'c': [1.5]}) == (
        '{"a":"\\u003c/script\\u003e\\u003cscript\\u003e","b":null,"c":[1.5]}')


def test_the_cost_of_a_forward_is_counted():
    convolution, images = torch.nn.Conv2d(3, 8, 3, padding=1), torch.randn(2, 3, 10, 10)
    outputs = 2 * 8 * 10 * 10
    assert forward_cost(lambda: convolution(images)) == 2 * outputs * 3 * 9 + OPERATIONS_A_NUMBER * outputs
    assert forward_cost(lambda: convolution(images).relu()) == 2 * outputs * 27 + OPERATIONS_A_NUMBER * 2 * outputs


def test_the_teacher_costs_about_a_third_of_a_step_of_the_same_network(make_config):
    runner = build_trainer(make_config('kd'))
    runner.train()  # its recorders hold tensors of the last step
    assert 0.2 < teacher_cost(runner.model) < 0.5


def test_a_report_is_written_again_from_the_files(make_config):
    cfg = make_config('student')
    build_trainer(cfg).train()
    first = pathlib.Path(cfg.work_dir, 'report.html').read_bytes()
    assert pathlib.Path(write_report(cfg.work_dir)).read_bytes() == first
