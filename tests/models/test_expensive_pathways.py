"""Warnings about expensive pathways, and what a cost counts."""
import copy
import itertools

import pytest
import torch
from toys import classifier, distpro_model as build

from distpro.pathways.cost import OPERATIONS_A_NUMBER, changed_costs, cost, pathway_costs as costs_of_grid
from distpro_mm.models import cost as cost_report
from distpro_mm.models.cost import cost_advice, pathway_costs


def expensive(pairs, transform='ConvAttentionTransform', compare_at='teacher', map_size=None, from_covariances=True,
              **kwargs):
    return build(student=classifier(8), teacher=classifier(64), distiller=dict(
        connections=pairs, compare_at=compare_at, map_size=map_size, from_covariances=from_covariances,
        transforms=[dict(type=transform, name='it')]), **kwargs)


def test_a_pathway_out_of_proportion_is_named_with_what_makes_it_cheaper_and_by_how_much():
    """The cost in the advice equals that of a model that follows it."""
    pair = [('stem', 'layer3')]
    model = expensive(pair)
    state, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    sentence, = cost_advice(model)
    assert torch.equal(torch.get_rng_state(), random_state) and model.distiller.grid.compare_at == 'teacher'
    cost, smaller, low, pointwise = (pathway_costs(expensive(pair, **change)).item() for change in (
        {}, dict(compare_at='smaller'), dict(map_size=4), dict(transform='PointwiseTransform')))
    assert 0 < pointwise < smaller < low < 0.9 * cost
    assert sentence == (
        f"model.distiller: pathway 'stem>layer3:it' costs {cost:.2f} training steps of the student alone (estimated): "
        f"transforms=[dict(type='PointwiseTransform')] makes it {pointwise:.2f}; compare_at='smaller' makes it "
        f"{smaller:.2f}; map_size=4 (for classifiers) makes it {low:.2f}; removing ('stem', 'layer3') from connections "
        'saves the full cost')
    assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(state[key])) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_what_does_not_help_is_not_advised():
    sentence, = cost_advice(expensive([('layer1', 'layer1')]))  # maps of one size
    assert 'PointwiseTransform' in sentence and 'compare_at' not in sentence
    assert cost_advice(expensive([('layer1', 'layer1')], transform='PointwiseTransform')) == []
    sentence, = cost_advice(expensive([('layer1', 'layer1')], transform='PointwiseTransform', from_covariances=False))
    assert '(estimated): map_size=4 (for classifiers) makes it 0.' in sentence
    assert 'Pointwise' not in sentence and 'smaller' not in sentence
    assert cost_advice(build()) == []


def test_the_cost_after_changes_is_that_of_a_model_with_them():
    pair = [('stem', 'layer3')]
    grid = expensive(pair).distiller.grid
    values = dict(transform='PointwiseTransform', compare_at='smaller', map_size=4)
    changed = changed_costs(grid, grid.pathways[0])
    assert set(changed) == {tuple(key for key in values if key in keys) for count in (1, 2, 3)
                            for keys in itertools.combinations(values, count)}
    for keys, counted in changed.items():
        assert counted == costs_of_grid(expensive(pair, **{key: values[key] for key in keys}).distiller.grid)[0], keys
    low = expensive(pair, map_size=4).distiller.grid
    assert not any('map_size' in keys for keys in changed_costs(low, low.pathways[0]))


def test_two_changes_together_are_advised_where_none_alone_does_enough():
    pathway = build().distiller.grid.pathways[0]
    for changed, said in (({('A', ): 3.0, ('B', ): 2.0, ('A', 'B'): 0.5}, 'A with B makes it 0.50; B makes it 2.00; A'),
                          ({('A', ): 3.0, ('B', ): 0.9, ('A', 'B'): 0.5}, 'B makes it 0.90; A makes it 3.00; removing'),
                          ({('A', ): 3.0, ('B', ): 2.0, ('A', 'B'): 1.9}, 'B makes it 2.00; A makes it 3.00; removing'),
                          ({('A', ): 3.7}, "removing ('stem', 'stem') from connections")):
        assert cost_report._advice(pathway, 4.0, changed).startswith(said)


def test_the_most_expensive_pathways_are_advised_on_first(monkeypatch):
    monkeypatch.setattr(cost_report, 'OUT_OF_PROPORTION', 0.0)
    monkeypatch.setattr(cost_report, 'LISTED', 3)
    model = build(distiller=dict(connections='nearest_depth'))
    *lines, last = cost_advice(model)
    highest = sorted(pathway_costs(model).tolist(), reverse=True)
    assert [float(line.split(' costs ')[1].split()[0]) for line in lines] == [round(cost, 2) for cost in highest[:3]]
    assert last == 'model.distiller: 1 more pathways cost over 0 steps each'


def test_a_cost_is_operations_and_written_numbers():
    weight, x = torch.randn(5, 4, requires_grad=True), torch.randn(3, 4)
    # x @ w.T: 2 * 3 * 4 * 5 operations forward, as many backward for w; written: the product, the sum, the ones that start
    # the backward and their expansion as one number, and the gradient of w.
    counted = cost(lambda: x @ weight.t())
    assert (counted - 2 * 120) / OPERATIONS_A_NUMBER == pytest.approx(15 + 1 + 1 + 20, abs=6)


def test_several_outputs_cost_what_each_costs():
    x, weights = torch.randn(3, 4), [torch.randn(5, 4, requires_grad=True) for _ in range(4)]
    one = cost(lambda: x @ weights[0].t())
    assert cost(lambda: [x @ weights[1].t(), dict(labels=x, logits=(x @ weights[2].t(), ))]) == 2 * one
