"""The temperature of logits and the weight of the cross-entropy over a training."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from toys import network

import distpro
from distpro.plain_training import PlainTraining
from distpro.process import average_processes, fit_length, map_process
from distpro.searching import Round, RoundSearch, Trial, build_searcher

NAMES = ['temperature', 'cross_entropy']
BY_HAND = dict(progress=[0, 0.5, 1], weights=dict(features=[1, 2, 0], logits=[3, 3, 1]))
VALUES = dict(temperature=[0.5, 2, 1], cross_entropy=[0, 1, 0.5])


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.05, 0.9)


def kl(student, teacher, tau):
    log_q, p = (student / tau).log_softmax(1), (teacher / tau).softmax(1)
    return tau**2 * (p * (p.log() - log_q)).sum(1).mean()


def test_a_process_sets_the_temperature_and_the_weight_of_the_cross_entropy(data, teacher):
    student, images = network(), next(iter(data[0]))[0]
    process = dict(BY_HAND, scheduled=VALUES)
    with distpro.Distillation(student, teacher, images[:2], process=process, fast_teacher=False) as kd, torch.no_grad():
        logits = student(images), teacher(images)
        for progress, tau, weight in ((0, 4 * 0.5, 0), (0.25, 4 * 1.25, 0.5), (0.5, 8, 1), (1, 4, 0.5)):
            with torch.enable_grad():
                out = kd(images, progress=progress)
            assert out.cross_entropy.item() == pytest.approx(weight)
            assert out.pathways['logits>logits:kl'].item() == pytest.approx(kl(*logits, tau).item(), rel=1e-4)
        assert kd.grid.logit_losses['kl'].tau == 4, 'its own temperature is as it was'
        kd.grid.set_weights(None)
        assert kd.grid.scheduled_value('temperature') == kd.grid.scheduled_value('cross_entropy') == 1


def test_ones_change_no_bit(data, teacher):
    images, found = next(iter(data[0]))[0], []
    for scheduled in (None, {name: [1, 1, 1] for name in NAMES}):
        torch.manual_seed(0)
        with distpro.Distillation(network(), teacher, images[:2], process=dict(BY_HAND, scheduled=scheduled)) as kd:
            out = kd(images, progress=0.3)
            (out.cross_entropy * out.logits.logsumexp(1).mean() + out.loss).backward()
            found.append([out.loss.detach(), *(p.grad for p in kd.student.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*found))


def test_derivatives_are_what_a_change_does_to_the_held_out_loss(data, teacher):
    """Against complete rounds in float64, with one step's value changed."""
    class Double:
        def __init__(self, loader):
            self.loader = loader

        def __len__(self):
            return 3

        def __iter__(self):
            return ((images.double(), labels) for (images, labels), _ in zip(self.loader, range(3)))

    torch.manual_seed(0)
    training = PlainTraining(network().double(), teacher.double(), Double(data[0]), Double(data[1]),
                             functional.cross_entropy, sgd, None, 0, dict(fast_teacher=False))
    try:
        training.kd.grid.schedule(NAMES)
        training.start(3)
        current = Round(training, 3, True, max_growth=math.inf)
        current.open()
        start = {key: value.clone() for key, value in training.state_dict().items()}
        optimizer, scheduler = training.optimizer.state_dict(), training.scheduler.state_dict()
        weights = torch.rand(3, len(training.kd.grid.pathways) + 2).double() + 0.5

        def loss(given, store=False):
            training.load_state_dict(start)
            training.optimizer.load_state_dict(optimizer)
            training.scheduler.load_state_dict(scheduler)
            training.begin(1)
            current.begin(given, store)
            for batch in training.batches(0):
                current.step(batch)
            return current.measure()

        loss(weights, True)
        derivatives = current.derivatives()
        for step, column in ((0, -2), (2, -2), (0, -1), (2, -1), (1, 0)):
            change = torch.zeros_like(weights)
            change[step, column] = 1e-5
            measured = (loss(weights + change) - loss(weights - change)) / 2e-5
            assert derivatives[step, column].item() == pytest.approx(measured, rel=1e-5, abs=1e-10), (step, column)
        search = RoundSearch(training.kd.grid, current, build_searcher(training.kd.grid, 'RpropSearcher', knots=3))
        trial = Trial('step', torch.randn(3, weights.shape[1]).double())  # a knot for each step
        torch.testing.assert_close(search.weights(trial), trial.alpha.exp())
    finally:
        training.close()
        teacher.float()


