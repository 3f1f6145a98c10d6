"""The command line as a user types it: right and wrong."""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from distpro.process import load_process
from distpro_mm.models.checkpoints import load_strict

ROOT = pathlib.Path(__file__).parent.parent
SEARCH = 'configs/distpro/published_search.py'
PAIR = ['--pair', 'resnet20_resnet8-half_digits']
NETWORKS = Config.fromfile(ROOT / 'configs' / '_base_' / 'networks' / 'cifar_networks.py')
SMALL = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.dataset.images_per_class=10', 'train_dataloader.batch_size=20']


def test_train_resume_test_and_export(tmp_path, tool):
    config = 'configs/teachers/resnet20_digits.py'
    options = ['--work-dir', tmp_path / 'run', '--cfg-options', *SMALL]
    done = tool('train', config, *options)
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    done = tool('train', config, '--resume', *options, 'train_cfg.max_epochs=2')
    assert done.returncode == 0 and 'resumed epoch: 1' in done.stdout + done.stderr
    assert (tmp_path / 'run' / 'epoch_2.pth').exists() and not checkpoint.exists()
    done = tool('test', config, tmp_path / 'run' / 'epoch_2.pth', '--work-dir', tmp_path / 'test')
    assert done.returncode == 0 and 'accuracy/top1' in done.stdout + done.stderr
    done = tool('export_student', config, tmp_path / 'run' / 'epoch_2.pth', '--out', tmp_path / 'out')
    assert done.returncode == 0 and sorted(os.listdir(tmp_path / 'out')) == ['cifar_resnet.py', 'student.pth', 'student.py']


def test_inspect_shows_the_layers_and_a_config_that_gives_the_same_pathways(tool, tmp_path):
    done = tool('inspect_pathways', SEARCH, *PAIR)
    assert done.returncode == 0 and 'Teacher: CIFARResNet' in done.stdout and 'stem>layer3:pointwise' in done.stdout
    found = [line for line in done.stdout.splitlines() if ':pointwise' in line]
    spelt = done.stdout.partition('as an explicit model.distiller:')[2]
    (tmp_path / 'mine.py').write_text(f"_base_ = '{ROOT / SEARCH}'\nmodel = dict(distiller=dict({spelt}))\n")
    again = tool('inspect_pathways', tmp_path / 'mine.py', *PAIR)
    assert again.returncode == 0, again.stderr
    assert [line for line in again.stdout.splitlines() if ':pointwise' in line] == found and len(found) == 10
    done = tool('inspect_pathways', 'configs/baselines/kd.py')
    assert done.returncode == 1 and 'error: model.type=TapDistill has no pathways' in done.stderr


def test_a_published_teacher_is_converted_name_by_name(tmp_path, tool):
    network = MODELS.build(NETWORKS.resnet8)
    published = {re.sub(r'^(backbone|head)\.', '', name): value for name, value in network.state_dict().items()}
    torch.save(dict(opt=argparse.Namespace(model='resnet8'), model=published), tmp_path / 'resnet8_last.pth')
    options = ['--cfg-options', 'model.backbone.depth=8']
    done = tool('convert_teacher', tmp_path / 'resnet8_last.pth', 'configs/teachers/resnet56_cifar100.py', '--out',
                tmp_path / 'teacher.pth', *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == 'conv1.weight -> backbone.conv1.weight [16, 3, 3, 3]'
    assert done.stdout.splitlines()[-1] == f'56 weights converted: {tmp_path / "teacher.pth"}'
    assert len(done.stdout.splitlines()) == 57
    converted = MODELS.build(NETWORKS.resnet8)
    load_strict(converted, str(tmp_path / 'teacher.pth'), 'model.teacher_ckpt')
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in converted.state_dict().items())
    done = tool('convert_teacher', tmp_path / 'resnet8_last.pth', 'configs/teachers/resnet56_cifar100.py', '--out',
                tmp_path / 'not.pth')
    assert done.returncode == 1 and not (tmp_path / 'not.pth').exists()
    assert done.stderr.splitlines()[-1].startswith(f"error: checkpoint='{tmp_path / 'resnet8_last.pth'}' does not fit the ")


