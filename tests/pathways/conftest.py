"""The toy network of the tests of taps."""
import pytest
import torch
from tapped_networks import BEFORE, Network, resolve, shaken

from distpro.tracing import in_place_off


@pytest.fixture
def network():
    torch.manual_seed(0)
    return shaken(Network())


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tapped(network):
    in_place_off(network)
    return network, resolve(network, *BEFORE)
