"""A killed and resumed run ends bit for bit like one that was not killed. Files on disk are always valid."""
import functools
import os
import random
import signal

import pytest
import torch
from mmengine.hooks import Hook
from processes import in_a_process_of_its_own
from resuming import result, same, train

from distpro.process import DistillationProcess
from distpro_mm.engine.command_line import run
from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.resume import why_not_resumable


@pytest.mark.parametrize('kind, options', [
    ('search', {}), ('search', dict(train_cfg__alpha_interval=3)), ('distill', {}),
    ('search', dict(in_memory=True)),
    pytest.param('search', dict(optim_wrapper__optimizer=dict(_delete_=True, type='AdamW', lr=1e-3)),
                 marks=pytest.mark.long),
])
def test_killed_anywhere_and_resumed_is_bit_identical(config, tmp_path, kind, options):
    assert not in_a_process_of_its_own(train, config(kind, 'whole', **options))
    whole = result(tmp_path / 'whole', 3)
    iterations = torch.load(tmp_path / 'whole' / 'epoch_3.pth')['meta']['iter']
    first, second = sorted(random.sample(range(3, iterations), 2))
    make = functools.partial(config, kind, 'killed', **options)
    assert in_a_process_of_its_own(train, make(), first)
    assert in_a_process_of_its_own(train, make(), second, 'auto')
    assert not in_a_process_of_its_own(train, make(), None, 'auto')
    for part, mine, theirs in zip(('model', 'optimisers', 'process'), result(tmp_path / 'killed', 3), whole):
        assert same(mine, theirs), f'{part} differs after kills at {first} and {second}'


@pytest.mark.long
def test_a_search_of_the_level_with_repeats_is_killed_and_resumed_alike(config, tmp_path):
    options = dict(train_cfg__rounds=2, train_cfg__max_epochs=1, train_cfg__references=['student', 'kd'],
                   train_cfg__max_divisions=1, train_cfg__min_iterations=8,
                   train_cfg__searcher=dict(type='RpropSearcher', confirmations=1))
    test_killed_anywhere_and_resumed_is_bit_identical(config, tmp_path, 'whole_run', options)
    kinds = [trial['kind'] for trial in result(tmp_path / 'whole', 3)[2]['origin']['trials']]
    assert kinds[:5] == ['student', 'kd', 'level', 'level', 'logits'] and len(kinds) > 7, 'some processes are tried again'


def test_workers_make_no_difference(config, tmp_path):
    train(config('search', 'none'))
    train(config('search', 'two', train_dataloader__num_workers=2, train_dataloader__persistent_workers=True))
    assert same(result(tmp_path / 'none', 3)[0], result(tmp_path / 'two', 3)[0])


def test_a_deterministic_run_sets_what_cublas_needs(config, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', '')
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')
    try:
        train(config('distill', 'deterministic', randomness=dict(deterministic=True), train_cfg__max_epochs=1))
        assert torch.are_deterministic_algorithms_enabled() and os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_another_seed_is_another_run(config, tmp_path):
    for seed in (0, 1):
        cfg = config('distill', f'seed_{seed}')
        cfg.randomness = dict(seed=seed)
        train(cfg)
    assert not same(result(tmp_path / 'seed_0', 3)[0], result(tmp_path / 'seed_1', 3)[0])


def train_and_die(cfg, moment):
    from distpro_mm.engine.hooks import atomic_checkpoint_hook
    written = []
    if moment == 'while the bytes are written':
        def put(self, obj, path):
            with atomic_checkpoint_hook.atomic_write(str(path)) as beside, open(beside, 'wb') as file:
                written.append(path)
                file.write(obj if len(written) < 3 else obj[:len(obj) // 2])
                file.flush()
                if len(written) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
        atomic_checkpoint_hook.AtomicFileBackend.put = put
    else:
        move = os.replace

        def replace(source, target):
            written.append(target) if target.endswith('.pth') else None
            if len(written) == 3 and moment == 'before the file is moved':
                os.kill(os.getpid(), signal.SIGKILL)
            move(source, target)
            if len(written) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        os.replace = replace
    train(cfg)


@pytest.mark.parametrize('moment', ['while the bytes are written', 'before the file is moved', 'after it was moved'])
def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(config, tmp_path, moment):
    assert in_a_process_of_its_own(train_and_die, config('search', 'killed'), moment)
    folder = tmp_path / 'killed'
    checkpoints = sorted(path.name for path in folder.glob('iter_*.pth'))
    moved = moment == 'after it was moved'
    assert checkpoints == ['iter_3.pth', 'iter_6.pth'] + ['iter_9.pth'] * moved
    assert all(why_not_resumable(str(folder / name)) is None for name in checkpoints)
    DistillationProcess.load(str(folder / 'process.json'))
    train(config('search', 'killed'), resume='auto')
    train(config('search', 'whole'))
    assert same(result(folder, 3), result(tmp_path / 'whole', 3))


def test_max_keep_ckpts_limits_the_checkpoints(config, tmp_path):
    train(config('distill', 'kept'))
    assert sorted(path.name for path in (tmp_path / 'kept').glob('*.pth')) == ['epoch_3.pth', 'iter_12.pth', 'iter_15.pth']


class Rates(Hook):
    """Stores the learning rate and the momentum of every iteration."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        group = runner.optim_wrapper.param_groups[0]
        self.seen[runner.iter] = group['lr'], group['momentum']


WARM_UP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)
COSINE = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)


@pytest.mark.parametrize('before, after', [
    (dict(), dict(train_cfg__max_epochs=4)),  # the shipped schedule, whose T_max stays
    (dict(param_scheduler=[WARM_UP, COSINE]), dict(param_scheduler=[WARM_UP, COSINE], train_cfg__max_epochs=4)),
    (dict(param_scheduler=dict(type='MultiStepLR', milestones=[1], by_epoch=True)),
     dict(param_scheduler=dict(type='MultiStepLR', milestones=[1, 3], by_epoch=True), train_cfg__max_epochs=4)),
    (dict(), dict(optim_wrapper__optimizer__lr=0.001, optim_wrapper__optimizer__momentum=0.5)),
    (dict(), dict(param_scheduler=[dict(type='ConstantLR', factor=0.5, by_epoch=True)])),
])
def test_a_new_schedule_is_followed_from_the_iteration_on(make_config, before, after):
    def rates(name, resume, **options):
        scheduler = options.pop('param_scheduler', None)
        cfg = make_config('student', name, **options)
        cfg.param_scheduler = scheduler or cfg.param_scheduler
        cfg.default_hooks.checkpoint.max_keep_ckpts = -1
        runner, hook = build_trainer(cfg, resume=resume), Rates()
        runner.register_hook(hook)
        runner.train()
        return hook.seen, runner.work_dir

    wanted, _ = rates('whole', None, **after)
    _, folder = rates('changed', None, **before)
    seen, _ = rates('changed', os.path.join(folder, 'epoch_1.pth'), **after)
    assert min(seen) == 5 and len(set(wanted.values())) > 1
    assert seen == {iteration: pytest.approx(values) for iteration, values in wanted.items() if iteration >= 5}


class Terminate(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def train_until_terminated(cfg):

    def main():
        runner = build_trainer(cfg)
        runner.register_hook(Terminate())
        runner.train()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before


def test_a_terminated_search_writes_its_process_first(config, tmp_path):
    assert not in_a_process_of_its_own(train_until_terminated, config('search', 'run'))
    assert len(DistillationProcess.load(str(tmp_path / 'run' / 'process.json'))) == 5
