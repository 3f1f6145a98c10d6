"""Networks by name work as teacher and as student. Part of benchmarks/network_matrix.py; slow tests run all of it."""
import pathlib

import pytest

from network_matrix import LIBRARIES, attempt, report
from networks import ALL

QUICK = ('torchvision:squeezenet1_1', 'torchvision:shufflenet_v2_x0_5', 'hf:vit', 'timm:mobilenetv3_small_050')
# Errors as a teacher and as a student: see NOTES of the matrix.
REFUSED = {'hf:perceiver': ('RuntimeError', 'RuntimeError'),
           'hf:imagegpt': ('RuntimeError', 'RuntimeError'),
           'hf:clip_vision_model': ('', 'ArgumentError: student: get_')}


@pytest.mark.parametrize('role', ['teacher', 'student'])
@pytest.mark.parametrize('name', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALL])
def test_a_network_works_by_its_name(name, role):
    pytest.importorskip(LIBRARIES[name.partition(':')[0]])
    error = attempt(name, role == 'teacher')[1]
    expected = REFUSED.get(name, ('', ''))[role == 'student']
    assert error.startswith(expected) and bool(error) == bool(expected)


def test_the_page_counts_what_works():
    pytest.importorskip('timm')
    outcomes = {'timm:resnet18': (('layer1', ''), ('layer1', '')), 'timm:dla34': (('level2', ''), ('', 'ArgumentError: no'))}
    page = report(outcomes, 'a test')
    assert 'On both sides work 1 of 2 of timm' in page and '| no: ArgumentError: no |' in page


def test_the_page_lists_every_network():
    page = (pathlib.Path(__file__).parent.parent / 'docs' / 'networks_matrix.md').read_text()
    assert [name for name in ALL if f'| `{name}`' not in page] == []
