"""Every shipped config loads for every pair, and trains if its images exist."""
import os
import pathlib
import re
import shutil

import cv2
import numpy as np
import pytest
import yaml
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.utils import get_installed_path
from mmpretrain.registry import DATASETS, MODELS

from distpro.process import DistillationProcess
from distpro_mm.comparison import Benchmark, JobMaker
from distpro_mm.engine.config_file import load_config
from distpro_mm.errors import ConfigError
from distpro_mm.validation import check_benchmarks, check_methods

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = ROOT / 'configs'
PAIRS = sorted(path.stem for path in (CONFIGS / '_base_' / 'pairs').glob('*.py'))
TEACHERS = sorted(path.stem for path in (CONFIGS / 'teachers').glob('*.py'))
METHODS = sorted(str(path.relative_to(CONFIGS)) for folder in ('baselines', 'distpro')
                 for path in (CONFIGS / folder).glob('*.py'))
DIGITS, DEFAULT = 'resnet20_resnet8-half_digits', 'resnet56_resnet20_cifar100'
FIRST_STAGES = dict(ab='ab_initial', ft='ft_paraphraser')


def load(path, pair=None):
    return load_config(str(CONFIGS / path), pair=pair)


@pytest.fixture(scope='module')
def zoo():
    """Configs in mmpretrain's model zoo by the URL of their weights."""
    folder = pathlib.Path(get_installed_path('mmpretrain')) / '.mim' / 'configs'
    models = [model for kind in ('resnet', 'deit')
              for model in yaml.safe_load((folder / kind / 'metafile.yml').read_text())['Models']]
    return {model['Weights']: folder / model['Config'][len('configs/'):] for model in models if model.get('Weights')}


@pytest.mark.parametrize('pair', PAIRS)
def test_a_pairs_teacher_is_one_that_is_trained_here_or_published(pair, zoo):
    cfg = load('baselines/student.py', pair)
    assert cfg.pair == pair and cfg.model == cfg.student
    if cfg.teacher_ckpt.startswith('http'):
        published = load_config(str(zoo[cfg.teacher_ckpt])).model
        for part in ('type', 'depth', 'arch', 'img_size', 'patch_size', 'in_channels', 'num_classes'):
            for module in ('backbone', 'head'):
                assert cfg.teacher[module].get(part) == published[module].get(part)
        return
    work_dir, name = os.path.split(cfg.teacher_ckpt)
    teacher = load(f'teachers/{os.path.basename(work_dir)}.py')
    assert (work_dir, name) == (teacher.work_dir, f'epoch_{teacher.train_cfg.max_epochs}.pth')
    assert teacher.model == cfg.teacher


@pytest.mark.parametrize('pair', PAIRS)
def test_every_method_of_every_pair_can_be_trained(pair):
    checked = list(check_methods(str(CONFIGS), [pair]))
    assert len(checked) == len(METHODS) and [done for done in checked if done.problem] == []


@pytest.mark.long
def test_every_benchmark_can_be_trained():
    checked = list(check_benchmarks(str(CONFIGS)))
    assert len(checked) >= 8 and [done for done in checked if done.problem] == []


@pytest.mark.parametrize('pair', [DIGITS, DEFAULT, 'vgg13_vgg8_cifar100', 'resnet50_mobilenetv1_imagenet'])
@pytest.mark.parametrize('path', METHODS)
def test_a_method_is_one_config_for_every_pair(path, pair):
    cfg = load(path, pair)
    name = pathlib.Path(path).stem
    assert cfg.pair == pair and cfg.work_dir == os.path.join('work_dirs', pair, name)
    if 'teacher' in cfg.model:
        assert (cfg.model.teacher, cfg.model.teacher_ckpt) == (cfg.teacher, cfg.teacher_ckpt)
        assert cfg.model.architecture.backbone == cfg.student.backbone
        assert cfg.model.get('input_shape', cfg.input_shape) == cfg.input_shape
    for hook in cfg.get('custom_hooks', []):
        if isinstance(hook.get('process'), str):
            searched = dict(distill_searched='search', distill_refined='refine', published_distill='published_search')
            assert hook.process == (os.path.join('work_dirs', pair, searched[name], 'process.json') if name in searched
                                    else 'general')
    # A second stage starts from its first stage's checkpoint. No network starts from anything else.
    text = repr(cfg.model)
    assert ('Pretrained' in text) == (name in FIRST_STAGES)
    if name in FIRST_STAGES:
        first = load(f'baselines/{FIRST_STAGES[name]}.py', pair)
        assert f"'{first.work_dir}/epoch_{first.train_cfg.max_epochs}.pth'" in text
    # The test set is not used to choose anything.
    assert 'save_best' not in cfg.default_hooks.checkpoint
    assert 'EarlyStoppingHook' not in str(cfg.get('custom_hooks'))


