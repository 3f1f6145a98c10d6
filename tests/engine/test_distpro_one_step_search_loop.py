import json
import os

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from runs import Watch, trained, written_process
from torch import nn

from distpro.process import DistillationProcess
from distpro_mm.engine.loops.reproducible_train_loop import endless
from distpro_mm.errors import ConfigError, TrainingError


def test_every_alpha_is_recorded_from_start_to_end(make_config, real_pictures):
    alphas = []

    def note(runner):
        alphas.append(runner.model.distiller.grid.alpha.detach().cpu().clone())

    runner = trained(make_config('search'), Watch(after=note), prepare=note)
    process = written_process(runner)
    assert len(process) == runner.max_iters == 8
    assert np.allclose(process.progress, np.arange(8) / 7)
    assert np.array_equal(np.array(process.alpha, dtype=np.float32), torch.stack(alphas[:-1]).numpy())
    assert len({tuple(a.tolist()) for a in alphas}) == 9, 'alpha moves at every iteration'
    assert process.origin['complete'] and process.origin['seed'] == 0 and process.origin['config_hash']
    assert os.path.getsize(os.path.join(runner.work_dir, 'process.png')) > 5000


def test_alpha_interval_updates_alpha_every_kth_step_without_other_extra_passes(make_config):
    counted = Watch(after=lambda runner: runner.train_loop.hypergradient.passes)
    runner = trained(make_config('search', train_cfg__alpha_interval=3), counted)
    assert np.allclose(written_process(runner).progress, [0, 3 / 7, 6 / 7])
    assert counted.seen[-1] == dict(held_out_forward_backward=3, dual_forward=3)
    assert runner.model.passes == dict(teacher=8, student=8)


@pytest.mark.parametrize('method', ['jvp', 'differences'])
def test_the_student_is_bit_identical_to_one_trained_without_a_search(make_config, method):
    """Faults 1, 2 and 4 in the complete loop: with learning rate 0 for alpha, a search is an ordinary training."""
    cfg = make_config('search', train_cfg__method=method)
    cfg.optim_wrapper.alpha = dict(optimizer=dict(type='SGD', lr=0.0))
    layers = {side: cfg.model.distiller[side] for side in ('transmitters', 'receivers')}
    searched = trained(cfg)
    cfg = make_config('equal')
    cfg.model.distiller.update(layers)
    cfg.train_dataloader.dataset = dict(type='HeldOutSplit', part='train', dataset=cfg.train_dataloader.dataset)
    plain = trained(cfg)
    a, b = searched.model.state_dict(), plain.model.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_teacher_does_not_change(make_config):
    before = {}
    runner = trained(make_config('search'), Watch(
        after=lambda r: before or before.update({k: v.clone() for k, v in r.model.teacher.state_dict().items()})))
    assert all(torch.equal(value, before[key]) for key, value in runner.model.teacher.state_dict().items())
    assert not any(module.training for module in runner.model.teacher.modules())


def test_held_out_images_are_disjoint_from_training_and_reshuffled_in_every_pass(make_config):
    runner = Runner.from_cfg(make_config('search', train_cfg__max_epochs=6))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    loop = runner.train_loop
    parts = [[dataset.get_data_info(i)['sample_idx'] for i in range(len(dataset))]
             for dataset in (loop.dataloader.dataset, loop.held_out_dataloader.dataset)]
    assert len(parts[0]) == 80 and len(parts[1]) == 20 and not set(parts[0]) & set(parts[1])
    held_out = endless(loop.held_out_dataloader)
    orders = [[s.sample_idx for s in next(held_out)['data_samples']] for _ in range(3)]
    assert sorted(orders[0]) == sorted(parts[1]) and orders[0] != orders[1] != orders[2]


def test_one_held_out_loader_serves_the_whole_search(make_config):
    """Fault 5: the release starts a new pool of workers for every held-out batch."""
    started = []
    cfg = make_config('search', train_dataloader__num_workers=1, train_cfg__max_epochs=3)

    def count(runner):
        from torch.utils.data import dataloader
        plain = dataloader._MultiProcessingDataLoaderIter.__init__

        def counting(self, loader):
            started.append(loader.dataset.part)
            plain(self, loader)

        dataloader._MultiProcessingDataLoaderIter.__init__ = counting
        runner.undo = lambda: setattr(dataloader._MultiProcessingDataLoaderIter, '__init__', plain)

    runner = Runner.from_cfg(cfg)
    count(runner)
    try:
        runner.train()
    finally:
        runner.undo()
    assert runner.iter == 12 and started.count('held_out') == 1


