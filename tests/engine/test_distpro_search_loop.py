import os

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from runs import Scale, Watch, trained, with_losses, written_process

from distpro.process import load_process, map_process
from distpro.searching import Round
from distpro_mm.engine.hooks import LossScheduleHook
from distpro_mm.engine.loops.reproducible_train_loop import start_at
from distpro_mm.errors import ConfigError
from distpro_mm.models import DistPro

ITERATIONS = 8  # of a round: two epochs of 80 images in batches of 20


class LongerWarmUpHook(LossScheduleHook):
    """A hook of a user that changes the training loss like its base class."""


def test_every_round_starts_again_with_its_schedule_and_other_batches(make_config):
    state = Watch(lambda runner: (runner.model.state_dict(), runner.optim_wrapper.get_lr()['lr'][0],
                                  runner.optim_wrapper.optimizer.state_dict()))
    runner = trained(make_config('whole_run', train_cfg__rounds=3, param_scheduler__T_max=2), state)
    assert runner.iter == 3 * ITERATIONS and len(state.seen) == 3 * ITERATIONS
    first = state.seen[0]
    for place in (ITERATIONS, 2 * ITERATIONS):
        weights, lr, optimizer = state.seen[place]
        # The extra state has the variances of the teacher's features, which the first round measured.
        assert all(torch.equal(value, weights[name]) for name, value in first[0].items() if 'extra_state' not in name)
        assert lr == first[1]
        assert not optimizer['state']
        assert not torch.equal(state.seen[place + 1][0]['architecture.backbone.conv1.weight'],
                               state.seen[1][0]['architecture.backbone.conv1.weight'])
    assert state.seen[ITERATIONS - 1][1] < 0.5 * first[1] and state.seen[ITERATIONS - 1][2]['state']


@pytest.mark.parametrize('searcher', ['RpropSearcher', 'RandomSearcher'])
def test_the_held_out_loss_is_the_mean_over_all_held_out_images(make_config, searcher):
    """63 images in batches of up to 32, so that the last batch is not full."""
    class Single(Hook):
        """Computes the loss of each held-out image at the end of the round."""

        def after_train_epoch(self, runner):
            model, losses = runner.model, []
            with torch.no_grad():
                for batch in start_at(runner.train_loop.held_out_dataloader, 0, 0):
                    data = model.data_preprocessor(batch, True)
                    logits = model.student(**data, mode='tensor')
                    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
                    losses += torch.nn.functional.cross_entropy(logits, labels, reduction='none').tolist()
            self.losses = losses

    single = Single()
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__max_epochs=1, train_cfg__searcher=dict(type=searcher),
                      train_cfg__held_out=dict(ratio=0.63, stratified=False), train_dataloader__batch_size=32)
    loss = trained(cfg, single).train_loop.searcher.history[0].loss
    assert len(single.losses) == 63 and loss == pytest.approx(np.mean(single.losses), rel=1e-5)


def test_held_out_losses_do_not_depend_on_the_number_of_workers(make_config):
    """Random steps of the pipeline run in this process or in a worker. Dropout always runs in this process."""
    def losses(workers):
        cfg = make_config('whole_run', f'workers_{workers}', train_cfg__rounds=1, train_cfg__max_epochs=1,
                          train_cfg__held_out=dict(ratio=0.4), train_cfg__searcher=dict(type='RandomSearcher'),
                          train_dataloader__num_workers=workers)
        cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='RandomFlip', prob=0.5))
        runner = trained(cfg, prepare=lambda runner: runner.model.student.backbone.layer1.add_module(
            'dropout', torch.nn.Dropout(0.5)))
        return [trial.loss for trial in runner.train_loop.searcher.history]

    assert losses(0) == losses(1)


