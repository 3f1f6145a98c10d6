"""The recipe of docs/own_pair.md, run on made-up images."""
import os
import pathlib
import re

import cv2
import numpy as np
import pytest

from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.hooks import ProcessReplayHook, TrainingWatchHook
from distpro_mm.engine.launch import build_trainer

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ['my_data', 'my_teacher', 'my_pair', 'my_distill', 'my_search', 'my_searched']
# Options that make the recipe small: networks and images, then the epochs.
DATA = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0',
        'train_dataloader.batch_size=20', 'train_dataloader.dataset.pipeline.1.scale=32',
        *(f'{part}_dataloader.dataset.pipeline.{size}=32'
          for part in ('val', 'test') for size in ('1.scale', '2.crop_size'))]
PAIR = ['model.teacher.backbone.depth=18', 'model.teacher.head.in_channels=512',
        'model.architecture.backbone.widen_factor=0.5']
SIZES = dict(my_teacher=['model.backbone.depth=18', 'model.head.in_channels=512'], my_distill=PAIR, my_search=PAIR,
             my_searched=PAIR)
TRAINED = 'model.teacher_ckpt=work_dirs/my_teacher/epoch_1.pth'
EPOCHS = dict(my_teacher=[], my_search=[TRAINED, 'train_cfg.rounds=2', 'train_cfg.min_iterations=1',
                                        'train_cfg.held_out.ratio=0.5'], my_distill=[TRAINED], my_searched=[TRAINED])


def draw(shape, random):
    """A bright shape on a dark ground with noise, 40 x 40 in colour."""
    image = np.clip(random.normal(50, 12, (40, 40, 3)), 0, 255).astype('uint8')
    colour = tuple(int(value) for value in random.randint(140, 256, 3))
    x, y, r = (int(value) for value in (*random.randint(13, 27, 2), random.randint(7, 12)))
    if shape == 'circle':
        cv2.circle(image, (x, y), r, colour, -1)
    elif shape == 'ring':
        cv2.circle(image, (x, y), r, colour, 2)
    elif shape == 'square':
        cv2.rectangle(image, (x - r, y - r), (x + r, y + r), colour, -1)
    elif shape == 'triangle':
        cv2.fillPoly(image, [np.array([[x, y - r], [x - r, y + r], [x + r, y + r]])], colour)
    else:
        cv2.drawMarker(image, (x, y), colour, cv2.MARKER_CROSS, 2 * r, 4)
    return image


@pytest.fixture
def recipe(tmp_path):
    """The commands of the recipe as tool and arguments. Its configs and images are in tmp_path."""
    section = (ROOT / 'docs' / 'own_pair.md').read_text()
    for text in re.findall(r'```python\n(.*?)```', section, re.DOTALL):
        (tmp_path / re.match(r'# (\w+\.py): ', text)[1]).write_text(text)
    assert sorted(path.stem for path in tmp_path.glob('*.py')) == sorted(NAMES)
    random = np.random.RandomState(0)
    for part, count in (('train', 20), ('val', 4)):
        for shape in ('circle', 'cross', 'ring', 'square', 'triangle'):
            folder = tmp_path / 'data' / 'mine' / part / shape
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f'{index}.png'), draw(shape, random))
    return re.findall(r'^python tools/(\w+)\.py (.*)$', section, re.MULTILINE)


@pytest.mark.long
def test_the_configs_of_the_recipe_build(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('my_teacher', 'my_distill', 'my_search', 'my_searched'):
        options = dict(option.split('=') for option in [*DATA, *SIZES[name]])
        options = {key: float(value) if '.' in value else int(value) for key, value in options.items()}
        if name != 'my_teacher':
            options['model.teacher_ckpt'] = None
        cfg = load_config(f'{name}.py', options)
        assert cfg.work_dir == f'work_dirs/{name}'
        cfg.log_level, cfg.experiment_name = 'ERROR', f'{name}_of_the_recipe'
        runner = build_trainer(cfg)
        loop = runner.build_train_loop(cfg.train_cfg)
        batches = 4 if name == 'my_search' else 5  # a fifth of the images is held out
        assert type(loop).__name__ == cfg.train_cfg.type.partition('.')[2] and len(loop.dataloader) == batches
        assert sum(isinstance(hook, TrainingWatchHook) for hook in runner.hooks) == 1
        assert any(isinstance(hook, ProcessReplayHook) for hook in runner.hooks) == (name in ('my_distill', 'my_searched'))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_recipe_runs_from_the_teacher_to_the_exported_student(recipe, tmp_path, tool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [name for name, _ in recipe] == ['train', 'train', 'test', 'export_student']
    for name, arguments in [*recipe, ('train', 'my_search.py'), ('train', 'my_searched.py')]:
        config, *others = arguments.replace('epoch_100.pth', 'epoch_1.pth').split()
        smaller = [*DATA, *SIZES[config[:-3]], 'train_cfg.max_epochs=1', 'param_scheduler.T_max=1', *EPOCHS[config[:-3]]]
        done = tool(name, config, *others, '--cfg-options', *smaller)
        assert done.returncode == 0, f'{name} {arguments}: {done.stderr[-3000:]}'
        assert name != 'test' or 'accuracy/top1' in done.stdout + done.stderr
    assert (tmp_path / 'work_dirs' / 'my_search' / 'process.png').exists()
    assert sorted(os.listdir(tmp_path / 'student')) == ['student.pth', 'student.py']
