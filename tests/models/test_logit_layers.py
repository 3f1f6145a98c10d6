"""Which value of a network is taken for its logits."""
import pytest
import torch
import torch.nn.functional as F
from logit_models import CLASSES, DKD, KL, build
from mmengine.model import BaseModel
from mmrazor.registry import MODELS
from torch import nn
from toys import SHAPE, batch

from distpro_mm.errors import ConfigError


class Averaged(nn.Module):
    """Two classifiers: their mean in evaluation, both in training, as timm's distilled DeiT."""

    def __init__(self, width, both_in_training):
        super().__init__()
        self.first, self.second, self.both = nn.Linear(width, CLASSES), nn.Linear(width, CLASSES), both_in_training

    def forward(self, x):
        one, other = self.first(x), self.second(x)
        return (one, other) if self.both and self.training else (one + other) / 2


@MODELS.register_module()
class TwoClassifiers(BaseModel):
    """A network that averages two classifiers in its forward, or in a layer."""

    def __init__(self, how='in_forward'):
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 6, 3, 1, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.head = Averaged(8, how == 'both_in_training')
        self.how = how

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.body(self.stem(inputs).tanh()).tanh().mean((2, 3))
        if self.how == 'in_forward':
            logits = (self.head.first(x) + self.head.second(x)) / 2
        elif self.how == 'not_in_training' and mode == 'loss':
            logits = self.head.first(x)
        else:
            logits = self.head(x)
        if mode == 'tensor':
            return dict(logits=logits) if self.how == 'dict' else (logits, x) if self.how == 'tuple' else logits
        logits = logits[0] if isinstance(logits, tuple) else logits
        return dict(loss=F.cross_entropy(logits, torch.cat([sample.gt_label for sample in data_samples])))


def two_classifiers(how, **kl):
    layers = ['stem', 'body']
    return MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture=dict(type='TwoClassifiers', how=how), input_shape=SHAPE,
        fast_teacher=False,
        teacher=dict(type='TwoClassifiers', how='layer' if how in ('both_in_training', 'not_in_training') else how),
        distiller=dict(type='DistProDistiller', transmitters=layers, receivers=layers, connections=[('body', 'body')],
                       transforms=[dict(type='PointwiseTransform')], logits=[{**KL, **kl}])))


@pytest.mark.parametrize('how', ['layer', 'dict'])
def test_logits_are_what_the_network_returns(how):
    model = two_classifiers(how)
    images, samples = batch()
    model.distiller.grid.set_weights([0, 1])
    loss = model(images, samples, mode='loss')['distill.loss_pathways']
    logits = [network(images)['logits'] if how == 'dict' else network(images) for network in (model.student, model.teacher)]
    torch.testing.assert_close(loss, model.distiller.grid.logit_losses['kl'](*logits))


class Pooled(nn.Module):
    """A network without a classifier, which returns pooled features alone or in a dict."""

    def __init__(self, kind):
        super().__init__()
        self.stem, self.body, self.fc, self.kind = nn.Conv2d(1, 6, 3, 1, 1), nn.Conv2d(6, 8, 3, 2, 1), nn.Identity(), kind

    def forward(self, x):
        features = self.body(self.stem(x).tanh())
        pooled = self.fc(features.mean((2, 3)))
        return dict(features=features, pooled=pooled) if self.kind == 'dict' else pooled


@pytest.mark.parametrize('kind', ['dict', 'tensor'])
def test_a_teacher_without_logits_is_compared_by_its_features(kind):
    layers = ['module.stem', 'module.body']
    model = MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture=dict(type='TwoClassifiers', how='layer'), teacher=Pooled(kind),
        input_shape=SHAPE, distiller=dict(
            type='DistProDistiller', transmitters=layers, receivers=['stem', 'body'], connections='nearest_depth',
            transforms=[dict(type='PointwiseTransform')], logits=[KL])))
    assert model.distiller.grid.names == ['module_stem>stem:pointwise', 'module_body>body:pointwise']
    loss = model(*batch(), mode='loss')['distill.loss_pathways']
    loss.backward()
    assert model.student.stem.weight.grad.abs().sum() > 0


def test_logits_that_no_layer_returns_are_refused_until_a_layer_is_named():
    with pytest.raises(ConfigError, match="logits: no layer returns the model's output, .*layer='head.second'"):
        two_classifiers('in_forward')
    with pytest.raises(ConfigError, match=r"logits: the model returns tuple, not logits \[B, K\]; give the layer"):
        two_classifiers('tuple')  # of two matrices without names
    model = two_classifiers('in_forward', layer=dict(teacher='head.first', student='head.second'))
    assert [tap.module for tap in model.distiller.grid.logit_taps] == ['head.first', 'head.second']


@pytest.mark.parametrize('layer, message', [
    ('head.frist', "the model has no layer 'head.frist'; nearest: head.first"),
    ('stem', r"layer 'stem' returns \(2, 6, 8, 8\), not logits"),
    (dict(pupil='head'), "layer={'pupil': 'head'} must be the name of a layer"),
    (dict(module='head', call=0), "layer={'module': 'head', 'call': 0} must be the name of a layer"),
    (dict(module='head', element=1), r"layer 'head' returns \(2, 10\), not logits"),
    (3, 'layer=3 must be the name of a layer')])
def test_a_layer_of_logits_that_does_not_do_is_refused(layer, message):
    with pytest.raises(ConfigError, match=message):
        two_classifiers('layer', layer=layer)


def test_two_losses_cannot_name_two_layers():
    with pytest.raises(ConfigError, match="layer has two layers of the teacher, 'head' and 'head.fc'"):
        build(logits=[{**KL, 'layer': 'head'}, {**DKD, 'layer': 'head.fc'}])


@pytest.mark.parametrize('how, message', [
    ('both_in_training', "layer 'head' returns a tuple here, but a tensor in probing"),
    ('not_in_training', "layer 'head' of the student is called with mode='tensor'")])
def test_a_layer_that_does_something_else_in_training_is_refused_there(how, message):
    model = two_classifiers(how)
    with pytest.raises(ConfigError, match=message):
        model(*batch(), mode='loss')