@pytest.mark.parametrize('name', TEACHERS)
def test_a_teachers_config_is_of_no_pair(name):
    cfg = load(f'teachers/{name}.py')
    assert cfg.work_dir == f'work_dirs/{name}' and 'save_best' not in cfg.default_hooks.checkpoint
    with pytest.raises(ConfigError, match=f"--pair {DIGITS}: .*{name}.py' is of no pair; leave --pair out"):
        load(f'teachers/{name}.py', DIGITS)


def test_the_pair_named_wins_over_the_environments_and_leaves_no_trace(monkeypatch):
    assert load('baselines/kd.py').pair == DEFAULT
    assert load('baselines/kd.py', DIGITS).pair == DIGITS and 'PAIR' not in os.environ
    monkeypatch.setenv('PAIR', DIGITS)
    assert load('baselines/kd.py').pair == DIGITS
    assert load('baselines/kd.py', DEFAULT).pair == DEFAULT and os.environ['PAIR'] == DIGITS


def test_a_pair_that_does_not_exist_is_named_with_the_nearest(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match='^--pair resnet56_resnet20: there is no such pair; nearest: resnet56_resnet20_'):
        load('distpro/search.py', 'resnet56_resnet20')
    monkeypatch.setenv('PAIR', 'vgg13')
    with pytest.raises(ConfigError, match="^PAIR=vgg13: there is no such pair; nearest: vgg13_vgg8_cifar100, .*/pairs'$"):
        load('baselines/kd.py')
    monkeypatch.delenv('PAIR')
    (tmp_path / 'mine.py').write_text("_base_ = './nothing.py'\n")  # another file that is missing
    with pytest.raises(FileNotFoundError, match='nothing.py'):
        load_config(str(tmp_path / 'mine.py'), pair=DIGITS)
    # A training writes its merged config to its folder. That config works for its own pair only.
    load('baselines/kd.py', DIGITS).dump(str(tmp_path / 'kd.py'))
    assert load_config(str(tmp_path / 'kd.py'), pair=DIGITS).pair == DIGITS
    with pytest.raises(ConfigError, match=f"--pair {DEFAULT}: .*kd.py' is of the pair '{DIGITS}' alone"):
        load_config(str(tmp_path / 'kd.py'), pair=DEFAULT)


def test_your_own_pair_is_one_file(tmp_path):
    shutil.copytree(CONFIGS, tmp_path / 'configs')
    write_pair(tmp_path / 'configs', 'optim_wrapper = dict(optimizer=dict(lr=0.05))\nreviewkd_loss = dict(loss_weight=2.0)')
    cfg = load_config(str(tmp_path / 'configs' / 'baselines' / 'kd.py'), pair='mine')
    assert cfg.work_dir == 'work_dirs/mine/kd' and cfg.model.teacher.backbone.depth == 110
    assert cfg.optim_wrapper.optimizer.lr == 0.05 and cfg.optim_wrapper.optimizer.momentum == 0.9
    cfg = load_config(str(tmp_path / 'configs' / 'baselines' / 'reviewkd.py'), pair='mine')
    assert cfg.model.distiller.loss == dict(type='HCLLoss', loss_weight=2.0)


def write_pair(configs, text, name='mine'):
    """A pair of that text in a folder of configs."""
    (configs / '_base_' / 'pairs' / f'{name}.py').write_text(
        "_base_ = '../tasks/cifar100.py'\npair = '{{ fileBasenameNoExtension }}'\nteacher = _base_.resnet110\n"
        f"student = _base_.resnet14\nteacher_ckpt = 'mine.pth'\n{text}\n")


CANNOT_BE_TRAINED = [
    ("param_scheduler = [dict(type='CosineAnnealingLR', T_max=240)]", 'distpro/published_search.py',
     'cannot inherit from base because .* search_stage, ab_stage'),
    ("param_scheduler = dict(_delete_=True, type='CosineAnealingLR', T_max=240)", 'baselines/kd.py',
     'param_scheduler=.*CosineAnealingLR'),
    ("param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=240)", 'distpro/published_search.py',
     "param_scheduler=.*unexpected keyword argument 'milestones'"),
    ("param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=300)", 'baselines/kd.py',
     'CosineAnnealingLR goes on to epoch 300, and train_cfg.max_epochs=240'),
    ("train_cfg = dict(type='NoLoop')", 'baselines/student.py', "train_cfg.type='NoLoop' is not registered"),
    ("load_from = 'stage://search/checkpoint'", 'baselines/kd.py',
     "^load_from='stage://search/checkpoint' refers to a stage"),
    ("custom_hooks = [dict(type='NoHook')]", 'baselines/student.py', "custom_hooks.0.type='NoHook' is not registered"),
    ('optim_wrapper = dict(optimizer=1 / 0)', 'baselines/kd.py', 'ZeroDivisionError')]


