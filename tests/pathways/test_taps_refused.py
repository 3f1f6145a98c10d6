"""Layers and values that cannot be read are refused by name."""
from collections import OrderedDict

import pytest
from tapped_networks import KEY, resolve, traced
from torch import nn

from distpro.errors import ArgumentError
from distpro.tracing import in_place_off, resolve_taps


@pytest.mark.parametrize('layer, message', [
    ('layr1', "the model has no layer 'layr1'; nearest: layer1"),
    ('layer1.relu2', "the model has no layer 'layer1.relu2'; nearest: layer1.relu"),
    ('layer3', "the model has no layer 'layer3'; nearest: .*layer2"),
    ('', "the model has no layer ''"),
    ('QQQ', "the model has no layer 'QQQ'$"),
    ('spare', "layer 'spare' is not called in a forward"),
    ('blocks', r"layer 'blocks' is not called in a forward of the model; give a layer inside it: blocks\.0, blocks\.1$"),
    (dict(module='layer1.relu', call=2), "layer 'layer1.relu' is called 2 times in a forward, so call=2 does not exist"),
    (dict(module='layer1.relu', call=-3), "layer 'layer1.relu' is called 2 times in a forward, so call=-3 does not exist"),
    ('fc', r"layer 'fc' returns \(2, 5\), which is not a map: neither \[B, C, H, W\]"),
    (dict(module='pool', before_activation=True), "the output of layer 'pool' is not that of an activation"),
    (dict(module='layer1.conv1', before_activation=True), "the output of layer 'layer1.conv1' is not that of"),
    (dict(module='layer1', element=2), r"layer 'layer1' returns 1 value\(s\), so element=2 does not exist"),
    (dict(module='layer1', call=None), 'call=None of a layer must be of type int'),
    (dict(module='layer1', element=1.0), 'element=1.0 of a layer must be of type int or str'),
    (dict(module=3), 'module=3 of a layer must be of type str'),
    (dict(module='layer1', name='a.b'), r"name='a\.b' of a layer may not contain"),
    (dict(name='stem'), "a layer needs 'module' and may have .*, got {'name': 'stem'}"),
    (dict(module='layer1', depth=1),
     r"a layer needs 'module' and may have \['before_activation', 'call', 'element', 'name'\], got {.*'depth': 1}"),
])
def test_a_layer_that_does_not_do_is_refused(network, layer, message):
    in_place_off(network)
    with pytest.raises(ArgumentError, match=f'^{KEY}: {message}') as caught:
        resolve(network, 'layer2', layer)
    assert '\n' not in str(caught.value)


def test_values_that_are_no_single_map_are_refused():

    class PutsOut(nn.Module):

        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return self.value(x)

    def put_out(value):
        return nn.Sequential(OrderedDict(layer=PutsOut(value)))

    with pytest.raises(ArgumentError, match=f"^{KEY}: layer 'layer' returns 2 values: choose one with element="):
        resolve(put_out(lambda x: (x, 2 * x)), 'layer')
    with pytest.raises(ArgumentError, match="'layer' returns 3 values"):
        resolve(put_out(lambda x: [x, x, x]), dict(module='layer', before_activation=False))
    with pytest.raises(ArgumentError, match=f"^{KEY}: layer 'layer' returns 2 values: choose .* one of \\['a', 'b'\\]"):
        resolve(put_out(lambda x: dict(a=x, b=x)), 'layer')
    with pytest.raises(ArgumentError, match=r"'layer' returns \(2, 3, 64\), which is not a map"):
        resolve(put_out(lambda x: (x, x.flatten(2))), dict(module='layer', element=1))
    with pytest.raises(ArgumentError, match=r"so element='c' does not exist; valid are \['a', 'b'\]"):
        resolve(put_out(lambda x: dict(a=x, b=x)), dict(module='layer', element='c'))
    with pytest.raises(ArgumentError, match="'layer' returns 2 values: choose one"):
        resolve(put_out(lambda x: (x.sum(), (8, 8))), 'layer')
    assert resolve(put_out(lambda x: (x[:, :2], )), 'layer')[0].shape == (2, 8, 8)  # a tuple of one needs no element


def test_two_layers_of_one_name_are_refused(network):
    in_place_off(network)
    for layers in (['layer1', 'pool', 'layer1'], ['layer1', dict(module='pool', name='layer1')],
                   [dict(module='layer1.bn1'), dict(module='pool', name='layer1_bn1')]):
        with pytest.raises(ArgumentError, match=f"^{KEY} has two layers called 'layer1.*rename one of them with name="):
            resolve(network, *layers)
    assert [tap.name for tap in resolve(network, 'layer1', dict(module='layer1', name='twice'))] == ['layer1', 'twice']


def test_no_layer_and_other_words_than_auto_are_refused(network):
    with pytest.raises(ArgumentError, match=f"^{KEY} is empty: give at least one layer, or {KEY}='auto'"):
        resolve(network)
    for word in ('layer1', 'Auto', ''):
        with pytest.raises(ArgumentError, match=f"^{KEY}='{word}' is neither 'auto' nor a list of layer names"):
            resolve_taps(word, traced(network), KEY)
