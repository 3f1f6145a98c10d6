"""Derivatives of the held-out loss through a round of the search loop."""
import copy
import dataclasses
import os
import pathlib

import pytest
import torch
from mmengine.hooks import Hook
from runs import Scale, trained

from distpro.searching import Footprint, Round, RoundSearch
from distpro_mm.engine.loops.loop_training import LoopTraining
from distpro_mm.errors import ConfigError

ITERATIONS = 8  # of a round: two epochs of 80 images in batches of 20


def test_a_sweep_leaves_student_and_statistics_as_the_round_left_them(make_config):
    """The first of two rounds, after which alpha is updated, against a search of one round."""
    class AtTheEnd(Hook):

        def after_train_epoch(self, runner):
            if runner.epoch == 1:
                self.state = copy.deepcopy(runner.model.state_dict())

    one = AtTheEnd()
    trained(make_config('whole_run', 'one', train_cfg__rounds=1), one)
    for memory in (4.0, 1e-6):
        two = AtTheEnd()
        trained(make_config('whole_run', 'two', train_cfg__rounds=2, train_cfg__memory=memory), two)
        assert all(torch.equal(value, two.state[name]) for name, value in one.state.items())


class InDoublePrecision(Hook):

    def before_train(self, runner):
        plain = runner.model.double().data_preprocessor.forward

        def forward(data, training=False):
            data = plain(data, training)
            return dict(data, inputs=data['inputs'].double())

        runner.model.data_preprocessor.forward = forward


FORMS = [dict(type='PointwiseTransform'), dict(type='PointwiseTransform', name='form', distance=dict(
    type='FormLoss', transformations=['pool_2', 'softmax_images'], distance='pearson'))]
CHANGES = [  # options of a search, the number of pathways and scheduled values, and which are changed
    (dict(train_cfg__scheduled=['temperature', 'cross_entropy']), 7, (1, 4, 5, 6)),  # between features, logits, scheduled
    (dict(model__distiller__transforms=FORMS), 9, (0, 5, 8)),  # squared distance, correlation, logits
]


@pytest.mark.parametrize('options, number, changed', CHANGES)
def test_the_derivative_is_what_a_change_of_the_weights_does_to_the_held_out_loss(make_config, derivatives, monkeypatch,
                                                                                  options, number, changed):
    """Against complete rounds with all weights of a pathway, or all values of something scheduled, changed, in float64."""
    def run(change=0.0, rounds=1):
        plain = RoundSearch.weights
        with monkeypatch.context() as patch:
            patch.setattr(RoundSearch, 'weights', lambda loop, *args: plain(loop, *args).double() + torch.as_tensor(
                change, device=loop.grid.alpha.device))
            cfg = make_config('whole_run', train_cfg__rounds=rounds, train_cfg__max_growth=1e9, train_cfg__max_epochs=1,
                              **options)
            return trained(cfg, InDoublePrecision()).train_loop.searcher.history[0].loss

    run(rounds=2)
    assert derivatives[0].shape == (4, number) and derivatives[0].dtype == torch.float64
    for pathway in changed:
        measured = derivatives[0].sum(0)[pathway].item()
        change = 1e-5 * torch.eye(number).double()[pathway]
        assert measured == pytest.approx((run(change) - run(-change)) / 2e-5, rel=1e-3), pathway


@pytest.mark.parametrize('distance', ['HCLLoss', 'ATLoss'])
def test_a_search_goes_through_maps_that_are_zero_in_both_networks(make_config, derivatives, distance):
    dead = [dict(type='Constant', layer='BatchNorm2d', val=0)]
    runner = trained(make_config(
        'whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1, model__distiller__distance=dict(type=distance),
        model__distiller__transforms=[dict(type='IdentityTransform')], model__architecture__backbone__init_cfg=dead,
        model__teacher__backbone__init_cfg=dead))
    assert derivatives[0].isfinite().all() and len(runner.train_loop.searcher.history) == 2


@pytest.mark.parametrize('optimizer', [dict(type='SGD', lr=0.1, momentum=0.9), dict(type='AdamW', lr=0.01)])
def test_a_round_that_does_not_fit_in_memory_is_taken_again_in_parts(make_config, derivatives, optimizer, monkeypatch):
    """Every step is a part by itself; also with stored steps in main memory, which here is that of the device."""
    states, take = [], Round._take

    def counting(current, *args):
        states.append(len(current._states))
        return take(current, *args)

    monkeypatch.setattr(Round, '_take', counting)
    for memory, place in ((4.0, 'device'), (1e-6, 'device'), (4.0, 'host'), (1e-6, 'host')):
        states.clear()
        runner = trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__memory=memory, train_cfg__memory_on=place,
                                     optim_wrapper__optimizer=dict(optimizer, _delete_=True)))
        found = runner.train_loop.search.round.footprint
        assert (found.steps, found.parts, found.group) == ((ITERATIONS, 1, 1) if memory == 4 else (1, ITERATIONS, 3))
        assert (max(states), found.states // found.state) == ((1, 1) if memory == 4 else (4, 6)), 'and the end'
    assert all(torch.equal(derivatives[0], other) for other in derivatives[1:]) and len(derivatives) == 4


@pytest.mark.parametrize('iterations', [1, 2, 5, 24, 40_030])
@pytest.mark.parametrize('memory', [1e-9, 0.01, 0.5, 4, 64, 1e6])
def test_the_footprint_has_room_for_its_steps_and_few_states(iterations, memory):
    found = Footprint(iterations, 145_000_000, 213_000_000, memory)
    assert (found.steps == 1 or found.steps * found.step <= memory * 2**30) and found.steps * found.parts >= iterations
    assert found.states <= max(memory * 2**30, found.state * (2 * found.parts**0.5 + 1)) + found.state
    assert dataclasses.replace(found, memory=found.enough).taken <= 2 and (found.group == 1 or memory < found.enough)
    assert (found.taken > 2) == (found.group > 1) and ('three times' in str(found)) == (found.group > 1)


@pytest.mark.parametrize('kind, factor', [('SGD', 1), ('AdamW', 4)])
def test_the_footprint_is_that_of_the_steps_in_memory(make_config, monkeypatch, kind, factor):
    """AdamW's steps have a gradient and two averages beside the parameters, and the first step no averages yet."""
    most, take = [], Round._take

    def counting(current, *args):
        loss = take(current, *args)
        most.append(len(current.trajectory.steps))
        return loss

    monkeypatch.setattr(Round, '_take', counting)
    loop = trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__memory=factor * 3e-4,
                               optim_wrapper__optimizer=dict(type=kind, lr=0.01, _delete_=True))).train_loop
    found = loop.search.round.footprint
    assert max(most) == found.steps < ITERATIONS and found.step * found.steps <= factor * 3e-4 * 2**30
    assert found.step > factor * 4 * sum(p.numel() for p in loop.model.student.parameters())


