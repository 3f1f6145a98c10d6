"""The runs that tests kill and resume: small, with random augmentations, dropout and order."""
import json
import os
import pathlib
import signal

import torch
from mmengine.hooks import Hook
from mmpretrain.registry import MODELS

from distpro_mm.engine.launch import build_trainer
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


class SaveAtTheEnd(Hook):

    def after_train(self, runner):
        runner.save_checkpoint(runner.work_dir, 'epoch_3.pth', by_epoch=True)
