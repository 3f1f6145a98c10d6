"""Several teachers at once: their pathways, weights, processes and logits."""
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn
from toys import network

import distpro
from distpro.process import DistillationProcess, map_process
from distpro.weighting import Weighting

pytestmark = pytest.mark.usefixtures('fixed_values')

MANUAL = dict(progress=[0, 1], weights=dict(features=[1, 10], logits=[3, 3]))


def images(count=6):
    return torch.randn(count, 3, 16, 16)


def of_two(large=None, small=None, seed=0, **kwargs):
    torch.manual_seed(seed)
    student = network()
    return distpro.Distillation(student, dict(large=large or network(8), small=small or network(6)), images(2), **kwargs)


def deeper():
    """A teacher with one stage more."""
    found = network(8)
    found.insert(3, nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16)))
    return found


DEEPER = ['0', '1', '2', '3']  # layers of it


class Plain(nn.Module):
    """A transform without resizing: a matrix for each pixel."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(out_channels, in_channels))

    def forward(self, x, size):
        assert x.shape[2:] == size
        return torch.einsum('oi,bihw->bohw', self.matrix, x)


def by_hand(student, teachers, layers, matrices, weights, x):
    """The loss from the definition: means over all pathways of a kind, with the features of each teacher by itself."""
    def outputs(model):
        found = []
        for part in model:
            found.append(part(found[-1] if found else x))
        return found

    own = outputs(student)
    features, logits = [], []
    for name, model in teachers.items():
        with torch.no_grad():
            theirs = outputs(model)
        for layer in layers[name]:
            target = theirs[int(layer)]
            deviation = target.var((0, 2, 3), correction=0).mean().sqrt()
            key = f'{name}:{layer}>{layer}:plain'
            difference = torch.einsum('oi,bihw->bohw', matrices[key], own[int(layer)]) - target / deviation
            features.append(weights[key] * difference.square().mean())
        p = (theirs[-1] / 4).softmax(1)
        divergence = (p * (p.log() - (own[-1] / 4).log_softmax(1))).sum(1).mean()
        logits.append(weights[f'{name}:logits>logits:kl'] * 16 * divergence)
    return sum(features) / len(features) + sum(logits) / len(logits)


def test_loss_and_gradients_are_those_of_the_definition():
    torch.manual_seed(torch.initial_seed() % 1000)
    layers = dict(large=['1', '2'], small=['2'])
    teachers = dict(large=network(8).double(), small=network(6).double())
    student = network().double()
    kd = distpro.Distillation(
        student, teachers, images(2).double(), transmitters=layers, receivers=['1', '2'],
        connections=[('large:1', '1'), ('large:2', '2'), ('small:2', '2')], transforms=dict(plain=Plain),
        distance=nn.MSELoss(), fast_teacher=False, map_size=None)
    assert kd.grid.names == ['large:1>1:plain', 'large:2>2:plain', 'small:2>2:plain', 'large:logits>logits:kl',
                             'small:logits>logits:kl']
    assert kd.grid.layer_names == dict(transmitters=['large:1', 'large:2', 'small:2'], receivers=['1', '2'])
    weights = dict(zip(kd.grid.names, [0.3, 2.0, 0.7, 1.5, 0.4]))
    kd.grid.set_weights(list(weights.values()))
    twin, x = copy.deepcopy(student), images().double()
    matrices = {name: transform.matrix.detach().clone().requires_grad_() for name, transform in kd.grid.transforms.items()}
    found, expected = kd(x).loss, by_hand(twin, teachers, layers, matrices, weights, x)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    found.backward()
    expected.backward()
    for own, other in zip([*student.parameters(), *(transform.matrix for transform in kd.grid.transforms.values())],
                          [*twin.parameters(), *matrices.values()], strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-13)
    assert all(p.grad is None for model in teachers.values() for p in model.parameters())
    swapped = {**weights, 'large:2>2:plain': weights['small:2>2:plain'], 'small:2>2:plain': weights['large:2>2:plain']}
    assert abs(by_hand(twin, teachers, layers, matrices, swapped, x) / expected - 1) > 1e-3


def test_each_teacher_is_connected_by_its_own_depths():
    kd = of_two(deeper(), connections='nearest_depth', transmitters=dict(large=DEEPER))
    alone = {name: distpro.Distillation(network(), teacher, images(2), connections='nearest_depth',
                                        transmitters=DEEPER if name == 'large' else 'auto')
             for name, teacher in kd.teacher.items()}
    features = [f'{name}:{pathway}' for name, other in alone.items() for pathway in other.grid.names[:-1]]
    assert kd.grid.names == features + ['large:logits>logits:kl', 'small:logits>logits:kl']
    assert [len(other.grid.layer_names['transmitters']) for other in alone.values()] == [4, 3]


@pytest.mark.parametrize('unit', ['variance', 'loss'])
def test_two_identical_teachers_give_the_loss_of_one(unit, tmp_path):
    """With a process that is mapped by depth; in the unit 'variance' it comes with the package."""
    torch.manual_seed(0)
    teacher, x = network(8).double(), images().double()
    process = 'general'
    if unit == 'loss':
        names = [f'{t}>{s}:pointwise' for t in 'abcd' for s in 'xyz'] + ['logits>logits:kl']
        process = DistillationProcess(names, Weighting('exponential', unit='loss'), [0, 1], np.random.randn(2, 13),
                                      layers=dict(transmitters=list('abcd'), receivers=list('xyz')))
    options = dict(process=process, transfer=True, weighting=Weighting('exponential', unit=unit), fast_teacher=False)
    losses = []
    for teachers in (teacher, dict(one=teacher, two=copy.deepcopy(teacher))):
        torch.manual_seed(1)
        kd = distpro.Distillation(network().double(), teachers, x[:2], **options)
        for index, transform in enumerate(kd.grid.transforms.values()):
            torch.manual_seed(index % (len(kd.grid.transforms) if isinstance(teachers, nn.Module) else
                                       len(kd.grid.transforms) // 2))
            for p in transform.parameters():
                nn.init.normal_(p)
        losses.append([kd(x, progress=progress).loss.item() for progress in (0, 0.4, 1)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_each_of_two_different_teachers_gets_half_of_its_own_weights():
    x = images().double()
    kd = of_two(deeper(), process='general', fast_teacher=False, transmitters=dict(large=DEEPER))
    for module in (kd.student, kd, *kd.teacher.values()):
        module.double()
    alone = {name: distpro.Distillation(kd.student, teacher, x[:2], process='general', fast_teacher=False,
                                        transmitters=DEEPER if name == 'large' else 'auto')
             for name, teacher in kd.teacher.items()}
    kd.student.eval()
    for name, other in alone.items():
        for pathway, transform in other.grid.transforms.items():
            transform.load_state_dict(kd.grid.transforms[f'{name}:{pathway}'].state_dict())
    assert len({len(other.grid.names) for other in alone.values()}) == 2
    for progress in (0, 0.3, 1):
        halves = [other(x, progress=progress).loss.item() / 2 for other in alone.values()]
        assert kd(x, progress=progress).loss.item() == pytest.approx(sum(halves), rel=1e-6)


def test_a_process_of_several_teachers_needs_their_names_and_keeps_their_shares():
    kd = of_two()
    process = DistillationProcess.by_hand(kd.grid.names, [0, 1], np.random.uniform(0.5, 2, (2, len(kd.grid.names))))
    process.layers = kd.grid.layer_names
    torch.manual_seed(1)
    other = of_two(deeper(), transmitters=dict(large=DEEPER))
    mapped = map_process(process, other.grid.names, other.grid.layer_names)
    for teacher in ('large', 'small'):
        for kind in (False, True):
            shares = []
            for found in (process, mapped):
                of_kind = [('logits>' in name) == kind for name in found.names]
                own = [chosen and name.startswith(teacher) for chosen, name in zip(of_kind, found.names)]
                shares.append(found.weights[:, own].sum(1) / sum(of_kind))
            np.testing.assert_allclose(*shares, rtol=1e-12)
    renamed = [name.replace('small', 'tiny') for name in other.grid.names]
    with pytest.raises(distpro.ProcessError, match='teachers large, small and the new networks have large, tiny'):
        map_process(process, renamed)
    with pytest.raises(distpro.ArgumentError, match='teachers large, small and the new networks have one without a name'):
        distpro.Distillation(network(), network(8), images(2), process=process, transfer=True)


def test_a_teacher_of_other_classes_is_compared_by_its_features():
    with pytest.warns(UserWarning, match="the teacher 'small' has 7 classes and the student 5, so only its features"):
        kd = of_two(small=network(6, classes=7))
    assert [name for name in kd.grid.names if 'logits' in name] == ['large:logits>logits:kl']
    assert any(name.startswith('small:') for name in kd.grid.names)
    with pytest.raises(distpro.ArgumentError, match="logits: the teacher 'large' has 7 classes, the teacher 'small' has 7"):
        of_two(network(8, classes=7), network(6, classes=7))
    headless = network(6)[:-1]
    headless.append(nn.Identity())
    with pytest.warns(UserWarning, match="the teacher 'small' returns no logits"):
        assert 'small:logits>logits:kl' not in of_two(small=headless).grid.names


def test_a_teacher_without_weight_does_not_run():
    kd, ran = of_two(), []
    for name, teacher in kd.teacher.items():
        teacher.register_forward_hook(lambda *_, name=name: ran.append(name))
    x = images()
    kd(x)
    assert set(ran) == {'large', 'small'}
    ran.clear()
    kd.grid.set_weights([float(name.startswith('large')) for name in kd.grid.names])
    assert kd(x).loss.isfinite() and set(ran) == {'large'}


def test_losses_of_logits_with_parameters_are_not_shared():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, student, teacher):
            return (self.scale * student - teacher).square().mean()

    kd = of_two(logits=dict(scaled=Scaled()))
    kd(images()).loss.backward()
    first, second = kd.grid.logit_losses.values()
    assert first.scale.grad and second.scale.grad and first.scale.grad != second.scale.grad


def train(kd, optimizer, first, last, steps=6):
    for step in range(first, last):
        torch.manual_seed(step)
        x, labels = images(), torch.arange(6) % 5
        out = kd(x, progress=step / (steps - 1))
        optimizer.zero_grad()
        (functional.cross_entropy(out.logits, labels) + out.loss).backward()
        optimizer.step()


def test_a_training_resumes_bit_for_bit():
    ended = []
    for stops in (False, True):
        kd = of_two(process=MANUAL)
        optimizer = torch.optim.SGD([*kd.student.parameters(), *kd.parameters()], 0.05, 0.9)
        train(kd, optimizer, 0, 3)
        if stops:
            states = copy.deepcopy([module.state_dict() for module in (kd.student, kd, optimizer)])
            kd = of_two(process=MANUAL, seed=7)
            for teacher, other in zip(kd.teacher.values(), of_two().teacher.values()):
                teacher.load_state_dict(other.state_dict())
            optimizer = torch.optim.SGD([*kd.student.parameters(), *kd.parameters()], 0.05, 0.9)
            for module, state in zip((kd.student, kd, optimizer), states):
                module.load_state_dict(state)
        train(kd, optimizer, 3, 6)
        ended.append({**kd.student.state_dict(), **kd.state_dict()})
    for name, value in ended[0].items():
        assert torch.equal(value, ended[1][name]), name


def test_a_search_weighs_the_teachers_and_its_process_is_replayed(data, teacher, tmp_path):
    torch.manual_seed(2)
    teachers, student = dict(trained=teacher, random=network(6)), network()
    process = distpro.search(
        student, teachers, *data, functional.cross_entropy, lambda parameters: torch.optim.SGD(parameters, 0.05, 0.9),
        epochs=2, min_iterations=10, max_divisions=1, rounds=2, references=['student'], report=lambda line: None,
        searcher=dict(type='RpropSearcher', confirmations=0))
    steps = [trial for trial in process.origin['trials'] if trial['kind'] == 'step']
    assert steps and all(np.isfinite(trial['loss']) for trial in steps)
    process.save(str(tmp_path / 'process.json'))
    kd = distpro.Distillation(student, teachers, next(iter(data[0]))[0][:2], process=str(tmp_path / 'process.json'))
    assert kd.process.names == kd.grid.names and {name.split(':')[0] for name in kd.grid.names} == {'trained', 'random'}
    assert kd(next(iter(data[0]))[0], progress=0.5).loss.isfinite()


@pytest.mark.parametrize('teachers, message', [
    (dict(large='x'), '^teacher: a dict .keys: large. must be the dict of a network, with the key name, .*two or more'),
    (dict(large=network(8)), '^teacher: a dict .keys: large. must be'), ({}, '^teacher: a dict .keys: none. must be'),
    ({'a:b': None, 'c': None}, "the name 'a:b' of a teacher must be a text without . : >"),
    ({'a': None, 3: None}, 'the name 3 of a teacher'),
    (dict(a='timm:no_such', b='nonsense'), "^teacher: a: name='timm:no_such'"),
])
def test_what_are_no_teachers_is_refused(teachers, message):
    with pytest.raises(distpro.ArgumentError, match=message):
        distpro.Distillation(network(), teachers, images(2))


def test_layers_of_an_unknown_teacher_are_refused():
    with pytest.raises(distpro.ArgumentError, match="transmitters has 'big', .*the teachers are large, small"):
        of_two(transmitters=dict(big=['1']))
    with pytest.raises(distpro.ArgumentError, match="transmitters: small: .*'nine'"):
        of_two(transmitters=dict(small=['nine']))
    with pytest.raises(distpro.ArgumentError, match='there is one teacher; give a list'):
        distpro.Distillation(network(), network(), images(2), transmitters=dict(large='auto'))
    chosen = of_two(transmitters=dict(small=['1']))
    assert {name.split('>')[0] for name in chosen.grid.names if name.startswith('small')} == {'small:1', 'small:logits'}


def test_a_teacher_that_another_module_sets_to_training_teaches_in_eval_mode():
    """As a module does that has the teacher too, and calls train() of all that it has."""
    torch.manual_seed(0)
    student, teacher, images = network(), network(8), torch.randn(6, 3, 16, 16)
    kd = distpro.Distillation(student, teacher, images[:2], fast_teacher=False)
    before, statistics = kd(images).loss.item(), teacher[0][1].running_mean.clone()
    module = torch.nn.ModuleDict(dict(kd=kd, teacher=teacher))
    module.train()
    assert kd(images).loss.item() == pytest.approx(before, rel=1e-6)
    assert torch.equal(teacher[0][1].running_mean, statistics) and not teacher.training
