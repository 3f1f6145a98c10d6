"""A killed and resumed run ends bit for bit like one that was not killed. Files on disk are always valid."""
import ast
import functools
import json
import os
import pathlib
import random
import signal

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import MODELS
from processes import in_a_process_of_its_own

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.engine.command_line import run
from distpro_mm.engine.launch import build_model, build_trainer
from distpro_mm.engine.resume import latest_training_checkpoint, why_not_resumable
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student
from distpro_mm.models import CIFARResNet

NAMES = ['stem>stem:pointwise', 'layer1>layer1:pointwise', 'layer2>layer2:pointwise', 'layer3>layer3:pointwise']


@MODELS.register_module(force=True)
class CIFARResNetWithDropout(CIFARResNet):

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer1.add_module('dropout', torch.nn.Dropout(0.2))


class KillAt(Hook):
    """Ends this process as SIGKILL does, after an iteration (counted from 1)."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


def train(cfg, kill_at=None, resume=None):
    runner = build_trainer(cfg, resume=resume)
    runner.register_hook(SaveAtTheEnd())
    if kill_at:
        runner.register_hook(KillAt(kill_at), priority='LOWEST')
    runner.train()


def result(folder, epochs):
    """The student, alpha and the optimisers at the end, and the process if one was searched."""
    checkpoint = torch.load(pathlib.Path(folder) / f'epoch_{epochs}.pth', 'cpu')
    path = pathlib.Path(folder) / 'process.json'
    process = json.loads(path.read_text()) if path.exists() else {}
    process.get('origin', {}).pop('config_hash', None)  # of the config with its work_dir
    return checkpoint['state_dict'], checkpoint['optimizer'], process


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


AUGMENTED = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]


@pytest.fixture
def config(make_config, tmp_path):
    """config(kind, name): 3 epochs with random crops, flips, dropout and order, and a checkpoint every 3 iterations."""
    process = str(tmp_path / 'replayed.json')
    DistillationProcess(NAMES, Weighting('exponential'), np.linspace(0, 1, 7),
                        np.random.RandomState(0).randn(7, 4)).save(process)

    def make(kind, name, in_memory=False, **options):
        cfg = make_config(kind, name, **{'train_cfg__max_epochs': 3, **options})
        if in_memory:
            cfg.train_dataloader.collate_fn = dict(type='collate_free')
            cfg.train_dataloader.dataset = dict(
                type='InMemoryDataset', dataset=cfg.train_dataloader.dataset,
                augments=[dict(type='BatchRandomCrop', padding=1), dict(type='BatchRandomFlip', prob=0.5)])
        else:
            cfg.train_dataloader.dataset.pipeline = AUGMENTED
        cfg.model.architecture.head = dict(type='LinearClsHead', num_classes=10, in_channels=32)
        cfg.model.architecture.backbone.type = 'CIFARResNetWithDropout'
        if kind == 'distill':
            cfg.custom_hooks[0].process = process
        cfg.default_hooks.checkpoint = dict(type='mmrazor.AtomicCheckpointHook', interval=3, by_epoch=False,
                                            max_keep_ckpts=2)
        return cfg

    return make


class SaveAtTheEnd(Hook):

    def after_train(self, runner):
        runner.save_checkpoint(runner.work_dir, 'epoch_3.pth', by_epoch=True)


@pytest.mark.parametrize('kind, trials, options', [
    ('search', 1, {}), ('search', 1, dict(train_cfg__alpha_interval=3)), ('distill', 2, {}),
    ('search', 1, dict(in_memory=True)),
    ('search', 1, dict(optim_wrapper__optimizer=dict(_delete_=True, type='AdamW', lr=1e-3))),
])
def test_killed_anywhere_and_resumed_is_bit_identical(config, tmp_path, kind, trials, options):
    assert not in_a_process_of_its_own(train, config(kind, 'whole', **options))
    whole = result(tmp_path / 'whole', 3)
    iterations = torch.load(tmp_path / 'whole' / 'epoch_3.pth')['meta']['iter']
    for trial in range(trials):
        first, second = sorted(random.sample(range(3, iterations), 2))
        make = functools.partial(config, kind, f'killed_{trial}', **options)
        assert in_a_process_of_its_own(train, make(), first)
        assert in_a_process_of_its_own(train, make(), second, 'auto')
        assert not in_a_process_of_its_own(train, make(), None, 'auto')
        for part, mine, theirs in zip(('model', 'optimisers', 'process'), result(tmp_path / f'killed_{trial}', 3), whole):
            assert same(mine, theirs), f'{part} differs after kills at {first} and {second}'


def test_a_search_of_the_level_with_repeats_is_killed_and_resumed_alike(config, tmp_path):
    options = dict(train_cfg__rounds=2, train_cfg__max_epochs=1, train_cfg__references=['student', 'kd'],
                   train_cfg__max_divisions=1, train_cfg__min_iterations=8,
                   train_cfg__searcher=dict(type='RpropSearcher', confirmations=1))
    test_killed_anywhere_and_resumed_is_bit_identical(config, tmp_path, 'whole_run', 2, options)
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


def test_a_damaged_checkpoint_is_refused_and_a_valid_one_named(config, tmp_path):
    train(config('search', 'run'))
    folder = tmp_path / 'run'
    newest = folder / 'epoch_3.pth'
    content = newest.read_bytes()
    spoilt = bytearray(content)
    weight = torch.load(newest)['state_dict']['architecture.backbone.layer3.0.conv2.weight']
    spoilt[content.index(weight.numpy().tobytes()) + 40] ^= 0xff  # one bit pattern within a weight
    for bad in (content[:len(content) // 2], b'', b'no checkpoint', bytes(spoilt)):
        newest.write_bytes(bad)
        valid, others = latest_training_checkpoint([str(folder)])
        # Two files have the last iteration. Either may be read first.
        assert os.path.basename(valid) == 'iter_12.pth' and set(others) <= {str(newest)}
        with pytest.raises(ConfigError, match=f"epoch_3.pth': .*; the latest checkpoint of a training there is '{valid}'"):
            build_trainer(config('search', 'run'), resume=str(newest))
        assert build_trainer(config('search', 'run'), resume='auto')._load_from == valid
    with pytest.raises(ConfigError, match="nowhere.pth': there is no such checkpoint"):
        build_trainer(config('search', 'run'), resume=str(folder / 'nowhere.pth'))


def test_what_is_resumed_does_not_depend_on_names_and_times_of_files(config, tmp_path):
    """The folder also has the best checkpoint, an exported student, weights alone, and a copy of an old checkpoint."""
    cfg = config('distill', 'run', train_cfg__val_interval=1)
    cfg.default_hooks.checkpoint.update(save_best='auto', interval=5)
    train(cfg)
    folder = tmp_path / 'run'
    best, = folder.glob('best_*.pth')
    (folder / 'epoch_3.pth').unlink()
    export_student(cfg, str(folder / 'iter_15.pth'), str(folder))
    torch.save(torch.load(folder / 'iter_15.pth')['state_dict'], folder / 'weights.pth')
    (folder / 'epoch_99.pth').write_bytes((folder / 'iter_10.pth').read_bytes())
    (folder / 'iter_15.pth').rename(folder / 'a.pth')
    for time, path in enumerate(sorted(folder.glob('*.pth'))):
        os.utime(path, (time, time))
    resumed = config('distill', 'run', train_cfg__val_interval=1)
    assert build_trainer(resumed, resume='auto')._load_from == str(folder / 'a.pth')
    resumed = config('distill', 'run', resume=True)  # as the config may say, too
    assert build_trainer(resumed)._load_from == str(folder / 'a.pth')
    for path in (best, folder / 'student.pth', folder / 'weights.pth'):
        with pytest.raises(ConfigError, match=f"{path.name}': it has no .*optimizer.*; the latest .* is '{folder}/a.pth'"):
            build_trainer(config('distill', 'run'), resume=str(path))


def test_checkpoints_in_a_separate_folder_are_found(config, tmp_path):
    def made():
        cfg = config('distill', 'run')
        cfg.default_hooks.checkpoint.out_dir = str(tmp_path / 'elsewhere')
        return cfg

    build_trainer(made()).train()
    assert build_trainer(made(), resume='auto')._load_from == str(tmp_path / 'elsewhere' / 'run' / 'iter_15.pth')


def test_a_run_without_a_seed_resumes_with_that_of_its_checkpoint(config, tmp_path):
    def made(name):
        cfg = config('distill', name)
        cfg.randomness = dict(seed=None)
        return cfg

    runner = build_trainer(made('run'))
    runner.train()
    (tmp_path / 'run' / 'iter_15.pth').unlink()
    resumed = build_trainer(made('run'), resume='auto')
    assert resumed.seed == runner.seed
    resumed.train()
    assert same(resumed.model.state_dict(), runner.model.state_dict())


def test_weights_alone_are_no_state_of_a_training(config, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(2))), path)
    with pytest.raises(ConfigError, match='has the weights only, not the state of a training.*load_from or teacher_ckpt'):
        build_trainer(config('search', 'run'), resume=str(path))


CHANGES = [
    ('train_dataloader.batch_size=10', 'train_dataloader.batch_size: 20 then, 10 now; iterations per epoch .*: 5 then, 10'),
    ('train_dataloader.dataset.images_per_class=12', 'images_per_class: 10 then, 12 now; iterations per epoch .*: 5 then'),
    ('randomness.seed=5', 'randomness.seed: 0 then, 5 now'),
    ('optim_wrapper.clip_grad.max_norm=1', 'optim_wrapper.clip_grad.max_norm: None then, 1 now'),
    ('custom_hooks.0.skip_below=0.5', 'custom_hooks.0.skip_below: None then, 0.5 now'),
    ('custom_hooks.0.ablation=mean', "custom_hooks.0.ablation: None then, 'mean' now"),
    ('model.distiller.weighting.kd_weight=2.0', 'model.distiller.weighting.kd_weight: 1.0 then, 2.0 now'),
    ('train_cfg.max_epochs=4', 'scales the process to the length of the run, which had 15 iterations and now has 20'),
]


def test_a_run_that_was_changed_is_not_resumed(config, tmp_path):
    train(config('distill', 'run'))
    for change, message in CHANGES:
        cfg = config('distill', 'run')
        key, value = change.split('=')
        cfg.merge_from_dict({key: ast.literal_eval(value) if value[0].isdigit() else value})
        with pytest.raises(ConfigError, match=f'^--resume: .*{message}'):
            build_trainer(cfg, resume='auto').train()
    cfg = config('distill', 'run')
    DistillationProcess(NAMES, Weighting('exponential'), [0, 1], np.ones((2, 4))).save(str(tmp_path / 'replayed.json'))
    with pytest.raises(ConfigError, match='ProcessReplayHook.process is not the process of the checkpoint'):
        build_trainer(cfg, resume='auto').train()


def test_another_teacher_is_not_resumed_with(make_config, tmp_path):
    def made(teacher):
        cfg = make_config('kd', 'run', train_cfg__max_epochs=1)
        cfg.model.teacher_ckpt = str(tmp_path / teacher)
        return cfg

    for name in ('one.pth', 'other.pth'):
        torch.save(dict(state_dict=build_model(make_config('student')).state_dict()), tmp_path / name)
    build_trainer(made('one.pth')).train()
    (tmp_path / 'one.pth').rename(tmp_path / 'moved.pth')
    build_trainer(made('moved.pth'), resume='auto').train()
    with pytest.raises(ConfigError, match="model.teacher_ckpt='.*other.pth' is not the teacher of the checkpoint"):
        build_trainer(made('other.pth'), resume='auto').train()


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


def test_the_checkpoint_of_another_model_is_refused(config, tmp_path):
    train(config('distill', 'run'))
    cfg = config('distill', 'run')
    cfg.model.architecture.backbone.channels = (8, 16, 16)
    cfg.model.architecture.head.in_channels = 16
    with pytest.raises(ConfigError, match='the checkpoint is of another model: .* weights of the config are missing'):
        train(cfg, resume='auto')


class Terminate(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def train_until_terminated(cfg):

    def main():
        runner = build_trainer(cfg)
        runner.register_hook(Terminate())
        runner.train()

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 128 + signal.SIGTERM


def test_a_terminated_search_writes_its_process_first(config, tmp_path):
    assert not in_a_process_of_its_own(train_until_terminated, config('search', 'run'))
    assert len(DistillationProcess.load(str(tmp_path / 'run' / 'process.json'))) == 5


def test_nothing_to_resume_starts_a_new_run(config, tmp_path):
    train(config('distill', 'new'), resume='auto')
    assert (tmp_path / 'new' / 'epoch_3.pth').exists()