def test_a_round_is_an_ordinary_training_with_its_weights(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__initial_bump=0)
    searched = trained(cfg)
    cfg = make_config('equal', model__distiller__logits=cfg.model.distiller.logits,
                      model__distiller__map_size=cfg.model.distiller.map_size,
                      model__distiller__weighting=cfg.model.distiller.weighting)
    cfg.train_dataloader.dataset = dict(type='HeldOutSplit', part='train', dataset=cfg.train_dataloader.dataset)
    plain = trained(cfg)
    a, b = searched.model.state_dict(), plain.model.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_process_is_that_of_the_best_round(make_config, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.11, 2.09])
    monkeypatch.setattr(Round, 'measure', with_losses(losses))
    runner = trained(make_config('whole_run', train_cfg__rounds=5, train_cfg__knots=3, train_cfg__initial_bump=0,
                                 train_cfg__max_epochs=1))
    history, process = runner.train_loop.searcher.history, written_process(runner)
    assert [done.loss for done in history] == [3.0, 2.0, 2.5, 2.11, 2.09]
    assert process.origin['trials'] == [dict(kind='step', loss=done.loss) for done in history]
    assert process.origin['complete'] and process.progress == [0, 0.5, 1] and len(process.names) == 5
    alphas = [np.array(done.alpha.tolist()) for done in history]
    assert np.allclose(process.alpha, alphas[1])
    assert (np.abs(alphas[1] - alphas[0]) <= 0.7 + 1e-6).all() and np.median(np.abs(alphas[1] - alphas[0])) > 0.5
    # Two rounds were rejected: alpha takes the same step from the best round, half as long (or 1.2 times that).
    moved = np.abs(alphas[2] - alphas[1]) > 0
    assert moved.any()
    ratio = (alphas[3] - alphas[1])[moved] / (alphas[2] - alphas[1])[moved]
    assert (ratio > 0.49).all() and (ratio < 0.61).all()


def test_what_has_no_second_derivative_is_searched_by_losses_alone(make_config):
    cfg = make_config('whole_run', train_cfg__searcher=dict(type='CMAESSearcher'), train_cfg__rounds=9,
                      train_cfg__max_epochs=1,
                      optim_wrapper__clip_grad=dict(max_norm=10.0), model__distiller__compile_transforms=True)
    with_cp = make_config('whole_run', train_cfg__searcher=dict(type='RandomSearcher'), train_cfg__rounds=2,
                          train_cfg__max_epochs=1)
    for config, hooks in ((cfg, [Scale()]), (with_cp, [])):
        history = trained(config, *hooks).train_loop.searcher.history
        assert len({str(done.alpha.tolist()) for done in history}) == len(history) and np.isfinite(
            [done.loss for done in history]).all()


@pytest.mark.parametrize('kind, rounds', [('whole_run', 2), ('search', None)])
def test_the_teacher_may_judge(make_config, monkeypatch, kind, rounds):
    plain, asked = DistPro.held_out_loss, []
    monkeypatch.setattr(DistPro, 'held_out_loss', lambda model, data, teacher_kl_share: (
        asked.append(teacher_kl_share), plain(model, data, teacher_kl_share))[1])
    options = dict(train_cfg__rounds=rounds) if rounds else dict(
        model__distiller__logits=[dict(type='KLDivergence', tau=4)])
    runner = trained(make_config(kind, train_cfg__teacher_kl_share=0.5, train_cfg__max_epochs=1, **options))
    assert set(asked) == {0.5} and len(asked) > 2
    alpha = runner.train_loop.searcher.history[1].alpha if rounds else runner.model.distiller.grid.alpha
    assert alpha.isfinite().all() and alpha.std() > 0


def test_a_schedule_that_does_not_say_when_it_ends_ends_with_a_round(make_config):
    rates = Watch(lambda runner: runner.optim_wrapper.get_lr()['lr'][0])
    cfg = make_config('whole_run', train_cfg__rounds=2)
    cfg.param_scheduler = dict(type='LinearLR', start_factor=1.0, end_factor=0.1, convert_to_iter_based=True)
    trained(cfg, rates)
    assert rates.seen[:ITERATIONS] == rates.seen[ITERATIONS:] and rates.seen[-1] == pytest.approx(0.1 * rates.seen[0])


def test_a_different_search_is_not_resumed(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=1)
    trained(cfg)
    cfg = make_config('whole_run', train_cfg__rounds=2, resume=True, load_from=os.path.join(cfg.work_dir, 'epoch_2.pth'))
    with pytest.raises(ConfigError, match="'rounds': 1.*resume with the config of the search"):
        trained(cfg)
    cfg = make_config('whole_run', train_cfg__rounds=1, train_cfg__teacher_kl_share=0.5, resume=True,
                      load_from=cfg.load_from)
    with pytest.raises(ConfigError, match="'teacher_kl_share': 0.5"):
        trained(cfg)


