"""distpro.search: the default search for plain networks and loaders."""
import copy
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch.utils.data import DataLoader
from toys import Once, network

import distpro
from distpro.searching import Round


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.05, 0.9)


def search(data, teacher, student=None, **kwargs):
    torch.manual_seed(2)
    arguments = dict(criterion=functional.cross_entropy, optimizer=sgd, epochs=2, min_iterations=10, max_divisions=2,
                     rounds=2, report=lambda line: None)
    return distpro.search(student or network(), teacher, *data, **{**arguments, **kwargs})


def test_a_search_finds_a_process_and_leaves_the_student_as_it_was(data, teacher):
    student = network().eval()
    before, lines = copy.deepcopy(student.state_dict()), []
    torch.manual_seed(5)
    states = torch.get_rng_state()
    process = distpro.search(student, teacher, *data, functional.cross_entropy, sgd, epochs=2, min_iterations=10, rounds=2,
                             max_divisions=2, report=lines.append)
    assert torch.equal(torch.get_rng_state(), states)
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in before.items()) and not student.training
    kinds = [trial['kind'] for trial in process.origin['trials']]
    assert kinds[:3] == ['student', 'kd', 'level'] and process.origin['complete'] and len(lines) >= len(kinds)
    kd = distpro.Distillation(student, teacher, next(iter(data[0]))[0][:2], process=process)
    assert kd(next(iter(data[0]))[0], progress=0.5).loss.isfinite()


@pytest.mark.parametrize('loss, kind', [(0.985, 'initial'), (0.975, 'step')])
def test_the_last_line_says_what_was_found(data, teacher, monkeypatch, loss, kind):
    lines, losses, measure = [], iter([1.0, loss]), Round.measure
    monkeypatch.setattr(Round, 'measure', lambda current: (measure(current), next(losses))[1])
    process = search(data, teacher, initial='general', references=[], max_divisions=0, report=lines.append)
    assert lines[-1].startswith(f'The best process has a held-out loss of {1.0 if kind == "initial" else loss:.4f}')
    assert process.origin['best'] == kind and ('is the initial one' in lines[-1]) == (kind == 'initial')


@pytest.mark.long
def test_a_search_is_repeatable_and_the_memory_makes_no_difference(data, teacher):
    searcher = dict(type='RpropSearcher', confirmations=1)
    first, again, parts = (search(data, teacher, memory=memory, max_divisions=1, searcher=searcher)
                           for memory in (4.0, 4.0, 1e-9))
    for other in (again, parts):
        assert np.array_equal(first.alpha, other.alpha) and first.origin['trials'] == other.origin['trials']
    assert {trial['kind'] for trial in first.origin['trials']} >= {'student', 'kd', 'level', 'logits', 'step'}
    other = search(data, teacher, seed=1, rounds=1, max_divisions=0, searcher=searcher)
    assert other.origin['trials'][0]['kind'] == 'student' and other.origin['trials'][0] != first.origin['trials'][0]


def test_a_process_of_short_rounds_is_changed_for_a_known_number_of_steps(data, teacher):
    student = network()
    process = search(data, teacher, student, rounds=0, max_divisions=1, references=[],
                     searcher=dict(type='RpropSearcher', confirmations=0))
    images = next(iter(data[0]))[0][:2]
    found = {steps: distpro.Distillation(student, teacher, images, process=process, steps=steps).process.weights
             for steps in (None, 500, 1000)}
    features = [not name.startswith('logits') for name in process.names]
    assert process.origin['iterations'] < 500 and (found[1000][-1, features] == 0).all()
    assert np.array_equal(found[None], process.weights) and np.array_equal(found[500], process.weights)
    assert (process.weights[-1, features] > 0).all()


def test_a_search_starts_from_a_process_of_the_library(data, teacher):
    student = network()
    process = search(data, teacher, student, initial='general', rounds=2, max_divisions=1, references=['student'],
                     searcher=dict(type='RpropSearcher', confirmations=0))
    first, second, third = process.origin['trials'][:3]
    below = second['loss'] is not None and second['loss'] < first['loss']  # then the level is that of the library
    assert [first['kind'], second['kind'], third['kind']] == ['student', 'level', 'step' if below else 'level']
    known = distpro.Distillation(student, teacher, next(iter(data[0]))[0][:2], process='general').process
    by_hand = search(data, teacher, network(), rounds=2, max_divisions=1, references=['student'], initial=known,
                     searcher=dict(type='RpropSearcher', confirmations=0))
    assert np.array_equal(process.alpha, by_hand.alpha)


