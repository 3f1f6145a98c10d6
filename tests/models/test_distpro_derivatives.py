"""The hypergradient and the sensitivities of the pathways of a real model."""
import copy

import pytest
import torch
from mmpretrain.structures import DataSample
from sklearn.datasets import load_digits
from toys import batch, distpro_model as build

from distpro.searching import Hypergradient


@pytest.mark.parametrize('dropout', [0.0, 0.3])
def test_the_stored_step_has_the_derivative_of_a_real_one(dropout):
    """dL_val/dw of DistPro's pathways against finite differences over complete steps, in float64."""

    def prepare():
        torch.manual_seed(3)
        model = build(distiller=dict(connections='nearest_depth')).double()
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


def test_a_weight_of_zero_leaves_no_sensitivity():
    model = build(distiller=dict(connections='nearest_depth'))
    model.cache_batch(True)
    model.distiller.grid.weights = lambda: torch.tensor([1.0, 0.0, 2.0, 3.0])
    sum(model(*batch(12), mode='loss').values()).backward()
    assert [sensitivity is None for _, sensitivity in model.distiller.grid.sensitivities()] == [False, True, False, False]


def test_nothing_is_caught_if_nothing_is_stored():
    model = build()
    sum(model(*batch(12), mode='loss').values()).backward()
    assert all(sensitivity is None for _, sensitivity in model.distiller.grid.sensitivities())
    assert model._cached is None
