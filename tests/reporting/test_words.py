"""A process in words, against numbers computed by hand."""
import numpy as np
import pytest

from distpro.process import DistillationProcess
from distpro_mm.reporting.charts import weights_table
from distpro_mm.reporting.processes import weight_rows
from distpro_mm.reporting.words import describe_process, number, parse_name


def lines(names, progress, weights):
    return describe_process(DistillationProcess.by_hand(names, progress, weights))


def test_heaviest_pathways_come_first_with_their_share_and_their_way():
    # Means over the training: 3 * (1 + 0) / 2 = 1.5, constant 6, and the triangle 10 / 2 = 5: 12.5 in all.
    found = lines(['a>b:c', 'logits>logits:kl', 'd>e:f'], [0, 0.5, 1], [[3, 6, 0], [1.5, 6, 10], [0, 6, 0]])
    assert found[0] == '3 pathways. Half of the total weight is on 2 of them.'
    assert found[1] == ('Sum of all weights: starts at 9, is highest at 50% of the training with 17.5, and ends at 6.')
    assert found[2] == 'logits (kl): 48% of the total weight. The weight is constant at 6.'
    assert found[3].startswith('d → e (f): 40% of the total weight. The weight starts at 0, is highest at 50% of')
    assert found[4] == 'a → b (c): 12% of the total weight. The weight falls from 3 at the start to 0 at the end.'
    assert len(found) == 5


def test_shares_are_those_of_the_integrals():
    """The share of a pathway is its part of the area under all curves, by the trapezium rule at the knots."""
    knots, weights = np.array([0, 0.2, 0.7, 1]), np.random.rand(4, 6) + 0.1
    areas = ((weights[1:] + weights[:-1]) / 2 * np.diff(knots)[:, None]).sum(axis=0)
    shares = np.sort(areas / areas.sum())[::-1]
    found = lines([f'a{i}>b:c' for i in range(6)], knots, weights)[2:]
    assert len(found) == 5
    said = [float(line.split(': ')[1].split('%')[0]) for line in found]
    assert said == pytest.approx(100 * shares[:5], abs=1.2)


def test_pathways_without_weight_are_counted():
    found = lines(['a>b:c', 'a>d:c'], [0, 1], [[1, 0], [2, 0]])
    assert 'rises from 1 at the start to 2 at the end' in found[2]
    assert found[-1] == '1 of them always have weight 0.'
    assert lines(['a>b:c'], [0], [[0]]) == ['All weights are 0: the student is trained without distillation.']


def test_pathways_with_the_same_weights_share_a_line():
    found = lines(['a>b:c', 'a>c:c', 'a>d:c', 'a>e:c', 'b>e:c'], [0, 1], [[1, 1, 1, 1, 6], [1, 1, 1, 1, 6]])
    assert found[2:] == [
        'b → e (c): 60% of the total weight. The weight is constant at 6.',
        'a → b (c), a → c (c) and 2 others with the same weights: 10% of the total weight each. '
        'The weight is constant at 1.']


def test_what_else_is_scheduled_is_described():
    process = DistillationProcess.by_hand(['a>x:p', 'logits>logits:kl'], [0, 1], [[1, 2], [3, 4]],
                                          scheduled=dict(temperature=[1, 3], cross_entropy=[0.5, 0.5]))
    assert describe_process(process)[-2:] == [
        'The factor of the temperature of the logits rises from 1 at the start to 3 at the end.',
        'The factor of the weight of the cross-entropy is constant at 0.5.']
    assert [row[0] for row in weight_rows(process)][-2:] == ['factor of the temperature', 'factor of the cross-entropy']
    assert weight_rows(process)[-2][1:] == ['1', '1.5', '2', '2.5', '3']
    assert [row[0].text for row in weights_table(process).rows][-2:] == [row[0] for row in weight_rows(process)][-2:]


def test_names_and_numbers():
    assert str(parse_name('stem>layer1:pointwise')) == 'stem → layer1 (pointwise)'
    assert parse_name('strange').teacher == 'strange'
    assert str(parse_name('large:stem>layer1:pointwise')) == 'large:stem → layer1 (pointwise)'
    assert str(parse_name('logits>logits:kl')) == 'logits (kl)'
    assert str(parse_name('large:logits>logits:kl')) == 'large:logits (kl)'
    assert [number(value) for value in (0, 0.12345, 12.345, 1234.5, 1e-5, 1e7)] == [
        '0', '0.123', '12.3', '1,234', '1.00e-05', '1.00e+07']
