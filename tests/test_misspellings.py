"""Misspelt names are answered with the nearest valid one, in one message, before any data are read."""
import pathlib
import re
import shutil

import pytest
import torch
from mmengine.dataset import BaseDataset
from PIL import Image
from toys import network

import distpro
import distpro_app.images
from distpro_app.main import main
from distpro_mm.datasets import SklearnDigits

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = 'configs/teachers/resnet20_digits.py'
DISTILL, SEARCH, KD = 'configs/distpro/distill.py', 'configs/distpro/search.py', 'configs/baselines/kd.py'
PAIR = ['--pair', 'resnet20_resnet8-half_digits']
OPTIONS = ['--cfg-options', 'model.teacher_ckpt=None']


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    """Refuses to read any data."""
    def read(*args, **kwargs):
        raise AssertionError('data are read before the misspelling is noticed')

    for kind in (SklearnDigits, BaseDataset):
        monkeypatch.setattr(kind, '__init__', read)


@pytest.mark.parametrize('arguments, message', [
    ([DISTILL.replace('distill.py', 'distil.py'), *PAIR], r"no config file .*nearest: 'configs/distpro/distill.py'"),
    (['confgs/distpro/distill.py', *PAIR], r"nearest: 'configs/distpro/distill.py'"),
    ([DISTILL, '--pair', 'resnet20_resnet8_digits'], 'nearest: resnet20_resnet8-half_digits'),
    ([DISTILL, '--pear', PAIR[1]], r'unrecognized arguments: --pear.*nearest: --pair'),
    ([DISTILL, *PAIR, '--launcher', 'pytorhc'], 'nearest: pytorch'),
    ([DIGITS, '--cfg-options', 'train_cg.max_epochs=1'], r"'train_cg' \(nearest: train_cfg\).*train_cfg.max_epochs=10"),
    ([DIGITS, '--cfg-options', 'train_cfg.max_epoch=1'], r"train_cfg has no argument 'max_epoch' \(nearest: max_epochs\)"),
    ([SEARCH, *PAIR, *OPTIONS, 'train_cfg.min_iteration=1'], r"'min_iteration' \(nearest: min_iterations\)"),
    ([SEARCH, *PAIR, *OPTIONS, 'train_cfg.type=mmrazor.DistProSerchLoop'], 'nearest: DistProSearchLoop'),
    ([DIGITS, '--cfg-options', 'optim_wrapper.optimizer.type=SDG'], 'nearest: SGD'),
    ([DIGITS, '--cfg-options', 'optim_wrapper.optimizer.momentun=0.9'], r"'momentun' \(nearest: momentum\)"),
    ([DIGITS, '--cfg-options', 'param_scheduler.eta_mim=0.1'], r"'eta_mim' \(nearest: eta_min\)"),
    ([DIGITS, '--cfg-options', 'model.backbone.deph=20'], r"'deph'.*nearest: depth"),
    ([DIGITS, '--cfg-options', 'model.backbone.type=CIFARResnet'], 'nearest: CIFARResNet'),
    ([DIGITS, '--cfg-options', 'default_hooks.logger.type=LogerHook'], 'nearest: LoggerHook'),
    ([DIGITS, '--cfg-options', 'default_hooks.logger.intervall=5'], r"'intervall'.*nearest: interval"),
    ([DISTILL, *PAIR, *OPTIONS, 'model.teacher_chkpt=x'], r"'teacher_chkpt' \(nearest: teacher_ckpt\)"),
    ([DISTILL, *PAIR, *OPTIONS, 'model.distiller.conections=all'], r"'conections' \(nearest: connections\)"),
    ([DISTILL, *PAIR, *OPTIONS, 'model.distiller.connections=nearest_deph'], 'nearest: nearest_depth'),
    ([DISTILL, *PAIR, *OPTIONS, 'model.distiller.weighting.type=exponental'], 'nearest: exponential'),
    ([DISTILL, *PAIR, *OPTIONS, "model.distiller.transmitters=['backbone.layr1']"], 'nearest: backbone.layer1'),
    ([DISTILL, *PAIR, *OPTIONS, 'custom_hooks.0.ablaton=mean'], r"'ablaton'.*nearest: ablation"),
    ([DISTILL, *PAIR, *OPTIONS, 'custom_hooks.0.ablation=shufled'], 'nearest: shuffled'),
    ([KD, *PAIR, *OPTIONS, 'model.distiller.distill_losses.loss_kl.tua=4'], r"'tua'.*nearest: tau"),
    ([DISTILL, *PAIR, '--cfg-options', 'model.teacher_ckpt=confgs/README.md'], 'there is no such file'),
])
def test_of_a_training_from_a_config(arguments, message, tool, tmp_path):
    done = tool('train', arguments[0], '--work-dir', tmp_path, *arguments[1:])
    last = done.stderr.strip().splitlines()[-1] if done.stderr else ''
    assert done.returncode in (1, 2) and re.search(message, last), done.stderr[-1500:]
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('text, message', [
    ('optim_wraper = dict(optimizer=dict(lr=1.0))', r"has 'optim_wraper', which nothing reads \(nearest: optim_wrapper\)"),
    ("train_cfg = dict(max_epoch=3)", r"'max_epoch' \(nearest: max_epochs\)"),
])
def test_of_a_config_file(text, message, tool, tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = '{ROOT / DIGITS}'\n{text}\n")
    done = tool('train', tmp_path / 'mine.py', '--work-dir', tmp_path)
    assert done.returncode == 1 and re.search(message, done.stderr.strip().splitlines()[-1]), done.stderr[-1500:]


@pytest.mark.parametrize('before, after, message', [
    ("pair='", "pear='", r"benchmark has no argument 'pear' \(nearest: pair\)"),
    ("reference='kd'", "reference='dk'", r"benchmark.reference='dk' is not one of .*nearest: kd"),
    ('teachers/resnet20_digits.py', 'teachers/resnet20_digit.py', 'nearest: .*teachers/resnet20_digits.py'),
    ("config='../distpro/published_search.py', seeds=[0]", "config='../distpro/published_search.py', seads=[0]",
     r"'seads' \(nearest: seeds\)"),
])
def test_of_a_benchmark(before, after, message, tool, tmp_path):
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    path = tmp_path / 'configs' / 'benchmarks' / 'digits.py'
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    done = tool('compare', path, '--work-dir', tmp_path)
    assert done.returncode == 1 and re.search(message, done.stderr.strip().splitlines()[-1]), done.stderr[-1500:]


@pytest.mark.parametrize('arguments, message', [
    (dict(conections='all'), r"Distillation has no argument 'conections' \(nearest: connections\)"),
    (dict(compare_att='teacher'), r"'compare_att' \(nearest: compare_at\)"),
    (dict(connections='nearest_deph'), 'nearest: nearest_depth'),
    (dict(transmitters=['1.00']), "transmitters: the model has no layer '1.00'; nearest: 1.0"),
    (dict(process='genral'), r"there is no process file 'genral' \(nearest: general\)"),
    (dict(fast_teacher='exat'), 'nearest: exact'),
])
def test_of_the_arguments_of_a_distillation(arguments, message):
    with pytest.raises(distpro.ArgumentError, match=message):
        distpro.Distillation(network(), network(), torch.randn(2, 3, 16, 16), **arguments)


@pytest.mark.parametrize('arguments, message', [
    (dict(conections='all'), r"search has no argument 'conections' \(nearest: connections\)"),
    (dict(references=['studnt']), 'student'),
])
def test_of_the_arguments_of_a_search(arguments, message):
    class Unread:
        def __len__(self):
            return 3

        def __iter__(self):
            raise AssertionError('data are read')

    with pytest.raises(distpro.ArgumentError, match=message):
        distpro.search(network(), network(), Unread(), Unread(), None, None, 1, **arguments)


@pytest.mark.parametrize('arguments, message', [
    (['distill', '--data', 'phtos'], r"there is no such folder \(nearest: 'photos'\)"),
    (['distill', '--techer', 'x'], '--teacher'),
    (['distill', '--data', 'photos', '--teacher', 'torchvison:resnet18'], r'nearest: torchvision'),
    (['distill', '--data', 'photos', '--process', 'genral'], 'nearest: general'),
])
def test_of_the_command(arguments, message, tmp_path, monkeypatch, capsys):
    def unread(path):
        raise AssertionError('an image is read')

    for name in 'ab':
        (tmp_path / 'photos' / name).mkdir(parents=True)
        for index in range(4):
            Image.new('RGB', (32, 32)).save(tmp_path / 'photos' / name / f'{index}.png')
    monkeypatch.chdir(tmp_path)
    given = dict(zip(arguments[1::2], arguments[2::2]))
    names = {'--teacher': 'torchvision:resnet18', '--student': 'torchvision:mobilenet_v3_small', '--data': 'photos'}
    others = [word for name, value in {**names, **given}.items() for word in (name, value)]
    monkeypatch.setattr('sys.argv', ['distpro', 'distill', *others])
    monkeypatch.setattr(distpro_app.images, 'read_image', unread)
    assert main() in (1, 2)
    assert re.search(message, capsys.readouterr().err)
