import os

import pytest
import torch
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch import nn
from toys import SHAPE, batch, classifier

from distpro_mm.errors import ConfigError
from distpro_mm.models import SimKDNeck


def build(head=None):
    torch.manual_seed(0)
    student, teacher = classifier(4), classifier(6)
    student['neck'] = [dict(type='SimKDNeck', in_channels=16, out_channels=24), student['neck']]
    student['head'] = head or teacher['head']
    distiller = dict(
        type='PairDistiller', transmitters='auto',
        receivers=[dict(module='neck.0.layers', name='projected')], connections=[(-1, 0)],
        loss=dict(type='L2Loss', normalize=False, div_element=True))
    return MODELS.build(dict(_scope_='mmrazor', type='SimKD', architecture=student, teacher=teacher, input_shape=SHAPE,
                             distiller=distiller))


def test_the_only_loss_is_that_of_the_projected_map():
    model = build().double()
    x, samples = batch(4, torch.float64)
    losses = model(x, samples, mode='loss')
    assert list(losses) == ['distill.loss_layer3>projected']
    projected = model.student.neck[0].layers(model.student.backbone(x)[-1])
    target = model.teacher.backbone(x)[-1]
    torch.testing.assert_close(losses['distill.loss_layer3>projected'], ((projected - target)**2).mean())
    losses['distill.loss_layer3>projected'].backward()
    assert all(p.grad is not None for p in [*model.student.backbone.parameters(), *model.student.neck.parameters()])


def test_the_student_predicts_with_the_teachers_classifier():
    model = build()
    model.init_weights()  # which initialises a separate head of the student
    model.eval()
    x = torch.randn(4, 1, 8, 8)
    projected = model.student.neck[0].layers(model.student.backbone(x)[-1])
    expected = model.teacher.head.fc(projected.mean((2, 3)))
    torch.testing.assert_close(model(x, mode='tensor'), expected)
    assert not any(p.requires_grad for p in model.student.head.parameters())


def test_a_student_whose_maps_are_the_teachers_is_as_good_as_the_teacher():
    model = build().eval()
    x = torch.randn(4, 1, 8, 8)
    model.student.neck[0].forward = lambda feats: (model.teacher.backbone(x)[-1], )
    torch.testing.assert_close(model(x, mode='tensor'), model.teacher(x, mode='tensor'))


def test_training_leaves_the_classifier_alone_and_a_resumed_run_too(make_config, teacher_ckpt):
    cfg = make_config('simkd')
    cfg.model.teacher = make_config('student').model
    cfg.model.teacher_ckpt = teacher_ckpt
    cfg.model.architecture.neck[0].out_channels = 32
    cfg.model.architecture.head = cfg.model.teacher.head
    teacher = torch.load(teacher_ckpt)['state_dict']
    model = Runner.from_cfg(cfg).train()
    for run in range(2):
        assert torch.equal(model.student.head.fc.weight.cpu(), teacher['head.fc.weight'])
        assert torch.equal(model.student.head.fc.bias.cpu(), teacher['head.fc.bias'])
        if run == 0:
            cfg.load_from, cfg.resume = os.path.join(cfg.work_dir, 'epoch_2.pth'), True
            cfg.train_cfg.max_epochs = 3
            model = Runner.from_cfg(cfg).train()


def test_a_head_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match="model.architecture.head: SimKD's student predicts with the teacher's classifier"):
        build(head=dict(type='LinearClsHead', num_classes=7, in_channels=24))


def test_the_projector_is_the_papers_bottleneck():
    torch.manual_seed(1)
    neck = SimKDNeck(6, 8, factor=4).eval()
    shapes = [tuple(m.weight.shape) for m in neck.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [(2, 6, 1, 1), (2, 2, 3, 3), (8, 2, 1, 1)]
    x = torch.randn(2, 6, 4, 4)
    out, = neck((x, ))
    for conv, norm in ((neck.layers[0], neck.layers[1]), (neck.layers[3], neck.layers[4]), (neck.layers[6], neck.layers[7])):
        x = torch.relu(norm(conv(x)))
    assert torch.equal(out, x) and (out >= 0).all()