def test_a_uniform_weighting_is_searched_in_vain(make_config):
    runner = trained(make_config('search', model__distiller__weighting=dict(_delete_=True, type='uniform')))
    assert torch.equal(runner.model.distiller.grid.alpha.cpu(), torch.ones(4))
    assert (written_process(runner).weights == 1).all()


def test_a_cost_penalty_lowers_the_weight_of_expensive_pathways(make_config):
    kinds = [dict(type='PointwiseTransform'), dict(type='ConvAttentionTransform')]
    means = []
    for penalty in (0.0, 30.0):
        runner = trained(make_config('search', str(penalty), train_cfg__cost_penalty=penalty, train_cfg__max_epochs=3,
                                    model__distiller__transforms=kinds))
        weights = written_process(runner).weights[-1]
        means.append(weights[1::2].mean() - weights[::2].mean())
        assert runner.train_loop._price is None or (runner.train_loop._price[1::2] > runner.train_loop._price[::2]).all()
    assert means[1] < means[0]


def test_a_list_of_schedulers_is_the_students_alone(make_config):
    lrs = []
    cfg = make_config('search')
    cfg.param_scheduler = [dict(type='MultiStepLR', milestones=[1], gamma=0.1)]
    hook = Watch(after=lambda r: lrs.append({k: v[0] for k, v in r.optim_wrapper.get_lr().items() if k.endswith('lr')}))
    trained(cfg, hook)
    assert lrs[0] == {'student.lr': 0.05, 'alpha.lr': 0.1}
    assert lrs[-1]['student.lr'] == pytest.approx(0.005) and lrs[-1]['alpha.lr'] == 0.1


def test_schedulers_by_name(make_config):
    cfg = make_config('search')
    cfg.param_scheduler = dict(_delete_=True, alpha=[dict(type='MultiStepLR', milestones=[1], gamma=0.5)])
    cfg.param_scheduler.pop('_delete_')
    runner = trained(cfg)
    assert runner.optim_wrapper.get_lr()['alpha.lr'] == [pytest.approx(0.05)]
    assert runner.optim_wrapper.get_lr()['student.lr'] == [0.05]


def test_a_resumed_search_continues_its_process(make_config):
    first = trained(make_config('search', train_cfg__max_epochs=2))
    alpha = first.model.distiller.grid.alpha.detach().clone()
    cfg = make_config('search', train_cfg__max_epochs=3, resume=True)
    starts = []
    cfg_hook = Watch()
    cfg_hook.before_train = lambda r: starts.append((r.iter, r.model.distiller.grid.alpha.detach().clone(),
                                                    len(r.optim_wrapper['alpha'].optimizer.state)))
    runner = trained(cfg, cfg_hook)
    assert starts[0][0] == 8 and torch.equal(starts[0][1], alpha) and starts[0][2] == 1
    assert len(written_process(runner)) == 12


class Spoil(Hook):
    priority = 'VERY_LOW'

    def __init__(self, at, spoil):
        self.at, self.spoil = at, spoil

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            self.spoil(runner)


def spoil_student(runner):
    nn.init.constant_(runner.model.student.head.fc.weight, float('nan'))


def spoil_transform(runner):
    nn.init.constant_(next(runner.model.distiller.grid.transforms.parameters()), float('inf'))


@pytest.mark.parametrize('spoil', [spoil_student, spoil_transform])
def test_nan_stops_the_search_and_leaves_the_last_good_process(make_config, spoil):
    cfg = make_config('search')
    with pytest.raises(TrainingError, match='stopped at iteration 6 of 8.*training loss is not finite.*lr'):
        trained(cfg, Spoil(5, spoil))
    process = DistillationProcess.load(os.path.join(cfg.work_dir, 'process.json'))
    assert len(process) == 6 and np.isfinite(process.weights).all() and process.origin['complete'] is False


@pytest.mark.parametrize('optimizer', [
    dict(type='SGD', lr=0.05), dict(type='AdamW', lr=0.001), dict(type='RMSprop', lr=0.001)])