def test_processes_are_listed_shown_compared_converted_and_averaged(tmp_path, tool):
    done = tool('process', 'list')
    assert '| general ' in done.stdout and '| digits/resnet20-resnet8 ' in done.stdout
    done = tool('process', 'show', 'digits/resnet20-resnet8', '--png', tmp_path / 'digits.png')
    assert '300 digits of scikit-learn' in done.stdout and 'logits>logits:kl' in done.stdout
    assert (tmp_path / 'digits.png').exists()
    done = tool('process', 'diff', 'general', 'digits/resnet20-resnet8')
    row = next(line for line in done.stdout.splitlines() if line.startswith('| logits>logits:kl'))
    assert row.split('|')[2].split() == [f'{load_process(name).weights[0, -1]:.3g}' if name != '>' else '>' for name in (
        'general', '>', 'digits/resnet20-resnet8')]
    converted = str(tmp_path / 'converted.json')
    assert tool('process', 'convert', 'general', 'configs/distpro/equal.py', '--pair', 'resnet34_resnet18_imagenet', '--out',
                converted).returncode == 0
    assert len(load_process(converted).names) == 6  # five layers of the nearest depth, and the logits
    average = str(tmp_path / 'average.json')
    assert tool('process', 'average', 'general', '--out', average).returncode == 0
    assert np.allclose(load_process(average).weights, load_process('general').weights, rtol=1e-6)


@pytest.mark.long
def test_search_and_distil_in_bfloat16(tmp_path, teacher_ckpt, tool):
    teacher = ['model.teacher.backbone.depth=8', 'model.teacher.backbone.stem_channels=8',
               'model.teacher.backbone.channels=(8,16,32)', 'model.teacher.head.in_channels=32',
               f'model.teacher_ckpt={teacher_ckpt}']
    done = tool('train', SEARCH, *PAIR, '--amp', '--work-dir', tmp_path / 'search', '--cfg-options', *SMALL, *teacher)
    assert done.returncode == 0 and (tmp_path / 'search' / 'process.json').exists(), done.stderr
    wrapper = 'AmpOptimWrapper' if torch.cuda.is_available() else 'BFloat16OptimWrapper'
    assert wrapper in (tmp_path / 'search' / 'published_search.py').read_text()
    done = tool('train', 'configs/distpro/published_distill.py', *PAIR, '--amp', '--work-dir', tmp_path / 'distill',
                '--cfg-options', *SMALL, *teacher, f'custom_hooks.0.process={tmp_path / "search" / "process.json"}')
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('loop', ['EpochBasedTrainLoop', 'mmrazor.ReproducibleTrainLoop'])
def test_a_training_that_fails_is_no_exit_code_0(tmp_path, tool, loop):
    done = tool('train', 'configs/teachers/resnet20_digits.py', '--work-dir', tmp_path, '--cfg-options', *SMALL,
                f'train_cfg.type={loop}', 'optim_wrapper.optimizer.lr=1e30')
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith('error: stopped at iteration 2 of ')