class Scale(torch.nn.Module):
    """A layer without a second derivative."""

    def forward(self, x):
        return Once.apply(x)


def test_a_search_without_refinements_needs_no_second_derivative(data, teacher):
    student = network()
    student.insert(3, Scale())
    process = search(data, teacher, student, rounds=0, searcher=dict(type='RpropSearcher', confirmations=0))
    kinds = [trial['kind'] for trial in process.origin['trials']]
    assert kinds[:4] == ['student', 'kd', 'level', 'level'] and 'step' not in kinds
    with pytest.raises(distpro.ArgumentError, match='has no second derivative'):
        search(data, teacher, student, rounds=2)


class Drawing(torch.utils.data.Dataset):
    """Draws a random number for each image, as augmentations do."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        torch.rand(1)
        return self.items[index]


def test_random_layers_do_not_depend_on_what_loading_held_out_images_draws(data, teacher):
    """Loading draws from the random state of this process, or of the loader's workers."""
    def trials(held_out):
        torch.manual_seed(3)
        student = network()
        student.insert(5, torch.nn.Dropout(0.5))
        return search((data[0], held_out), teacher, student, rounds=1, max_divisions=0).origin['trials']

    items = data[1].dataset
    assert trials(DataLoader(items, 20)) == trials(DataLoader(Drawing(items), 20))


class OnTheHost:
    """Images or labels that count how many of their copies on the device exist at once."""

    def __init__(self, values, alive):
        self.values, self.alive = values, alive

    def __len__(self):
        return len(self.values)

    def to(self, device):
        moved = self.values.to(device, copy=True)
        self.alive.add(moved)
        self.alive.most = max(self.alive.most, len(self.alive))
        return moved


class Alive(weakref.WeakSet):
    most = 0


def test_one_held_out_batch_is_on_the_device_at_a_time_and_the_losses_are_the_same(data, teacher):
    batches, images, labels = list(DataLoader(data[1].dataset, 10)), Alive(), Alive()
    hosted = [[OnTheHost(batch[0], images), OnTheHost(batch[1], labels)] for batch in batches]
    settings = dict(max_divisions=0, references=['student'], searcher=dict(type='RpropSearcher', confirmations=0))
    found, plain = (search((data[0], held_out), teacher, **settings) for held_out in (hosted, batches))
    assert np.array_equal(found.alpha, plain.alpha) and found.origin['trials'] == plain.origin['trials']
    assert len(batches) == 4 and images.most <= 2 and labels.most <= 2  # a loss exists until the next one does


def test_the_gradient_is_what_a_change_of_the_weights_does_to_the_held_out_loss(data, teacher, monkeypatch):
    """Against complete rounds with all weights of a pathway changed, in float64.

    A step goes along a gradient, which jumps at the kink of a ReLU, and so does the held-out loss: the student is smooth.
    """
    double = [[(images.double(), labels) for images, labels in loader] for loader in data]
    student = network().double()
    for module in list(student.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.SiLU())
    seen, plain = [], distpro.searching.Round.derivatives
    monkeypatch.setattr(distpro.searching.Round, 'derivatives', lambda current: seen.append(plain(current)) or seen[-1])
    weights = distpro.searching.RoundSearch.weights

    def run(change, rounds=1):
        with monkeypatch.context() as patch:
            patch.setattr(distpro.searching.RoundSearch, 'weights', lambda *args: weights(*args).double() + change)
            return search(double, copy.deepcopy(teacher).double(), student, rounds=rounds, references=[], max_divisions=0,
                          min_iterations=1, epochs=1, max_growth=1e9,
                          weighting=distpro.Weighting('exponential', kd_weight=0.01)).origin['trials'][0]['loss']

    run(0.0, rounds=2)
    for step, pathway in ((slice(None), 1), (slice(None), 6), (0, 1), (3, 6)):  # at all steps, and at one
        change = torch.zeros(5, 7).double()
        change[step, pathway] = 1e-6
        slope = (run(change) - run(-change)) / 2e-6
        assert seen[0][step, pathway].sum().item() == pytest.approx(slope, rel=1e-3), (step, pathway)


def test_a_custom_schedule_is_followed(data, teacher):
    rates = []

    def warm_up(optimizer, iterations):
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rates.append((step, iterations)) or (step + 1) / iterations)

    search(data, teacher, scheduler=warm_up, references=['student'], rounds=1, max_divisions=0, min_iterations=5)
    assert max(step for step, _ in rates) == 5 and {iterations for _, iterations in rates} == {5}