def test_a_round_that_diverges_is_not_followed(make_config):
    class Poison(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == ITERATIONS + 3:
                next(runner.model.student.parameters()).data.fill_(float('nan'))

    runner = trained(make_config('whole_run', train_cfg__rounds=3), Poison())
    losses = [done.loss for done in runner.train_loop.searcher.history]
    assert np.isnan(losses[1]) and np.isfinite([losses[0], losses[2]]).all()
    assert np.isfinite(written_process(runner).weights).all()
    assert written_process(runner).origin['trials'][1] == dict(kind='step', loss=None)


def test_weights_begin_higher_inside_the_run(make_config):
    weights = Watch(lambda runner: runner.train_loop.search.round.weights)
    runner = trained(make_config('whole_run', train_cfg__rounds=1, train_cfg__initial_bump=1.5, train_cfg__knots=3), weights)
    assert np.allclose(runner.train_loop.searcher.history[0].alpha.tolist(), [[0] * 5, [1.5] * 5, [0] * 5])
    middle = np.interp(np.arange(ITERATIONS), [0, (ITERATIONS - 1) / 2, ITERATIONS - 1], [1, np.exp(1.5), 1])
    assert np.allclose(weights.seen[0].cpu(), np.tile(middle[:, None], 5))


def test_a_search_starts_from_a_process_of_the_library(make_config):
    runner = trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__initial='general',
                                 model__distiller__weighting=dict(_delete_=True, type='exponential'),
                                 train_cfg__references=['student'], train_cfg__max_divisions=1))
    grid = runner.model.distiller.grid
    expected = map_process(load_process('general'), grid.names, grid.layer_names).weights_at([0, 1 / 3, 2 / 3, 1])
    levels = [trial.alpha.exp().numpy() for trial in runner.train_loop.searcher.history if trial.kind == 'level']
    assert np.allclose(levels[0], expected, rtol=1e-5) and np.allclose(levels[1], expected / 4, rtol=1e-5)
    assert 'shape' not in [trial.kind for trial in runner.train_loop.searcher.history]


def test_a_search_without_refinements_finds_the_level_and_differentiates_nothing(make_config, derivatives):
    runner = trained(make_config('whole_run', train_cfg__rounds=0, train_cfg__max_divisions=2,
                                 train_cfg__references=['student']))
    kinds = [trial.kind for trial in runner.train_loop.searcher.history if not trial.confirms]
    assert kinds[:3] == ['student', 'level', 'level'] and 'step' not in kinds and not derivatives
    best = runner.train_loop.searcher.best
    assert np.allclose(written_process(runner).alpha, best.alpha) and written_process(runner).origin['complete']


def test_a_cost_penalty_lowers_the_weight_of_expensive_pathways(make_config):
    cfg = make_config('whole_run', train_cfg__rounds=2, train_cfg__initial_bump=0, train_cfg__cost_penalty=1e3)
    alpha = np.array(trained(cfg).train_loop.searcher.history[1].alpha.tolist())
    assert (alpha < 0).all()
    costly, free = (trained(make_config('whole_run', train_cfg__rounds=1, train_cfg__cost_penalty=penalty))
                    .train_loop.searcher.history[0].loss for penalty in (1e3, 0))
    assert costly > 100 + free


