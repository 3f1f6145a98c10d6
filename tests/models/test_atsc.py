"""ATSC: a teacher that is trained near its initial weights, and a classifier that both networks share."""
import copy
import os

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS
from runs import trained
from toys import SHAPE, batch, classifier

from distpro_mm.errors import ConfigError


def build(kind='ATSC', teacher=None, **options):
    student, teacher = classifier(4), teacher or classifier(6)
    student['neck'] = [dict(type='SimKDNeck', in_channels=16, out_channels=24), student['neck']]
    student['head'] = teacher['head']
    distiller = dict(
        type='PairDistiller', transmitters='auto',
        receivers=[dict(module='neck.0.layers', name='projected')], connections=[(-1, 0)],
        loss=dict(type='L2Loss', normalize=False, div_element=True))
    return MODELS.build(dict(_scope_='mmrazor', type=kind, architecture=student, teacher=teacher, input_shape=SHAPE,
                             distiller=distiller, **options))


def log_softmax(z):
    return z - z.max(1, keepdims=True) - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True))


def test_the_losses_are_the_three_terms_and_each_trains_its_part():
    model = build(proximity=3.0).double()
    model.init_weights()
    x, samples = batch(6, torch.float64)
    start = {name: p.detach().clone() for name, p in model.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in model.teacher.backbone.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    losses = model(x, samples, mode='loss')
    assert list(losses) == ['distill.loss_layer3>projected', 'teacher.loss', 'teacher.loss_distance']
    parts = dict(teacher=model.teacher, student=model.student)
    target = model.teacher.backbone(x)[-1].detach().numpy()  # in training mode, like the loss
    projected = model.student.neck[0].layers(model.student.backbone(x)[-1]).detach().numpy()
    assert losses['distill.loss_layer3>projected'].item() == pytest.approx(((target - projected)**2).mean(), rel=1e-9)
    fc = model.teacher.head.fc
    logits = target.mean((2, 3)) @ fc.weight.detach().numpy().T + fc.bias.detach().numpy()
    labels = [int(sample.gt_label) for sample in samples]
    assert losses['teacher.loss'].item() == pytest.approx(-log_softmax(logits)[range(6), labels].mean(), rel=1e-9)
    moved = {name: ((p.detach() - start[name])**2).sum().item() for name, p in model.teacher.named_parameters()}
    vectors = sum(value for name, value in moved.items() if start[name].dim() == 1)
    assert vectors > 1e-3 and not moved['head.fc.weight']
    assert losses['teacher.loss_distance'].item() == pytest.approx(3 * sum(moved.values()), rel=1e-9)
    trains = dict(zip(losses, ({'teacher', 'neck', 'backbone'}, {'classifier'}, {'teacher'})))
    for name, loss in losses.items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        found = {('teacher' if side == 'teacher' else key.split('.')[0]) if not key.startswith('head') else 'classifier'
                 for side, part in parts.items() for key, p in part.named_parameters()
                 if p.grad is not None and p.grad.any()}
        assert found == trains[name]


def test_both_networks_have_one_classifier_through_copies_initialisation_and_steps():
    model = copy.deepcopy(build())
    before = model.teacher.head.fc.weight.detach().clone()
    model.teacher._is_init = True  # as if loaded
    model.init_weights()
    heads = model.student.head.fc, model.teacher.head.fc
    assert heads[0].weight is heads[1].weight and heads[0].bias is heads[1].bias and torch.equal(heads[0].weight, before)
    assert len([p for p in model.parameters() if p.shape == before.shape]) == 1, 'an optimiser has it once'
    torch.optim.SGD(model.parameters(), 0.1)
    losses = model(*batch(4), mode='loss')
    assert losses['teacher.loss_distance'] == 0, 'the start is the initialised teacher'
    losses['teacher.loss'].backward()
    assert heads[0].weight.grad is not None
    norms = [m for m in model.teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.training for m in norms) and norms[0].num_batches_tracked > 0
    fixed = build(teacher_norm_eval=True).teacher.modules()
    assert not any(m.training for m in fixed if isinstance(m, torch.nn.BatchNorm2d))


def test_a_teacher_adapts_less_if_it_is_held_more(drawn_seed):
    distances = []
    for proximity in (0.0, 10.0):
        torch.manual_seed(drawn_seed)
        model = build(proximity=proximity)
        model.init_weights()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
        for _ in range(8):
            losses = model(*batch(8), mode='loss')
            optimizer.zero_grad()
            sum(loss for name, loss in losses.items() if 'loss' in name).backward()
            optimizer.step()
        distances.append(sum((weight - model.distiller.get_buffer(f'teacher_start_{n}')).square().sum().item()
                             for n, weight in enumerate(model._weights())))
    assert 0 < distances[1] < 0.5 * distances[0]


def test_a_run_is_resumed_with_the_teacher_that_has_adapted(make_config, tmp_path):
    teacher = make_config('student').model
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=MODELS.build(teacher).state_dict()), path)
    cfg = make_config('atsc', default_hooks__checkpoint__max_keep_ckpts=-1, model__teacher=teacher, model__teacher_ckpt=path)
    cfg.model.architecture.neck[0].out_channels = 32
    cfg.model.architecture.head = cfg.model.teacher.head
    model = trained(copy.deepcopy(cfg)).model
    start = torch.load(path)['state_dict']
    for n, name in enumerate(model.moving):
        assert torch.equal(model.distiller.get_buffer(f'teacher_start_{n}').cpu(), start[name])
        assert not torch.equal(model.teacher.get_parameter(name).cpu(), start[name])
    cfg.load_from, cfg.resume = os.path.join(cfg.work_dir, 'epoch_1.pth'), True
    again = trained(cfg).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_a_fixed_teacher_a_wrong_weight_and_a_teacher_without_a_neck_are_refused():
    with pytest.raises(ConfigError, match='^model.teacher_trainable=False: the teacher of ATSC is trained; SimKD has'):
        build(teacher_trainable=False)
    with pytest.raises(ConfigError, match='^model.teacher_trainable=True: the teacher of SimKD is fixed'):
        build('SimKD', teacher_trainable=True)
    with pytest.raises(ConfigError, match='^model.proximity=-1 must be a number at least 0'):
        build(proximity=-1)
    with pytest.raises(ConfigError, match='^model.teacher: ATSC pools the compared map by the neck of the teacher'):
        build(teacher=dict(classifier(6), neck=None))
