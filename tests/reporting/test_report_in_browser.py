"""Reports in Chromium, without a network: figures are drawn, the slider moves, tables sort, all by keyboard too."""
import json
import shutil

import numpy as np
import pytest

from distpro.files import write_json
from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.reporting.comparison_report import write_comparison
from distpro_mm.reporting.report import write_report

pytest.importorskip('plotly')
playwright = pytest.importorskip('playwright.sync_api')
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason='needs Chromium')]
LAYERS = ['stem', 'layer1', 'layer2']
NAMES = [*(f'{teacher}>{student}:{kind}' for teacher in LAYERS for student in LAYERS for kind in ('pointwise', 'attention')),
         'logits>logits:kl']


@pytest.fixture(scope='module')
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=['--no-sandbox'])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """opened(path, **options): the page of a report, and the errors and requests that it made."""
    contexts = []

    def call(path, **options):
        context = browser.new_context(**{'viewport': dict(width=1000, height=800), 'offline': True, **options})
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on('pageerror', lambda error: wrong.append(str(error)))
        page.on('console', lambda message: message.type in ('error', 'warning') and wrong.append(message.text))
        page.on('request', lambda request: request.url.startswith('http') and wrong.append(request.url))
        page.goto(f'file://{path}')
        page.wait_for_selector('html[data-ready=yes]', timeout=60000)
        return page, wrong

    yield call
    for context in contexts:
        context.close()


@pytest.fixture
def process():
    return DistillationProcess(NAMES, Weighting('exponential'), [0, 0.3, 1], 2 * np.random.randn(3, len(NAMES)),
                               layers=dict(transmitters=LAYERS, receivers=LAYERS))


@pytest.fixture
def run_report(tmp_path, process, real_plotly):
    log = tmp_path / '1' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    lines = [dict(loss=10 / step, time=0.5, epoch=step, step=10 * step) for step in range(1, 9)]
    lines += [{'accuracy/top1': 70.0 + step, 'step': step} for step in (4, 8)]
    log.write_text('\n'.join(map(json.dumps, lines)))
    process.save(str(tmp_path / 'replayed.json'))
    write_json(str(tmp_path / 'run.json'), dict(
        kind='distillation', sessions=['1'], complete=True, teacher='Big', student='Small', seconds=12.0, iterations=80,
        epochs=8, costs=dict(teacher=1.5, pathways=dict.fromkeys(NAMES, 0.1))))
    return write_report(str(tmp_path))


def shown_map(page):
    """Weights that the map shows, by the layers of teacher and student; None where there is no pathway."""
    trace = page.evaluate("document.querySelector('.map .chart').data[0]")
    return {(t, s): trace['z'][i][j] for i, t in enumerate(trace['y']) for j, s in enumerate(trace['x'])}


def test_the_slider_shows_the_weights_of_its_time(run_report, process, opened):
    page, wrong = opened(run_report)
    slider = page.locator('input[type=range]')

    def expected(progress, kinds):
        found = dict(zip(NAMES, process.at(progress)))
        return {(t, s): sum(found[f'{t}>{s}:{kind}'] for kind in kinds) for t in LAYERS for s in LAYERS}

    for progress, label in ((0.0, '0%'), (0.57, '57%'), (1.0, '100%')):
        slider.fill(str(round(100 * progress)))
        assert page.locator('.map output').inner_text() == label == slider.get_attribute('aria-valuetext')
        weights = shown_map(page)
        assert {pair: weights[pair] for pair in expected(0, [])} == pytest.approx(
            expected(progress, ['pointwise', 'attention']), rel=1e-3)
        assert weights['logits', 'logits'] == pytest.approx(process.at(progress)[-1], rel=1e-3)
        assert weights['stem', 'logits'] is None
    page.locator('select').select_option('attention')
    assert {pair: shown_map(page)[pair] for pair in expected(0, [])} == pytest.approx(expected(1.0, ['attention']), rel=1e-3)
    slider.focus()
    page.keyboard.press('Home')
    page.keyboard.press('ArrowRight')
    assert page.locator('.map output').inner_text() == '1%'
    heaviest = max(expected(0.01, ['attention']).items(), key=lambda entry: entry[1])[0]
    assert f'At 1%: the heaviest is {heaviest[0]} → {heaviest[1]}' in page.locator('[id^=heaviest]').inner_text()
    assert not wrong


