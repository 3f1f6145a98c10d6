from fractions import Fraction

import pytest

from distpro.errors import ArgumentError
from distpro.pathways import CONNECTIONS, Pathway, connect, span
from distpro.tracing import FeatureTap

KEY = '^connections'


def taps(*names):
    return [FeatureTap(name, f'backbone.{name}.relu', 'input', 1, None, (8, 4, 4), f'backbone.{name}') for name in names]


def numbered(count, letter):
    return taps(*[f'{letter}{index}' for index in range(count)])


def named(pairs):
    return [(transmitter.name, receiver.name) for transmitter, receiver in pairs]


STAGES = ('stem', 'layer1', 'layer2', 'layer3')


# ---- words


def test_all_connects_everything_transmitters_first():
    pairs = named(connect(numbered(3, 't'), numbered(2, 's'), 'all'))
    assert pairs == [('t0', 's0'), ('t0', 's1'), ('t1', 's0'), ('t1', 's1'), ('t2', 's0'), ('t2', 's1')]


def test_four_stages_each_give_the_ten_pairs_of_the_paper():
    pairs = named(connect(taps(*STAGES), taps(*STAGES), 'student_not_shallower'))
    assert pairs == [(STAGES[i], STAGES[j]) for i in range(4) for j in range(4) if j >= i] and len(pairs) == 10


def test_nearest_depth_of_equal_lists_is_one_to_one():
    assert named(connect(taps(*STAGES), taps(*STAGES), 'nearest_depth')) == [(name, name) for name in STAGES]


@pytest.mark.parametrize('teachers', range(1, 8))
@pytest.mark.parametrize('students', range(1, 8))
def test_lists_of_different_lengths_are_compared_by_relative_depth(teachers, students):
    """Against exact fractions: the first layer is at 0, the last at 1, and a single one counts as the last."""

    def depth(index, count):
        return Fraction(index, count - 1) if count > 1 else Fraction(1)

    def is_nearest(teacher, student):
        found = [depth(index, teachers) for index in range(teachers)]
        return teacher == min(found, key=lambda other: (abs(other - student), other))  # the shallower one of two

    compare = dict(all=lambda t, s: True, student_not_shallower=lambda t, s: s >= t, nearest_depth=is_nearest)
    assert set(compare) == set(CONNECTIONS)
    for word, keep in compare.items():
        expected = [(f't{i}', f's{j}') for i in range(teachers) for j in range(students)
                    if keep(depth(i, teachers), depth(j, students))]
        assert named(connect(numbered(teachers, 't'), numbered(students, 's'), word)) == expected


def test_every_layer_of_the_student_has_its_nearest_layer_of_the_teacher():
    pairs = named(connect(numbered(3, 't'), numbered(5, 's'), 'nearest_depth'))
    assert pairs == [('t0', 's0'), ('t0', 's1'), ('t1', 's2'), ('t1', 's3'), ('t2', 's4')]


def test_the_taps_themselves_are_paired():
    transmitters, receivers = taps(*STAGES), numbered(4, 's')
    for word in CONNECTIONS:
        for transmitter, receiver in connect(transmitters, receivers, word):
            assert any(transmitter is tap for tap in transmitters) and any(receiver is tap for tap in receivers)


@pytest.mark.parametrize('word', ['deep', '', 'All', 'same-depth'])
def test_an_unknown_word_is_refused_with_the_known_ones(word):
    with pytest.raises(ArgumentError, match=f"{KEY}='{word}' is not one of {', '.join(CONNECTIONS)} or"):
        connect(taps(*STAGES), taps(*STAGES), word)


# ---- explicit pairs


def test_pairs_keep_their_order_and_may_name_layers_or_taps():
    transmitters, receivers = taps(*STAGES), numbered(3, 's')
    pairs = connect(transmitters, receivers, [('layer3', 's0'), ['backbone.stem', 'backbone.s2'], ('layer3', 's2')])
    assert named(pairs) == [('layer3', 's0'), ('stem', 's2'), ('layer3', 's2')]
    assert pairs[1] == (transmitters[0], receivers[2])


