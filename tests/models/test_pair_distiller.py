import pytest
import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import nn
from toys import SHAPE, batch, classifier

from distpro_mm.errors import ConfigError
from distpro_mm.models.distillers.pair_distiller import averaged_to_smaller, filled_in

BEFORE = [dict(module='auto', before_activation=True)]
L2 = dict(type='L2Loss', normalize=False, div_element=True)


def build(student=4, teacher=6, distiller=None, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(dict(
        _scope_='mmrazor', type='TapDistill', architecture=classifier(student), teacher=classifier(teacher),
        input_shape=SHAPE, distiller=dict(dict(type='PairDistiller'), **distiller), **kwargs))


CONV = dict(type='ConvModuleConnector', in_channel='student_channels', out_channel='teacher_channels', act_cfg=None)


def test_the_losses_are_those_of_each_pair_through_its_own_connector_times_its_weight():
    model = build(distiller=dict(
        connections=[(1, 2), (-1, -1)], weights=[0.5, 3.0], compare_at='smaller',
        student_connector=CONV, loss=dict(L2, loss_weight=2.0))).double()
    x, samples = batch(6, torch.float64)
    losses = model(x, samples, mode='loss')
    assert list(losses) == ['student.loss', 'distill.loss_layer1>layer2', 'distill.loss_layer3>layer3']
    maps = {}
    for side, whole in (('s', model.student), ('t', model.teacher)):
        feature = whole.backbone.relu(whole.backbone.bn1(whole.backbone.conv1(x)))
        for stage in (1, 2, 3):
            feature = getattr(whole.backbone, f'layer{stage}')(feature)
            maps[side, stage] = feature
    for t, s, weight in ((1, 2, 0.5), (3, 3, 3.0)):
        name = f'layer{t}>layer{s}'
        teacher = F.avg_pool2d(maps['t', t], maps['t', t].shape[-1] // maps['s', s].shape[-1])
        conv = model.distiller.pair_connectors['student'][name].conv_module.conv
        student = F.conv2d(maps['s', s], conv.weight, conv.bias)
        expected = weight * 2.0 * ((student - teacher)**2).mean()
        torch.testing.assert_close(losses[f'distill.loss_{name}'], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize('layers', [{}, dict(transmitters=BEFORE, receivers=BEFORE)])
def test_features_are_taken_after_the_activation_or_where_asked_for_before_it_as_they_are(layers):
    seen = []
    model = build(teacher=4, distiller=dict(loss=L2, **layers))
    for loss in model.distiller.pair_losses.values():
        loss.register_forward_pre_hook(lambda module, features: seen.append(features))
    model(*batch(6), mode='loss')
    assert len(seen) == 4 and all((feature.min() < -1e-3) == bool(layers) for pair in seen for feature in pair)
    assert all(student.requires_grad and not teacher.requires_grad for student, teacher in seen)


def test_maps_of_different_sizes_are_compared_as_they_are_unless_the_smaller_is_asked_for():
    sizes = {}
    for compare_at in ('own', 'smaller'):
        model = build(distiller=dict(loss=dict(type='SPLoss'), connections=[('layer1', 'layer3')], compare_at=compare_at))
        model.distiller.pair_losses['layer1>layer3'].register_forward_pre_hook(
            lambda module, maps, word=compare_at: sizes.update({word: [feature.shape[-1] for feature in maps]}))
        model(*batch(6), mode='loss')
    assert sizes == dict(own=[2, 8], smaller=[2, 2])


def test_words_for_channels_are_filled_in_wherever_they_stand():
    cfg = dict(a='student_channels', b=dict(c='teacher_channels/2', d='teacher'), e=7, f='teacher_channels / 2')
    assert filled_in(cfg, dict(student=4, teacher=10)) == dict(a=4, b=dict(c=5, d='teacher'), e=7, f='teacher_channels / 2')


def test_connectors_in_a_list_are_passed_in_order_and_every_pair_has_its_own():
    pool = dict(type='TorchNNConnector', module_name='AdaptiveAvgPool2d', module_args=dict(output_size=1))
    model = build(distiller=dict(loss=L2, student_connector=[pool, CONV], teacher_connector=pool))
    connectors = model.distiller.pair_connectors['student']
    assert [len(connector) for connector in connectors.values()] == [2] * 4
    widths = [connector[1].conv_module.conv.weight.shape[:2] for connector in connectors.values()]
    assert widths == [(6, 4), (6, 4), (12, 8), (24, 16)]
    assert connectors['layer1>layer1'][1].conv_module.conv is not connectors['stem>stem'][1].conv_module.conv
    assert all(torch.isfinite(value) for value in model(*batch(6), mode='loss').values())


def test_a_connector_is_initialised_as_configured():
    """mmrazor's distiller stores its connectors in torch's ModuleDict, which does not initialise them."""

    def constant(channels):
        sizes = dict(in_channels=channels, out_channels='teacher_channels', kernel_size=1)
        return dict(type='TorchNNConnector', module_name='Conv2d', module_args=sizes,
                    init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))

    relu = dict(type='TorchNNConnector', module_name='ReLU')
    model = build(distiller=dict(loss=L2, student_connector=[relu, constant('student_channels')],
                                 teacher_connector=constant('teacher_channels')))
    model.init_weights()
    convs = [m for m in model.distiller.pair_connectors.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 8 and all((conv.weight == 0.5).all() for conv in convs)


class Labelled(nn.Module):
    loss_weight = 1.0

    def forward(self, s_feature, t_feature, gt_labels, data_samples):
        self.seen = gt_labels, data_samples
        return s_feature.mean()


def test_a_loss_that_asks_for_annotations_gets_them():
    model = build(distiller=dict(loss=dict(type=Labelled), connections=[(-1, -1)]))
    x, samples = batch(6)
    model(x, samples, mode='loss')
    labels, given = model.distiller.pair_losses['layer3>layer3'].seen
    assert labels.tolist() == list(range(6)) and given is samples
    for sample in samples:
        sample.set_gt_score(torch.rand(10))
    with pytest.raises(ConfigError, match='model.distiller.loss: Labelled needs exactly one label per image'):
        model(x, samples, mode='loss')


def test_the_smaller_of_both_sizes_is_taken_side_by_side():
    student, teacher = averaged_to_smaller(torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 6))
    assert student.shape == (2, 3, 4, 4) and teacher.shape == (2, 5, 4, 4)
    same = torch.randn(2, 3, 4, 4)
    assert averaged_to_smaller(same, teacher)[0] is same


def test_the_teacher_stays_as_it_is_and_the_student_is_left_alone_if_it_is_not_to_learn():
    model = build(distiller=dict(loss=L2, teacher_connector=None, student_connector=CONV), calculate_student_loss=False,
                  student_trainable=False)
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    losses = model(*batch(6), mode='loss')
    assert not any(name.startswith('student') for name in losses)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.student.parameters())
    assert all(p.grad is not None for p in model.distiller.pair_connectors['student'].parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.teacher.state_dict().items())
    assert not any(module.training for module in model.teacher.modules())


def test_what_does_not_do_is_refused_with_its_key():
    with pytest.raises(ConfigError, match="model.distiller.compare_at='larger' is not one of own, smaller"):
        build(distiller=dict(loss=L2, compare_at='larger'))
    with pytest.raises(ConfigError, match=r"model.distiller.weights has 3 numbers for the 4 pairs \['stem>stem'"):
        build(distiller=dict(loss=L2, weights=[1, 2, 3]))
    with pytest.raises(ConfigError, match='type=ConfigurableDistiller is not one of TapDistill: use RecorderDistiller'):
        MODELS.build(dict(_scope_='mmrazor', type='TapDistill', architecture=classifier(4), teacher=classifier(4),
                          distiller=dict(type='ConfigurableDistiller')))
