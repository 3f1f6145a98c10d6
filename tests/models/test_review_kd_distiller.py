"""ReviewKD's losses against the explicit recursion of the paper."""
import pytest
import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from toys import batch, classifier

from distpro_mm.models import HCLLoss

pytestmark = pytest.mark.usefixtures('fixed_values')

SHAPE = (1, 16, 16)
BATCH = dict(size=3, dtype=torch.float64, shape=SHAPE)


def build(student=(4, 8, 12), teacher=(6, 10, 16), **distiller):
    torch.manual_seed(0)
    model = MODELS.build(dict(
        _scope_='mmrazor', type='TapDistill', input_shape=SHAPE,
        architecture=classifier(channels=student), teacher=classifier(channels=teacher),
        distiller=dict(type='ReviewKDDistiller', **distiller))).double()
    for p in model.distiller.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return model


def maps(network, x):
    """Maps before and after the last activation of each stage, and the pooled map."""
    backbone, before, after = network.backbone, [], []
    x = backbone.relu(backbone.bn1(backbone.conv1(x)))
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3):
        for block in stage:
            shortcut = x if block.downsample is None else block.downsample(x)
            sum_ = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))) + shortcut
            x = F.relu(sum_)
        before.append(sum_)
        after.append(x)
    return before, after, x.mean((2, 3), keepdim=True)


def normalised(x, conv, bn):
    x = F.conv2d(x, conv.weight, padding=conv.padding)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + bn.eps).sqrt() * bn.weight[:, None, None] + bn.bias[:, None, None]


def nearest(x, size):
    rows = [i * x.shape[-2] // size[0] for i in range(size[0])]
    columns = [i * x.shape[-1] // size[1] for i in range(size[1])]
    return x[..., rows, :][..., columns]


def reviewed(students, teachers, fusions, swap=False):
    """The losses from deep to shallow, of lists from shallow to deep. swap: the wrong formula with exchanged attentions."""
    losses, deeper = [], None
    for feature, target, fusion in list(zip(students, teachers, fusions))[::-1]:
        x = normalised(feature, *fusion.reduce)
        if deeper is not None:
            deeper = nearest(deeper, x.shape[-2:])
            weights = fusion.attention.weight[:, :, 0, 0] @ torch.cat([x, deeper], 1).flatten(2)
            z = torch.sigmoid(weights + fusion.attention.bias[:, None]).view(len(x), 2, *x.shape[-2:])
            own, others = (1, 0) if swap else (0, 1)
            x = x * z[:, own, None] + deeper * z[:, others, None]
        x = deeper = nearest(x, target.shape[-2:])
        losses.append(HCLLoss()(normalised(x, *fusion.expand), target).item())
    return losses


def test_the_losses_are_the_papers():
    model = build(loss=dict(type='HCLLoss', loss_weight=2.0))
    x, samples = batch(**BATCH)
    losses = model(x, samples, mode='loss')
    (_, own, pooled), (target, _, target_pooled) = maps(model.student, x), maps(model.teacher, x)
    names = ['pooled', 'layer3', 'layer2', 'layer1']
    assert list(losses) == ['student.loss', *[f'distill.loss_{name}' for name in names]]
    arguments = own + [pooled], target + [target_pooled], model.distiller.fusions
    found = [losses[f'distill.loss_{name}'].item() / 2 for name in names]
    assert found == pytest.approx(reviewed(*arguments), rel=1e-9)
    # The nearest wrong formulas: exchanged attentions, a teacher after its activation, a student before it.
    assert found != pytest.approx(reviewed(*arguments, swap=True), rel=1e-3)
    after, before = maps(model.teacher, x)[1], maps(model.student, x)[0]
    assert found != pytest.approx(reviewed(own + [pooled], after + [target_pooled], model.distiller.fusions), rel=1e-3)
    assert found != pytest.approx(reviewed(before + [pooled], target + [target_pooled], model.distiller.fusions), rel=1e-3)


def test_the_maps_may_differ_in_size():
    """A student with other strides: its maps are resized to the teacher's."""
    model = build(connections=[('layer2', 'layer1'), ('layer2', 'layer3')])
    x, samples = batch(**BATCH)
    losses = model(x, samples, mode='loss')
    (_, own, pooled), (target, after, _) = maps(model.student, x), maps(model.teacher, x)
    found = [losses[f'distill.loss_{name}'].item() for name in ('pooled', 'layer3', 'layer1')]
    deepest = after[1].mean((2, 3), keepdim=True)
    expected = reviewed([own[0], own[2], pooled], [target[1], target[1], deepest], model.distiller.fusions)
    assert found == pytest.approx(expected, rel=1e-9)


def test_gradients_reach_student_and_fusions_but_not_the_teacher():
    model = build()
    losses = model(*batch(**BATCH), mode='loss')
    sum(value for name, value in losses.items() if name.startswith('distill')).backward()
    assert all(p.grad is not None for p in [*model.distiller.parameters(), *model.student.backbone.parameters()])
    assert all(p.grad is None for p in model.teacher.parameters())


def test_the_common_width_is_that_of_the_deepest_map_up_to_a_bound():
    assert {fusion.reduce[0].out_channels for fusion in build().distiller.fusions} == {12}
    assert {fusion.reduce[0].out_channels for fusion in build(max_mid_channels=5).distiller.fusions} == {5}


def test_the_pooled_maps_may_be_what_the_classifiers_are_given():
    model = build(connections=[(-3, -3), (-2, -2)], pooled='backbone')
    x, samples = batch(**BATCH)
    losses = model(x, samples, mode='loss')
    (_, own, pooled), (target, _, target_pooled) = maps(model.student, x), maps(model.teacher, x)
    found = [losses[f'distill.loss_{name}'].item() for name in ('pooled', 'layer2', 'layer1')]
    arguments = own[:2] + [pooled], target[:2] + [target_pooled], model.distiller.fusions
    assert found == pytest.approx(reviewed(*arguments), rel=1e-9)
    assert {fusion.reduce[0].out_channels for fusion in model.distiller.fusions} == {12}
