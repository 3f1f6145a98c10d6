"""The model DistPro: its pathways, their losses and costs, alpha and the weights."""
import copy

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import nn
from toys import SHAPE, batch, classifier, distpro_model as build

from distpro.errors import ArgumentError
from distpro_mm.errors import ConfigError
from distpro_mm.models.cost import pathway_costs


def test_the_objective_is_the_students_loss_plus_the_weighted_pathways():
    torch.manual_seed(2)
    model = build().double()
    x, samples = batch(12, torch.float64)
    model.distiller.grid.set_weights([0.1 * (index + 1) for index in range(10)])
    twin = copy.deepcopy(model)
    losses = model(x, samples, mode='loss')
    with twin.distiller.receiver_reader(twin.student) as received, \
            twin.distiller.transmitter_reader(twin.teacher) as transmitted:
        logits = twin.student(x, mode='tensor')
        twin.teacher(x, mode='tensor')
    total = 0
    for index, pathway in enumerate(twin.distiller.grid.pathways):
        feature = twin.distiller.grid.transforms[pathway.name](received.features[pathway.receiver.name],
                                                          transmitted.features[pathway.transmitter.name].shape[-2:])
        distance = twin.distiller.grid.distances[pathway.transform]
        total += 0.1 * (index + 1) * distance(feature, transmitted.features[pathway.transmitter.name])
    labels = torch.tensor([i % 10 for i in range(12)])
    assert torch.allclose(losses['student.loss'], nn.functional.cross_entropy(logits, labels))
    assert torch.allclose(losses['distill.loss_pathways'], total)
    assert sum('loss' in key for key in losses) == 2


def test_maps_are_compared_at_the_smaller_size_if_asked_for():
    torch.manual_seed(2)
    model = build(distiller=dict(connections='all', compare_at='smaller')).double()
    x, samples = batch(12, torch.float64)
    twin = copy.deepcopy(model)
    losses = model(x, samples, mode='loss')
    with twin.distiller.receiver_reader(twin.student) as received, \
            twin.distiller.transmitter_reader(twin.teacher) as transmitted:
        twin.student(x, mode='tensor')
        twin.teacher(x, mode='tensor')
    total, sides = 0, {'stem': 8, 'layer1': 8, 'layer2': 4, 'layer3': 2}
    for pathway, weight in zip(twin.distiller.grid.pathways, twin.distiller.grid.weights()):
        side = min(sides[pathway.receiver.name], sides[pathway.transmitter.name])
        target = transmitted.features[pathway.transmitter.name]
        target = target.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean((3, 5))
        feature = twin.distiller.grid.transforms[pathway.name](received.features[pathway.receiver.name], (side, side))
        total += weight * twin.distiller.grid.distances[pathway.transform](feature, target)
    assert torch.allclose(losses['distill.loss_pathways'], total, rtol=1e-12)


@pytest.mark.parametrize('compare_at', ['teacher', 'smaller'])
@pytest.mark.parametrize('own, size', [((5, 3), (7, 2)), ((3, 7), (1, 1)), ((1, 1), (4, 6)), ((9, 9), (4, 12))])
def test_maps_of_any_two_sizes_are_compared(compare_at, own, size):
    """Against explicit averages, nearest pixels and HCL, in float64."""
    model = build(distiller=dict(connections=[('layer1', 'layer2')], compare_at=compare_at,
                                 transforms=[dict(type='LinearTransform')])).double()
    linear = model.distiller.grid.transforms['layer1>layer2:linear'].before[0]
    feature = torch.randn(3, 16, *own, dtype=torch.float64)
    target = torch.randn(3, 12, *size, dtype=torch.float64)
    loss, = model.distiller.grid.pathway_losses(dict(layer2=feature), dict(layer1=target))

    def averaged(maps, shape):
        for dim, (count, side) in enumerate(zip(shape, maps.shape[2:]), 2):
            bins = [torch.arange(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
            maps = torch.stack([maps.index_select(dim, places).mean(dim) for places in bins], dim)
        return maps

    if compare_at == 'smaller':
        size = tuple(map(min, own, size))
    rows, columns = (torch.arange(new) * old // new for old, new in zip(own, size))
    difference = linear(feature)[:, :, rows][:, :, :, columns] - averaged(target, size)
    terms = [difference] + [averaged(difference, [min(level, side) for side in size])
                            for level in (4, 2, 1) if level < max(size)]
    weights = [0.5**index for index in range(len(terms))]
    expected = sum(weight * term.square().mean() for weight, term in zip(weights, terms)) / sum(weights)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('distance', [
    dict(type='HCLLoss'), dict(type='L2Loss', normalize=True), dict(type='L1Loss'), dict(type='ATLoss'),
    dict(type='ChannelWiseDivergence'), dict(type='PKDLoss'), dict(type='FTLoss'), dict(type='SPLoss')])
def test_maps_in_any_layout_are_compared_by_any_distance(distance):
    """Losses and gradients for tokens and channels-last maps against contiguous maps."""
    model = build(student=classifier(12), distiller=dict(
        connections=[('layer1', 'layer2')], distance=distance, transforms=[dict(type='IdentityTransform'),
                                                                           dict(type='MLPTransform')],
        receivers=[dict(module='backbone.layer1', name='layer2')])).double()
    feature, target = torch.randn(3, 12, 6, 4, dtype=torch.float64), torch.randn(3, 12, 6, 4, dtype=torch.float64)
    results = []
    for layout in (torch.Tensor.contiguous, lambda x: x.to(memory_format=torch.channels_last),
                   lambda x: x.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(2, (6, 4))):
        received = layout(feature).requires_grad_()
        losses = model.distiller.grid.pathway_losses(dict(layer2=received), dict(layer1=layout(target)))
        results.append([losses.detach(), *(torch.autograd.grad(loss, received, retain_graph=True)[0] for loss in losses)])
    for other in results[1:]:
        for one, two in zip(results[0], other):
            torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-14)


def test_an_identity_between_maps_of_other_channels_names_the_pathway():
    with pytest.raises(ConfigError, match="in_channels=8 and out_channels=12 must be equal.*'stem>stem:identity'"):
        build(distiller=dict(transforms=[dict(type='IdentityTransform')]))


def test_k_transforms_give_k_pathways_a_connection():
    model = MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture=classifier(8), teacher=classifier(12), input_shape=SHAPE,
        distiller=dict(type='DistProDistiller', connections=[('stem', 'layer2'), ('backbone.layer3', 'layer3')],
                       transforms=[dict(type='PointwiseTransform'), dict(type='AttentionTransform', name='wide')])))
    assert model.distiller.grid.names == ['stem>layer2:pointwise', 'stem>layer2:wide', 'layer3>layer3:pointwise',
                                     'layer3>layer3:wide']
    assert model.distiller.grid.alpha.shape == (4, )


