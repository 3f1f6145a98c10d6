"""What a search repeats: rounds that are too short, with other batches, and steps of a derivative, with the same ones."""
import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch.utils.data import DataLoader, Dataset, RandomSampler
from toys import labelled_images, network

import distpro
from distpro.searching import RoundSearch


class Watched(Dataset):
    """Images with an augmentation, and the places that were asked for."""

    def __init__(self, factor=lambda: 1.0):
        torch.manual_seed(0)
        self.items, self.factor, self.asked = labelled_images(96), factor, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        self.asked.append(place)
        image, label = self.items[place]
        return image * self.factor(), label


def search(loader, **kwargs):
    torch.manual_seed(1)
    held_out = DataLoader(labelled_images(20), 20)
    arguments = dict(rounds=0, max_divisions=1, references=[], min_iterations=1, epochs=1,
                     searcher=dict(type='RpropSearcher', confirmations=0), report=lambda line: None)
    return distpro.search(network(), network(8), loader, held_out, functional.cross_entropy,
                          lambda parameters: torch.optim.SGD(parameters, 0.02, 0.9), **{**arguments, **kwargs})


@pytest.mark.parametrize('repeats', [1, 3])
def test_every_round_has_batches_of_its_own(repeats, monkeypatch):
    data, orders, begin = Watched(), [], RoundSearch.begin

    def beginning(rounds):
        orders.append(len(data.asked))
        begin(rounds)

    monkeypatch.setattr(RoundSearch, 'begin', beginning)
    search(DataLoader(data, 32, shuffle=True), min_iterations=3 * repeats)
    found = [tuple(data.asked[start:start + 96]) for start in orders]
    assert len(found) == len(set(found)) == 3 * repeats  # the first level, a division, other logits
    assert all(sorted(order) == list(range(96)) for order in found)


def own_sampler(data, **options):
    return DataLoader(data, 32, sampler=RandomSampler(data, generator=torch.Generator().manual_seed(3), **options))


LOADERS = {
    'plain': lambda: DataLoader(Watched(), 32, shuffle=True),
    'generator': lambda: DataLoader(Watched(), 32, shuffle=True, generator=torch.Generator().manual_seed(3)),
    'generator of a sampler': lambda: own_sampler(Watched()),
    'generator that is drawn from again and again': lambda: own_sampler(Watched(), replacement=True),
    'numpy': lambda: DataLoader(Watched(lambda: float(np.random.rand() + 0.5)), 32, shuffle=True),
    'random': lambda: DataLoader(Watched(lambda: random.random() + 0.5), 32, shuffle=True),
}
REFINED = dict(epochs=2, rounds=2, max_divisions=0, max_growth=1e9)


@pytest.mark.parametrize('kind', LOADERS)
def test_a_derivative_in_parts_has_the_same_batches(kind, monkeypatch):
    tell, gradients = RoundSearch.tell, []

    def telling(rounds, trial, loss, gradient=None):
        gradients.append(gradient)
        tell(rounds, trial, loss, gradient)

    monkeypatch.setattr(RoundSearch, 'tell', telling)
    for memory in (4.0, 1e-9):
        search(LOADERS[kind](), memory=memory, **REFINED)
    assert gradients[0].abs().max() > 0 and torch.equal(gradients[0], gradients[2])


def test_batches_that_cannot_be_repeated_are_refused():
    drawn = np.random.RandomState(0)
    loader = DataLoader(Watched(drawn.rand), 32, shuffle=True)
    with pytest.raises(distpro.SearchError, match='takes its steps again, and now its batches are others: let their order'):
        search(loader, memory=1e-9, **REFINED)
    search(loader, **REFINED)  # all stored: none is taken again


def test_the_generators_of_a_loader_and_all_random_states_are_left_as_they_were():
    loader = LOADERS['generator']()
    before = loader.generator.get_state(), random.getstate(), np.random.get_state()[1].tolist()
    search(loader)
    assert torch.equal(loader.generator.get_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_the_student_has_its_modes_and_no_gradients_after_a_search():
    student = network().train()
    student[0][1].eval()  # a batch norm that stays as it is
    modes = [module.training for module in student.modules()]
    weights = copy.deepcopy(student.state_dict())
    distpro.search(student, network(8), LOADERS['plain'](), DataLoader(labelled_images(20), 20), functional.cross_entropy,
                   lambda parameters: torch.optim.SGD(parameters, 0.02, 0.9), epochs=1, min_iterations=1, rounds=0,
                   references=[], max_divisions=1, report=lambda line: None)
    assert [module.training for module in student.modules()] == modes
    assert all(p.grad is None for p in student.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())
