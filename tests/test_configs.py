"""Every config that is shipped: loads, and trains when its images are there."""
import os
import pathlib
import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from distpro_mm.comparison import Benchmark
from distpro_mm.engine.launch import load_config
from distpro_mm.process import DistillationProcess

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(str(path.relative_to(ROOT)) for folder in ('teachers', 'baselines', 'distpro')
                 for path in (ROOT / 'configs' / folder).glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS)
def test_names_teacher_checkpoints_that_other_configs_write(path):
    cfg = load_config(str(ROOT / path))
    assert cfg.work_dir == os.path.join('work_dirs', pathlib.Path(path).stem)
    checkpoint = cfg.model.get('teacher_ckpt')
    if checkpoint is not None:
        work_dir, name = os.path.split(checkpoint)
        teacher = load_config(str(ROOT / 'configs' / 'teachers' / f'{os.path.basename(work_dir)}.py'))
        assert (work_dir, name) == (teacher.work_dir, f'epoch_{teacher.train_cfg.max_epochs}.pth')
        assert teacher.model == cfg.model.teacher
    for hook in cfg.get('custom_hooks', []):
        if 'process' in hook:
            work_dir, name = os.path.split(hook.process)
            assert name == 'process.json'
            assert (ROOT / 'configs' / 'distpro' / f'{os.path.basename(work_dir)}.py').exists()


@pytest.mark.parametrize('path', CONFIGS)
def test_a_second_stage_starts_from_what_its_first_stage_writes(path):
    stages = re.findall(r"checkpoint='(.*?)'", (ROOT / path).read_text())
    assert bool(stages) == bool(re.match(r'(ab|ft)_resnet', pathlib.Path(path).name))
    for checkpoint in stages:
        work_dir, name = os.path.split(checkpoint)
        first = load_config(str(ROOT / 'configs' / 'baselines' / f'{os.path.basename(work_dir)}.py'))
        assert (work_dir, name) == (first.work_dir, f'epoch_{first.train_cfg.max_epochs}.pth')


@pytest.mark.parametrize('path', CONFIGS)
def test_no_config_chooses_by_the_test_set(path):
    cfg = Config.fromfile(ROOT / path)
    assert 'save_best' not in cfg.default_hooks.checkpoint
    assert 'EarlyStoppingHook' not in str(cfg.get('custom_hooks'))


def test_benchmark_trains_every_seed_alike():
    for path in (ROOT / 'configs' / 'benchmarks').glob('*.py'):
        benchmark = Benchmark(str(path))
        schedules = {name: load_config(config) for name, config in benchmark.methods.items()}
        reference = schedules[benchmark.reference]
        for name, cfg in schedules.items():
            for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'train_dataloader', 'val_dataloader'):
                assert cfg[key] == reference[key], f'{name} trains with another {key} than {benchmark.reference}'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Made-up images in the layout of CIFAR-100 from folders: 5 training and 1 test image a class."""
    root = tmp_path_factory.mktemp('cifar100')
    generator = np.random.RandomState(0)
    for split, count in (('train', 5), ('test', 1)):
        for label in range(100):
            folder = root / split / f'class_{label:03d}'
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f'{index}.png'), generator.randint(0, 255, (32, 32, 3), np.uint8))
    return str(root)


@pytest.fixture
def cifar100(images, tmp_path, monkeypatch):
    """cifar100(path): a shipped CIFAR-100 config, for the made-up images, one epoch and a small teacher."""
    monkeypatch.setenv('CIFAR100', 'cifar100_folder')

    def load(path, **options):
        cfg = load_config(str(ROOT / 'configs' / path))
        cfg.work_dir = str(tmp_path / pathlib.Path(path).stem)
        cfg.log_level = 'ERROR'
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.dataset.data_root = images
        cfg.train_dataloader.batch_size = 50
        cfg.train_cfg.max_epochs = 1
        network = cfg.model.get('teacher', cfg.model)
        network.backbone.depth = min(network.backbone.depth, 8)
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        return cfg

    return load


def test_cifar100_from_folders_teacher_search_and_distillation(cifar100):
    teacher = Runner.from_cfg(cifar100('teachers/resnet56_cifar100.py'))
    teacher.train()
    trained = dict(model__teacher_ckpt=os.path.join(teacher.work_dir, 'epoch_1.pth'), model__architecture__backbone__depth=8)
    search = Runner.from_cfg(cifar100('distpro/search_resnet56_resnet20_cifar100.py', **trained))
    search.train()
    assert len(search.train_loop.dataloader.dataset) == 400
    path = os.path.join(search.work_dir, 'process.json')
    process = DistillationProcess.load(path)
    assert len(process.names) == 10 and len(process) == 8
    distill = Runner.from_cfg(cifar100('distpro/distill_resnet56_resnet20_cifar100.py', custom_hooks__0__process=path,
                                       **trained))
    distill.train()
    assert distill.train_loop.max_iters == 10  # all 500 images
    student = Runner.from_cfg(cifar100('baselines/kd_resnet56_resnet20_cifar100.py', **trained))
    student.train()


def test_folder_classes_are_in_alphabetical_order(cifar100):
    cfg = cifar100('teachers/resnet56_cifar100.py')
    dataset = Runner.build_dataloader(cfg.val_dataloader).dataset
    assert list(dataset.metainfo['classes']) == [f'class_{label:03d}' for label in range(100)]
