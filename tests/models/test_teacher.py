"""The teacher of a distillation: how it runs, and its checkpoint."""

import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn
from toys import batch, classifier, distpro_model as build

from distpro_mm.errors import ConfigError


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


@pytest.mark.parametrize('before', [False, True])
def test_the_features_are_after_or_before_the_last_activation_of_teacher_and_student(before):
    """Every ReLU of these networks is in-place, and would overwrite the features before it."""
    torch.manual_seed(0)
    layers = [dict(module='auto', before_activation=before)]
    model = build(distiller=dict(transmitters=layers, receivers=layers))
    x, samples = batch(12)
    with model.distiller.receiver_reader(model.student) as received:
        with model.distiller.transmitter_reader(model.teacher) as transmitted:
            model.student(x, mode='tensor'), model.teacher(x, mode='tensor')
    for reader in (received, transmitted):
        assert list(reader.features) == ['stem', 'layer1', 'layer2', 'layer3']
        assert all((feature.min() < -1e-3) == before for feature in reader.features.values())
    block = model.student.backbone.layer3[0]
    stage2 = model.student.backbone.layer2(model.student.backbone.layer1(
        model.student.backbone.relu(model.student.backbone.bn1(model.student.backbone.conv1(x)))))
    own = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(stage2))))) + block.downsample(stage2)
    assert torch.allclose(own if before else own.relu(), received.features['layer3'], atol=1e-5)


def test_a_stopped_distillation_costs_no_teacher():
    model = build()
    model.distillation_stopped = True
    losses = model(*batch(12), mode='loss')
    assert set(losses) == {'student.loss'} and model.passes == dict(student=1)


def test_a_trainable_teacher_is_refused():
    with pytest.raises(ConfigError, match='model.teacher_trainable=True'):
        build(teacher_trainable=True)


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
