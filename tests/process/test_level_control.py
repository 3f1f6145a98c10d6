"""The level control on the losses of made-up trainings."""
import io
import math

import pytest
import torch
from torch import nn

from distpro.process import LevelControl, level_control

STEPS = 400  # 20 steps are 5%
TOLERANCE = 1.5 / STEPS
THREE = [(0.1, 1 / 4), (0.2, 1 / 16), (0.3, 1 / 64)]


def training(losses, guess=1.0, control=None, start=0, model=None):
    """Train a weight by a step of 1 each time; progress and factor at every new start."""
    model = model or nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9)
    control = control or LevelControl([model])
    starts = []
    for step in range(start, STEPS):
        control.begin(step / STEPS)
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        said = control.observe(step / STEPS, torch.tensor(losses(step / STEPS)), guess, [optimizer])
        if said:
            starts.append((step / STEPS, control.factor))
            assert f'{step / STEPS:.0%} of the training' in said and f'multiplied by {control.factor:g}' in said
            assert not optimizer.state
    return starts


@pytest.mark.parametrize('early', [0.0, 0.99, 1.24])
@pytest.mark.parametrize('later', [0.0, 0.99])
def test_a_student_that_learns_is_left_alone(early, later):
    control = LevelControl([nn.Linear(1, 1)])
    assert training(lambda progress: early if progress < 0.3 else later, control=control) == [] and control.factor == 1


@pytest.mark.parametrize('loss', [1.26, 50.0, math.inf, math.nan])
def test_a_student_worse_than_guessing_starts_again_three_times(loss):
    assert training(lambda progress: loss) == THREE


def test_the_first_twentieth_and_what_follows_a_new_start_do_not_count():
    assert training(lambda progress: 50.0 if progress < 0.05 else 0.5) == []
    assert training(lambda progress: 50.0 if progress < 0.15 else 0.5) == [(0.1, 1 / 4)]


def test_a_later_twentieth_counts_until_60_percent():
    (progress, factor), = training(lambda progress: 50.0 if 0.16 < progress < 0.22 else 0.5)
    assert progress == pytest.approx(0.2, abs=TOLERANCE) and factor == 1 / 4
    (progress, factor), = training(lambda progress: 50.0 if 0.52 < progress < 0.54 else 0.5)
    assert progress == pytest.approx(0.55, abs=4 * TOLERANCE) and factor == 1 / 4
    assert training(lambda progress: 50.0 if progress > 0.6 else 0.5) == []


@pytest.mark.parametrize('loss', [1.01, 1.24])
def test_a_student_as_good_as_guessing_starts_again_after_30_percent(loss):
    """It has a little more time after a new start."""
    (progress, factor), = training(lambda progress: loss)
    assert progress == pytest.approx(0.35, abs=TOLERANCE) and factor == 1 / 4


@pytest.mark.parametrize('loss', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_counts_until_60_percent(loss):
    (progress, factor), = training(lambda progress: loss if 0.52 < progress < 0.54 else 0.5)
    assert progress == pytest.approx(0.55, abs=4 * TOLERANCE) and factor == 1 / 4
    assert training(lambda progress: loss if progress > 0.6 else 0.5) == []


def test_the_lower_weights_are_watched_until_the_end():
    """After a new start, a later one is possible at any time, also by a loss that is not finite."""
    starts = training(lambda progress: 50.0 if progress < 0.12 or progress > 0.6 else 0.5)
    assert [factor for _, factor in starts] == [1 / 4, 1 / 16, 1 / 64]
    assert starts[1][0] == pytest.approx(0.65, abs=0.05 + TOLERANCE) and starts[2][0] < 0.85
    control = LevelControl([nn.Linear(1, 1)])
    control.begin(0)
    assert control.restart(0.1, 'it diverged') and control.restart(0.9, 'it diverged') and control.factor == 1 / 16


def test_a_new_start_has_the_initial_weights():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    control = LevelControl([model])
    control.begin(0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    for step in range(40):
        control.begin(0.05 + step / 400)  # changes nothing from the second time on
        control.observe(0.05 + step / 400, torch.tensor(9.0), 1.0)
    assert control.factor == 1 / 4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_mean_is_of_all_processes(monkeypatch):
    """Another process whose student learns outweighs this one."""
    def with_other(losses):
        return (losses + torch.tensor([0.0, losses[1]])) / 2

    monkeypatch.setattr(level_control, 'mean_of_processes', with_other)
    assert training(lambda progress: 1.9) == []
    assert training(lambda progress: 3.0) == THREE


def test_a_diverged_training_starts_again_at_once_at_most_three_times():
    control = LevelControl([nn.Linear(1, 1)])
    assert control.restart(0.01, 'it diverged') is None  # nothing to start from
    control.begin(0)
    factors = [control.factor for _ in range(4) if control.restart(0.01, 'it diverged')]
    assert factors == [1 / 4, 1 / 16, 1 / 64]
    late = LevelControl([nn.Linear(1, 1)])
    late.begin(0)
    assert late.restart(0.6, 'it diverged') is None and late.factor == 1
    assert late.restart(0.59, 'it diverged') and late.factor == 1 / 4


@pytest.mark.parametrize('stop', [30, 50, 70, 200])
def test_a_resumed_training_continues_with_the_same_starts(stop):
    model = nn.Linear(1, 1)
    control = LevelControl([model])
    first = []
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    for step in range(stop):
        control.begin(step / STEPS)
        if control.observe(step / STEPS, torch.tensor(5.0), 1.0, [optimizer]):
            first.append((step / STEPS, control.factor))
    file = io.BytesIO()
    torch.save(control.state_dict(), file)
    file.seek(0)
    resumed = LevelControl([model])
    resumed.load_state_dict(torch.load(file))
    assert first + training(lambda progress: 5.0, control=resumed, start=stop, model=model) == THREE


def test_a_new_start_has_no_gradients_of_the_steps_before():
    """With accumulated gradients, the NaN of the step that diverged would otherwise reach the new weights."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    control = LevelControl([model])
    control.begin(0)
    (model(torch.ones(1, 1)).sum() * math.nan).backward()
    assert control.restart(0.1, 'it diverged', [optimizer])
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_module_may_have_a_state_that_is_no_tensor():
    class Counting(nn.Linear):
        count = 0

        def get_extra_state(self):
            return dict(count=[self.count])

        def set_extra_state(self, state):
            self.count, = state['count']

    model = Counting(1, 1)
    control = LevelControl([model])
    control.begin(0)
    model.count = 7
    assert control.restart(0.1, 'it diverged') and model.count == 0
