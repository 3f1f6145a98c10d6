import copy
import json
import os

import numpy as np
import pytest
import torch
from cmaes import CMA
from mmengine.hooks import Hook
from mmengine.runner import Runner

from distpro_mm.engine.hooks import DistillWarmUpHook
from distpro_mm.engine.loops import DistProWholeRunLoop
from distpro_mm.errors import ConfigError, TrainingError
from distpro_mm.models import DistPro
from distpro_mm.process import DistillationProcess

ITERATIONS = 8  # of a round: two epochs of 80 images in batches of 20


def search(cfg, hook=None):
    runner = Runner.from_cfg(cfg)
    if hook:
        runner.register_hook(hook, priority='LOWEST')
    runner.train()
    return runner


def load(runner):
    return DistillationProcess.load(os.path.join(runner.work_dir, 'process.json'))


class Watch(Hook):
    """Keeps what a function gives before every iteration."""

    def __init__(self, function):
        self.function, self.seen = function, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(copy.deepcopy(self.function(runner)))


class LongerWarmUpHook(DistillWarmUpHook):
    """A hook of a user, which changes the training loss as the one that it derives from does."""


@pytest.fixture
def derivatives(monkeypatch):
    """dJ/dw [iterations, N] of all rounds that were followed."""
    seen, plain = [], DistProWholeRunLoop._derivatives

    def noting(loop):
        seen.append(plain(loop))
        return seen[-1]

    monkeypatch.setattr(DistProWholeRunLoop, '_derivatives', noting)
    return seen


def test_every_round_starts_anew_with_a_schedule_of_its_own_and_other_batches(make_config):
    state = Watch(lambda runner: (runner.model.state_dict(), runner.optim_wrapper.get_lr()['lr'][0],
                                  runner.optim_wrapper.optimizer.state_dict()))
    runner = search(make_config('whole_run', train_cfg__rounds=3, param_scheduler__T_max=2), state)
    assert runner.iter == 3 * ITERATIONS and len(state.seen) == 3 * ITERATIONS
    first = state.seen[0]
    for place in (ITERATIONS, 2 * ITERATIONS):
        weights, lr, optimizer = state.seen[place]
        assert all(torch.equal(value, weights[name]) for name, value in first[0].items()) and lr == first[1]
        assert not optimizer['state']
        assert not torch.equal(state.seen[place + 1][0]['architecture.backbone.conv1.weight'],
                               state.seen[1][0]['architecture.backbone.conv1.weight'])
    assert state.seen[ITERATIONS - 1][1] < 0.5 * first[1] and state.seen[ITERATIONS - 1][2]['state']


def test_a_round_is_an_ordinary_training_with_its_weights(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__rise=0)
    searched = search(cfg)
    cfg = make_config('equal', model__distiller__logits=cfg.model.distiller.logits,
                      model__distiller__weighting=cfg.model.distiller.weighting)
    cfg.train_dataloader.dataset = dict(type='HeldOutSplit', part='train', dataset=cfg.train_dataloader.dataset)
    plain = search(cfg)
    a, b = searched.model.state_dict(), plain.model.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_sweep_leaves_student_and_statistics_as_the_round_left_them(make_config):
    """The last iteration of the first round of two, after which alpha moves, against a search that ends there."""
    class AtTheEnd(Hook):

        def after_train_epoch(self, runner):
            if runner.epoch == 1:
                self.state = copy.deepcopy(runner.model.state_dict())

    for memory in (4.0, 1e-6):
        one, two = AtTheEnd(), AtTheEnd()
        search(make_config('whole_run', 'one', train_cfg__rounds=1), one)
        search(make_config('whole_run', 'two', train_cfg__rounds=2, train_cfg__memory=memory), two)
        assert all(torch.equal(value, two.state[name]) for name, value in one.state.items())


class InDoublePrecision(Hook):

    def before_train(self, runner):
        plain = runner.model.double().data_preprocessor.forward

        def forward(data, training=False):
            data = plain(data, training)
            return dict(data, inputs=data['inputs'].double())

        runner.model.data_preprocessor.forward = forward


