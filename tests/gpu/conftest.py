"""Tests on a GPU. DISTPRO_REHEARSE=1 runs them on the CPU, as far as possible."""
import os

import pytest
import torch


@pytest.fixture(autouse=True)
def a_gpu():
    if not torch.cuda.is_available() and not os.environ.get('DISTPRO_REHEARSE'):
        pytest.skip('torch finds no GPU')


@pytest.fixture
def device():
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.fixture(autouse=True)
def as_torch_is_by_default(the_same_results_on_a_gpu, monkeypatch):
    """Not deterministic by default. Without tf32, which is too inaccurate to compare with a CPU."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', False)
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(False)
