import copy

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from sklearn.datasets import load_digits
from torch import nn
from toys import SHAPE, batch, classifier

from distpro.errors import ArgumentError
from distpro.pathways.cost import OPERATIONS_A_NUMBER, changed_costs, cost, pathway_costs as costs_of_grid
from distpro.searching import Hypergradient
from distpro_mm.errors import ConfigError
from distpro_mm.models import cost as cost_report
from distpro_mm.models.cost import cost_advice, pathway_costs


def build(teacher=None, student=None, **kwargs):
    distiller = dict(dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')]),
                     **kwargs.pop('distiller', {}))
    return MODELS.build(dict(_scope_='mmrazor', type='DistPro', architecture=student or classifier(8),
                             teacher=teacher or classifier(12), input_shape=SHAPE, distiller=distiller, **kwargs))


# ---- the teacher


def test_the_teacher_runs_once_a_batch_in_eval_mode_and_without_its_loss():
    torch.manual_seed(0)
    model = build()
    model.teacher.neck.add_module('dropout', nn.Dropout(0.5))
    calls = []
    model.teacher.backbone.register_forward_pre_hook(lambda *_: calls.append('forward'))
    model.teacher.head.loss_module.register_forward_hook(lambda *_: calls.append('loss'))
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    model.eval()
    assert model.train() is model and model.student.training
    model(*batch(12), mode='loss')
    calls.clear()  # the first batch compares the fast teacher with the teacher as it is
    model(*batch(12), mode='loss')
    assert calls == ['forward'] and model.passes == dict(teacher=2, student=2)
    assert not any(module.training for module in model.teacher.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.teacher.state_dict().items())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_teacher_ends_at_its_last_transmitting_layer_unless_more_of_it_is_used():
    kd = dict(student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
              teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
              distill_losses=dict(loss_kl=dict(type='KLDivergence')),
              loss_forward_mappings=dict(loss_kl=dict(preds_S=dict(from_student=True, recorder='fc'),
                                                      preds_T=dict(from_student=False, recorder='fc'))))
    for more, expected in (({}, ['layer1']), (kd, ['layer1', 'layer2', 'head'])):
        model = build(distiller=dict(transmitters=['backbone.layer1'], **more))
        calls = []
        for name, module in (('layer1', model.teacher.backbone.layer1), ('layer2', model.teacher.backbone.layer2),
                             ('head', model.teacher.head)):
            module.register_forward_pre_hook(lambda *_, name=name, calls=calls: calls.append(name))
        model(*batch(12), mode='loss')
        calls.clear()  # the first batch compares the fast teacher with the teacher as it is
        losses = model(*batch(12), mode='loss')
        assert calls == expected and 'distill.loss_pathways' in losses


def test_the_features_are_before_the_last_activation_of_teacher_and_student():
    """Every ReLU of these networks is in-place, and would overwrite the recorded features."""
    torch.manual_seed(0)
    model = build()
    x, samples = batch(12)
    with model.distiller.receiver_reader(model.student) as received:
        with model.distiller.transmitter_reader(model.teacher) as transmitted:
            model.student(x, mode='tensor'), model.teacher(x, mode='tensor')
    for reader in (received, transmitted):
        assert list(reader.features) == ['stem', 'layer1', 'layer2', 'layer3']
        assert all(feature.min() < -1e-3 for feature in reader.features.values())
    block = model.student.backbone.layer3[0]
    stage2 = model.student.backbone.layer2(model.student.backbone.layer1(
        model.student.backbone.relu(model.student.backbone.bn1(model.student.backbone.conv1(x)))))
    own = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(stage2))))) + block.downsample(stage2)
    assert torch.allclose(own, received.features['layer3'], atol=1e-5)


def test_a_stopped_distillation_costs_no_teacher():
    model = build()
    model.distillation_stopped = True
    losses = model(*batch(12), mode='loss')
    assert set(losses) == {'student.loss'} and model.passes == dict(student=1)


