"""A fast teacher against the same teacher as it is."""
import copy
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from branches import Branches, drawn, fast, plain
from torch import nn
from toys import network

import distpro
from distpro.tracing import FastForward, fast_forward, trace


class UsedByAFunction(Branches):

    def forward(self, x):
        between = self.conv1(x)
        return self.bn2(self.conv2(self.bn1(between))) + between.abs()


class UsedByAMethod(Branches):

    def forward(self, x):
        between = self.conv1(x)
        return self.bn2(self.conv2(self.bn1(between))) * between.mean()


class Returned(Branches):

    def forward(self, x):
        between = self.conv1(x)
        return self.bn2(self.conv2(self.bn1(between))), between


class TwiceCalled(Branches):

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        return self.bn2(self.conv2(x)) + self.conv2(x.relu())


class TwiceNormalised(Branches):

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        return self.bn1(self.conv2(x))


@pytest.mark.parametrize('kwargs', [
    {}, dict(bias=False), dict(stride=2), dict(dilation=2, padding_mode='reflect'), dict(padding_mode='circular')])
@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('seed', [0, 1])
def test_folded_batch_norms_compute_the_same(monkeypatch, kwargs, affine, seed):
    torch.manual_seed(seed)
    model = Branches(**kwargs)
    model.bn1 = nn.BatchNorm2d(4, affine=affine, eps=0.1)
    drawn(model)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    forward, run = fast(model, x)
    calls, batch_norm = [], F.batch_norm
    monkeypatch.setattr(F, 'batch_norm', lambda *args: calls.append(0) or batch_norm(*args))
    run()
    assert forward.norms == {model.conv1: model.bn1, model.conv2: model.bn2} and len(calls) == 2  # for the comparison
    found = run()
    assert len(calls) == 2
    torch.testing.assert_close(found, plain(model, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('groups', [1, 3])
def test_grouped_convolutions_are_folded(groups):
    torch.manual_seed(0)
    model = drawn(nn.Sequential(nn.Conv2d(3, 6, 3, groups=groups), nn.BatchNorm2d(6)))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    forward, run = fast(model, x)
    torch.testing.assert_close(run(), plain(model, x), rtol=1e-12, atol=1e-12)
    assert len(forward.norms) == 1


@pytest.mark.parametrize('kind, folded', [(UsedByAFunction, ['bn2']), (UsedByAMethod, ['bn2']), (Returned, ['bn2']),
                                          (TwiceCalled, ['bn1']), (TwiceNormalised, [])])
def test_a_convolution_whose_output_is_used_elsewhere_is_not_folded(kind, folded):
    torch.manual_seed(0)
    model = drawn(kind())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    forward, run = fast(model, x)
    assert list(forward.norms.values()) == [model.get_submodule(name) for name in folded]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        torch.testing.assert_close(run(), plain(model, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('norm', [nn.BatchNorm2d(4, track_running_stats=False), nn.InstanceNorm2d(4, affine=True),
                                  nn.GroupNorm(2, 4), nn.Identity()])
def test_other_norms_are_as_they_are(norm):
    model = Branches()
    model.bn1 = norm
    drawn(model)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    forward, run = fast(model, x)
    torch.testing.assert_close(run(), plain(model, x), rtol=1e-12, atol=1e-12)
    assert list(forward.norms) == [model.conv2]


@pytest.mark.parametrize('name, kind', [('conv1', 'output'), ('bn1', 'input'), ('bn1', 'pre')])
def test_a_layer_that_is_read_before_its_batch_norm_is_read_as_it_is(name, kind):
    """The hook exists during a run only, as those of a FeatureReader."""
    torch.manual_seed(0)
    model = drawn(Branches())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    forward = FastForward(trace(model, lambda: model(x)), 'exact')
    read, module = [], model.get_submodule(name)

    def hooked(images):
        if kind == 'pre':
            handle = module.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
        else:
            handle = module.register_forward_hook(
                lambda module, inputs, output: read.append(output if kind == 'output' else inputs[0]))
        out = model(images)
        handle.remove()
        return dict(out=out, read=read[-1])

    with torch.no_grad():
        for _ in range(2):
            found = forward.run(hooked, x)
    expected = model.conv1._conv_forward(x, model.conv1.weight, model.conv1.bias)
    torch.testing.assert_close(found['read'], expected, rtol=0, atol=0)
    torch.testing.assert_close(found['out'], plain(model, x), rtol=1e-12, atol=1e-12)
    assert forward.ways == ['exact']


def _load(model):
    model.load_state_dict(drawn(Branches()).state_dict())


def _in_place(model):
    with torch.no_grad():
        model.bn1.running_var.mul_(3)


def _swapped(model):
    model.conv2.weight.data = torch.randn_like(model.conv2.weight)


def _replaced(model):
    model.bn2.running_mean = torch.randn(4, dtype=torch.float64)


@pytest.mark.parametrize('change', [_load, _in_place, _swapped, _replaced])
def test_weights_that_change_are_folded_again(change):
    torch.manual_seed(0)
    model = drawn(Branches())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    _, run = fast(model, x)
    before = run()
    change(model)
    assert (plain(model, x) - before).abs().max() > 0.1
    torch.testing.assert_close(run(), plain(model, x), rtol=1e-12, atol=1e-12)


def test_a_batch_norm_in_training_mode_is_not_folded():
    torch.manual_seed(0)
    model = drawn(Branches())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    _, run = fast(model, x)
    run()
    model.bn1.train()
    expected = copy.deepcopy(model)
    torch.testing.assert_close(run(), plain(expected, x), rtol=1e-12, atol=1e-12)
    assert torch.equal(model.bn1.running_mean, expected.bn1.running_mean)


def test_outside_of_a_run_nothing_differs(device_with_bfloat16):
    torch.manual_seed(0)
    model = drawn(Branches(), torch.float32)
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, 8, 8)
    forward, run = fast(model, x, True)
    run()

    def fail(module, inputs, output):
        assert 'forward' in vars(model.conv1)
        raise KeyError('fails')

    handle = model.bn2.register_forward_hook(fail)

    with pytest.raises(KeyError), torch.no_grad():
        forward.run(lambda images: dict(out=model(images)), x)
    handle.remove()
    assert not any('forward' in vars(module) for module in model.modules())
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    other = pickle.loads(pickle.dumps(copy.deepcopy(forward)))
    with torch.no_grad():
        assert torch.equal(other.run(lambda images: dict(out=other.network(images)), x)['out'], run())
    assert other.network is not model


def test_with_gradients_the_network_runs_as_it_is():
    model = drawn(Branches())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    forward, run = fast(model, x)
    run()
    forward.run(lambda images: dict(out=model(images)), x)['out'].sum().backward()
    assert model.bn1.weight.grad is not None


@pytest.mark.parametrize('choice', [True, 'exact'])
def test_a_distillation_has_the_same_loss_and_gradients(choice, device_with_bfloat16):
    torch.manual_seed(0)
    teacher, student, images = drawn(network(), torch.float32), network(), torch.randn(16, 3, 16, 16)
    gradients = []
    for fast_teacher in (False, choice):
        torch.manual_seed(1)
        kd = distpro.Distillation(copy.deepcopy(student), teacher, images[:2], fast_teacher=fast_teacher)
        out = kd(images)
        (F.cross_entropy(out.logits, torch.arange(16) % 5) + out.loss).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in kd.student.parameters()]))
    error = fast_forward.relative_error(gradients[1], gradients[0])
    assert 1e-4 < error < 0.1 if choice is True and device_with_bfloat16 else error < 1e-4


def test_batch_norms_are_folded_in_autocast_too(monkeypatch, recwarn):
    """The network itself has the rounding of bfloat16 then, so that what is folded may differ by more than in float32."""
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: False)
    torch.manual_seed(0)
    layers = [part for place in range(8) for part in (
        nn.Conv2d(8 if place else 3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU()))]
    images = torch.randn(6, 3, 16, 16)
    teacher = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    teacher(images)  # running statistics
    kd = distpro.Distillation(network(), teacher, images[:2], transmitters=['23'], connections='all')
    with torch.autocast('cpu', torch.bfloat16):
        kd(images)
    kd(images)
    assert kd.teachers.fast['']._accepted == {('exact', torch.bfloat16): True, ('exact', None): True}
    assert not [warning for warning in recwarn if 'fast_teacher' in str(warning.message)]