def test_a_transform_of_a_config_may_have_a_distance_of_its_own():
    model = build(distiller=dict(
        connections=[('layer1', 'layer1')], distance=dict(type='L1Loss'), weighting=dict(type='exponential', unit='loss'),
        transforms=[dict(type='PointwiseTransform'), dict(type='PointwiseTransform', name='form', distance=dict(
            type='FormLoss', transformations=['square'], distance='l2', loss_weight=2.0))])).double()
    grid = model.distiller.grid
    assert grid.names == ['layer1>layer1:pointwise', 'layer1>layer1:form']
    received, transmitted = (dict(layer1=torch.randn(3, *getattr(grid.pathways[0], side).shape, dtype=torch.float64))
                             for side in ('receiver', 'transmitter'))
    losses = grid.pathway_losses(received, transmitted)
    first, second = (transform(received['layer1']) for transform in grid.transforms.values())
    target = transmitted['layer1']
    expected = [(first - target).abs().mean(), 2 * (second**2 - target**2).square().mean()]
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize('distance, message', [
    (dict(type='FormLos'), r"transforms: distance.type='FormLos' is not registered \(nearest: FormLoss\)"),
    (dict(type='FormLoss', distance='l3'), "distance: FormLoss.distance='l3' is not one of"),
    ('FormLoss', "distance='FormLoss' must be a dict with the key type")])
def test_a_wrong_distance_of_a_transform_is_refused(distance, message):
    with pytest.raises(ConfigError, match=message):
        build(distiller=dict(transforms=[dict(type='PointwiseTransform', distance=distance)]))


@pytest.mark.parametrize('shape', [(1, 8, 8), (1, 32, 32), (1, 20, 12)])
def test_nothing_depends_on_the_probed_size(shape):
    model = build()
    losses = model(torch.randn(4, *shape), [DataSample().set_gt_label(i) for i in range(4)], mode='loss')
    assert torch.isfinite(losses['distill.loss_pathways'])


def test_mmrazors_own_losses_work_beside_the_pathways():
    model = build(distiller=dict(
        student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4)),
        loss_forward_mappings=dict(loss_kl=dict(preds_S=dict(from_student=True, recorder='fc'),
                                                preds_T=dict(from_student=False, recorder='fc')))))
    assert {'student.loss', 'distill.loss_pathways', 'distill.loss_kl'} == set(model(*batch(12), mode='loss'))


