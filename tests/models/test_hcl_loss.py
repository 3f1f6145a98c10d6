"""HCL against values of DistPro's release, and against its formula written out."""
import pathlib

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS

from distpro_mm.errors import ConfigError
from distpro_mm.models import HCLLoss

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / 'data' / 'hcl_golden.npz')
CASES = sorted(name.rpartition('_')[2] for name in GOLDEN if name.startswith('loss'))


@pytest.mark.parametrize('case', CASES)
def test_equals_the_release(case):
    student, teacher = (torch.from_numpy(GOLDEN[f'{side}_{case}']) for side in ('student', 'teacher'))
    assert HCLLoss()(student, teacher).item() == pytest.approx(float(GOLDEN[f'loss_{case}']), rel=1e-12)


def pooled(maps, level):
    """Adaptive average pooling by its definition: bin i of n is [floor(i H / n), ceil((i + 1) H / n))."""
    height, width = maps.shape[-2:]
    out = np.empty(maps.shape[:2] + (level, level))
    for i in range(level):
        for j in range(level):
            rows = slice(i * height // level, -(-(i + 1) * height // level))
            columns = slice(j * width // level, -(-(j + 1) * width // level))
            out[:, :, i, j] = maps[:, :, rows, columns].mean(axis=(2, 3))
    return out


@pytest.mark.parametrize('shape, used', [((2, 3, 16, 16), (4, 2, 1)), ((2, 3, 8, 5), (4, 2, 1)), ((2, 3, 7, 9), (4, 2, 1)),
                                         ((2, 3, 4, 12), (2, 1)), ((2, 3, 2, 2), (1, )), ((2, 3, 1, 6), ())])
def test_equals_the_formula_on_any_size(shape, used):
    student, teacher = np.random.randn(2, *shape)
    terms = [((student - teacher)**2).mean()]
    terms += [((pooled(student, level) - pooled(teacher, level))**2).mean() for level in used]
    weights = 0.5**np.arange(len(terms))
    expected = (weights * terms).sum() / weights.sum()
    assert HCLLoss()(torch.from_numpy(student), torch.from_numpy(teacher)).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_is_that_of_the_formula():
    student = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: HCLLoss()(s, teacher), (student, ))


def test_half_precision_maps_are_compared_in_single():
    student, teacher = torch.randn(2, 4, 8, 16, 16)
    loss = HCLLoss()(student.bfloat16(), teacher.bfloat16())
    assert loss.dtype == torch.float32
    assert torch.equal(loss, HCLLoss()((student.bfloat16() - teacher.bfloat16()).float(), torch.zeros(4, 8, 16, 16)))


def test_loss_weight_and_levels_come_from_the_config():
    student, teacher = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    plain = MODELS.build(dict(type='mmrazor.HCLLoss', levels=(), loss_weight=3.0))
    assert plain(student, teacher).item() == pytest.approx(3 * (student - teacher).square().mean().item())


def test_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r'one shape, got \(2, 3, 8, 8\) from the student and \(2, 3, 4, 4\)'):
        HCLLoss()(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4))


def test_equal_maps_have_no_gradient():
    student = torch.ones(2, 3, 8, 8, requires_grad=True)
    loss = HCLLoss()(student, student.detach())
    loss.backward()
    assert loss == 0 and torch.equal(student.grad, torch.zeros_like(student))
