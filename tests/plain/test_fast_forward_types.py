"""The number types of a fast teacher: bfloat16 where the device has it and where it is exact enough."""
import pytest
import torch
from branches import Branches, drawn, fast, plain
from torch import nn
from toys import network

import distpro
from distpro.errors import ArgumentError
from distpro.tracing import fast_forward


def test_bfloat16_where_the_device_has_it(device_with_bfloat16):
    torch.manual_seed(0)
    model = drawn(nn.Sequential(Branches(), nn.Flatten(), nn.Linear(256, 10)), torch.float32)
    x = torch.randn(8, 3, 8, 8)
    _, run = fast(model, x, True)
    found, expected = run(), plain(model, x)
    error = fast_forward.relative_error(found, expected)
    assert found.dtype == torch.float32 and found.is_contiguous()
    assert 1e-4 < error < 0.05 if device_with_bfloat16 else error < 1e-5


@pytest.mark.parametrize('amx, avx512', [(True, False), (False, True), (True, True), (False, False)])
def test_a_cpu_with_either_kind_of_instructions_has_bfloat16(monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx512)
    assert fast_forward.has_bfloat16('cpu') == (amx or avx512)
    assert not fast_forward.has_bfloat16('mps')


@pytest.mark.parametrize('choice, dtype', [('exact', torch.float32), (True, torch.float64)])
def test_the_networks_own_type_where_that_is_asked_for(monkeypatch, choice, dtype):
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: True)
    torch.manual_seed(0)
    model, x = drawn(Branches(), dtype), torch.randn(2, 3, 8, 8, dtype=dtype)
    _, run = fast(model, x, choice)
    assert fast_forward.relative_error(run(), plain(model, x)) < (1e-5 if dtype == torch.float32 else 1e-12)


class Cancels(Branches):
    """A small difference of large numbers."""

    def forward(self, x):
        x = super().forward(x)
        return (x + 1000) - 1000


class Unknown(Branches):
    """An operation that does not exist in bfloat16."""

    def forward(self, x):
        x = super().forward(x)
        if x.dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return x


@pytest.mark.parametrize('kind, message', [(Cancels, 'has a relative error of'), (Unknown, 'the teacher fails with it')])
def test_bfloat16_is_not_used_where_it_is_wrong(monkeypatch, kind, message):
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: True)
    torch.manual_seed(0)
    model, x = drawn(kind(), torch.float32), torch.randn(2, 3, 8, 8)
    forward, run = fast(model, x, True)
    with pytest.warns(UserWarning, match=f'fast_teacher: bfloat16 is not used, because .*{message}'):
        found = run()
    assert forward._accepted == {('bfloat16', None): False, ('exact', None): True}
    assert fast_forward.relative_error(found, plain(model, x)) < 1e-3


def test_a_fold_that_is_wrong_is_not_used(monkeypatch):
    monkeypatch.setattr(fast_forward, '_fold', lambda layer, norm: (layer.weight, norm.bias))
    model = drawn(Branches())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    _, run = fast(model, x)
    with pytest.warns(UserWarning, match="folding of batch norms is not used, because layer 'out' of the teacher has"):
        found = run()
    assert torch.equal(found, plain(model, x)) and torch.equal(run(), found)


def test_autocast_of_the_training_decides(monkeypatch):
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: True)
    torch.manual_seed(0)
    model, x = drawn(Branches(), torch.float32), torch.randn(2, 3, 8, 8)
    _, run = fast(model, x, True)
    with torch.autocast('cpu', torch.bfloat16):
        found, expected = run(), plain(model, x)
    assert found.dtype == expected.dtype and fast_forward.relative_error(found, expected) < 0.02


def test_bfloat16_is_compared_when_it_is_first_used(monkeypatch):
    """It is not used inside autocast, so a comparison there would say nothing."""
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: True)
    model, x = drawn(Cancels(), torch.float32), torch.randn(2, 3, 8, 8)
    _, run = fast(model, x, True)
    with torch.autocast('cpu', torch.float16):
        run()
    with pytest.warns(UserWarning, match='bfloat16 is not used'):
        found = run()
    assert fast_forward.relative_error(found, plain(model, x)) < 1e-3


@pytest.mark.parametrize('wrong', ['yes', 1, 0, None, 'bfloat16'])
def test_other_values_are_refused(wrong):
    with pytest.raises(ArgumentError, match=f"fast_teacher={wrong!r} is not one of True, exact, False"):
        distpro.Distillation(network(), network(), torch.randn(2, 3, 16, 16), fast_teacher=wrong)
