"""L2T-ww: its loss pair by pair, and the gradient of its meta networks through all inner steps."""
import copy

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS
from toys import SHAPE, batch, classifier

from distpro.searching import unrolled

pytestmark = pytest.mark.usefixtures('fixed_values')

LR, DECAY, STEPS = 0.05, 0.01, 2


def build(**distiller):
    torch.manual_seed(0)
    cfg = dict(dict(type='L2TDistiller', connections=[(1, 2), (-1, -1), (2, 1)]), **distiller)
    model = MODELS.build(dict(_scope_='mmrazor', type='L2T', architecture=classifier(3, 5), teacher=classifier(4, 5),
                              input_shape=SHAPE, distiller=cfg)).double()
    for p in model.distiller.meta_parameters():  # away from the initial values, which give all channels the same weight
        torch.nn.init.normal_(p, std=0.7)
    for where in model.distiller.where.values():  # within [0, 6] for most images: outside, the derivative is zero
        torch.nn.init.constant_(where.bias, 2.0)
    for p in model.student.head.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return model


def stages(network, x):
    maps = [network.backbone.relu(network.backbone.bn1(network.backbone.conv1(x)))]
    for index in (1, 2, 3):
        maps.append(getattr(network.backbone, f'layer{index}')(maps[-1]))
    return maps


def transfer_by_hand(model, x):
    """The paper's loss image by image, pair by pair and channel by channel; maps of teacher and student after each stage."""
    with torch.no_grad():
        teachers = stages(model.teacher, x)
    students, distiller, total = stages(model.student, x), model.distiller, 0
    for m, n in ((1, 2), (3, 3), (2, 1)):
        name = f'layer{m}>layer{n}'
        conv, what, where = distiller.regressors[name], distiller.what[name], distiller.where[name]
        for t, s in zip(teachers[m], students[n]):
            pooled = t.mean((1, 2))
            channels = torch.softmax(what.weight @ pooled + what.bias, 0)
            pair = (where.weight @ pooled + where.bias).clamp(0, 6)[0]
            own = torch.einsum('oc,chw->ohw', conv.weight[:, :, 0, 0], s) + conv.bias[:, None, None]
            if t.shape[-1] != own.shape[-1]:
                t = torch.nn.functional.interpolate(t[None], own.shape[-2:], mode='bilinear')[0]
            for channel in range(len(t)):
                total = total + pair * channels[channel] * ((t[channel] - own[channel])**2).mean()
    return total / len(x)


def test_the_loss_is_the_papers():
    model = build(beta=0.3)
    x, samples = batch(6, torch.float64, 5)
    losses = model(x, samples, mode='loss')
    assert list(losses) == ['student.loss', 'distill.loss_transfer']
    torch.testing.assert_close(losses['distill.loss_transfer'], 0.3 * transfer_by_hand(model, x))


def test_at_the_start_all_channels_weigh_the_same_and_pairs_about_one():
    torch.manual_seed(0)
    distiller = MODELS.build(dict(
        _scope_='mmrazor', type='L2T', architecture=classifier(3, 5), teacher=classifier(4, 5), input_shape=SHAPE,
        distiller=dict(type='L2TDistiller'))).distiller
    assert len(distiller.pairs) == 16
    maps = {name: torch.rand(2, width, 4, 4) for name, width in (('stem', 4), ('layer1', 4), ('layer2', 8), ('layer3', 16))}
    for name, (channels, pair) in distiller.meta_weights(maps).items():
        assert torch.allclose(channels, torch.full_like(channels, 1 / channels.size(1))), name
        assert pair.shape == (2, ) and ((pair - 1).abs() < 0.9).all()


def test_the_step_of_the_student_never_changes_the_meta_networks():
    model = build()
    sum(model(*batch(6, torch.float64, 5), mode='loss').values()).backward()
    assert all(p.grad is None for p in model.distiller.meta_parameters())
    assert all(p.grad is not None for p in model.distiller.regressors.parameters())


def ended(model, data):
    """float: L_org of a copy after the inner steps of torch's optimiser."""
    twin = copy.deepcopy(model)
    trained = [*twin.student.parameters(), *twin.distiller.regressors.parameters()]
    optimizer = torch.optim.SGD(trained, LR, weight_decay=DECAY)
    for objective in ['transfer'] * STEPS + ['cross_entropy']:
        optimizer.zero_grad()
        if objective == 'transfer':
            loss = twin.distiller.beta * transfer_by_hand(twin, data[0])
        else:
            loss = twin.student(*data, mode='loss')['loss']
        for p in trained:  # parameters without a gradient decay too
            p.grad = torch.zeros_like(p)
        loss.backward()
        optimizer.step()
    return twin.student(*data, mode='loss')['loss'].item()


def test_the_meta_gradient_is_that_of_the_whole_inner_scheme():
    """Against central differences of the scheme run step by step, in float64."""
    model, data = build(), batch(6, torch.float64, 5)
    model(*data, mode='loss')
    gradients = model.meta_gradient(LR, DECAY, STEPS)
    generator = np.random.RandomState(0)
    for parameter, gradient in zip(model.distiller.meta_parameters(), gradients):
        flat = parameter.data.view(-1)
        for index in generator.choice(flat.numel(), min(3, flat.numel()), replace=False):
            values = []
            for sign in (1, -1):
                flat[index] += sign * 1e-5
                values.append(ended(model, data))
                flat[index] -= sign * 1e-5
            truth = (values[0] - values[1]) / 2e-5
            assert gradient.view(-1)[index].item() == pytest.approx(truth, rel=1e-4, abs=1e-9)
    assert sum((gradient != 0).any() for gradient in gradients) >= 11


def test_other_steps_are_distinguished():
    """Planted faults, which the comparison above must detect."""
    model, data = build(), batch(6, torch.float64, 5)
    model(*data, mode='loss')
    right = torch.cat([g.flatten() for g in model.meta_gradient(LR, DECAY, STEPS)])
    for wrong in ((LR, DECAY, 1), (LR, 0.0, STEPS), (2 * LR, DECAY, STEPS)):
        gradients = torch.cat([g.flatten() for g in model.meta_gradient(*wrong)])
        assert (gradients - right).norm() / right.norm() > 1e-3


def test_the_meta_step_leaves_student_teacher_and_random_states_as_they_are():
    model, data = build(), batch(6, torch.float64, 5)
    model.student.backbone.layer1.add_module('dropout', torch.nn.Dropout(0.3))
    model(*data, mode='loss')
    before = copy.deepcopy([model.state_dict(), torch.get_rng_state()])
    model.meta_gradient(LR, DECAY, STEPS)
    assert all(torch.equal(value, before[0][key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(p.grad is None for p in model.parameters())


def test_unrolled_steps_are_those_of_gradient_descent():
    p = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)  # without a loss
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    steps = [lambda at: a * at['p'].square().sum(), lambda at: at['p'].sum()]
    found = unrolled(dict(p=p, q=q), steps, lr=0.1, weight_decay=0.5)
    by_hand = p - 0.1 * (2 * a * p + 0.5 * p)
    by_hand = by_hand - 0.1 * (1 + 0.5 * by_hand)
    torch.testing.assert_close(found['p'], by_hand)
    torch.testing.assert_close(found['q'], q * (1 - 0.1 * 0.5)**2)
    torch.testing.assert_close(torch.autograd.grad(found['p'].sum(), a)[0], (-0.2 * p * 0.95).sum())
