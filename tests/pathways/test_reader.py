"""Features are read by hooks that leave nothing behind."""
import copy
import pickle

import pytest
import torch
from tapped_networks import BEFORE, KEY, LAYERS, number_of_hooks, read, resolve, traced
from torch import nn

from distpro.tracing import FeatureReader, probe_input, resolve_taps, trace


def test_no_hook_outlives_the_block(tapped, images):
    model, taps = tapped
    with FeatureReader(model, taps) as reader:
        assert number_of_hooks(model) == 3
        model(images)
    assert number_of_hooks(model) == 0 and list(reader.features) == list(LAYERS)
    before = reader.features['layer1']
    model(images + 1)
    assert reader.features['layer1'] is before


@pytest.mark.parametrize('stop_early', [False, True])
def test_no_hook_outlives_an_error_and_the_error_is_seen(tapped, images, stop_early):
    model, taps = tapped
    with pytest.raises(ZeroDivisionError):
        with FeatureReader(model, taps, stop_early):
            raise ZeroDivisionError
    assert number_of_hooks(model) == 0
    with pytest.raises(RuntimeError, match='channels'):
        with FeatureReader(model, taps, stop_early):
            model(images[:, :2])
    assert number_of_hooks(model) == 0


def test_a_model_can_be_copied_and_pickled_after_reading(tapped, images):
    model, taps = tapped
    features = read(model, taps, images)
    assert features['layer2'].requires_grad  # it has a graph
    model.eval()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images), model(images)) and number_of_hooks(twin) == 0
        assert torch.equal(read(twin, taps, images)['layer2'], read(model, taps, images)['layer2'])


@pytest.mark.parametrize('stop_early', [False, True])
def test_a_reader_can_be_used_again(tapped, images, stop_early):
    model, taps = tapped
    reader = FeatureReader(model, taps, stop_early)
    model.eval()
    for batch in (images, images + 1):
        with reader:
            model(batch)
        expected = read(model, taps, batch)
        assert set(reader.features) == set(expected) == set(LAYERS)
        assert all(torch.equal(reader.features[name], expected[name]) for name in LAYERS)


def test_gradients_flow_through_what_is_read(tapped, images):
    model, taps = tapped
    features = read(model, taps, images)
    gradient, = torch.autograd.grad(features['relu'][..., 0, 0].sum(), model.bn.bias)
    assert torch.allclose(gradient, torch.full((6, ), 4.0, dtype=torch.float64))


def test_stopping_early_leaves_out_what_follows(tapped, images):
    model, taps = tapped
    model.eval()
    watched, called = ('relu', 'layer1.relu', 'pool', 'layer2.conv1', 'blocks.0', 'fc'), []
    for name in watched:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    whole = read(model, taps, images)
    assert tuple(dict.fromkeys(called)) == watched
    for chosen, reached in ((taps, 4), (taps[:2], 2), (taps[1::-1], 2), (taps[:1], 1)):
        called.clear()
        stopped = read(model, chosen, images, stop_early=True)
        assert tuple(dict.fromkeys(called)) == watched[:reached]
        assert set(stopped) == {tap.name for tap in chosen}
        assert all(torch.equal(stopped[name], whole[name]) for name in stopped)


def test_stopping_early_waits_for_the_last_call(tapped, images):
    model, _ = tapped
    model.eval()
    taps = resolve(model, dict(module='layer1.relu', call=0, name='first'), dict(module='layer1.relu', name='second'))
    whole, stopped = read(model, taps, images), read(model, taps, images, stop_early=True)
    assert list(stopped) == ['first', 'second'] and not torch.equal(stopped['first'], stopped['second'])
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


# ---- tracing


def test_tracing_leaves_nothing_behind(network):
    network.train()
    network.layer1.eval()
    network.layer1.bn2.training = True
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random, passes = torch.get_rng_state(), []

    def forward():
        passes.append([module.training for module in network.modules()])
        network(torch.randn(2, 3, 8, 8, dtype=torch.float64))

    trace(network, forward)
    assert passes == [[False] * len(modes)]
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert number_of_hooks(network) == 0
    assert not any(p.grad is not None for p in network.parameters())


def test_finding_the_layers_leaves_the_modes_as_they_are(tapped):
    model, _ = tapped
    model.train()
    model.layer1.eval()
    model.layer1.bn2.training = True
    modes = [module.training for module in model.modules()]
    assert [tap.side for tap in resolve(model, *BEFORE)] == ['input'] * 3
    resolve_taps('auto', traced(model), KEY)
    assert [module.training for module in model.modules()] == modes


def test_a_forward_that_fails_leaves_nothing_behind_either(network):
    network.train()
    network.layer2.eval()
    modes, random = [module.training for module in network.modules()], torch.get_rng_state()

    def forward():
        network(torch.randn(2, 3, 8, 8, dtype=torch.float64))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trace(network, forward)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random) and number_of_hooks(network) == 0


def test_a_trace_holds_every_call_in_order(network):
    calls = traced(network)
    assert [(call.name, call.index) for call in calls.calls][:11] == [
        ('conv', 0), ('bn', 0), ('relu', 0), ('layer1.conv1', 0), ('layer1.bn1', 0), ('layer1.relu', 0), ('layer1.conv2', 0),
        ('layer1.bn2', 0), ('layer1.relu', 1), ('layer1', 0), ('pool', 0)]
    assert [call.index for call in calls.of('layer2.relu')] == [0, 1] and calls.of('spare') == calls.of('blocks') == []
    assert all(call.output.requires_grad for call in calls.calls)


def test_probing_images_are_the_same_every_time_and_cost_no_random_numbers(network):
    random = torch.get_rng_state()
    images = probe_input(network)
    assert images.shape == (2, 3, 64, 64) and images.dtype == torch.float64
    assert torch.equal(images, probe_input(network)) and torch.equal(torch.get_rng_state(), random)
    assert not torch.equal(images[0], images[1])
    network.pool.img_size = (24, 40)
    assert probe_input(network).shape == (2, 3, 24, 40)
    assert probe_input(nn.Conv2d(1, 2, 3), (5, 6, 7)).shape == (2, 5, 6, 7)
    assert probe_input(nn.Conv2d(1, 2, 3)).shape == (2, 1, 64, 64)
