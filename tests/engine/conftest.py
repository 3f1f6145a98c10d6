"""What the tests of searches and of resumed runs share."""
import numpy as np
import pytest
from resuming import AUGMENTED, NAMES

from distpro.process import DistillationProcess
from distpro.searching import Round
from distpro.weighting import Weighting


@pytest.fixture
def derivatives(monkeypatch):
    """dJ/dw [iterations, N] of all differentiated rounds."""
    seen, plain = [], Round.derivatives

    def noting(current):
        found = plain(current)
        seen.append(found.cpu())
        return found

    monkeypatch.setattr(Round, 'derivatives', noting)
    return seen


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
