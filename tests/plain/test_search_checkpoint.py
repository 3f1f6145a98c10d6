"""A search in a plain loop that is stopped continues from its file, as if it had not been."""
import numpy as np
import pytest
import torch
from test_plain_search import search

import distpro


class Stop(Exception):
    pass


def stops_after(lines):
    def report(line):
        lines.append(line)
        if sum(line.startswith('Trial') for line in lines) == 4:
            raise Stop

    return report


@pytest.mark.parametrize('repeats', [False, True])
def test_a_search_that_is_stopped_finds_what_one_without_a_break_finds(data, teacher, tmp_path, repeats):
    settings = dict(min_iterations=20 if repeats else 10, seed=3)
    whole = search(data, teacher, **settings)
    path, lines, more = tmp_path / 'search.ckpt', [], []
    with pytest.raises(Stop):
        search(data, teacher, **settings, checkpoint=path, report=stops_after(lines))
    found = search(data, teacher, **settings, checkpoint=path, report=more.append)
    assert more[0].startswith('continuing after 4 trials of ') and more[1].startswith('Trial 5')
    assert np.array_equal(found.alpha, whole.alpha) and found.origin == whole.origin
    again = []
    assert search(data, teacher, **settings, checkpoint=path, report=again.append).origin == whole.origin
    assert not any(line.startswith('Trial') for line in again), 'a search that is finished trains nothing'


@pytest.mark.parametrize('change, message', [
    (dict(seed=1), 'is of a search with seed=0, and this one has 1: give the arguments of that search, or another file'),
    (dict(knots=5), 'is of a search with knots=4, and this one has 5'),
    (dict(min_iterations=9), 'is of a search with min_iterations=10, and this one has 9'),
    (dict(connections='all'), 'is of a search with pathways=')])
def test_the_file_of_another_search_is_refused(data, teacher, tmp_path, change, message):
    path = tmp_path / 'search.ckpt'
    search(data, teacher, rounds=0, checkpoint=path)
    with pytest.raises(distpro.ArgumentError, match=message):
        search(data, teacher, rounds=0, checkpoint=path, **change)


@pytest.mark.parametrize('content', [b'', b'nothing', None])
def test_a_damaged_file_is_named(data, teacher, tmp_path, content):
    path = tmp_path / 'search.ckpt'
    if content is None:
        torch.save([1], path)
    else:
        path.write_bytes(content)
    with pytest.raises(distpro.ArgumentError, match="checkpoint='.*' cannot be read .*: delete it to search anew"):
        search(data, teacher, rounds=0, checkpoint=path)


def test_a_checkpoint_is_a_path(data, teacher):
    with pytest.raises(distpro.ArgumentError, match='checkpoint=True must be the path of a file, or None'):
        search(data, teacher, checkpoint=True)


def test_a_search_whose_student_diverges_leaves_no_file_that_hides_it(data, teacher, tmp_path):
    path = tmp_path / 'search.ckpt'
    for _ in range(2):
        with pytest.raises(distpro.SearchError, match='the student alone is not finite: lower the learning rate'):
            search(data, teacher, rounds=0, checkpoint=path, criterion=lambda logits, labels: logits.mean() * float('nan'))
    assert not path.exists()