@pytest.mark.parametrize('options, message', [
    (dict(train_cfg__rounds=-1), 'train_cfg.rounds=-1 must be a whole number from 0'),
    (dict(train_cfg__rounds=0, train_cfg__max_divisions=0), 'train_cfg.rounds=0 and max_divisions=0 leave nothing to'),
    (dict(train_cfg__rounds=1, train_cfg__max_divisions=1,
          model__distiller__weighting=dict(_delete_=True, type='exponential')),
     'train_cfg.rounds=1 would only try the best level once more'),
    (dict(train_cfg__knots=1), 'train_cfg.knots=1 must be a whole number from 2'),
    (dict(train_cfg__searcher=dict(type='RpropSearcher', step_size=0)), 'train_cfg.searcher: step_size=0 must be a number'),
    (dict(train_cfg__initial_bump=float('inf')), 'train_cfg.initial_bump=inf must be a finite number'),
    (dict(train_cfg__initial_bump='high'), "train_cfg.initial_bump='high' must be a finite number"),
    (dict(train_cfg__initial='genral'), "train_cfg.initial: there is no process file 'genral'.* by name: .*general"),
    (dict(train_cfg__initial='general', model__distiller__weighting=dict(_delete_=True, type='softmax')),
     "train_cfg.initial: a search can start from a process with weighting.type='exponential' only, got 'softmax'"),
    (dict(train_cfg__initial=dict(progress=[0, 1], weights=[1, 2], scheduled=dict(temperature=[1, 2])),
          train_cfg__scheduled=['cross_entropy']),
     r"train_cfg.initial: the process schedules temperature too, .* set scheduled=\['cross_entropy', 'temperature'\]"),
    (dict(train_cfg__initial=dict(progress=[0], weights=[1], unit='loss'),
          model__distiller__weighting=dict(_delete_=True, type='exponential')),
     "train_cfg.initial: the process has weights in the unit 'loss', and weighting.unit='variance'"),
    (dict(train_cfg__searcher=dict(type='RpropSearcher', step_size='long')), "searcher: step_size='long' must be a number"),
    (dict(train_cfg__searcher=dict(type='RpropSearcher', tolerance=-1)), 'searcher: tolerance=-1 must be a number'),
    (dict(train_cfg__searcher=dict(type='RpropSearcher', confirmations=-1)), 'confirmations=-1 must be a whole number'),
    (dict(train_cfg__searcher=dict(type='RpropSearcher', step=1)), "train_cfg.searcher has no argument 'step' .*step_size"),
    (dict(train_cfg__searcher=dict(type='RpropSearcher', off=1)), 'train_cfg.searcher has off, which the search sets'),
    (dict(train_cfg__searcher='up'), "train_cfg.searcher='up' must be a dict with the key type"),
    (dict(train_cfg__searcher=dict(type='Rprop')), "searcher.type='Rprop' is not one of .*RpropSearcher.*nearest: Rprop"),
    (dict(train_cfg__searcher=dict(type='CMAESSearcher')), "train_cfg.rounds=2 is too few .*'CMAESSearcher', which needs 8"),
    (dict(train_cfg__max_growth=-1.0), 'train_cfg.max_growth=-1.0 must be a number above 0'),
    (dict(train_cfg__batch_share=1.5), 'train_cfg.batch_share=1.5 must be a number above 0'),
    (dict(train_cfg__memory=0), 'train_cfg.memory=0 must be a number above 0'),
    (dict(param_scheduler=dict(_delete_=True, student=[], alpha=[])), 'param_scheduler: a search in rounds takes those of'),
    (dict(model__distiller__compile_transforms=True), 'compile_transforms=True: what is compiled has no second derivative'),
    (dict(custom_hooks=[dict(type='mmrazor.LossScheduleHook', warm_up_epochs=1)]), 'LossScheduleHook changes'),
    (dict(custom_hooks=[dict(type=LongerWarmUpHook, warm_up_epochs=1)]), 'LongerWarmUpHook changes'),
    (dict(optim_wrapper__constructor='mmrazor.DistProOptimWrapperConstructor'), 'optim_wrapper of an ordinary training'),
    (dict(optim_wrapper__clip_grad=dict(max_norm=1.0)), 'optim_wrapper.clip_grad is not supported in a search'),
    (dict(custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process='x.json')]), 'ProcessReplayHook'),
])
def test_what_cannot_be_searched_with_names_its_key(make_config, options, message):
    with pytest.raises(ConfigError, match=message):
        trained(make_config('whole_run', **options))


def test_the_hook_needs_the_loop(make_config):
    with pytest.raises(ConfigError, match='ProcessRecordHook.*DistProSearchLoop'):
        trained(make_config('equal', custom_hooks=[dict(type='mmrazor.ProcessRecordHook')]))
