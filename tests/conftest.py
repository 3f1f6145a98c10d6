"""A small search and distillation on the digits, shared by the tests of models, engine and tools."""
import pathlib
import time

import pytest
import torch

import distpro_mm  # noqa: F401  registers everything
from distpro_mm.engine.launch import load_config

ROOT = pathlib.Path(__file__).parent.parent
PAIR = 'resnet20_resnet8-half_digits.py'


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def make_config(tmp_path):
    """Builds a small config: make_config('search' | 'distill' | 'equal' | 'kd' | 'student', **options by dotted key)."""

    def make(kind, name=None, **options):
        folder = 'distpro' if kind in ('search', 'distill') else 'baselines'
        pair = PAIR if kind != 'student' else 'resnet8-half_digits.py'
        cfg = load_config(str(ROOT / 'configs' / folder / f'{kind}_{pair}'))
        cfg.work_dir = str(tmp_path / (name or kind))
        cfg.experiment_name = f'{kind}_{time.time_ns()}'
        cfg.log_level = 'ERROR'
        cfg.train_dataloader.batch_size = 20
        cfg.train_dataloader.dataset.images_per_class = 10
        cfg.train_dataloader.dataset.pipeline = [dict(type='PackInputs')]  # nothing random but the order
        cfg.train_cfg.max_epochs = 2
        cfg.train_cfg.val_interval = 100
        cfg.default_hooks.checkpoint.interval = 1
        if kind != 'student':
            cfg.model.teacher = cfg.model.architecture
            cfg.model.teacher_ckpt = None
        if kind in ('search', 'distill', 'equal'):
            cfg.model.distiller.connections = 'same_depth'
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        return cfg

    return make
