"""distpro.search says early that it goes wrong, once, with the value seen and what to try."""
import pytest
import torch
import torch.nn.functional as functional
from toys import network

import distpro
from distpro.searching import Round


def lines_of(data, teacher, **kwargs):
    """What a small search reports."""
    torch.manual_seed(2)
    lines = []
    arguments = dict(epochs=2, min_iterations=10, max_divisions=0, rounds=2, references=['student'], report=lines.append)
    distpro.search(network(), teacher, *data, functional.cross_entropy, lambda p: torch.optim.SGD(p, 0.05, 0.9),
                   **{**arguments, **kwargs})
    return lines


def test_a_teacher_that_guesses_is_named_before_the_first_trial(data):
    teacher = network(8)
    torch.nn.init.zeros_(teacher[-1].weight)
    lines = lines_of(data, teacher, rounds=1)
    assert lines[0].startswith('warning: The teacher is right on ') and 'of the first 160 training images' in lines[0]
    assert 'pass logits={}' in lines[0] and sum('misleading' in line for line in lines) == 1


def test_a_refinement_that_does_not_move_is_named(data, teacher):
    lines = lines_of(data, teacher, searcher=dict(type='RpropSearcher', step_size=1e-6, confirmations=0))
    line, = (line for line in lines if 'does not move' in line)
    assert line.startswith('warning: ') and 'Raise searcher.step_size' in line


@pytest.mark.long
def test_a_healthy_search_says_nothing(data, teacher):
    lines = lines_of(data, teacher, rounds=3, max_divisions=2)
    assert not [line for line in lines for text in ('does not move', 'misleading', 'rises from', 'hardly') if text in line]


@pytest.mark.parametrize('losses, said', [
    # student, the initial process, a refinement, and each once more; guessing has a loss of log(5) = 1.61
    ([1.0, 0.7, 1.3, 0.72, 0.71, 0.6], False), ([2.0, 1.7, 1.75, 1.8, 1.8, 1.8], True)])
def test_a_process_that_is_confirmed_is_compared_with_guessing_alone(data, teacher, monkeypatch, losses, said):
    """Both trainings of the initial process together have a loss that is no lower than that of the student alone."""
    given, measure = iter([*losses, *losses[-1:] * 20]), Round.measure
    monkeypatch.setattr(Round, 'measure', lambda current: (measure(current), next(given))[1])
    lines = lines_of(data, teacher, initial='general', rounds=2, max_divisions=1)
    assert any('is not below guessing (1.6094)' in line for line in lines) == said