def test_a_pair_may_name_places_from_either_end():
    pairs = connect(taps(*STAGES), numbered(3, 's'), [(0, 2), (-1, 's1'), ('layer2', -3)])
    assert named(pairs) == [('stem', 's2'), ('layer3', 's1'), ('layer2', 's0')]


def test_a_pair_may_go_from_deep_to_shallow():
    assert named(connect(taps(*STAGES), taps(*STAGES), [('layer3', 'stem')])) == [('layer3', 'stem')]


@pytest.mark.parametrize('pair, message', [
    (('layr2', 's1'), r": 'layr2' is not one of the transmitters \['stem', .*\] \(nearest: layer2\)"),
    (('layer2', 's11'), r": 's11' is not one of the receivers \['s0', 's1', 's2'\] \(nearest: s1\)"),
    (('s1', 'layer2'), ": 's1' is not one of the transmitters"),  # in reverse order
    (('zzz', 's1'), r": 'zzz' is not one of the transmitters \['stem', 'layer1', 'layer2', 'layer3'\]$"),
    ((4, 's1'), ": '4' is not one of the transmitters"),
    (('stem', -4), ": '-4' is not one of the receivers"),
    ((1.0, 's1'), ": '1.0' is not one of the transmitters"),
])
def test_a_wrong_name_is_refused_with_the_nearest(pair, message):
    with pytest.raises(ArgumentError, match=KEY + message):
        connect(taps(*STAGES), numbered(3, 's'), [('stem', 's0'), pair])


@pytest.mark.parametrize('pair', [('stem', ), ('stem', 's0', 's1'), (), 'ab', 'stem'])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(ArgumentError, match='is not a pair'):
        connect(taps(*STAGES, 'a'), [*numbered(3, 's'), *taps('b')], [pair])


@pytest.mark.parametrize('again', [('stem', 's0'), ('backbone.stem', 's0'), ['stem', 'backbone.s0']])
def test_a_pair_named_twice_is_refused(again):
    with pytest.raises(ArgumentError, match=f'{KEY} has a pair twice'):
        connect(taps(*STAGES), numbered(3, 's'), [('stem', 's0'), ('stem', 's1'), again])


@pytest.mark.parametrize('transmitters, receivers, connections', [
    (STAGES, STAGES, []), (STAGES, STAGES, ()), ((), STAGES, 'all'), (STAGES, (), 'nearest_depth'),
    (('last', ), (), 'student_not_shallower'),
])
def test_nothing_left_is_refused(transmitters, receivers, connections):
    with pytest.raises(ArgumentError, match=f'{KEY}=.* selects no pair'):
        connect(taps(*transmitters), taps(*receivers), connections)


# ---- pathways


def test_a_pathway_is_called_by_its_layers_and_its_transform():
    pathway = Pathway(*taps('layer1', 'layer2'), 'wide')
    assert pathway.name == 'layer1>layer2:wide'


def test_every_pair_takes_every_transform_in_turn():
    pairs = connect(taps('stem', 'layer1'), taps('a', 'b'), [('layer1', 'b'), ('stem', 'a')])
    pathways = span(pairs, ['wide', 'pointwise', 'narrow'])
    assert [pathway.name for pathway in pathways] == [
        'layer1>b:wide', 'layer1>b:pointwise', 'layer1>b:narrow', 'stem>a:wide', 'stem>a:pointwise', 'stem>a:narrow']
    assert [(pathway.transmitter, pathway.receiver) for pathway in pathways] == [pair for pair in pairs for _ in range(3)]


def test_names_of_pathways_are_unique():
    pathways = span(connect(taps(*STAGES), taps(*STAGES), 'all'), ['wide', 'pointwise'])
    assert len({pathway.name for pathway in pathways}) == len(pathways) == 32


@pytest.mark.parametrize('connections', [None, 3, [3], [('a', )], ['ab']])
def test_connections_that_are_no_pairs_are_refused(connections):
    taps = [FeatureTap('a', 'a'), FeatureTap('b', 'b')]
    with pytest.raises(ArgumentError, match='^connections'):
        connect(taps, taps, connections)