def hill_climbing():
    class HillClimbing(distpro.searching.Searcher):
        """A strategy of a user: random changes of the best process so far."""

        def refine(self, step):
            change = torch.randn(self.best_alpha.shape, generator=torch.Generator().manual_seed(step))
            return self.shift(self.best_alpha, 0.3 * change)

    return HillClimbing


def test_a_strategy_of_a_user_searches(data, teacher):
    searcher = dict(type=hill_climbing(), confirmations=0)
    process = search(data, teacher, searcher=searcher, rounds=3, max_divisions=1)
    assert [trial['kind'] for trial in process.origin['trials']].count('step') == 3


@pytest.mark.parametrize('kwargs, message', [
    (dict(epochs=0), 'epochs=0 must be a whole number from 1'),
    (dict(rounds=1.5), 'rounds=1.5 must be a whole number'),
    (dict(round_share=2), 'round_share=2 must be a number above 0'),
    (dict(process='file'), 'process and example are not arguments of a search'),
    (dict(connections='deep'), "connections='deep' is not one of"),
    (dict(optimizer=torch.optim.LBFGS), "optimizer='LBFGS' cannot be differentiated"),
    (dict(searcher=dict(type='RpropSearcher', step_size=-1)), 'step_size=-1 must be a number above 0'),
    (dict(searcher=dict(type='Rprop')), "searcher.type='Rprop' is not one of"),
])
def test_wrong_arguments_are_named(data, teacher, kwargs, message):
    with pytest.raises(distpro.ArgumentError, match=message):
        search(data, teacher, **kwargs)


def test_a_student_that_diverges_stops_the_search(data, teacher):
    with pytest.raises(distpro.SearchError, match='the student alone is not finite: lower the learning rate'):
        search(data, teacher, optimizer=lambda parameters: torch.optim.SGD(parameters, 1e20))


def test_a_student_that_diverges_only_where_it_confirms_does_not_lose_the_search(data, teacher, monkeypatch):
    measure, confirming = distpro.searching.Round.measure, []

    def diverge(current):
        measure(current)
        confirming.append(confirmed.trial.confirms)
        current.diverged = confirmed.trial.confirms and confirmed.trial.kind == 'student'
        return float('nan') if current.diverged else 1.0  # all processes are alike, so the result is confirmed

    begin = distpro.searching.RoundSearch.begin

    def note(found):
        nonlocal confirmed
        confirmed = found
        begin(found)

    confirmed = None
    monkeypatch.setattr(distpro.searching.RoundSearch, 'begin', note)
    monkeypatch.setattr(distpro.searching.Round, 'measure', diverge)
    process = search(data, teacher, searcher=dict(type='RandomSearcher'), rounds=1, references=['student'])
    assert sum(confirming) > 0 and process.origin['complete']
    assert None in [trial['loss'] for trial in process.origin['trials']]


def test_a_loader_that_gives_no_pairs_is_named(data, teacher):
    loader = DataLoader(torch.randn(8, 3, 16, 16), 4)
    for loaders, name in (((loader, loader), 'train_loader'), ((data[0], loader), 'held_out_loader')):
        with pytest.raises(distpro.ArgumentError, match=f'^{name}: a batch must be a pair'):
            search(loaders, teacher)


def test_a_softmax_over_several_labels_of_an_image_is_refused_unless_asked_for(data, teacher):
    criterion = functional.binary_cross_entropy_with_logits
    hot = functional.one_hot(torch.arange(5), 5).float()
    several, shares = (loaders(data, lambda label, at=at: (hot[label] + hot[label - 1]) * at) for at in (1, 0.5))
    with pytest.raises(distpro.ArgumentError, match='^logits: the default .* assumes one label per image, .*MSELoss'):
        search(several, teacher, criterion=criterion)
    for found, logits in ((shares, {}), (several, dict(logits={})), (several, dict(logits=dict(mse=torch.nn.MSELoss())))):
        settings = dict(rounds=1, max_divisions=0, searcher=dict(type='RandomSearcher'), references=['student'])
        assert search(found, teacher, criterion=criterion, **settings, **logits).origin['complete']


def loaders(data, change):
    """Training and held-out loader with changed labels."""
    return [DataLoader([(image, change(label)) for image, label in loader.dataset], 20) for loader in data]


def test_networks_in_double_precision_are_searched(data, teacher):
    double = [DataLoader([(image.double(), label) for image, label in loader.dataset], loader.batch_size)
              for loader in data]
    searcher = dict(type='RpropSearcher', confirmations=0)
    process = search(double, copy.deepcopy(teacher).double(), network().double(), max_divisions=1, searcher=searcher)
    assert 'logits' in [trial['kind'] for trial in process.origin['trials']] and np.isfinite(process.weights).all()