def test_a_pair_that_cannot_be_trained_is_named_with_the_reason(tmp_path):
    configs = tmp_path / 'configs'
    shutil.copytree(CONFIGS, configs)
    for path in [*configs.glob('baselines/*.py'), *configs.glob('distpro/*.py')]:
        if path.stem not in ('student', 'kd', 'equal', 'search', 'published_search'):
            path.unlink()
    pairs = [f'mine_{place}' for place in range(len(CANNOT_BE_TRAINED))]
    for pair, (text, _, _) in zip(pairs, CANNOT_BE_TRAINED):
        write_pair(configs, text, pair)
    checked = check_methods(str(configs), pairs)
    problems = {(done.pair, os.path.relpath(done.path, configs)): done.problem for done in checked}
    for pair, (_, path, problem) in zip(pairs, CANNOT_BE_TRAINED):
        assert re.search(problem, problems[pair, path] or 'none'), (path, problems[pair, path])


# Options that define a method: loop and meta optimisers of L2T-ww.
OWN_SCHEDULE = [('l2tww', 'train_cfg'), ('l2tww', 'optim_wrapper'), ('srd', 'optim_wrapper')]  # srd: its chosen rate


@pytest.mark.long
def test_benchmark_trains_every_seed_alike():
    for path in (ROOT / 'configs' / 'benchmarks').glob('*.py'):
        benchmark = Benchmark(str(path))
        maker = JobMaker(benchmark)
        schedules = {name: maker.run(method, benchmark.seeds[0], benchmark.budgets[0]).config
                     for name, method in benchmark.methods.items()}
        reference = schedules[benchmark.reference]
        warmed_up = {name: cfg for name, cfg in schedules.items() if name.endswith('_warm_up')}
        for cfg in warmed_up.values():
            assert cfg.param_scheduler == next(iter(warmed_up.values())).param_scheduler, 'one warm-up for all'
            cfg.optim_wrapper.optimizer.lr = reference.optim_wrapper.optimizer.lr  # the one value that is chosen for each
        for name, cfg in schedules.items():
            for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'train_dataloader', 'val_dataloader'):
                if (name, key) not in OWN_SCHEDULE and (name not in warmed_up or key != 'param_scheduler'):
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

    def small(path, **options):
        cfg = load(path)
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

    return small


@pytest.mark.slow
def test_cifar100_from_folders_teacher_search_and_distillation(cifar100):
    teacher = Runner.from_cfg(cifar100('teachers/resnet56_cifar100.py'))
    teacher.train()
    trained = dict(model__teacher_ckpt=os.path.join(teacher.work_dir, 'epoch_1.pth'), model__architecture__backbone__depth=8)
    search = Runner.from_cfg(cifar100('distpro/published_search.py', **trained))
    search.train()
    assert len(search.train_loop.dataloader.dataset) == 400
    path = os.path.join(search.work_dir, 'process.json')
    process = DistillationProcess.load(path)
    assert len(process.names) == 10 and len(process) == 8
    distill = Runner.from_cfg(cifar100('distpro/published_distill.py', custom_hooks__0__process=path, **trained))
    distill.train()
    assert distill.train_loop.max_iters == 10  # all 500 images
    student = Runner.from_cfg(cifar100('baselines/kd.py', **trained))
    student.train()


def test_folder_classes_are_in_alphabetical_order(cifar100):
    cfg = cifar100('teachers/resnet56_cifar100.py')
    init_default_scope(cfg.default_scope)
    dataset = Runner.build_dataloader(cfg.val_dataloader).dataset
    assert list(dataset.metainfo['classes']) == [f'class_{label:03d}' for label in range(100)]


def test_imagenet_is_read_from_folders(tmp_path):
    """Made-up images in ImageNet's layout, all blue, of two of its classes."""
    image = np.zeros((300, 260, 3), np.uint8)
    for split in ('train', 'val'):
        for label in range(1000):
            (tmp_path / split / f'n{label:08d}').mkdir(parents=True)
            for index in range(4 if label < 2 else 0):
                image[..., 0] = 255 - 4 * label - index  # OpenCV's blue; each is another image
                cv2.imwrite(str(tmp_path / split / f'n{label:08d}' / f'{index}.JPEG'), image)
    cfg = load('distpro/published_search.py', 'resnet34_resnet18_imagenet')
    init_default_scope(cfg.default_scope)
    preprocessor = MODELS.build(cfg.data_preprocessor)
    for key, count in (('train_dataloader', 3), ('val_dataloader', 2)):
        cfg[key].update(batch_size=count, num_workers=0)
        cfg[key].dataset.data_root = str(tmp_path)
        loader = Runner.build_dataloader(cfg[key], seed=0)
        assert len(loader.dataset) == 8 and len(loader) == 8 // count
        batch = preprocessor(next(iter(loader)), True)
        assert batch['inputs'].shape == (count, 3, 224, 224) and {s.gt_label.item() for s in batch['data_samples']} <= {0, 1}
        red, green, blue = batch['inputs'].mean((0, 2, 3))
        assert blue > 2 and red < -2 and green < -2  # normalised, in the order of the published weights
    part = dict(type='HeldOutSplit', dataset=cfg.train_dataloader.dataset, ratio=0.25)  # the search's
    assert [len(DATASETS.build(dict(part, part=name))) for name in ('held_out', 'train')] == [2, 6]
