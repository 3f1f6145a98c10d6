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
from distpro.searching.footprint import bytes_of
from distpro.searching.trajectory import Trajectory
from distpro.tracing import FastForward, trace
from distpro.tracing.fast_forward import has_bfloat16, relative_error

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


@pytest.mark.parametrize('memory, memory_on', [(4.0, 'device'), (1e-6, 'device'), (4.0, 'host'), (1e-6, 'host')])
def test_the_search_finds_what_it_finds_on_a_cpu(device, monkeypatch, memory, memory_on):
    """Derivatives of complete rounds in float64, and the process, also with recomputed steps."""
    seen, plain = [], Round.derivatives
    monkeypatch.setattr(Round, 'derivatives', lambda self: seen.append(plain(self)) or seen[-1])
    processes = [searched(where, memory=memory, memory_on=memory_on) for where in (device, 'cpu')]
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
    counted = sum(bytes_of([one.before.theta, one.before.gradients, one.before.states, one.batch])
                  for one in trajectory.steps[1:])
    assert counted >= 5 * 4 * (500500 + 100000)
    if device.type == 'cuda':
        assert counted <= torch.cuda.memory_allocated() - before <= 1.05 * counted + 2**20
    trajectory.steps.clear()
    if device.type == 'cuda':
        assert torch.cuda.memory_allocated() <= before
    trajectory.close()


@pytest.mark.parametrize('choice, bound', [('exact', 1e-4), (True, 0.05)])
def test_the_fast_teacher_is_close_to_the_teacher(device, choice, bound):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=2, bias=False),
                            nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    images = torch.randn(32, 3, 32, 32)
    for _ in range(3):
        teacher(images)  # running statistics
    teacher.eval().to(device)
    images = images.to(device)
    forward = FastForward(trace(teacher, lambda: teacher(images)), choice)
    with torch.no_grad():
        plain = teacher(images)
        for _ in range(2):
            found = forward.run(lambda given: dict(logits=teacher(given)), images, key='logits')['logits']
    assert len(forward.norms) == 2 and found.dtype == torch.float32
    error = relative_error(found, plain)
    assert error < bound and (error > 1e-4) == (choice is True and has_bfloat16(device.type))


@pytest.mark.parametrize('deterministic', [False, True])
def test_the_recorded_loss_and_teacher_are_those_without_cuda_graphs(device, deterministic):
    """Parameters, running statistics and losses of a few steps with batches of two sizes, in float64."""
    torch.use_deterministic_algorithms(deterministic)
    ended = []
    for recorded in (True, False):
        student, teacher = network(4, 0).to(device), network(8, 1).to(device)
        torch.manual_seed(5)
        data = [torch.randn(size, 3, 14, 14).double().to(device) for size in (20, 20, 10, 20, 10, 20)]
        kd = distpro.Distillation(student, teacher, data[0], cuda_graph=recorded, fast_teacher=recorded)
        optimizer = sgd([*student.parameters(), *kd.parameters()])
        losses = []
        for step, images in enumerate(data):
            if step == 4:
                kd.grid.set_weights([float(index % 2) for index in range(len(kd.grid.names))])
            out = kd(images)
            optimizer.zero_grad()
            (functional.cross_entropy(out.logits, torch.arange(len(images), device=device) % 5) + out.loss).backward()
            optimizer.step()
            losses += [out.loss.detach(), *out.pathways.values()]
        ended.append({**student.state_dict(), **kd.grid.transforms.state_dict(), 'losses': torch.stack(losses)})
        if device.type == 'cuda':
            graphs = len(kd.grid._recorded_loss._recorder._graphs), len(kd.teachers.fast['']._recorder._graphs)
            assert graphs[0] == (4 if recorded else 0)  # two sizes, all pathways and half of them
            assert (graphs[1] > 0) == recorded
    for name, value in ended[0].items():
        torch.testing.assert_close(value, ended[1][name], rtol=1e-9, atol=1e-10)
