"""Toy loaders and a toy teacher that was trained on them."""
import pytest
import torch
import torch.nn.functional as functional
from torch.utils.data import DataLoader
from toys import labelled_images, network

from distpro.tracing import fast_forward


@pytest.fixture(scope='session')
def data():
    """A training and a held-out loader."""
    torch.manual_seed(0)
    items = labelled_images(200)
    return DataLoader(items[:160], 32, shuffle=True, drop_last=True), DataLoader(items[160:], 20)


@pytest.fixture(scope='session')
def teacher(data):
    """A trained network, which tests must not change."""
    torch.manual_seed(1)
    model = network(8)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    for _ in range(10):
        for images, labels in data[0]:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model


@pytest.fixture(params=[True, False], ids=['bfloat16', 'no bfloat16'])
def device_with_bfloat16(request, monkeypatch):
    """Whether the machine says that it has units for bfloat16; CPUs without them compute the same, slowly."""
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: request.param)
    return request.param