def test_the_derivative_is_what_a_change_of_the_weights_does_to_the_held_out_loss(make_config, derivatives, monkeypatch):
    """Against whole rounds with all weights of a pathway changed, in float64."""
    def run(change=0.0, rounds=1):
        plain = DistProWholeRunLoop.weights
        with monkeypatch.context() as patch:
            patch.setattr(DistProWholeRunLoop, 'weights', lambda loop: plain(loop).double() + change)
            return search(make_config('whole_run', train_cfg__rounds=rounds, train_cfg__max_growth=1e9,
                                      train_cfg__max_epochs=1), InDoublePrecision()).train_loop.history[0]['loss']

    run(rounds=2)
    assert derivatives[0].shape == (4, 5) and derivatives[0].dtype == torch.float64
    for pathway in (1, 4):  # between features, and of the logits
        measured = derivatives[0].sum(0)[pathway].item()
        change = 1e-5 * torch.eye(5).double()[pathway]
        assert measured == pytest.approx((run(change) - run(-change)) / 2e-5, rel=1e-3), pathway


@pytest.mark.parametrize('distance', ['HCLLoss', 'ATLoss'])
def test_a_search_goes_through_maps_that_are_zero_in_both_networks(make_config, derivatives, distance):
    dead = [dict(type='Constant', layer='BatchNorm2d', val=0)]
    runner = search(make_config(
        'whole_run', train_cfg__rounds=2, train_cfg__max_epochs=1, model__distiller__distance=dict(type=distance),
        model__distiller__transforms=[dict(type='IdentityTransform')], model__architecture__backbone__init_cfg=dead,
        model__teacher__backbone__init_cfg=dead))
    assert derivatives[0].isfinite().all() and len(runner.train_loop.history) == 2


def test_a_round_that_does_not_fit_in_memory_is_taken_again_in_parts(make_config, derivatives):
    for memory in (4.0, 1e-6):  # every step is a part of its own
        search(make_config('whole_run', train_cfg__rounds=2, train_cfg__memory=memory))
    assert torch.equal(derivatives[0], derivatives[1])


def test_the_process_is_that_of_the_best_round(make_config, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.11, 2.09])
    monkeypatch.setattr(DistProWholeRunLoop, '_measure', _with_loss(losses))
    runner = search(make_config('whole_run', train_cfg__rounds=5, train_cfg__knots=3, train_cfg__rise=0))
    history, process = runner.train_loop.history, load(runner)
    assert [done['loss'] for done in history] == [3.0, 2.0, 2.5, 2.11, 2.09] == process.origin['losses']
    assert process.origin['complete'] and process.progress == [0, 0.5, 1] and len(process.names) == 5
    alphas = [np.array(done['alpha']) for done in history]
    assert np.allclose(process.alpha, alphas[1])
    assert (np.abs(alphas[1] - alphas[0]) <= 0.7 + 1e-6).all() and np.median(np.abs(alphas[1] - alphas[0])) > 0.5
    # Two rounds were not followed: alpha went the same way from the best one, half as far (or 1.2 times that).
    moved = np.abs(alphas[2] - alphas[1]) > 0
    assert moved.any()
    ratio = (alphas[3] - alphas[1])[moved] / (alphas[2] - alphas[1])[moved]
    assert (ratio > 0.49).all() and (ratio < 0.61).all()


def _with_loss(losses, plain=DistProWholeRunLoop._measure):
    def measure(loop):
        plain(loop)
        return next(losses)

    return measure