@pytest.mark.parametrize('arguments, message', [
    (['train', 'configs/nothing.py'], "error: there is no config file 'configs/nothing.py'"),
    (['train', SEARCH, '--pair', 'nonsense'], 'error: --pair nonsense: there is no such pair; nearest: '),
    (['train', 'configs/teachers/resnet20_digits.py', *PAIR], 'is of no pair; leave --pair out'),
    (['train', SEARCH, '--cfg-options', 'lr'], "'lr' is not of the form KEY=VALUE"),
    (['train', SEARCH, '--launcher', 'k8s'], "invalid choice: 'k8s'"),
    (['train', SEARCH, '--resume', 'nowhere.pth'], "error: --resume 'nowhere.pth': there is no such checkpoint"),
    (['train', SEARCH, '--cfg-options', 'model.teacher_ckpt=nowhere.pth'],
     "error: model.teacher_ckpt='nowhere.pth': there is no such file"),
    (['train', SEARCH, '--cfg-options', 'model.teacher_ckpt=None', 'train_cfg.alpha_interval=0'],
     'error: train_cfg.alpha_interval=0'),
    (['train', 'configs/distpro/distill.py', *PAIR, '--cfg-options', 'custom_hooks.0.process=stage://search/process'],
     "error: custom_hooks.0.process='stage://search/process' refers to a stage of a comparison, and there are no stages"),
    (['train', SEARCH, '--amp', '--cfg-options', 'optim_wrapper.type=Other'], "the config has 'Other'"),
    (['test', SEARCH, 'nowhere.pth'], "error: checkpoint='nowhere.pth': there is no such file"),
    (['export_student', SEARCH, 'nowhere.pth'], "error: checkpoint='nowhere.pth': there is no such file"),
    (['convert_teacher', 'nowhere.pth', SEARCH, '--out', 'teacher.pth'],
     "error: checkpoint='nowhere.pth': there is no such file"),
    (['compare', 'configs/benchmarks/none.py'], "error: there is no benchmark 'configs/benchmarks/none.py'"),
    (['compare', SEARCH], 'is not a benchmark: it needs benchmark=dict(...)'),
    (['compare', 'configs/benchmarks/digits.py', '--jobs', '0'], '--jobs 0: must be 1 or more'),
    (['process', 'show', 'genral'], "error: there is no process file 'genral'"),
    (['process', 'average', 'general', '--layers', '1', '--out', 'x.json'], 'error: an average needs one process or more'),
    (['process', 'diff', 'general', 'docs/results/transfer_small/process.json'], "in the unit 'variance' and 'docs/results"),
    (['process', 'convert', 'general', 'configs/baselines/kd.py', *PAIR, '--out', 'x.json'], 'has no pathways: give a'),
    (['process', 'show', 'general', '--png', 'general.xyz'], "error: 'general.xyz' is no name of a picture: end it with"),
    (['process', 'convert', 'general', 'configs/_base_/runtime/default.py', '--out', 'x.json'],
     "default.py' has no model: give model=dict(type="),
    (['process', 'show', 'general', '--png', '/proc/nowhere/a.png'], "error: '/proc/nowhere"),
    (['test', 'configs/_base_/runtime/default.py', 'x.pth'], "default.py' has no model: give model=dict(type="),
    (['validate', 'nowhere'], "error: 'nowhere' is not a folder of configs: there is no 'nowhere/_base_/pairs'"),
    (['validate', '--pair', 'nonsense'], "error: --pair nonsense: there is no such pair in 'configs'; there are deit-small"),
])
def test_wrong_input_is_one_sentence(arguments, message, tmp_path, tool):
    name, *arguments = arguments
    if name in ('train', 'test', 'compare'):
        arguments = ['--work-dir', tmp_path, *arguments]
    if SEARCH in arguments and name != 'compare':
        arguments = [*PAIR, *arguments]  # a later argument of the test overrides it
    done = tool(name, *arguments)
    assert done.returncode != 0 and message in done.stderr
    assert 'Traceback' not in done.stderr


def test_validate_lists_configs_that_cannot_be_trained(tool, tmp_path):
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    for path in (tmp_path / 'configs').glob('distpro/*.py'):  # some, for the time
        if path.name != 'equal.py':  # of which baselines are made
            path.unlink()
    done = tool('validate', tmp_path / 'configs', '--pair', PAIR[1])
    assert done.returncode == 0 and done.stdout.splitlines()[-1].endswith(' configs checked, 0 cannot be trained')
    (tmp_path / 'configs' / 'baselines' / 'mine.py').write_text("_base_ = './kd.py'\ntrain_cfg = dict(max_epochs=dict())\n")
    done = tool('validate', tmp_path / 'configs', '--pair', PAIR[1])
    assert done.returncode == 1 and 'error: 1 of ' in done.stderr
    assert f'baselines/mine.py --pair {PAIR[1]}: ' in done.stdout and 'cannot inherit from base' in done.stdout


@pytest.mark.parametrize('name', ['train', 'test', 'compare', 'export_student', 'convert_teacher', 'validate'])
def test_help(name, tool):
    done = tool(name, '--help')
    options = re.findall(r'add_argument\(.(--[\w-]+|\w+)', (ROOT / 'tools' / f'{name}.py').read_text())
    assert done.returncode == 0 and len(options) >= 3
    for option in set(options) - {'--local_rank'}:
        assert option in done.stdout


@pytest.mark.long
def test_a_wrong_checkpoint_ends_a_process_with_one_line(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / 'tools' / 'train.py'), str(ROOT / SEARCH), '--work-dir', tmp_path,
                           '--cfg-options', 'model.teacher_ckpt=nowhere.pth'], cwd=tmp_path, text=True,
                          capture_output=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: model.teacher_ckpt='nowhere.pth': there is no such file")
