"""A machine that fails in the middle of a run: one message names the iteration, and the checkpoints stay valid."""
import errno
import os
import signal

import cv2
import pytest
import torch
from mmpretrain.registry import DATASETS, MODELS
from sklearn.datasets import load_digits
from torch.utils.data import get_worker_info

from distpro import files
from distpro.process import DistillationProcess
from distpro_mm.datasets import SklearnDigits
from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.resume import why_not_resumable
from distpro_mm.errors import TrainingError
from distpro_mm.models import CIFARResNet

FRESH = dict(type='mmrazor.AtomicCheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=-1)


def check_what_stays(folder, checkpoints, knots):
    assert sorted(path.name for path in folder.glob('*.pth')) == checkpoints
    assert all(why_not_resumable(str(folder / name)) is None for name in checkpoints)
    assert not list(folder.glob('.writing-*'))
    assert len(DistillationProcess.load(str(folder / 'process.json'))) == knots


@pytest.fixture
def folder_of_digits(tmp_path):
    """10 images a class, as files."""
    digits = load_digits()
    root = tmp_path / 'images'
    for label in range(10):
        (root / str(label)).mkdir(parents=True)
        for index, image in enumerate(digits.images[digits.target == label][:10]):
            cv2.imwrite(str(root / str(label) / f'{index}.png'), (image * 15).astype('uint8'))
    return root


@pytest.mark.parametrize('workers, content', [(0, b''), (0, b'no image'), (1, None)])
def test_a_corrupt_image_is_named_with_the_iteration(make_config, folder_of_digits, workers, content):
    cfg = make_config('search', default_hooks__checkpoint=FRESH)
    cfg.train_dataloader.update(num_workers=workers, batch_size=10)
    cfg.train_dataloader.dataset = dict(
        type='CustomDataset', data_root=str(folder_of_digits),
        pipeline=[dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='PackInputs')])
    runner = build_trainer(cfg)
    # an image late in the first epoch
    loader = runner.build_train_loop(cfg.train_cfg).dataloader
    late = list(loader.batch_sampler)[5][0]
    image = loader.dataset.get_data_info(int(late))['img_path']
    whole = open(image, 'rb').read()
    with open(image, 'wb') as file:
        file.write(whole[:len(whole) // 2] if content is None else content)
    with pytest.raises(TrainingError, match=f"stopped at iteration [1-6] of 16: image '{image}' cannot be loaded") as error:
        build_trainer(cfg).train()
    assert '\n' not in str(error.value) and 'go on with --resume' in str(error.value)
    stopped = int(str(error.value).split('iteration ')[1].split()[0])
    assert stopped == 6 or workers  # a worker loads ahead
    folder = folder_of_digits.parent / 'search'
    check_what_stays(folder, [f'iter_{i}.pth' for i in range(2, stopped, 2)], stopped - 1)
    with open(image, 'wb') as file:  # with the image repaired, the run continues
        file.write(whole)
    build_trainer(cfg, resume='auto').train()
    assert len(DistillationProcess.load(str(folder / 'process.json'))) == 16


def test_a_worker_that_dies_is_reported(make_config, tmp_path):

    @DATASETS.register_module(force=True)
    class DeadlyDigits(SklearnDigits):

        def __getitem__(self, index):
            if index == 37:
                assert get_worker_info() is not None
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    cfg = make_config('search', default_hooks__checkpoint=FRESH, train_dataloader__num_workers=1)
    cfg.train_dataloader.dataset.type = 'DeadlyDigits'
    with pytest.raises(TrainingError, match=r'stopped at iteration \d of 8: a worker that loads images died .*num_workers'):
        build_trainer(cfg).train()
    assert (tmp_path / 'search').exists()


@pytest.mark.parametrize('error', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_last_checkpoint(make_config, tmp_path, monkeypatch, error):
    cfg = make_config('search', default_hooks__checkpoint=FRESH)
    flush, written = os.fsync, []

    def fsync(handle):
        written.append(handle)
        if sum(1 for _ in (tmp_path / 'search').glob('iter_*.pth')) == 2:  # at the third and all later writes
            raise OSError(error, os.strerror(error))
        flush(handle)

    monkeypatch.setattr(files.os, 'fsync', fsync)
    with pytest.raises(TrainingError, match='stopped at iteration 6 of 8: a file could not be written .*make room') as told:
        build_trainer(cfg).train()
    assert '--resume' in str(told.value)
    check_what_stays(tmp_path / 'search', ['iter_2.pth', 'iter_4.pth'], 4)
    monkeypatch.undo()
    build_trainer(cfg, resume='auto').train()
    assert len(DistillationProcess.load(str(tmp_path / 'search' / 'process.json'))) == 8


def test_an_infinite_loss_stops_a_distillation_too(make_config, tmp_path):
    build_trainer(make_config('search')).train()
    cfg = make_config('distill', custom_hooks__0__process=str(tmp_path / 'search' / 'process.json'),
                      optim_wrapper__optimizer__lr=1e30, default_hooks__checkpoint=FRESH)
    with pytest.raises(TrainingError, match=r'stopped at iteration \d+ of 10: the training loss is not finite'):
        build_trainer(cfg).train()


def test_a_student_without_forward_mode_is_reported_once(make_config):

    class Opaque(torch.autograd.Function):
        """x, without a derivative in forward mode."""

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    @MODELS.register_module(force=True)
    class OpaqueResNet(CIFARResNet):

        def forward(self, x):
            return super().forward(Opaque.apply(x * self.conv1.weight.mean().exp()))

    cfg = make_config('search')
    cfg.model.architecture.backbone.type = 'OpaqueResNet'
    cfg.model.teacher_ckpt = None
    runner = build_trainer(cfg)
    said = []
    runner.logger.warning = said.append
    runner.train()
    assert sum('forward-mode derivative' in str(line) for line in said) == 1
    assert runner.train_loop.hypergradient.passes['plain_forward'] == 2 * 8