class Once(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


class Scale(Hook):

    def before_train(self, runner):
        runner.model.student.backbone.layer2.register_forward_hook(lambda module, given, out: Once.apply(out))


def test_what_has_no_second_derivative_is_told_at_the_first_step(make_config):
    class ScaleAtFirst(Scale):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            raise AssertionError('the first step was over')

    with pytest.raises(ConfigError, match="has no second derivative; use DistProSearchLoop, or moves='evolution'"):
        search(make_config('whole_run'), ScaleAtFirst())


def test_what_has_no_second_derivative_is_searched_by_losses_alone(make_config):
    cfg = make_config('whole_run', train_cfg__moves='evolution', train_cfg__rounds=9, train_cfg__max_epochs=1,
                      optim_wrapper__clip_grad=dict(max_norm=10.0), model__distiller__compile_transforms=True)
    with_cp = make_config('whole_run', train_cfg__moves='random', train_cfg__rounds=2, train_cfg__max_epochs=1)
    with_cp.custom_hooks = [dict(type='mmrazor.DistillWarmUpHook', epochs=1)]
    for config, scale in ((cfg, Scale()), (with_cp, None)):
        history = search(config, scale).train_loop.history
        assert len({str(done['alpha']) for done in history}) == len(history) and np.isfinite(
            [done['loss'] for done in history]).all()


@pytest.mark.parametrize('kind, rounds', [('whole_run', 2), ('search', None)])
def test_the_teacher_may_judge(make_config, monkeypatch, kind, rounds):
    plain, asked = DistPro.held_out_loss, []
    monkeypatch.setattr(DistPro, 'held_out_loss', lambda model, data, agreement: (
        asked.append(agreement), plain(model, data, agreement))[1])
    options = dict(train_cfg__rounds=rounds) if rounds else dict(
        model__distiller__logits=[dict(type='KLDivergence', tau=4)])
    runner = search(make_config(kind, train_cfg__agreement=0.5, train_cfg__max_epochs=1, **options))
    assert set(asked) == {0.5} and len(asked) > 2
    alpha = runner.train_loop.alpha if rounds else runner.model.distiller.alpha
    assert alpha.isfinite().all() and alpha.std() > 0


def test_a_step_that_was_skipped_counts_nothing(make_config, derivatives):
    class Skip(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            optimizer = runner.optim_wrapper.optimizer
            if runner.iter in (0, 3):
                optimizer.step, self.step = lambda *args, **kwargs: None, optimizer.step
            elif runner.iter in (1, 4):
                optimizer.step = self.step

    search(make_config('whole_run', train_cfg__rounds=2), Skip())
    assert (derivatives[0][[0, 3]] == 0).all() and (derivatives[0][[1, 2, 4]] != 0).any(1).all()


def test_a_schedule_that_does_not_say_when_it_ends_ends_with_a_round(make_config):
    rates = Watch(lambda runner: runner.optim_wrapper.get_lr()['lr'][0])
    cfg = make_config('whole_run', train_cfg__rounds=2)
    cfg.param_scheduler = dict(type='LinearLR', start_factor=1.0, end_factor=0.1, convert_to_iter_based=True)
    search(cfg, rates)
    assert rates.seen[:ITERATIONS] == rates.seen[ITERATIONS:] and rates.seen[-1] == pytest.approx(0.1 * rates.seen[0])


def test_another_search_is_not_gone_on_with(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=1)
    search(cfg)
    cfg = make_config('whole_run', train_cfg__rounds=2, resume=True, load_from=os.path.join(cfg.work_dir, 'epoch_2.pth'))
    with pytest.raises(ConfigError, match="'rounds': 1.*resume with the config of the search"):
        search(cfg)
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__agreement=0.5, resume=True, load_from=cfg.load_from)
    with pytest.raises(ConfigError, match="'agreement': 0.5"):
        search(cfg)


def test_a_round_that_is_nearly_as_good_is_followed(make_config, monkeypatch, derivatives):
    monkeypatch.setattr(DistProWholeRunLoop, '_measure', _with_loss(iter([2.0, 2.09, 2.2])))
    search(make_config('whole_run', train_cfg__rounds=3))
    assert len(derivatives) == 2


def test_a_random_search_costs_no_derivative_and_keeps_the_best(make_config, monkeypatch, derivatives):
    monkeypatch.setattr(DistProWholeRunLoop, '_measure', _with_loss(iter([3.0, 2.5, 2.0, 2.2] * 2)))
    runners = [search(make_config('whole_run', f'seed{seed}', train_cfg__rounds=4, train_cfg__moves='random',
                                  randomness__seed=seed)) for seed in (0, 1)]
    assert not derivatives
    alphas = [np.array([done['alpha'] for done in runner.train_loop.history]) for runner in runners]
    assert (alphas[0][0, [0, -1]] == 0).all() and np.allclose(load(runners[0]).alpha, alphas[0][2])
    assert len({alpha.tobytes() for drawn in alphas for alpha in drawn[1:]}) == 6
    assert 0.8 < np.std(np.concatenate([drawn[1:] - drawn[0] for drawn in alphas])) / 3**0.5 < 1.2


def test_evolution_goes_where_the_loss_is_low_and_may_be_resumed(make_config, monkeypatch, derivatives):
    """The loss is made up: how far the first knot is from 3 and the second pathway from -3 above all others, which are 0."""
    wanted = torch.zeros(4, 5)
    wanted[0] += 3
    wanted[:, 1] -= 3

    monkeypatch.setattr(DistProWholeRunLoop, '_measure', lambda loop: 3 + float((loop.alpha - wanted).square().sum()))
    monkeypatch.setattr(DistProWholeRunLoop, 'step', lambda loop, data_batch: dict(loss=torch.zeros(())))
    options = dict(train_cfg__moves='evolution', train_cfg__max_epochs=1, default_hooks__checkpoint__interval=24,
                   default_hooks__checkpoint__max_keep_ckpts=-1)
    runner = search(make_config('whole_run', 'whole', train_cfg__rounds=43, **options))
    whole = runner.train_loop.history
    generations = [np.mean([done['loss'] for done in whole[first:first + 7]]) for first in (1, 36)]
    assert not derivatives and generations[1] - 3 < 0.7 * (generations[0] - 3)
    resumed = search(make_config('whole_run', 'whole', train_cfg__rounds=43, resume=True, load_from=os.path.join(
        runner.work_dir, 'epoch_24.pth'), **options)).train_loop.history
    assert resumed == whole


def test_a_round_that_diverged_is_the_worst_of_its_generation(make_config, monkeypatch):
    told, plain = [], CMA.tell
    monkeypatch.setattr(CMA, 'tell', lambda self, solutions: (told.append([loss for _, loss in solutions]),
                                                              plain(self, solutions)))
    losses = [3.0, 2.0, float('nan'), 1e30, *[2.0] * 6]
    monkeypatch.setattr(DistProWholeRunLoop, '_measure', _with_loss(iter(losses)))
    runner = search(make_config('whole_run', train_cfg__rounds=10, train_cfg__moves='evolution', train_cfg__max_epochs=1))
    assert told and all(len(losses) == 7 and np.argmax(losses) == 1 and np.isfinite(losses).all() for losses in told)
    assert runner.train_loop.alpha.tolist() == runner.train_loop.history[-1]['alpha']  # and moves no more


def test_alpha_goes_down_the_derivative(make_config, derivatives):
    runner = search(make_config('whole_run', train_cfg__rounds=2, train_cfg__knots=2))
    share, lengths = torch.linspace(0, 1, ITERATIONS)[:, None], []
    for knot, part in enumerate((1 - share, share)):
        gradient = (part * derivatives[0]).sum(0)  # times the weight, which is positive
        moved = torch.tensor(runner.train_loop.history[1]['alpha'][knot]) - torch.tensor(
            runner.train_loop.history[0]['alpha'][knot])
        assert torch.equal(moved.sign(), -gradient.sign())
        lengths.append(torch.stack([gradient.abs(), moved.abs()]))
    size, moved = torch.cat(lengths, 1)
    torch.testing.assert_close(moved, 0.7 * size / (size + 0.25 * size.median()), rtol=1e-4, atol=0)


def test_a_round_that_diverges_is_not_followed(make_config):
    class Poison(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == ITERATIONS + 3:
                next(runner.model.student.parameters()).data.fill_(float('nan'))

    runner = search(make_config('whole_run', train_cfg__rounds=3), Poison())
    losses = [done['loss'] for done in runner.train_loop.history]
    assert np.isnan(losses[1]) and np.isfinite([losses[0], losses[2]]).all()
    assert np.isfinite(load(runner).weights).all()
    assert json.loads(open(os.path.join(runner.work_dir, 'process.json')).read())['origin']['losses'][1] is None


def test_weights_begin_higher_inside_the_run(make_config):
    weights = Watch(lambda runner: runner.train_loop._weights)
    runner = search(make_config('whole_run', train_cfg__rounds=1, train_cfg__rise=1.5, train_cfg__knots=3), weights)
    assert np.allclose(runner.train_loop.history[0]['alpha'], [[0] * 5, [1.5] * 5, [0] * 5])
    middle = np.interp(np.arange(ITERATIONS), [0, (ITERATIONS - 1) / 2, ITERATIONS - 1], [1, np.exp(1.5), 1])
    assert np.allclose(weights.seen[0], np.tile(middle[:, None], 5))


@pytest.mark.parametrize('moves, rounds', [('derivative', 2), ('random', 2), ('evolution', 9)])
def test_after_a_first_round_that_diverges_comes_one_of_lower_weights(make_config, monkeypatch, moves, rounds):
    told, plain = [], CMA.tell
    monkeypatch.setattr(CMA, 'tell', lambda self, solutions: (told.append(list(solutions)), plain(self, solutions)))
    monkeypatch.setattr(DistProWholeRunLoop, '_drawn', lambda loop: np.full((4, 5), 0.5))

    class Poison(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 2:
                next(runner.model.student.parameters()).data.fill_(float('nan'))

    runner = search(make_config('whole_run', train_cfg__rounds=rounds, train_cfg__rise=0.5, train_cfg__moves=moves,
                                train_cfg__max_epochs=1), Poison())
    history = runner.train_loop.history
    assert np.isnan(history[0]['loss']) and np.isfinite([done['loss'] for done in history[1:]]).all()
    assert np.ptp(history[0]['alpha']) == 0.5 and not np.any(history[1]['alpha']) and len(history) == rounds + 1
    if moves == 'evolution':  # of the last move, which goes through all rounds anew
        bred, losses = zip(*told[-1])
        assert list(losses) == [done['loss'] for done in history[2:9]]
        changes = [first[:4, None] + first[4:] for first in bred]
        assert np.allclose([done['alpha'] for done in history[2:9]], changes)
    else:
        assert 0 < np.abs(history[2]['alpha']).max() <= 0.7


def test_where_the_first_step_is_no_improvement_the_search_begins_again(make_config, monkeypatch, derivatives):
    monkeypatch.setattr(DistProWholeRunLoop, '_measure', _with_loss(iter([2.1, 2.15, 2.3, 2.2, 2.0])))
    runner = search(make_config('whole_run', train_cfg__rounds=3, train_cfg__rise=3, train_cfg__max_epochs=1))
    history, process = runner.train_loop.history, load(runner)
    alphas = [np.array(done['alpha']) for done in history]
    assert len(history) == 5 == process.origin['rounds'] and process.origin['complete']
    for place, rise in ((0, 3), (2, 2)):
        assert np.allclose(alphas[place], np.array([0, rise, rise, 0])[:, None])
        assert 0.1 < np.abs(alphas[place + 1] - alphas[place]).max() <= 0.7 + 1e-6
    assert len(derivatives) == 3  # of the first round, the third and the fourth
    assert np.allclose(process.alpha, alphas[4]) and runner.iter == 5 * len(runner.train_loop.dataloader)


def test_a_search_begins_again_down_to_constant_weights_and_keeps_the_best_of_all(make_config, monkeypatch, derivatives):
    """And goes on there as long as it is told, and from a round that is not followed half a step from the best."""
    monkeypatch.setattr(DistProWholeRunLoop, '_measure', _with_loss(iter([2.0, 3.0, 2.5, 2.5, 2.2, 3.0, 2.1])))
    runner = search(make_config('whole_run', train_cfg__rounds=3, train_cfg__rise=1.5, train_cfg__max_epochs=1))
    alphas = [np.array(done['alpha']) for done in runner.train_loop.history]
    assert len(alphas) == 7 and [np.ptp(alphas[place]) for place in (0, 2, 4)] == [1.5, 0.5, 0]
    assert len(derivatives) == 3 and np.allclose(load(runner).alpha, alphas[0])
    step = alphas[5] - alphas[4]
    assert np.allclose(alphas[6] - alphas[4], step / 2, atol=1e-6) and np.abs(step).max() > 0.1


def test_a_search_none_of_whose_rounds_ends_well_says_so(make_config):
    told = 'iteration (9|1[0-6]) of 32: the training loss is not finite.*lower optim_wrapper'
    with pytest.raises(TrainingError, match=told):
        search(make_config('whole_run', optim_wrapper__optimizer__lr=1e6, train_cfg__rise=0.5))
    with pytest.raises(TrainingError, match='iteration [2-8] of 8: the training loss is not finite'):
        search(make_config('whole_run', optim_wrapper__optimizer__lr=1e6, train_cfg__rounds=1))


def test_a_price_takes_weight_from_dear_pathways(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=2, train_cfg__rise=0, train_cfg__cost_penalty=1e3)
    alpha = np.array(search(cfg).train_loop.history[1]['alpha'])
    assert (alpha < 0).all()
    dear = search(make_config('whole_run', train_cfg__rounds=1, train_cfg__cost_penalty=1e3)).train_loop.history[0]['loss']
    assert dear > 100 + search(make_config('whole_run', train_cfg__rounds=1)).train_loop.history[0]['loss']


@pytest.mark.parametrize('options, message', [
    (dict(train_cfg__rounds=0), 'train_cfg.rounds=0 must be a whole number from 1'),
    (dict(train_cfg__knots=1), 'train_cfg.knots=1 must be a whole number from 2'),
    (dict(train_cfg__step_size=0), 'train_cfg.step_size=0 must be a number above 0'),
    (dict(train_cfg__rise=float('inf')), 'train_cfg.rise=inf must be a finite number'),
    (dict(train_cfg__rise='high'), "train_cfg.rise='high' must be a finite number"),
    (dict(train_cfg__step_size='long'), "train_cfg.step_size='long' must be a number above 0"),
    (dict(train_cfg__tolerance=-1), 'train_cfg.tolerance=-1 must be a number, 0 or more'),
    (dict(train_cfg__moves='up'), "train_cfg.moves='up' is not one of derivative, random, evolution"),
    (dict(train_cfg__moves='evolution'), "train_cfg.rounds=3 with moves='evolution' ends before the first generation of 7"),
    (dict(train_cfg__max_growth=-1.0), 'train_cfg.max_growth=-1.0 must be a number above 0'),
    (dict(train_cfg__memory=0), 'train_cfg.memory=0 must be a number above 0'),
    (dict(param_scheduler=dict(_delete_=True, student=[], alpha=[])), 'param_scheduler: a search in rounds takes those of'),
    (dict(model__distiller__compile_transforms=True), 'compile_transforms=True: what is compiled has no second derivative'),
    (dict(custom_hooks=[dict(type='mmrazor.DistillWarmUpHook', epochs=1)]), 'DistillWarmUpHook changes'),
    (dict(custom_hooks=[dict(type=LongerWarmUpHook, epochs=1)]), 'LongerWarmUpHook changes'),
    (dict(optim_wrapper__constructor='mmrazor.DistProOptimWrapperConstructor'), 'optim_wrapper of an ordinary training'),
    (dict(optim_wrapper__clip_grad=dict(max_norm=1.0)), 'optim_wrapper.clip_grad is not supported in a search'),
    (dict(custom_hooks=[dict(type='mmrazor.ProcessRecordHook')]), 'ProcessRecordHook.*DistProSearchLoop'),
    (dict(custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process='x.json')]), 'ProcessReplayHook'),
])
def test_what_cannot_be_searched_with_names_its_key(make_config, options, message):
    with pytest.raises(ConfigError, match=message):
        search(make_config('whole_run', **options))


def test_the_hook_needs_the_loop(make_config):
    with pytest.raises(ConfigError, match='WholeRunRecordHook.*DistProWholeRunLoop'):
        search(make_config('equal', custom_hooks=[dict(type='mmrazor.WholeRunRecordHook')]))
