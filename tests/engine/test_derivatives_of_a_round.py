"""Derivatives of the held-out loss through a round of the search loop."""
import copy

import pytest
import torch
from mmengine.hooks import Hook
from runs import Scale, trained

from distpro.searching import RoundSearch
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


def test_the_derivative_is_what_a_change_of_the_weights_does_to_the_held_out_loss(make_config, derivatives, monkeypatch):
    """Against complete rounds with all weights of a pathway, or all values of something scheduled, changed, in float64."""
    def run(change=0.0, rounds=1):
        plain = RoundSearch.weights
        with monkeypatch.context() as patch:
            patch.setattr(RoundSearch, 'weights', lambda loop, *args: plain(loop, *args).double() + torch.as_tensor(
                change, device=loop.grid.alpha.device))
            cfg = make_config('whole_run', train_cfg__rounds=rounds, train_cfg__max_growth=1e9, train_cfg__max_epochs=1,
                              train_cfg__scheduled=['temperature', 'cross_entropy'])
            return trained(cfg, InDoublePrecision()).train_loop.searcher.history[0].loss

    run(rounds=2)
    assert derivatives[0].shape == (4, 7) and derivatives[0].dtype == torch.float64
    for pathway in (1, 4, 5, 6):  # between features, of the logits, their temperature, and the cross-entropy
        measured = derivatives[0].sum(0)[pathway].item()
        change = 1e-5 * torch.eye(7).double()[pathway]
        assert measured == pytest.approx((run(change) - run(-change)) / 2e-5, rel=1e-3), pathway


@pytest.mark.parametrize('distance', ['HCLLoss', 'ATLoss'])
def test_a_search_goes_through_maps_that_are_zero_in_both_networks(make_config, derivatives, distance):
    dead = [dict(type='Constant', layer='BatchNorm2d', val=0)]
    runner = trained(make_config(
        'whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1, model__distiller__distance=dict(type=distance),
        model__distiller__transforms=[dict(type='IdentityTransform')], model__architecture__backbone__init_cfg=dead,
        model__teacher__backbone__init_cfg=dead))
    assert derivatives[0].isfinite().all() and len(runner.train_loop.searcher.history) == 2


def test_a_round_that_does_not_fit_in_memory_is_taken_again_in_parts(make_config, derivatives):
    for memory in (4.0, 1e-6):  # every step is a separate part
        trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__memory=memory))
    assert torch.equal(derivatives[0], derivatives[1])


def test_a_missing_second_derivative_is_reported_at_the_first_step(make_config):
    class ScaleAtFirst(Scale):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            raise AssertionError('the first step was over')

    with pytest.raises(ConfigError, match="has no second derivative; use searcher=dict.type='CMAESSearcher'"):
        trained(make_config('whole_run'), ScaleAtFirst())


def test_a_step_that_was_skipped_counts_nothing(make_config, derivatives):
    class Skip(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            optimizer = runner.optim_wrapper.optimizer
            if runner.iter in (0, 3):
                optimizer.step, self.step = lambda *args, **kwargs: None, optimizer.step
            elif runner.iter in (1, 4):
                optimizer.step = self.step

    trained(make_config('whole_run', train_cfg__rounds=2), Skip())
    assert (derivatives[0][[0, 3]] == 0).all() and (derivatives[0][[1, 2, 4]] != 0).any(1).all()


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
