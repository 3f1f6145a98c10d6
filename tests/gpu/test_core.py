"""The package distpro gives the same results on a GPU as on a CPU, and does not change the GPU's random state."""
import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import distpro
from distpro.pathways import HCLLoss
from distpro.random_state import preserve_random_states, without_side_effects
from distpro.searching import Round
from distpro.searching.round import _bytes
from distpro.searching.trajectory import Trajectory

pytestmark = pytest.mark.gpu


def network(width, seed):
    torch.manual_seed(seed)

    def block(before, after, stride):
        return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    return nn.Sequential(block(3, width, 1), block(width, 2 * width, 2), block(2 * width, 2 * width, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 5)).double()


def loaders():
    torch.manual_seed(3)
    labels = torch.arange(80) % 5
    items = list(zip(torch.randn(80, 3, 14, 14).double() + 0.3 * labels[:, None, None, None], labels))
    return DataLoader(items[:60], 20, shuffle=True), DataLoader(items[60:], 20)


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.05, 0.9)


def searched(device, **options):
    torch.manual_seed(4)
    return distpro.search(network(4, 0).to(device), network(8, 1).to(device), *loaders(), functional.cross_entropy, sgd,
                          epochs=2, min_iterations=4, rounds=2, max_divisions=1, report=lambda line: None, **options)


@pytest.mark.parametrize('memory', [4.0, 1e-6])
def test_the_search_finds_what_it_finds_on_a_cpu(device, monkeypatch, memory):
    """Derivatives of complete rounds in float64, and the process, also with recomputed steps."""
    seen, plain = [], Round.derivatives
    monkeypatch.setattr(Round, 'derivatives', lambda self: seen.append(plain(self)) or seen[-1])
    processes = [searched(where, memory=memory) for where in (device, 'cpu')]
    assert len(seen) >= 2 and seen[0].device.type == device.type
    torch.testing.assert_close(seen[0].cpu(), seen[len(seen) // 2], rtol=1e-6, atol=1e-12)
    assert processes[0].names == processes[1].names
    torch.testing.assert_close(*(torch.as_tensor(process.weights) for process in processes), rtol=1e-5, atol=1e-9)


def test_a_search_leaves_random_numbers_and_student_as_they_were(device):
    student, teacher, data = network(4, 0).to(device), network(8, 1).to(device), loaders()
    before, states = copy.deepcopy(student.state_dict()), random_states(device)
    distpro.search(student, teacher, *data, functional.cross_entropy, sgd, epochs=1, min_iterations=3,
                   rounds=1, max_divisions=0, report=lambda line: None)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(map(torch.equal, random_states(device), states))


def test_a_distillation_trains_as_on_a_cpu(device):
    process = dict(progress=[0, 1], weights=dict(features=[1, 3], logits=[1, 2]))
    ended = []
    for where in (device, 'cpu'):
        student, teacher = network(4, 0).to(where), network(8, 1).to(where)
        torch.manual_seed(5)
        images = torch.randn(20, 3, 14, 14).double().to(where)
        kd = distpro.Distillation(student, teacher, images[:2], process=process)
        optimizer = sgd([*student.parameters(), *kd.parameters()])
        for step in range(5):
            out = kd(images, progress=step / 4)
            optimizer.zero_grad()
            (functional.cross_entropy(out.logits, torch.arange(20, device=where) % 5) + out.loss).backward()
            optimizer.step()
        ended.append({name: value.cpu() for name, value in {**student.state_dict(), **kd.grid.transforms.state_dict(),
                                                            'loss': out.loss.detach()}.items()})
    for name, value in ended[0].items():
        torch.testing.assert_close(value, ended[1][name], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_gives_a_loss_near_that_in_full_precision(device, dtype):
    student, teacher = (network(width, width).float().to(device) for width in (4, 8))
    images, losses = torch.randn(20, 3, 14, 14).to(device), []
    kd = distpro.Distillation(student, teacher, images[:2])
    for enabled in (False, True):
        with torch.autocast(device.type, dtype, enabled):
            losses.append(kd(images).loss)
    assert losses[1].dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)
    losses[1].backward()
    assert all(p.grad.isfinite().all() for p in [*student[0].parameters(), *kd.parameters()])


@pytest.mark.parametrize('side', [7, 14])
def test_the_distance_has_a_deterministic_derivative(device, side):
    """14 and 7 pixels, as on ImageNet, are no multiples of the 4 bins."""
    torch.use_deterministic_algorithms(True)
    maps = torch.randn(2, 3, 5, side, side).double()
    gradients = []
    for where in (device, 'cpu'):
        student = maps[0].to(where).requires_grad_()
        HCLLoss()(student, maps[1].to(where)).backward()
        gradients.append(student.grad.cpu())
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-15)


def random_states(device):
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == 'cuda' else [])


@pytest.mark.parametrize('modules', [
    [nn.Linear(4, 4), nn.Dropout()], [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()]], ids=['no buffers', 'buffers'])
def test_random_numbers_of_the_gpu_are_restored(device, modules):
    model = nn.Sequential(*modules).to(device)
    x = torch.randn(8, 4).to(device)
    states, buffers = random_states(device), copy.deepcopy(dict(model.named_buffers()))
    with without_side_effects(model):
        first = model(x)
    assert all(map(torch.equal, random_states(device), states))
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    with preserve_random_states(device):
        assert torch.equal(model(x), first)
    assert all(map(torch.equal, random_states(device), states))


@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
def test_stored_steps_take_the_memory_that_is_counted(device, kind):
    model = nn.Linear(1000, 500).to(device)
    optimizer = kind(model.parameters(), 0.01)
    trajectory, batch = Trajectory(dict(model.named_parameters()), optimizer), torch.randn(100, 1000).to(device)

    def step(number):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        trajectory.store((number, batch.clone()), torch.ones(1))
        optimizer.step()

    step(0)  # the optimiser's own state
    before = torch.cuda.memory_allocated()
    for number in range(1, 6):
        step(number)
    counted = sum(map(_bytes, trajectory.steps[1:]))
    assert counted >= 5 * 4 * (500500 + 100000)
    if device.type == 'cuda':
        assert counted <= torch.cuda.memory_allocated() - before <= 1.05 * counted + 2**20
    trajectory.steps.clear()
    if device.type == 'cuda':
        assert torch.cuda.memory_allocated() <= before
    trajectory.close()