def test_the_log_says_what_a_round_stores(make_config, monkeypatch):
    monkeypatch.setattr(os, 'sysconf', lambda name: 1)
    cfg = make_config('whole_run', train_cfg__rounds=2, train_cfg__memory=3e-4)
    cfg.log_level = 'WARNING'
    loop = trained(cfg).train_loop
    found, model = loop.search.round.footprint, loop.model
    numbers = sum(p.numel() for name, p in model.named_parameters() if not name.startswith('teacher.'))
    images = 20 * 64  # uint8
    buffers = sum(b.numel() * b.element_size() for name, b in model.named_buffers() if not name.startswith('teacher.'))
    assert found.step == 4 * numbers + images and found.steps == int(3e-4 * 2**30 / found.step) < ITERATIONS
    assert 0 <= found.state - 2 * 4 * numbers - buffers < 200, 'parameters, momentum, buffers, variances'
    assert found.parts == -(-ITERATIONS // found.steps) and found.group == 2 and found.taken == 3
    log, = pathlib.Path(cfg.work_dir).glob('*/*.log')
    line = f'WARNING - Memory: to differentiate a round of {ITERATIONS} steps, {found.steps} are stored at a time'
    assert log.read_text().count(line) == 1


def test_a_missing_second_derivative_is_reported_at_the_first_step(make_config):
    class ScaleAtFirst(Scale):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            raise AssertionError('the first step was over')

    with pytest.raises(ConfigError, match="has no second derivative; use searcher=dict.type='CMAESSearcher'"):
        trained(make_config('whole_run'), ScaleAtFirst())


def test_a_step_that_was_skipped_counts_nothing(make_config, derivatives, monkeypatch):
    """As a loss scaler skips some, the last one of a round too; whether or not steps are taken again."""
    take, skipped = LoopTraining.take_step, [0, 3, ITERATIONS - 1]

    def take_some(training, iteration, *args):
        if iteration in skipped:
            with monkeypatch.context() as patch:
                patch.setattr(training.optimizer, 'step', lambda *args, **kwargs: None)
                return take(training, iteration, *args)
        return take(training, iteration, *args)

    monkeypatch.setattr(LoopTraining, 'take_step', take_some)
    for memory in (4.0, 3e-4, 1e-6):  # one part, four parts in two groups, eight parts
        trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__memory=memory))
    assert (derivatives[0][skipped] == 0).all() and (derivatives[0][[1, 2, 4, 5, 6]] != 0).any(1).all()
    assert torch.equal(derivatives[0], derivatives[1]) and torch.equal(derivatives[0], derivatives[2])


@pytest.mark.parametrize('memory', [4.0, 3e-4, 1e-6])
def test_where_the_derivative_grows_it_is_not_followed(make_config, derivatives, monkeypatch, memory):
    """Nor are steps taken again for it, whether all are stored, some, or one."""
    taken, take = [], Round._take

    def counting(current, iteration, *args):
        taken.append(iteration)
        return take(current, iteration, *args)

    monkeypatch.setattr(Round, '_take', counting)
    trained(make_config('whole_run', train_cfg__rounds=3, train_cfg__memory=memory, train_cfg__max_growth=1e-9))
    assert len(derivatives) == 2 and all((found[:-1] == 0).all() and (found[-1] != 0).all() for found in derivatives)
    assert taken == [0, *range(ITERATIONS), *range(ITERATIONS), *range(ITERATIONS)]  # one that is tried, and the rounds


def test_alpha_goes_down_the_derivative(make_config, derivatives):
    runner = trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__knots=2))
    share, lengths = torch.linspace(0, 1, ITERATIONS)[:, None], []
    for knot, part in enumerate((1 - share, share)):
        gradient = (part * derivatives[0]).sum(0)  # times the weight, which is positive
        moved = torch.tensor(runner.train_loop.searcher.history[1].alpha.tolist()[knot]) - torch.tensor(
            runner.train_loop.searcher.history[0].alpha.tolist()[knot])
        assert torch.equal(moved.sign(), -gradient.sign())
        lengths.append(torch.stack([gradient.abs(), moved.abs()]))
    size, moved = torch.cat(lengths, 1)
    torch.testing.assert_close(moved, 0.7 * size / (size + 0.25 * size.median()), rtol=1e-4, atol=0)