def test_every_figure_is_drawn_and_has_words(run_report, opened):
    page, wrong = opened(run_report)
    charts = page.locator('.chart')
    assert charts.count() == 5 and page.locator('.chart .main-svg').count() >= 5
    for place in range(5):
        assert charts.nth(place).get_attribute('role') == 'img' and len(charts.nth(place).get_attribute('aria-label')) > 40
    accuracy = page.evaluate("document.querySelector('.chart').data[0]")
    assert (accuracy['x'], accuracy['y']) == ([40, 80], [74, 78])
    assert page.locator('.facts').inner_text().split('\n')[:2] == ['top-1, last', '78.00%'] and not wrong


@pytest.mark.parametrize('width', [360, 1000])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_fits_a_phone_and_follows_the_colour_scheme(run_report, opened, width, scheme):
    page, wrong = opened(run_report, viewport=dict(width=width, height=700), color_scheme=scheme)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    back, text = (page.evaluate(f'getComputedStyle(document.body).{name}') for name in ('backgroundColor', 'color'))
    light = [sum(map(int, colour[4:-1].split(','))) for colour in (back, text)]
    assert (light[0] > light[1]) == (scheme == 'light') and abs(light[0] - light[1]) > 450
    drawn = page.evaluate("document.querySelector('.chart')._fullLayout.font.color")
    assert tuple(int(drawn[place:place + 2], 16) for place in (1, 3, 5)) == tuple(map(int, text[4:-1].split(',')))
    assert not wrong


def test_the_scheme_may_change_while_it_is_open(run_report, opened):
    page, _ = opened(run_report, color_scheme='light')
    before = page.evaluate("document.querySelector('.chart')._fullLayout.font.color")
    page.locator('input[type=range]').fill('40')
    page.emulate_media(color_scheme='dark')
    page.wait_for_function(f"document.querySelector('.chart')._fullLayout.font.color != '{before}'")
    assert page.locator('.map output').inner_text() == '40%'


def test_tables_sort_by_mouse_and_by_keyboard(tmp_path, real_plotly, opened):
    accuracies = dict(kd=[80.0, 82.0], good=[90.0, 92.0], alone=[9.0, 9.5], teacher=[95.0])
    results = [dict(name=name, seed=seed, accuracy=accuracy, budget=1.0, epochs=20, iterations=10, seconds=5.0, best=None,
                    compute=accuracy / 2, after=None, tuning=False, settings={}, work_dir=f'{name}/seed_{seed}')
               for name, values in accuracies.items() for seed, accuracy in enumerate(values)]
    (tmp_path / 'kd' / 'seed_1').mkdir(parents=True)
    (tmp_path / 'kd' / 'seed_1' / 'report.html').write_text('the report of kd')
    write_comparison(str(tmp_path), results, [], name='made_up', methods=['alone', 'kd', 'good'], reference='kd', failed=0)
    page, wrong = opened(write_report(str(tmp_path)))
    table = page.locator('table.sortable').first

    def column(number):
        return [row.split('\t')[number] for row in table.locator('tbody').inner_text().split('\n')]

    assert column(0) == ['teacher', 'good', 'kd', 'alone']
    table.get_by_role('button', name='top-1').click()
    assert [float(value) for value in column(1)] == [95.0, 91.0, 81.0, 9.25]
    table.get_by_role('button', name='top-1').click()
    assert [float(value) for value in column(1)] == [9.25, 81.0, 91.0, 95.0]  # as numbers: 9.25 is not above 81
    assert table.locator('th[aria-sort=ascending]').inner_text() == 'top-1 (%)'
    table.get_by_role('button', name='method').focus()
    page.keyboard.press('Enter')
    assert column(0) == ['alone', 'good', 'kd', 'teacher'] and table.locator('th[aria-sort]').count() == 1
    table.get_by_role('button', name='against kd').click()
    assert column(3) == ['+10.00', '-71.75', '', '']  # empty cells are last
    points = page.evaluate("document.querySelectorAll('.chart')[1].data.map(t => [t.name, t.x, t.y])")
    assert ['good', [45.5], [91]] in points and points[0] == ['frontier', [4.625, 40.5, 45.5], [9.25, 81, 91]]
    page.get_by_role('link', name='report', exact=True).click()
    assert page.locator('body').inner_text() == 'the report of kd' and not wrong
