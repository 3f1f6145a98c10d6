"""The figures of a report show the given values, and plotly accepts them."""
import numpy as np
import pytest

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.reporting.charts import COLOURS, NAMED, curves, process_curves, process_map, trials
from distpro_mm.reporting.comparison_charts import Point, differences, frontier, on_frontier

LAYERS = dict(transmitters=['t0', 't1', 't2'], receivers=['s0', 's1'])


def accepted(chart):
    objects = pytest.importorskip('plotly.graph_objects')
    objects.Figure(chart.figure)  # raises for names and values that plotly does not know
    return chart


def process(names, knots=4):
    return DistillationProcess(names, Weighting('exponential'), np.linspace(0, 1, knots), np.random.randn(knots, len(names)),
                               layers=LAYERS)


def test_a_curve_goes_through_the_weights_of_its_pathway():
    subject = process([f't{t}>s{s}:{kind}' for t in range(3) for s in range(2) for kind in ('a', 'b')])
    traces = accepted(process_curves(subject)).figure['data']
    assert len(traces) == 12
    order = np.argsort(-subject.weights_at(np.linspace(0, 1, 5001)).mean(axis=0))  # another grid of points
    found = [subject.names.index(trace['text'].replace(' → ', '>').replace(' (', ':').rstrip(')')) for trace in traces]
    assert set(found) == set(order.tolist()) and found[0] in order[:2]
    for index, trace in zip(found, traces):
        at = [trace['x'].index(pytest.approx(100 * knot, abs=0.01)) for knot in subject.progress]
        assert np.allclose([trace['y'][place] for place in at], subject.weights[:, index], rtol=1e-3)
    assert [trace['name'] for trace in traces].count('others') == 12 - NAMED
    assert sum(trace['showlegend'] for trace in traces) == NAMED + 1 and len(set(COLOURS)) == NAMED


def test_the_map_has_each_weight_at_its_layers_and_sums_over_transforms():
    subject = process(['t0>s0:a', 't2>s1:a', 't2>s1:b', 'logits>logits:kl'])
    found = process_map(subject)
    assert (found.teacher, found.student) == (['t0', 't1', 't2', 'logits'], ['s0', 's1', 'logits'])
    assert list(found.weights) == ['all transforms', 'a', 'b']
    for place in (0, 50, 100):
        at = subject.at(found.progress[place])
        table = found.weights['all transforms'][place]
        assert [table[0][0], table[2][1], table[3][2]] == pytest.approx([at[0], at[1] + at[2], at[3]], rel=1e-3)
        assert table[0][1] is None and table[1] == [None] * 3
        assert found.weights['b'][place][2][1] == pytest.approx(at[2], rel=1e-3)
        assert found.weights['b'][place][0][0] is None


def test_the_map_of_several_teachers_has_the_layers_of_each_and_the_logits_last():
    subject = process(['large:t0>s0:a', 'small:t0>s0:a', 'large:logits>logits:kl', 'small:logits>logits:kl'])
    subject.layers = dict(transmitters=['large:t0', 'small:t0'], receivers=['s0'])
    found = process_map(subject)
    assert (found.teacher, found.student) == (['large:t0', 'small:t0', 'large:logits', 'small:logits'], ['s0', 'logits'])
    assert list(found.weights) == ['all transforms']
    table = found.weights['all transforms'][0]
    assert [table[0][0], table[1][0], table[2][1], table[3][1]] == pytest.approx(subject.at(0).tolist(), rel=1e-3)


def test_long_curves_are_thinned_and_described():
    values = list(np.random.rand(5000) + 1)
    chart = accepted(curves('Losses', 'loss', dict(total=(list(range(5000)), values)), logarithmic=['total']))
    trace, = chart.figure['data']
    assert len(trace['x']) == 1500 and trace['x'][0] == 0 and trace['x'][-1] == 4999
    assert all(trace['y'][place] == values[trace['x'][place]] for place in range(0, 1500, 100))
    assert chart.figure['layout']['yaxis']['type'] == 'log'
    assert chart.summary.startswith(f'total: {values[0]:.3g} at first, {values[-1]:.3g} at the end')
    with_zero = curves('Losses', 'loss', dict(total=([0, 1], [1.0, 0.0])), logarithmic=['total'])
    assert 'type' not in with_zero.figure['layout']['yaxis']


def test_trials_are_drawn_by_kind_and_diverged_ones_listed():
    found = [dict(kind='student', loss=3.0), dict(kind='step', loss=float('nan')),
             dict(kind='step', loss=1.0, confirms=True)]
    chart = accepted(trials(found, 'step', 2.3))
    assert [(trace['name'], trace['x'], trace['y']) for trace in chart.figure['data']] == [
        ('student alone', [1], [3.0]), ('refinement', [3], [1.0])]
    assert [row[3].text for row in chart.table.rows] == ['3', 'diverged', '1'] and chart.table.rows[2][2].text == 'yes'
    assert 'The lowest held-out loss is 1, of trial 3 (refinement).' in chart.summary
    assert chart.figure['layout']['shapes'][0]['y0'] == 2.3


def run(name, seed, accuracy, budget=1.0, compute=10.0, after=None):
    return dict(name=name, seed=seed, accuracy=accuracy, budget=budget, epochs=int(20 * budget), compute=compute,
                after=after, tuning=False, seconds=1.0)


def test_the_frontier_has_the_points_that_no_other_beats():
    points = [Point(str(place), 1, *values, 0.) for place, values in enumerate(np.random.randint(0, 10, (20, 2)).tolist())]
    beaten = {point.name for point in points for other in points
              if other.compute <= point.compute and other.accuracy >= point.accuracy
              and (other.compute, other.accuracy) != (point.compute, point.accuracy)}
    best = on_frontier(points)
    assert {(point.compute, point.accuracy) for point in best} == {
        (point.compute, point.accuracy) for point in points if point.name not in beaten}


def test_methods_stand_at_their_compute_with_the_search():
    results = [run('search', 0, 50.0, compute=8.0), run('kd', 0, 80.0), run('kd', 1, 82.0), run('kd', 0, 70.0, 0.5, 5.0),
               run('slow', 0, 75.0, compute=100.0), run('distpro', 0, 90.0, compute=12.0, after='search')]
    chart = accepted(frontier(results, ['slow', 'kd', 'distpro']))
    best, *traces = chart.figure['data']
    assert (best['x'], best['y']) == ([5.0, 10.0, 20.0], [70.0, 81.0, 90.0])
    assert {trace['name']: (trace['x'], trace['y']) for trace in traces} == {
        'distpro': ([20.0], [90.0]), 'kd': ([5.0, 10.0], [70.0, 81.0]), 'slow': ([100.0], [75.0])}
    assert traces[1]['error_y']['array'] == [0.0, 1.0] and chart.figure['layout']['xaxis']['type'] == 'log'
    assert 'On the frontier: kd (5 s, 70.00%), kd (10 s, 81.00%), distpro (20 s, 90.00%).' == chart.summary


def test_differences_have_their_interval():
    results = [run(name, seed, accuracy + seed) for name, accuracy in (('kd', 80.0), ('good', 83.0), ('bad', 70.0))
               for seed in range(3)] + [run('one', 0, 81.0)]
    chart = accepted(differences(results, ['good', 'one', 'bad'], 'kd'))
    trace, = chart.figure['data']
    assert (trace['y'], trace['x']) == (['bad', 'one', 'good'], [-10.0, 1.0, 3.0])
    assert trace['error_x']['array'] == [0.0, 0.0, 0.0]  # every seed has the same difference
    assert chart.summary == 'The interval is above kd: good; below: bad; the others include it.'
