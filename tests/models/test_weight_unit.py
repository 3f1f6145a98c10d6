"""The meaning of a weight of 1 in the units 'variance' and 'loss'."""
import functools

import numpy as np
import pytest
import torch
from test_distpro import build
from toys import batch, classifier

EXPONENTIAL = dict(weighting=dict(type='exponential'), logits=[dict(type='KLDivergence', tau=4)])
TWICE = [dict(type='PointwiseTransform', name='first'), dict(type='PointwiseTransform', name='second')]


def read(model, images, samples):
    """Features of both networks."""
    with model.distiller.receiver_reader(model.student) as student, torch.no_grad():
        model.student(images, samples, mode='loss')
    return student.features, model._transmit(images, samples)


def losses(model, received, transmitted, samples):
    grid, arguments = model.distiller.grid, functools.partial(model.distiller.arguments_of_logit_loss, samples)
    return dict(zip(grid.names, grid.pathway_losses(received, transmitted, arguments).tolist()))


def test_the_variance_is_that_of_the_teachers_feature_on_the_first_batch():
    model = build(distiller=EXPONENTIAL)
    images, samples = batch(30)
    received, transmitted = read(model, images, samples)
    losses(model, received, transmitted, samples)
    first = model.distiller.grid.variances.clone()
    layers = model.distiller.grid.layer_names['transmitters']
    expected = [np.mean([channel.var() for channel in transmitted[name].double().transpose(0, 1).numpy()])
                for name in layers]
    assert np.allclose(first, expected, rtol=1e-5)
    losses(model, received, {name: 3 * feature for name, feature in transmitted.items()}, samples)
    assert torch.equal(model.distiller.grid.variances, first)


@pytest.mark.parametrize('transform', ['PointwiseTransform', 'IdentityTransform'])
@pytest.mark.parametrize('unit, equal', [('variance', True), ('loss', False)])
def test_the_scale_of_the_teachers_features_does_not_matter(unit, equal, transform):
    found = []
    for scale in (1, 20):
        torch.manual_seed(0)
        weighting = dict(type='exponential', unit=unit)
        model = build(teacher=classifier(8), distiller=dict(EXPONENTIAL, weighting=weighting, connections='nearest_depth',
                                                         transforms=[dict(type=transform)]))
        images, samples = batch(20)
        received, transmitted = read(model, images, samples)
        # Without parameters in the transform, the student's features must have the teacher's scale.
        student = scale if transform == 'IdentityTransform' else 1
        received, transmitted = ({name: feature * (factor if feature.dim() == 4 else 1) for name, feature in side.items()}
                                 for side, factor in ((received, student), (transmitted, scale)))
        found.append(list(losses(model, received, transmitted, samples).values()))
    assert np.allclose(*found, rtol=1e-4) == equal


@pytest.mark.parametrize('unit, ratio', [('variance', 1), ('loss', 2)])
def test_the_number_of_pathways_does_not_matter(unit, ratio):
    totals = []
    for transforms, logits in ((TWICE[:1], ['a']), (TWICE, ['a', 'b'])):
        model = build(distiller=dict(
            transforms=transforms, weighting=dict(type='exponential', unit=unit),
            logits=[dict(type='KLDivergence', tau=4, name=name) for name in logits]))
        torch.manual_seed(1)
        images, samples = batch(20)
        model.student.load_state_dict({name: torch.rand_like(value) if value.is_floating_point() else value
                                       for name, value in model.student.state_dict().items()})
        for transform in model.distiller.grid.transforms.values():
            for parameter in transform.parameters():
                parameter.data.fill_(0.1)
        model.teacher.load_state_dict({name: torch.rand_like(value) if value.is_floating_point() else value
                                       for name, value in model.teacher.state_dict().items()})
        found = losses(model, *read(model, images, samples), samples)
        totals.append([sum(value for name, value in found.items() if ('logits' in name) == logits)
                       for logits in (False, True)])
    assert np.allclose(np.array(totals[1]) / totals[0], ratio, rtol=1e-5)


def test_weights_of_the_release_multiply_the_losses_as_they_are():
    model = build(distiller=dict(logits=EXPONENTIAL['logits']))
    assert model.distiller.grid.unit == 'loss'
    images, samples = batch(12)
    received, transmitted = read(model, images, samples)
    grid, arguments = model.distiller.grid, functools.partial(model.distiller.arguments_of_logit_loss, samples)
    plain = [grid.compare(pathway, received[pathway.receiver.name], transmitted[pathway.transmitter.name], arguments)
             for pathway in grid.pathways]
    assert np.allclose(list(losses(model, received, transmitted, samples).values()), [value.item() for value in plain])
    assert not model.distiller.grid.variances.any()


def test_a_checkpoint_has_the_variances_and_is_loaded_without_them():
    model, other = build(distiller=EXPONENTIAL), build(distiller=EXPONENTIAL)
    before = model.state_dict()
    images, samples = batch(12)
    received, transmitted = read(model, images, samples)
    losses(model, received, transmitted, samples)
    measured = model.distiller.grid.variances.clone()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.distiller.grid.variances, measured)
    losses(other, received, {name: 2 * feature for name, feature in transmitted.items()}, samples)
    assert torch.equal(other.distiller.grid.variances, measured)
    model.load_state_dict(before)
    assert torch.equal(model.distiller.grid.variances, measured)


def test_a_constant_feature_has_no_weight():
    model = build(distiller=EXPONENTIAL)
    images, samples = batch(12)
    received, transmitted = read(model, images, samples)
    constant = {name: torch.full_like(feature, 5.0) if feature.dim() == 4 else feature
                for name, feature in transmitted.items()}
    with pytest.warns(UserWarning, match='transmitters: .* is constant at stem, layer1, layer2, layer3, so'):
        found = losses(model, received, constant, samples)
    assert [name for name, value in found.items() if value] == ['logits>logits:kl']
    assert model.distiller.grid.variances.isinf().all()


def test_a_step_on_two_networks_of_other_widths_starts_at_losses_of_like_size():
    """An untrained student leaves about all of the teacher's variance unexplained."""
    for teacher in (classifier(12), classifier(40)):
        torch.manual_seed(0)
        model = build(teacher=teacher, distiller=EXPONENTIAL)
        images, samples = batch(40)
        found = losses(model, *read(model, images, samples), samples)
        total = sum(value for name, value in found.items() if 'logits' not in name)
        assert 0.5 < total < 4
