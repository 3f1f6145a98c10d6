"""HCL against values of DistPro's release, and against its explicit formula."""
import pathlib

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS

from distpro.errors import ArgumentError
from distpro_mm.models import HCLLoss

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / 'data' / 'hcl_golden.npz')
CASES = sorted(name.rpartition('_')[2] for name in GOLDEN if name.startswith('loss'))


@pytest.mark.parametrize('case', CASES)
def test_equals_the_release(case):
    student, teacher = (torch.from_numpy(GOLDEN[f'{side}_{case}']) for side in ('student', 'teacher'))
    assert HCLLoss()(student, teacher).item() == pytest.approx(float(GOLDEN[f'loss_{case}']), rel=1e-12)


def pooled(maps, size):
    """Adaptive average pooling by its definition: bin i of n is [floor(i H / n), ceil((i + 1) H / n))."""
    height, width = maps.shape[-2:]
    out = np.empty(maps.shape[:2] + size)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
            out[:, :, i, j] = maps[:, :, rows, columns].mean(axis=(2, 3))
    return out


def by_hand(student, teacher, sizes):
    """The formula with explicit sizes of the averaged maps."""
    terms = [((student - teacher)**2).mean()]
    terms += [((pooled(student, size) - pooled(teacher, size))**2).mean() for size in sizes]
    weights = 0.5**np.arange(len(terms))
    return (weights * terms).sum() / weights.sum()


@pytest.mark.parametrize('shape, sizes', [
    ((16, 16), [(4, 4), (2, 2), (1, 1)]), ((8, 5), [(4, 4), (2, 2), (1, 1)]), ((7, 9), [(4, 4), (2, 2), (1, 1)]),
    ((4, 12), [(4, 4), (2, 2), (1, 1)]), ((7, 3), [(4, 3), (2, 2), (1, 1)]), ((3, 3), [(2, 2), (1, 1)]),
    ((2, 2), [(1, 1)]), ((1, 6), [(1, 4), (1, 2), (1, 1)]), ((1, 2), [(1, 1)]), ((1, 1), [])])
def test_equals_the_formula_on_any_size(shape, sizes):
    student, teacher = np.random.randn(2, 2, 3, *shape)
    expected = by_hand(student, teacher, sizes)
    maps = torch.from_numpy(np.stack([student, teacher]))
    for s, t in (maps, maps.transpose(-1, -2).contiguous(), maps.transpose(-1, -2)):  # a transposed map has the same loss
        assert HCLLoss()(s, t).item() == pytest.approx(expected, rel=1e-12)
    for s, t in (maps.transpose(2, 4).contiguous().transpose(2, 4), maps.flip(1)):
        assert HCLLoss()(s, t).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('levels', [(1, 2, 4), (4, 3), (6, 4, 3), (2, 6), (5, 4, 2)])
def test_levels_may_be_any_in_any_order(levels):
    student, teacher = np.random.randn(2, 2, 3, 12, 12)
    expected = by_hand(student, teacher, [(level, level) for level in levels])
    loss = HCLLoss(levels=levels)(torch.from_numpy(student), torch.from_numpy(teacher))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('levels', [(0, ), (4, -1), (2.0, )])
def test_levels_that_are_no_sizes_are_refused(levels):
    with pytest.raises(ArgumentError, match=r'^levels=\(.* must be whole numbers from 1'):
        HCLLoss(levels=levels)


def test_gradient_is_that_of_the_formula():
    student = torch.randn(1, 2, 6, 9, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(1, 2, 6, 9, dtype=torch.float64)
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
    with pytest.raises(ArgumentError, match=r'one shape, got \(2, 3, 8, 8\) from the student and \(2, 3, 4, 4\)'):
        HCLLoss()(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4))


def test_equal_maps_have_no_gradient():
    student = torch.ones(2, 3, 8, 8, requires_grad=True)
    loss = HCLLoss()(student, student.detach())
    loss.backward()
    assert loss == 0 and torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize('shape', [(2, 3, 8, 8), (2, 3, 5, 3)])
def test_has_a_second_derivative_where_the_maps_are_equal(shape):
    """HCL is quadratic in the difference: its second derivative is the same everywhere."""
    teacher, direction = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    found = []
    for student in (teacher.clone(), torch.randn(shape, dtype=torch.float64)):
        student.requires_grad_()
        gradient, = torch.autograd.grad(HCLLoss()(student, teacher), student, create_graph=True)
        found.append(torch.autograd.grad((gradient * direction).sum(), student)[0])
    assert found[0].any()
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-15)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('shape, sizes', [
    ((7, 7), [(4, 4), (2, 2), (1, 1)]), ((14, 14), [(4, 4), (2, 2), (1, 1)]), ((7, 3), [(4, 3), (2, 2), (1, 1)])])
def test_equals_the_formula_where_torch_is_to_be_deterministic(shape, sizes, deterministic, monkeypatch):
    """On a GPU, torch's adaptive pooling has no deterministic derivative, and raises."""
    student, teacher = torch.randn(2, 3, 4, *shape, dtype=torch.float64)

    def refused(*args):
        raise AssertionError('adaptive_avg_pool2d is not deterministic on a GPU')

    student.requires_grad_()
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, 'adaptive_avg_pool2d', refused)
        loss = HCLLoss()(student, teacher)
    assert loss.item() == pytest.approx(by_hand(student.detach().numpy(), teacher.numpy(), sizes), rel=1e-12)
    torch.use_deterministic_algorithms(False)
    gradients = [torch.autograd.grad(value, student)[0] for value in (loss, HCLLoss()(student, teacher))]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