def test_a_search_finds_both_and_the_file_holds_them(data, teacher, tmp_path):
    torch.manual_seed(2)
    process = distpro.search(network(), teacher, *data, functional.cross_entropy, sgd, epochs=2, min_iterations=10, rounds=3,
                             max_divisions=1, scheduled=NAMES, report=lambda line: None,
                             searcher=dict(type='RpropSearcher', confirmations=0))
    trials = process.origin['trials']
    assert {'student', 'kd', 'level', 'step'} <= {trial['kind'] for trial in trials}
    assert list(process.scheduled) == NAMES and all(len(values) == len(process) for values in process.scheduled.values())
    process.save(tmp_path / 'process.json')
    read = distpro.DistillationProcess.load(tmp_path / 'process.json')
    assert read.scheduled == process.scheduled and read.to_dict()['version'] == 4
    assert distpro.DistillationProcess(['a>b:c'], 'exponential', [0], [[0]]).to_dict()['version'] == 3
    again = distpro.search(network(), teacher, *data, functional.cross_entropy, sgd, epochs=2, min_iterations=10, rounds=0,
                           max_divisions=1, scheduled=NAMES, initial=str(tmp_path / 'process.json'), references=['student'],
                           report=lambda line: None, searcher=dict(type='RpropSearcher', confirmations=0))
    progress = np.linspace(0, 1, 4)
    assert np.allclose(again.scheduled_at(progress), read.scheduled_at(progress))
    with pytest.raises(distpro.ArgumentError, match=r"initial: the process schedules temperature, cross_entropy too"):
        distpro.search(network(), teacher, *data, functional.cross_entropy, sgd, epochs=2, initial=read)


def test_other_lengths_and_networks_keep_what_is_scheduled():
    names = ['a>x:pointwise', 'b>y:pointwise', 'logits>logits:kl']
    layers = dict(transmitters=['a', 'b'], receivers=['x', 'y'])
    process = distpro.DistillationProcess(names, 'exponential', [0, 1], [[1, 1, 1], [2, 2, 2]], layers=layers,
                                          scheduled=dict(temperature=[1, 3]))
    mapped = map_process(process, ['c>z:pointwise', 'logits>logits:kl'], dict(transmitters=['c'], receivers=['z']))
    assert mapped.scheduled == process.scheduled
    longer = fit_length(mapped, 4000)
    assert len(longer) > 2 and np.allclose(longer.scheduled_at([0, 0.25, 1])[:, 0], [1, 1.5, 3])
    assert process.reorder(names[::-1], 'these networks').scheduled == process.scheduled
    with pytest.raises(distpro.ProcessError, match='processes of weights alone, got one with temperature'):
        average_processes([process])


def test_a_new_start_lowers_the_weights_alone(data, teacher):
    """A process of other networks at a quarter of its weights, as after a new start."""
    layers = dict(transmitters=['a', 'b'], receivers=['x', 'y'])
    names = ['a>x:pointwise', 'a>y:pointwise', 'b>y:pointwise', 'logits>logits:kl']
    process = distpro.DistillationProcess(names, 'exponential', [0, 1], np.ones((2, 4)), layers=layers,
                                          scheduled=dict(temperature=[2, 2], cross_entropy=[0.5, 0.5]))
    images = next(iter(data[0]))[0]
    with distpro.Distillation(network(), teacher, images[:2], process=process, transfer=True) as kd:
        whole = kd(images, progress=0.)
        before = kd.grid.weights().clone()
        kd.level.factor = 0.25
        lower = kd(images, progress=0.)
        assert torch.allclose(kd.grid.weights(), before / 4) and lower.cross_entropy == whole.cross_entropy == 0.5
        assert kd.grid.scheduled_value('temperature') == 2


@pytest.mark.parametrize('scheduled, message', [
    (dict(temperature=[1, 1]), 'temperature=.* must be 3 numbers above 0'),
    (dict(temperature=[1, 0, 1]), 'temperature=.* must be 3 numbers above 0'),
    (dict(cross_entropy=[1, -1, 1]), 'cross_entropy=.* must be 3 numbers from 0 on'),
    (dict(cross_entropy='abc'), 'must be 3 numbers'), (dict(tau=[1, 1, 1]), "scheduled has 'tau'; it may have temperature"),
    ([1, 2], 'scheduled=.* must be a dict of lists')])
def test_wrong_schedules_are_refused(data, teacher, scheduled, message):
    with pytest.raises(distpro.ArgumentError, match=message):
        distpro.Distillation(network(), teacher, next(iter(data[0]))[0][:2], process=dict(BY_HAND, scheduled=scheduled))


def test_what_cannot_be_scheduled_is_refused(data, teacher):
    images = next(iter(data[0]))[0]
    for logits in ({}, dict(mse=torch.nn.MSELoss())):
        with pytest.raises(distpro.ArgumentError, match="'temperature' needs a loss of logits with a temperature"):
            distpro.Distillation(network(), teacher, images[:2], logits=logits,
                                 process=dict(progress=[0], weights=[1], scheduled=dict(temperature=[2])))
    for names in ('temperature', ['tau'], ['temperature'] * 2):
        with pytest.raises(distpro.ArgumentError, match='scheduled=.* must be a list with some of temperature, cross_entro'):
            distpro.search(network(), teacher, *data, functional.cross_entropy, sgd, epochs=2, scheduled=names)
    kd = distpro.Distillation(network(), teacher, images[:2])
    kd.grid.schedule(['cross_entropy'])
    with pytest.raises(distpro.ArgumentError, match='and one for each of cross_entropy'):
        kd.grid.set_weights([1.] * len(kd.grid.pathways))
