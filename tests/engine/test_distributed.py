"""Two processes search and distil like one process with the union of their batches."""
import os
import pathlib
import subprocess
import sys
import traceback

import numpy as np
import pytest
import torch
import torch.distributed
from mmengine.hooks import Hook
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from processes import free_port
from torch import nn

from distpro.pathways.transforms import resize
from distpro.process import DistillationProcess
from distpro.searching import Round
from distpro.weighting import Weighting
from distpro_mm.engine.hooks import ProcessReplayHook
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import TrainingError

AUGMENTED = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
NAMES = ['stem>stem:convolution', 'layer1>layer1:convolution', 'layer2>layer2:convolution', 'layer3>layer3:convolution']


@MODELS.register_module()
class ConvolutionTransform(BaseConnector):
    """A transform without batch norm, whose loss on a batch is the mean of those on its halves."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, feature, size):
        return self.forward_train(feature, size)

    def forward_train(self, feature, size):
        return resize(self.conv(feature), size)


class SyncedNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes; torch's own is for GPUs."""

    def forward(self, x):
        mean, square = x.mean((0, 2, 3), keepdim=True), x.square().mean((0, 2, 3), keepdim=True)
        if torch.distributed.is_initialized():
            from torch.distributed.nn.functional import all_reduce
            mean, square = (all_reduce(value) / torch.distributed.get_world_size() for value in (mean, square))
        x = (x - mean) / (square - mean.square() + self.eps).sqrt()
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class Freeze(Hook):
    """Fixes the statistics of the student's batch norms."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for module in getattr(runner.model, 'module', runner.model).student.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


class Note(Hook):
    """Stores every alpha and counts the exchanges of gradients."""

    def __init__(self):
        self.alphas, self.buckets = [], 0

    def before_train(self, runner):
        if hasattr(runner.model, 'register_comm_hook'):
            runner.model.register_comm_hook(None, self.exchange)

    def exchange(self, _, bucket):
        self.buckets += 1
        work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0] / torch.distributed.get_world_size())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.alphas.append(getattr(runner.model, 'module', runner.model).distiller.grid.alpha.detach().numpy().copy())


def together(count, function):
    """Run function(rank) in forked processes with the environment of torchrun."""
    if torch.cuda.is_available():
        pytest.skip('forked processes on the CPU; with a GPU, set CUDA_VISIBLE_DEVICES= to run this test')
    port = free_port()
    children = []
    for rank in range(count):
        children.append(os.fork())
        if not children[-1]:
            try:
                torch.set_num_threads(1)
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1',
                                  MASTER_PORT=port)
                function(rank)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


def double_search(cfg, norm, out, launcher='none'):
    """Search in float64. Write alphas, weights of the student and the number of exchanges to a file."""
    torch.set_default_dtype(torch.float64)
    if norm == 'synced':
        import distpro_mm.models.backbones.cifar_resnet as networks
        networks.nn.BatchNorm2d = SyncedNorm
    runner = build_trainer(cfg, launcher)
    note = Note()
    runner.register_hook(note)
    if norm == 'frozen':
        runner.register_hook(Freeze())
    runner.train()
    student = getattr(runner.model, 'module', runner.model).student
    torch.save((np.array(note.alphas), [p.detach() for p in student.parameters()], note.buckets), out)


@pytest.mark.long
@pytest.mark.parametrize('norm, method', [('frozen', 'jvp'), ('frozen', 'differences'), ('synced', 'differences')])
def test_two_processes_search_as_one_with_the_union_of_their_batches(make_config, tmp_path, norm, method):

    def config(name, batch_size):
        cfg = make_config('search', name, train_cfg__method=method, train_cfg__max_epochs=2,
                          train_dataloader__batch_size=batch_size,
                          model__distiller__transforms=[dict(type='mmrazor.ConvolutionTransform')])
        cfg.train_dataloader.dataset.pipeline = AUGMENTED
        return cfg

    one, two = config('one', 20), config('two', 10)
    together(1, lambda rank: double_search(one, norm, tmp_path / 'one.pth'))
    together(2, lambda rank: double_search(two, norm, tmp_path / f'two_{rank}.pth', 'pytorch'))
    alone, first, second = (torch.load(tmp_path / f'{name}.pth', weights_only=False) for name in ('one', 'two_0', 'two_1'))
    assert alone[0].shape == (8, 4) and np.ptp(alone[0], axis=0).min() > 1e-2  # alpha changes
    assert np.array_equal(first[0], second[0])
    assert np.abs(first[0] - alone[0]).max() < 1e-6
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(first[1], alone[1]))
    assert first[2] == 8  # one bucket a training step: the passes for alpha exchange no gradients
    processes = [DistillationProcess.load(str(tmp_path / name / 'process.json')) for name in ('one', 'two')]
    assert processes[0].progress == processes[1].progress
    np.testing.assert_allclose(processes[1].weights, processes[0].weights, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize('teachers, scheduled, columns', [(1, [], 5), (2, ['temperature', 'cross_entropy'], 12)])
def test_two_processes_differentiate_a_round_as_one_does(make_config, tmp_path, monkeypatch, teachers, scheduled, columns):
    plain, derivatives = Round.derivatives, []
    monkeypatch.setattr(Round, 'derivatives', lambda current: derivatives.append(plain(current)) or derivatives[-1])

    def search(name, batch_size, rank=0, launcher='none'):
        cfg = make_config('whole_run', name, train_cfg__rounds=2, train_cfg__initial_bump=0, train_cfg__max_growth=1e9,
                          train_cfg__memory=1e-4, train_dataloader__batch_size=batch_size, train_cfg__scheduled=scheduled,
                          model__distiller__transforms=[dict(type='mmrazor.ConvolutionTransform')])
        if teachers == 2:
            cfg.model.teacher = dict(large=cfg.model.teacher, small=cfg.model.architecture.copy())
        cfg.train_dataloader.dataset = dict(type='SklearnDigits', indices=80, pipeline=AUGMENTED)
        # The first process has one image more. Each counts once.
        cfg.train_cfg.held_out_dataloader = dict(cfg.train_dataloader, dataset=dict(
            cfg.train_dataloader.dataset, indices=list(range(500, 521))))
        torch.set_default_dtype(torch.float64)
        runner = build_trainer(cfg, launcher)
        runner.register_hook(Freeze())
        runner.train()
        losses = [trial.loss for trial in runner.train_loop.searcher.history]
        torch.save((derivatives[0], losses), tmp_path / f'{name}_{rank}.pth')

    together(1, lambda rank: search('one', 20))
    together(2, lambda rank: search('two', 10, rank, 'pytorch'))
    one, first, second = (torch.load(tmp_path / f'{name}.pth') for name in ('one_0', 'two_0', 'two_1'))
    assert one[0].shape == (8, columns) and one[0].abs().max() > 1e-4
    assert torch.equal(first[0], second[0]) and first[1] == second[1]
    torch.testing.assert_close(first[0], one[0], rtol=1e-6, atol=1e-9)
    assert first[1] == pytest.approx(one[1], rel=1e-9)


@pytest.mark.parametrize('searcher, rounds', [
    ('RandomSearcher', 3), pytest.param('CMAESSearcher', 9, marks=pytest.mark.slow)])
def test_two_processes_with_different_seeds_try_the_same_processes(make_config, tmp_path, searcher, rounds):
    references = ['student', 'kd'] if searcher == 'RandomSearcher' else []
    cfg = make_config('whole_run', train_cfg__searcher=dict(type=searcher), train_cfg__rounds=rounds,
                      train_cfg__max_epochs=1,
                      train_cfg__references=references, train_dataloader__batch_size=10,
                      randomness=dict(seed=0, diff_rank_seed=True))

    def search(rank):
        runner = build_trainer(cfg, 'pytorch')
        runner.train()
        history = runner.train_loop.searcher.history
        torch.save([(trial.alpha.tolist(), trial.loss) for trial in history], tmp_path / f'{rank}.pth')

    together(2, search)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert first == second and len({str(alpha) for alpha, _ in first}) == rounds + len(references)


def test_two_processes_replay_a_process_that_skips_pathways(make_config, tmp_path):
    cfg = make_config('distill', model__distiller__transforms=[dict(type='mmrazor.ConvolutionTransform')])
    cfg.custom_hooks[0].update(process=str(tmp_path / 'given.json'), skip_below=0.5)
    DistillationProcess(NAMES, Weighting('absolute'), [0, 1], [[1, 0, 1, 1], [1, 1, 0, 0]]).save(tmp_path / 'given.json')

    def distil(rank):
        runner = build_trainer(cfg, 'pytorch')
        runner.train()
        torch.save([p.detach() for p in runner.model.module.parameters()], tmp_path / f'{rank}.pth')

    together(2, distil)
    assert all(torch.equal(a, b) for a, b in zip(torch.load(tmp_path / '0.pth'), torch.load(tmp_path / '1.pth')))


class BadBatch(Hook):
    """Gives one process images that are not finite, at one iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4 and torch.distributed.get_rank() == 1:
            data_batch['inputs'] = [image.float() * float('nan') for image in data_batch['inputs']]