def test_costs_are_counted_and_leave_the_model_alone():
    torch.manual_seed(0)
    kinds = [dict(type='PointwiseTransform'), dict(type='ConvAttentionTransform')]
    model = MODELS.build(dict(_scope_='mmrazor', type='DistPro', architecture=classifier(8), teacher=classifier(12),
                              input_shape=SHAPE, distiller=dict(type='DistProDistiller', transforms=kinds)))
    state = copy.deepcopy(model.state_dict())
    costs = dict(zip(model.distiller.grid.names, pathway_costs(model).tolist()))
    assert all(cost > 0 for cost in costs.values()) and len(costs) == 20
    assert all(costs[name.replace('pointwise', 'conv_attention')] > costs[name] for name in costs if 'pointwise' in name)
    assert costs['stem>layer3:pointwise'] < costs['stem>layer1:pointwise']  # a 2 x 2 map of the student's against an 8 x 8
    assert pathway_costs(model).tolist() == list(costs.values())
    assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(state[key])) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize('distiller, message', [
    (dict(transmitters=['backbone.layr1']), "model.distiller.transmitters: .*no layer 'backbone.layr1'; nearest: backbone"),
    (dict(receivers=['backbone.layer7']), "model.distiller.receivers: .*'backbone.layer7'; nearest: backbone.layer"),
    (dict(connections='deep'), "model.distiller.connections='deep' is not one of all, student_not_shallower"),
    (dict(weighting=dict(type='softmaxx')), "weighting.type='softmaxx' .*nearest: softmax"),
    (dict(weighting=dict(kind='softmax')), "weighting.kind='softmax' is not a parameter of biased_softmax"),
    (dict(compare_at='student'), "model.distiller.compare_at='student' is not one of teacher, smaller"),
])
def test_bad_pathways_name_their_key(distiller, message):
    with pytest.raises(ConfigError, match=message):
        build(distiller=distiller)


def test_transforms_of_one_label_are_refused():
    with pytest.raises(ConfigError, match="label 'pointwise' is used twice"):
        MODELS.build(dict(_scope_='mmrazor', type='DistProDistiller', transforms=[dict(type='PointwiseTransform')] * 2))


def test_alpha_is_neither_parameter_nor_buffer_but_is_saved():
    model = build()
    alpha = model.distiller.grid.alpha
    assert all(p is not alpha for p in model.parameters()) and all(b is not alpha for b in model.buffers())
    with torch.no_grad():
        alpha.add_(torch.randn(10))
    other = build()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.distiller.grid.alpha, alpha) and other.distiller.grid.alpha.is_leaf
    model.double()
    assert model.distiller.grid.alpha is alpha and alpha.dtype == torch.float64


def test_training_averaging_decay_and_clipping_never_touch_alpha(make_config):
    cfg = make_config('equal', optim_wrapper__clip_grad=dict(max_norm=0.1),
                      custom_hooks=[dict(type='EMAHook', update_buffers=True)])
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert any(isinstance(hook, EMAHook) for hook in runner.hooks)
    distiller = runner.model.distiller
    assert torch.equal(distiller.grid.alpha.cpu(), torch.ones(4)) and distiller.grid.alpha.grad is None
    optimised = {id(p) for group in runner.optim_wrapper.optimizer.param_groups for p in group['params']}
    assert id(distiller.grid.alpha) not in optimised


def test_alpha_of_another_number_of_pathways_is_refused():
    model, other = build(), build(distiller=dict(connections='nearest_depth'))
    with pytest.raises(Exception, match='10 pathways and the model has 4'):
        other.distiller.grid.set_extra_state(model.distiller.grid.get_extra_state())


@pytest.mark.parametrize('weights', [[1.0] * 9 + [-1.0], [1.0] * 9, [[1.0] * 10]])
def test_weights_that_do_not_fit_or_are_negative_are_refused(weights):
    with pytest.raises(ArgumentError, match='the weights of pathways must be 10 numbers of 0 or more, got'):
        build().distiller.grid.set_weights(weights)


def test_a_weight_that_is_no_number_shows_in_the_loss():
    model = build()
    model.distiller.grid.set_weights([1.0] * 9 + [float('nan')])
    assert model(*batch(12), mode='loss')['distill.loss_pathways'].isnan()


@pytest.mark.slow
def test_compiled_transforms_have_the_losses_and_sensitivities_of_plain_ones():
    torch.manual_seed(0)
    plain = build(distiller=dict(compile_transforms=False))
    compiled = build(distiller=dict(compile_transforms=True))
    compiled.load_state_dict(plain.state_dict())
    data = batch(12)
    caught = []
    for model in (plain, compiled):
        model.cache_batch(True)
        loss = model(*data, mode='loss')['distill.loss_pathways']
        loss.backward()
        caught.append([loss.detach(), *(sensitivity for _, sensitivity in model.distiller.grid.sensitivities())])
    for one, other in zip(*caught):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_weighting_without_a_scale_has_the_releases():
    def scale(**weighting):
        distiller = MODELS.build(dict(_scope_='mmrazor', type='DistProDistiller', weighting=weighting))
        return distiller._grid_arguments['weighting'].scale

    assert scale() == scale(kd_weight=3.0) == scale(type='biased_softmax', bias=2.0) == 'num_pathways'
    assert scale(scale=2.0) == 2.0 and scale(type='exponential') == scale(type='softmax') == 1.0