def test_a_trainable_teacher_is_refused():
    with pytest.raises(ConfigError, match='model.teacher_trainable=True'):
        build(teacher_trainable=True)


# ---- its checkpoint


@pytest.fixture
def checkpoint(tmp_path):

    def save(state, name='teacher.pth'):
        path = str(tmp_path / name)
        torch.save(dict(state_dict=state, meta={}), path)
        return path

    return save


def trained(width=12):
    torch.manual_seed(1)
    teacher = MODELS.build(classifier(width))
    for p in teacher.parameters():
        nn.init.normal_(p)
    return teacher


def test_a_teachers_checkpoint_is_loaded_and_survives_initialisation(checkpoint):
    teacher = trained()
    model = build(teacher_ckpt=checkpoint(teacher.state_dict()))
    model.init_weights()
    assert all(torch.equal(value, teacher.state_dict()[key]) for key, value in model.teacher.state_dict().items())


def test_the_student_of_a_distillation_can_be_the_teacher(checkpoint):
    inner = build(student=classifier(12))
    model = build(teacher_ckpt=checkpoint(inner.state_dict()))
    assert torch.equal(model.teacher.head.fc.weight, inner.student.head.fc.weight)


def test_a_teachers_checkpoint_that_does_not_do_is_refused(checkpoint, tmp_path):
    state = trained().state_dict()
    with pytest.raises(ConfigError, match="model.teacher_ckpt='nowhere.pth': there is no such file"):
        build(teacher_ckpt='nowhere.pth')
    with pytest.raises(ConfigError, match='does not fit the CIFARResNet of the config: [0-9]+ weights have other shapes'):
        build(teacher_ckpt=checkpoint(trained(8).state_dict()))
    partial = {key: value for key, value in state.items() if 'layer3' not in key}
    with pytest.raises(ConfigError, match='only partly: 15 of its 56 weights .*first .*backbone.layer3.*has 0 others'):
        build(teacher_ckpt=checkpoint(partial))
    with pytest.raises(ConfigError, match='its names differ from those of the CIFARResNet of the config.*: convert it'):
        build(teacher_ckpt=checkpoint({'model.' + key: value for key, value in state.items()}))
    whole = checkpoint(state)
    with open(whole, 'rb') as file:
        data = file.read()
    (tmp_path / 'cut.pth').write_bytes(data[:len(data) // 2])
    with pytest.raises(ConfigError, match='cut.pth.* cannot be read as a checkpoint'):
        build(teacher_ckpt=str(tmp_path / 'cut.pth'))
    torch.save(dict(state_dict={}, meta={}), str(tmp_path / 'empty.pth'))
    with pytest.raises(ConfigError, match='has no weights'):
        build(teacher_ckpt=str(tmp_path / 'empty.pth'))


# ---- losses and pathways


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
        total += 0.1 * (index + 1) * twin.distiller.grid.distance(feature, transmitted.features[pathway.transmitter.name])
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
        total += weight * twin.distiller.grid.distance(feature, target)
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


# ---- warnings about expensive pathways


def expensive(pairs, transform='ConvAttentionTransform', compare_at='teacher', from_covariances=True, **kwargs):
    return build(student=classifier(8), teacher=classifier(64), distiller=dict(
        connections=pairs, compare_at=compare_at, from_covariances=from_covariances,
        transforms=[dict(type=transform, name='it')]), **kwargs)


def test_a_pathway_out_of_proportion_is_named_with_what_makes_it_cheaper_and_by_how_much():
    """The cost in the advice equals that of a model that follows it."""
    pair = [('stem', 'layer3')]
    model = expensive(pair)
    state, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    sentence, = cost_advice(model)
    assert torch.equal(torch.get_rng_state(), random_state) and model.distiller.grid.compare_at == 'teacher'
    cost, smaller, pointwise = (pathway_costs(expensive(pair, **change)).item() for change in (
        {}, dict(compare_at='smaller'), dict(transform='PointwiseTransform')))
    assert 0 < pointwise < smaller < 0.9 * cost
    assert sentence == (
        f"model.distiller: pathway 'stem>layer3:it' costs {cost:.2f} training steps of the student alone (estimated): "
        f"transforms=[dict(type='PointwiseTransform')] makes it {pointwise:.2f}; compare_at='smaller' makes it "
        f"{smaller:.2f}; removing ('stem', 'layer3') from connections saves the full cost")
    assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(state[key])) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_what_does_not_help_is_not_advised():
    sentence, = cost_advice(expensive([('layer1', 'layer1')]))  # maps of one size
    assert 'PointwiseTransform' in sentence and 'compare_at' not in sentence
    assert cost_advice(expensive([('layer1', 'layer1')], transform='PointwiseTransform')) == []
    sentence, = cost_advice(expensive([('layer1', 'layer1')], transform='PointwiseTransform', from_covariances=False))
    assert sentence.endswith("(estimated): removing ('layer1', 'layer1') from connections saves the full cost")
    assert cost_advice(build()) == []


def test_the_cost_after_changes_is_that_of_a_model_with_them():
    pair = [('stem', 'layer3')]
    grid = expensive(pair).distiller.grid
    pointwise, smaller = dict(transform='PointwiseTransform'), dict(compare_at='smaller')
    changes = smaller, pointwise, {**pointwise, **smaller}
    costs = [costs_of_grid(expensive(pair, **change).distiller.grid)[0] for change in changes]
    assert list(changed_costs(grid, grid.pathways[0]).values()) == costs


def test_two_changes_together_are_advised_where_none_alone_does_enough():
    pathway = build().distiller.grid.pathways[0]
    for changed, said in (({('A', ): 3.0, ('B', ): 2.0, ('A', 'B'): 0.5}, 'A with B makes it 0.50; B makes it 2.00; A'),
                          ({('A', ): 3.0, ('B', ): 0.9, ('A', 'B'): 0.5}, 'B makes it 0.90; A makes it 3.00; removing'),
                          ({('A', ): 3.0, ('B', ): 2.0, ('A', 'B'): 1.9}, 'B makes it 2.00; A makes it 3.00; removing'),
                          ({('A', ): 3.7}, "removing ('stem', 'stem') from connections")):
        assert cost_report._advice(pathway, 4.0, changed).startswith(said)


def test_the_most_expensive_pathways_are_advised_on_first(monkeypatch):
    monkeypatch.setattr(cost_report, 'OUT_OF_PROPORTION', 0.0)
    monkeypatch.setattr(cost_report, 'LISTED', 3)
    model = build(distiller=dict(connections='same_depth'))
    *lines, last = cost_advice(model)
    highest = sorted(pathway_costs(model).tolist(), reverse=True)
    assert [float(line.split(' costs ')[1].split()[0]) for line in lines] == [round(cost, 2) for cost in highest[:3]]
    assert last == 'model.distiller: 1 more pathways cost over 0 steps each'


def test_a_cost_is_operations_and_written_numbers():
    weight, x = torch.randn(5, 4, requires_grad=True), torch.randn(3, 4)
    # x @ w.T: 2 * 3 * 4 * 5 operations forward, as many backward for w; written: the product, the sum, the ones that start
    # the backward and their expansion as one number, and the gradient of w.
    counted = cost(lambda: x @ weight.t())
    assert (counted - 2 * 120) / OPERATIONS_A_NUMBER == pytest.approx(15 + 1 + 1 + 20, abs=6)


def test_several_outputs_cost_what_each_costs():
    x, weights = torch.randn(3, 4), [torch.randn(5, 4, requires_grad=True) for _ in range(4)]
    one = cost(lambda: x @ weights[0].t())
    assert cost(lambda: [x @ weights[1].t(), dict(labels=x, logits=(x @ weights[2].t(), ))]) == 2 * one


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


# ---- alpha is updated by its own optimiser only


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
    model, other = build(), build(distiller=dict(connections='same_depth'))
    with pytest.raises(Exception, match='10 pathways and the model has 4'):
        other.distiller.grid.set_extra_state(model.distiller.grid.get_extra_state())


# ---- the hypergradient of the real model


@pytest.mark.parametrize('dropout', [0.0, 0.3])
def test_the_stored_step_has_the_derivative_of_a_real_one(dropout):
    """dL_val/dw of DistPro's pathways against finite differences over complete steps, in float64."""

    def prepare():
        torch.manual_seed(3)
        model = build(distiller=dict(connections='same_depth')).double()
        model.init_weights()
        model.student.backbone.layer1.add_module('dropout', torch.nn.Dropout(dropout))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05, 0.9, nesterov=True)
        return model, optimizer, batch(12, torch.float64), batch(12, torch.float64)

    def step(model, optimizer, data):
        torch.manual_seed(4)
        optimizer.zero_grad()
        sum(model(*data, mode='loss').values()).backward()
        optimizer.step()

    def held_out_loss(model, held):
        torch.manual_seed(5)
        return model.student(*held, mode='loss')['loss']

    def held_out(weights):
        model, optimizer, data, held = prepare()
        for _ in range(3):
            step(model, optimizer, data)
        model.distiller.grid.set_weights(weights)
        step(model, optimizer, data)
        return held_out_loss(model, held).item()

    model, optimizer, data, held = prepare()
    for _ in range(3):
        step(model, optimizer, data)
    weights = model.distiller.grid.weights().tolist()
    hypergradient = Hypergradient(model.student, optimizer, 'jvp')
    model.cache_batch(True)
    hypergradient.watch()
    step(model, optimizer, data)
    forwards = []
    model.student.head.register_forward_hook(lambda *_: forwards.append('head'))
    measured = hypergradient.after_step(lambda: held_out_loss(model, held), model.cached_features,
                                        model.distiller.grid.sensitivities())
    assert forwards == ['head'], 'only the held-out pass reaches the head: the derivative stops at the deepest receiver'
    truth = []
    for index in range(4):
        above, below = list(weights), list(weights)
        above[index] += 1e-4
        below[index] -= 1e-4
        truth.append((held_out(above) - held_out(below)) / 2e-4)
    truth = torch.tensor(truth, dtype=torch.float64)
    assert (measured - truth).norm() / truth.norm() < 1e-5


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('kind', ['nesterov', 'adamw'])
def test_mixed_precision_has_the_derivative_of_the_step_it_took(kind, dtype):
    """Against the same step in float64: the same parameters, and the same gradient given to the same optimiser."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images[:, None]) / 8 - 1, digits.target

    def take(start, kind):
        return images[start:start + 64].to(kind), [DataSample().set_gt_label(int(y)) for y in labels[start:start + 64]]

    def optimizer_of(model):
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.SGD(parameters, 0.05, 0.9, nesterov=True) if kind == 'nesterov' else torch.optim.AdamW(parameters)

    for seed in range(2):
        torch.manual_seed(seed)
        model = build()
        optimizer = optimizer_of(model)
        for batch_number in range(10):
            optimizer.zero_grad()
            sum(model(*take(64 * batch_number, torch.float32), mode='loss').values()).backward()
            optimizer.step()
        twin = copy.deepcopy(model).double()
        twin_optimizer = optimizer_of(twin)
        twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        measured = []
        scaler = torch.amp.GradScaler('cpu', enabled=dtype == torch.float16)
        for network, its_optimizer, kind_of_float in ((model, optimizer, torch.float32),
                                                      (twin, twin_optimizer, torch.float64)):
            hypergradient = Hypergradient(network.student, its_optimizer, 'jvp')
            network.cache_batch(True)
            hypergradient.watch()
            its_optimizer.zero_grad()
            with torch.autocast('cpu', dtype, enabled=network is model):
                loss = sum(network(*take(800, kind_of_float), mode='loss').values())
            if network is model:
                scaler.scale(loss).backward()
                scaler.step(its_optimizer)
            else:
                loss.backward()
                for mine, its in zip(network.student.parameters(), model.student.parameters()):
                    mine.grad = its.grad.double()
                its_optimizer.step()
            held = take(1000, kind_of_float)
            with torch.autocast('cpu', dtype, enabled=network is model):  # independent of the caller's autocast
                measured.append(hypergradient.after_step(lambda: network.student(*held, mode='loss')['loss'],  # noqa: B023
                                                         network.cached_features, network.distiller.grid.sensitivities()))
        assert measured[0].dtype == torch.float32
        assert (measured[0] - measured[1]).norm() / measured[1].norm() < 0.02


def test_sensitivities_are_those_of_each_unweighted_pathway():
    model = build(distiller=dict(weighting=dict(type='exponential'))).double()
    data = batch(12, torch.float64)
    with torch.no_grad():
        model.distiller.grid.alpha.copy_(torch.randn(10))
    model.cache_batch(True)
    loss = 8 * sum(model(*data, mode='loss').values())  # 8: as a loss scaler does
    loss.backward()
    caught = list(model.distiller.grid.sensitivities())
    assert [name for name, _ in caught] == [pathway.receiver.name for pathway in model.distiller.grid.pathways]
    # Each by a separate backward pass.
    model.cache_batch(False)
    with model.distiller.receiver_reader(model.student) as received:
        model.student(*data, mode='tensor')
    with model.distiller.transmitter_reader(model.teacher) as sent, torch.no_grad():
        model.teacher(*data, mode='tensor')
    losses = model.distiller.grid.pathway_losses(received.features, sent.features)
    for (name, sensitivity), single in zip(caught, losses):
        truth, = torch.autograd.grad(single, received.features[name], retain_graph=True)
        torch.testing.assert_close(sensitivity, truth, rtol=1e-9, atol=1e-14)


def test_sensitivities_are_each_pathways_own_where_others_are_not_computed():
    torch.manual_seed(3)
    model = build().double()
    x, samples = batch(12, torch.float64)

    def caught(weights, skip_below=0.0):
        model.cache_batch(True)
        model.distiller.grid.set_weights(weights, skip_below)
        sum(model(x, samples, mode='loss').values()).backward()
        return [sensitivity for _, sensitivity in model.distiller.grid.sensitivities()]

    weights = [0.5 * (index + 1) for index in range(10)]
    every = caught(weights)
    for small, skip_below in ((0.0, 0.0), (0.1, 0.2)):
        some = caught([small, *weights[1:4], small, *weights[5:]], skip_below)
        assert some[0] is None and some[4] is None
        for index in (1, 2, 3, 5, 9):
            torch.testing.assert_close(some[index], every[index], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize('weights', [[1.0] * 9 + [-1.0], [1.0] * 9, [[1.0] * 10]])
def test_weights_that_do_not_fit_or_are_negative_are_refused(weights):
    with pytest.raises(ArgumentError, match='the weights of pathways must be 10 numbers of 0 or more, got'):
        build().distiller.grid.set_weights(weights)


def test_a_weight_that_is_no_number_shows_in_the_loss():
    model = build()
    model.distiller.grid.set_weights([1.0] * 9 + [float('nan')])
    assert model(*batch(12), mode='loss')['distill.loss_pathways'].isnan()


def test_a_weight_of_zero_leaves_no_sensitivity():
    model = build(distiller=dict(connections='same_depth'))
    model.cache_batch(True)
    model.distiller.grid.weights = lambda: torch.tensor([1.0, 0.0, 2.0, 3.0])
    sum(model(*batch(12), mode='loss').values()).backward()
    assert [sensitivity is None for _, sensitivity in model.distiller.grid.sensitivities()] == [False, True, False, False]


def test_nothing_is_caught_if_nothing_is_stored():
    model = build()
    sum(model(*batch(12), mode='loss').values()).backward()
    assert all(sensitivity is None for _, sensitivity in model.distiller.grid.sensitivities())
    assert model._cached is None


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