def test_a_loss_that_is_not_finite_in_one_process_stops_both(make_config, tmp_path):
    cfg = make_config('equal', train_dataloader__batch_size=10,
                      train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=2, val_interval=100))

    def train(rank):
        runner = build_trainer(cfg, 'pytorch')
        runner.register_hook(BadBatch())
        with pytest.raises(TrainingError, match='stopped .* not finite') as error:
            runner.train()
        (tmp_path / f'{rank}.txt').write_text(str(error.value))

    together(2, train)
    assert 'stopped at iteration 5 of 10: the training loss is not finite' in (tmp_path / '1.txt').read_text()
    assert (tmp_path / '0.txt').exists() and not list((tmp_path / 'equal').glob('*.pth'))


def test_a_process_of_other_networks_starts_again_in_both_after_a_loss_that_is_not_finite_in_one(make_config, tmp_path):
    """As in one process, although the watch hook would stop both at once."""
    DistillationProcess(['a>x:pointwise', 'b>y:pointwise'], Weighting('absolute', unit='variance'), [0, 1],
                        [[0.01, 0.01]] * 2).save(tmp_path / 'given.json')
    cfg = make_config('distill', train_dataloader__batch_size=10, train_cfg__max_epochs=4, custom_hooks=[
        dict(type='mmrazor.ProcessReplayHook', process=str(tmp_path / 'given.json'), transfer='by_depth'),
        dict(type='mmrazor.TrainingWatchHook', must_learn=False, interval=1)])

    def distil(rank):
        runner = build_trainer(cfg, 'pytorch')
        runner.register_hook(BadBatch())
        runner.train()
        hook = next(hook for hook in runner.hooks if isinstance(hook, ProcessReplayHook))
        torch.save((hook.restarted, hook._level.factor, [p.detach() for p in runner.model.module.parameters()]),
                   tmp_path / f'{rank}.pth')

    together(2, distil)
    (*first, weights), (*second, others) = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert first == second == [4, 0.25]
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(weights, others))


@pytest.mark.slow
def test_the_script_searches_in_two_processes_and_resumes(tmp_path):
    root = pathlib.Path(__file__).parents[2]

    def train(epochs, *flags):
        return subprocess.run(
            ['bash', root / 'tools/dist_train.sh', 'configs/distpro/published_search.py', '2',
             '--pair', 'resnet20_resnet8-half_digits', '--work-dir', tmp_path, *flags,
             '--cfg-options', f'train_cfg.max_epochs={epochs}',
             'train_dataloader.batch_size=20', 'model.teacher_ckpt=None', 'default_hooks.checkpoint.interval=1'],
            cwd=root, env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'MASTER_PORT': free_port()},
            capture_output=True, text=True, timeout=280)

    done = train(1)
    assert done.returncode == 0, done.stderr
    assert len(DistillationProcess.load(str(tmp_path / 'process.json'))) == 6  # 240 images, 20 in each of two processes
    done = train(2, '--resume')
    assert done.returncode == 0 and 'resumed epoch: 1' in done.stdout + done.stderr, done.stderr
    assert len(DistillationProcess.load(str(tmp_path / 'process.json'))) == 12
