"""The recipes of the README, run as they are written there; only sizes are replaced."""
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from processes import free_port
from toys import labelled_images, network

from distpro_app.main import main
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
ONE_EPOCH = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'param_scheduler.milestones=[1]',
             'train_dataloader.batch_size=10', 'default_hooks.checkpoint.interval=1']
TINY = ['model.teacher.backbone.depth=10', 'model.architecture.backbone.depth=10',
        'model.teacher_ckpt=work_dirs/wrn-40-2_cifar100/epoch_1.pth', *ONE_EPOCH]
SMALL = {  # of a benchmark on the digits: by file, what is replaced
    '_base_/datasets/digits.py': [('images_per_class=30', 'images_per_class=10'), ('batch_size=50', 'batch_size=20')],
    '_base_/schedules/digits_20e.py': [('T_max=20', 'T_max=2'), ('max_epochs=20', 'max_epochs=2')],
    'teachers/resnet20_digits.py': [('60', '2')],
    'distpro/search.py': [('min_iterations=200', 'min_iterations=4')],
    'benchmarks/digits.py': [('seeds=[0, 1, 2, 3, 4]', 'seeds=[0]')],
}


def section(title):
    """str: The code blocks of a section of the README."""
    text = README.partition(f'\n## {title}\n')[2].partition('\n## ')[0]
    return '\n'.join(re.findall(r'```(?:bash|python)\n(.*?)```', text, re.DOTALL))


def commands(title, start):
    """list[list[str]]: The words of the commands of a section that start so."""
    found = [shlex.split(line, comments=True) for line in section(title).splitlines() if line.startswith(start)]
    assert found, f'the section {title} has no command {start}'
    return found


def draw(folder, names, count, side, random):
    """Class folders of noisy squares of a colour for each class."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        colour = np.array([(number % 2) * 200, (number // 2 % 2) * 200, (number // 4) * 200])
        for index in range(count):
            image = np.clip(colour + random.normal(0, 30, (side, side, 3)), 0, 255).astype('uint8')
            Image.fromarray(image).save(folder / name / f'{index}.png')


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The present folder: a checkout with its configs, and CIFAR-100 in folders with few images of eight classes."""
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    for part, count in (('train', 5), ('test', 2)):
        draw(tmp_path / 'data' / 'cifar100' / part, 'abcdefgh', count, 32, np.random.RandomState(0))
    monkeypatch.setenv('CIFAR100', 'cifar100_folder')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_a_folder_of_images_becomes_files_to_deploy(tmp_path, monkeypatch, capsys):
    pytest.importorskip('timm')
    draw(tmp_path / 'photos', ['blue', 'green', 'red'], 8, 40, np.random.RandomState(0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    (command, *arguments), = commands('A folder of images', 'distpro')
    smaller = ['--epochs', '1', '--batch-size', '8', '--image-size', '32', '--teacher-size', '32']
    unpublished = ['--teacher-weights', 'random', '--train-teacher', '1']  # published weights would be downloaded
    monkeypatch.setattr(sys, 'argv', [command, *arguments, *smaller, *unpublished])
    assert main() == 0, capsys.readouterr().err
    assert {'student.pth', 'student.pt2', 'student.onnx'} < set(os.listdir(tmp_path / 'phone'))


def test_the_loop_trains_when_its_names_are_given():
    torch.manual_seed(0)
    items = labelled_images(20)
    images, labels = torch.stack([image for image, _ in items]), torch.tensor([int(label) for _, label in items])
    names = dict(torch=torch, F=F, student=network(), teacher=network(8), images=images, steps=3)
    before = names['student'][0][0].weight.clone()
    text = section('A training loop of your own')
    at_every_step = text.index('out = kd(')
    exec(compile(text[:at_every_step], 'README.md', 'exec'), names)
    losses = []
    for step in range(names['steps']):
        exec(compile(text[at_every_step:], 'README.md', 'exec'), names | dict(step=step, labels=labels), found := {})
        names['optimizer'].zero_grad()
        found['loss'].backward()
        names['optimizer'].step()
        losses.append(float(found['loss'].detach()))
    assert np.isfinite(losses).all() and losses[0] != losses[1]
    assert not torch.equal(names['student'][0][0].weight, before) and names['kd'].process.names == names['kd'].grid.names


@pytest.mark.long
def test_a_pair_is_trained_from_configs(checkout, tool, monkeypatch):
    monkeypatch.chdir(checkout)
    for _, script, config, *flags in commands('OpenMMLab configs', 'python tools/train.py'):
        options = ['model.backbone.depth=10', *ONE_EPOCH] if 'teachers/' in config else list(TINY)
        if config.endswith('refine.py'):
            options += ['train_cfg.min_iterations=1']
            options.remove('train_cfg.val_interval=1')
        done = tool(pathlib.Path(script).stem, config, *flags, '--cfg-options', *options)
        assert done.returncode == 0, f'{config}: {done.stderr[-2000:]}'
    made = checkout / 'work_dirs' / 'wrn-40-2_wrn-16-2_cifar100'
    assert sorted(os.listdir(made)) == ['distill', 'dkd', 'refine'] and (made / 'refine' / 'process.json').exists()
    assert all((made / name / 'report.html').exists() for name in os.listdir(made))


def environment():
    """dict: Environment of a command in a checkout, on CPUs."""
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
            'PYTHON': sys.executable, 'MASTER_PORT': free_port()}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_several_processes_distil(checkout, teacher_of_the_pair):
    (shell, script, config, processes, *flags), = commands('Several GPUs', 'bash')
    done = subprocess.run([shell, script, config, '2', *flags, '--cfg-options', *TINY, 'train_dataloader.batch_size=5'],
                          cwd=checkout, env=environment(), text=True, capture_output=True)
    assert processes == '8' and done.returncode == 0, done.stderr[-3000:]
    assert (checkout / 'work_dirs' / 'wrn-40-2_wrn-16-2_cifar100' / 'distill' / 'epoch_1.pth').exists()


@pytest.fixture
def teacher_of_the_pair(checkout):
    """A checkpoint with random weights where the README's first command writes the teacher's."""
    model = build_model(load_config(str(ROOT / 'configs/teachers/wrn-40-2_cifar100.py'), {'model.backbone.depth': 10}))
    folder = checkout / 'work_dirs' / 'wrn-40-2_cifar100'
    folder.mkdir(parents=True)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'epoch_1.pth')


@pytest.mark.long
@pytest.mark.timeout(900)
def test_methods_are_compared(tmp_path):
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    for path in (ROOT / 'configs').rglob('*.py'):
        name = path.relative_to(ROOT / 'configs')
        text = path.read_text()
        for before, after in SMALL.get(name.as_posix(), ()):
            assert before in text, f'{name} has no {before}'
            text = text.replace(before, after)
        (tmp_path / 'configs' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'configs' / name).write_text(text)
    (_, *words), = commands('Compare', 'python')
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment(), text=True, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert {'results.md', 'results.csv', 'report.html'} < set(os.listdir(tmp_path / 'work_dirs' / 'benchmark_digits'))
    lines = (tmp_path / 'work_dirs' / 'benchmark_digits' / 'results.csv').read_text().splitlines()
    assert {'teacher', 'student', 'kd', 'equal', 'published', 'distpro'} <= {line.partition(',')[0] for line in lines}