def test_nan_in_the_held_out_batch_stops_the_search(make_config, optimizer):
    cfg = make_config('search')
    cfg.optim_wrapper.optimizer = optimizer

    def spoil(runner):
        model = runner.model
        plain = model.held_out_loss
        model.held_out_loss = lambda data, teacher_kl_share: plain(data, teacher_kl_share) * float('nan')

    with pytest.raises(TrainingError, match="held-out loss's gradient"):
        trained(cfg, Spoil(3, spoil))
    assert len(DistillationProcess.load(os.path.join(cfg.work_dir, 'process.json'))) == 4


@OPTIMIZERS.register_module()
class CentralisedSGD(torch.optim.SGD):
    """Subtracts the mean from every gradient first."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None and parameter.dim() > 1:
                    parameter.grad -= parameter.grad.mean()
        return super().step(closure)


def test_an_optimiser_with_a_custom_step_is_refused(make_config):
    cfg = make_config('search', optim_wrapper__optimizer__type='CentralisedSGD')
    with pytest.raises(ConfigError, match="optim_wrapper.optimizer='CentralisedSGD' has a step of its own"):
        trained(cfg)


def test_an_interrupted_search_writes_its_process(make_config):
    cfg = make_config('search')

    def interrupt(runner):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(cfg, Spoil(4, interrupt))
    with open(os.path.join(cfg.work_dir, 'process.json')) as file:
        assert len(json.load(file)['alpha']) == 4  # steps that were taken


@pytest.mark.parametrize('options, message', [
    (dict(train_cfg__alpha_interval=0), 'train_cfg.alpha_interval=0'),
    (dict(train_cfg__cost_penalty=-1.0), 'train_cfg.cost_penalty=-1.0 must be a number at least 0'),
    (dict(train_cfg__teacher_kl_share=1.5), 'train_cfg.teacher_kl_share=1.5 must be a number at least 0 and at most 1'),
    (dict(train_cfg__teacher_kl_share='teacher'), "train_cfg.teacher_kl_share='teacher' must be a number at least 0"),
    (dict(train_cfg__cost_penalty='low'), "train_cfg.cost_penalty='low' must be a number at least 0"),
    (dict(train_cfg__cost_penalty=float('inf')), 'train_cfg.cost_penalty=inf must be a number at least 0'),
    (dict(train_cfg__teacher_kl_share=0.5), 'train_cfg.teacher_kl_share=0.5: without model.distiller.logits'),
    (dict(train_cfg__method='hvp'), "train_cfg.method='hvp'"),
    (dict(train_cfg__held_out=dict(ratio=1.5)), 'train_cfg.held_out.ratio=1.5'),
    (dict(train_cfg__held_out=dict(ratio=0.01)), 'ratio=0.01 holds out none of the 100 images of 10 classes'),
    (dict(train_cfg__held_out=dict(share=0.2)), r"train_cfg.held_out has no \['share'\]"),
    (dict(train_cfg__held_out=dict(ratio=0.01, stratified=False)), 'held_out: 1 images give no batch of 20'),
    (dict(optim_wrapper__clip_grad=dict(max_norm=1.0)), 'optim_wrapper.clip_grad'),
    (dict(optim_wrapper__accumulative_counts=2), 'optim_wrapper.accumulative_counts=2'),
    (dict(optim_wrapper__constructor='DefaultOptimWrapperConstructor'), 'optim_wrapper.constructor'),
    (dict(optim_wrapper__alpha=dict(lr=1.0)), 'optim_wrapper.alpha must have the key optimizer'),
    (dict(auto_scale_lr=dict(enable=True, base_batch_size=20)), 'auto_scale_lr.enable=True'),
    (dict(param_scheduler=dict(teacher=[])), "param_scheduler has .*'teacher'"),
    (dict(custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process='p.json')]), 'ProcessReplayHook replays'),
])
def test_what_cannot_be_searched_names_its_key(make_config, options, message):
    cfg = make_config('search')
    if 'constructor' in str(options) and 'alpha' not in str(options):
        cfg.optim_wrapper.pop('alpha', None)
    if 'param_scheduler' in options:
        cfg.pop('param_scheduler')
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    with pytest.raises(ConfigError, match=message):
        trained(cfg)
