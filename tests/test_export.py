import os
import pathlib
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from distpro.networks import torchvision_operators
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, evaluate_student
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student
from distpro_mm.models import backbones

ROOT = pathlib.Path(__file__).parent.parent
# Imports stock mmpretrain once. For each input line, a folder and four files, it forks a process and prints its status.
STOCK = '''
import os, sys, traceback
answers = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)  # messages of the toolbox, some of them while it is imported, are no answers
import torch
{patch}
from mmpretrain import get_model, list_models
from mmengine.config import Config
import mmpretrain.datasets, mmpretrain.models  # which the first get_model would import
list_models()  # reads the files of the model zoo

def write_logits(folder, config, checkpoint, images, out):
    os.chdir(folder)
    model = get_model(Config.fromfile(config), pretrained=checkpoint).eval()
    batch = model.data_preprocessor(dict(inputs=torch.load(images)), False)
    torch.save(model(batch['inputs'], mode='tensor').detach(), out)
    assert not [name for name in sys.modules if name.startswith(('distpro_mm', 'mmrazor'))]

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            write_logits(*line.rstrip().split('\\t'))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(os.waitpid(child, 0)[1], file=answers, flush=True)
'''
# Only if torchvision does not fit torch, so that stock mmpretrain cannot be imported. Users `import distpro_mm` then, which
# this test must not do.
TORCHVISION_PATCH = '' if torchvision_operators._library is None else '''
library = torch.library.Library('torchvision', 'FRAGMENT')
for name in ('nms', 'qnms'):
    if not hasattr(torch.ops.torchvision, name):
        library.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
'''


@pytest.fixture(scope='module')
def stock():
    """stock(folder, *files): Write logits in a process of stock mmpretrain: of config, checkpoint and images, to a file.

    It has one thread as here: with another number of them sums are rounded in another order.
    """
    server = subprocess.Popen([sys.executable, '-c', STOCK.format(patch=TORCHVISION_PATCH)], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, 'OMP_NUM_THREADS': '1'})

    def write_logits(*paths):
        print(*paths, sep='\t', file=server.stdin, flush=True)
        assert server.stdout.readline() == '0\n'

    with server:  # closes its input at the end, and waits
        yield write_logits


@pytest.mark.parametrize('backbone', ['CIFARResNet', pytest.param('ResNet_CIFAR', marks=pytest.mark.long)])
def test_the_exported_student_gives_the_same_logits_in_stock_mmpretrain(make_config, tmp_path, stock, backbone):
    cfg = make_config('equal')
    if backbone == 'ResNet_CIFAR':  # mmpretrain's own
        cfg.model.architecture = dict(
            _scope_='mmpretrain', type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, in_channels=1, base_channels=8, stem_channels=8),
            neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=10, in_channels=64))
    model = Runner.from_cfg(cfg).train()
    paths = export_student(cfg, os.path.join(cfg.work_dir, 'epoch_2.pth'), str(tmp_path / 'out'))
    assert ('backbone' in paths) == (backbone == 'CIFARResNet')
    theirs, own = logits_of_both(stock, model, paths, tmp_path)
    assert torch.equal(theirs, own)
    assert not any(key.startswith(('teacher', 'architecture', 'distiller')) for key in
                   torch.load(paths['checkpoint'])['state_dict'])


def logits_of_both(stock, model, paths, tmp_path):
    """Logits of the same images by the export in stock mmpretrain, and by the model that was trained."""
    images = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.save(images, tmp_path / 'images.pt')
    stock(tmp_path, paths['config'], paths['checkpoint'], tmp_path / 'images.pt', tmp_path / 'logits.pt')
    model.cpu().eval()  # like stock mmpretrain
    own = model(model.data_preprocessor(dict(inputs=images), False)['inputs'], mode='tensor')
    return torch.load(tmp_path / 'logits.pt'), own


def test_the_preprocessor_of_the_distillation_is_exported_and_evaluated_with(make_config, tmp_path):
    """In ``model`` as at the top level: it is that of the training in both places."""
    checkpoint, seen = str(tmp_path / 'student.pth'), []
    for place in ('top', 'model'):
        cfg = make_config('equal', place)
        cfg.data_preprocessor.update(mean=[20.], std=[5.])
        if place == 'model':
            cfg.model.data_preprocessor = cfg.pop('data_preprocessor')
        else:
            torch.save(dict(state_dict=build_model(cfg).student.state_dict(), meta={}), checkpoint)
        paths = export_student(cfg, checkpoint, str(tmp_path / place))
        assert Config.fromfile(paths['config']).model.data_preprocessor.mean == [20.]
        cfg.test_evaluator = dict(type='SingleLabelMetric', items=('precision', ), average=None, num_classes=10)
        seen.append(evaluate_student(cfg, checkpoint))
    assert seen[0] == seen[1]


def test_a_neck_that_is_only_trained_with_is_merged_into_the_classifier(make_config, tmp_path, stock):
    cfg = make_config('norm')
    model = Runner.from_cfg(cfg).train()
    checkpoint = os.path.join(cfg.work_dir, 'epoch_2.pth')
    paths = export_student(cfg, checkpoint, str(tmp_path / 'out'))
    exported = Config.fromfile(paths['config'])
    assert exported.model.neck == dict(type='GlobalAveragePooling')
    plain = load_config(str(ROOT / 'configs' / 'baselines' / 'student.py'), pair='resnet20_resnet8-half_digits')
    assert set(torch.load(paths['checkpoint'])['state_dict']) == set(MODELS.build(plain.model).state_dict())
    theirs, own = logits_of_both(stock, model, paths, tmp_path)
    torch.testing.assert_close(theirs, own, rtol=1e-4, atol=1e-4)
    # The config it was trained with evaluates its own checkpoint, neck and all.
    accuracy = evaluate_student(make_config('norm'), checkpoint)['accuracy/top1']
    plain.work_dir = str(tmp_path)
    assert evaluate_student(plain, paths['checkpoint'])['accuracy/top1'] == pytest.approx(accuracy, abs=0.2)


def test_a_neck_that_stays_goes_along(make_config, tmp_path, stock):
    cfg = make_config('simkd')
    model = Runner.from_cfg(cfg).train()
    paths = export_student(cfg, os.path.join(cfg.work_dir, 'epoch_2.pth'), str(tmp_path / 'out'))
    assert os.path.basename(paths['neck']) == 'simkd_neck.py' and os.path.basename(paths['backbone']) == 'cifar_resnet.py'
    theirs, own = logits_of_both(stock, model, paths, tmp_path)
    assert torch.equal(theirs, own)
    assert torch.equal(torch.load(paths['checkpoint'])['state_dict']['head.fc.weight'], model.teacher.head.fc.weight)
    seen = [evaluate_student(make_config('simkd', name), paths['checkpoint'] if name == 'exported' else
                             os.path.join(cfg.work_dir, 'epoch_2.pth'))['accuracy/top1'] for name in ('trained', 'exported')]
    assert seen[0] == pytest.approx(seen[1])


def test_a_neck_that_cannot_be_merged_is_refused(make_config, tmp_path):
    cfg = make_config('norm')
    cfg.model.architecture.neck.append(dict(type='GlobalAveragePooling'))
    torch.save(dict(state_dict=MODELS.build(cfg.model.architecture).state_dict(), meta={}), tmp_path / 'student.pth')
    with pytest.raises(ConfigError, match='model.architecture: NORMNeck can be merged into the classifier only if'):
        export_student(cfg, str(tmp_path / 'student.pth'), str(tmp_path / 'out'))


BACKBONES = dict(
    CIFARMobileNetV2=(dict(widen_factor=0.25), 1280), CIFARPyramidNet=(dict(depth=11, alpha=12), 112),
    CIFARResNet=(dict(depth=8), 64),
    CIFARShuffleNetV1=(dict(channels=(48, 96, 192)), 192), CIFARShuffleNetV2=(dict(channels=(48, 96, 192)), 1024),
    CIFARVGG=(dict(depth=8), 512), CIFARWideResNet=(dict(depth=10), 64), MobileNetV1=(dict(), 1024))


def test_a_student_of_every_backbone_runs_in_stock_mmpretrain(make_config, tmp_path, stock):
    assert set(BACKBONES) == set(backbones.__all__)
    images = torch.randint(256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.save(images, tmp_path / 'images.pt')
    for name, (options, channels) in BACKBONES.items():
        cfg = make_config('student')
        cfg.model = dict(_scope_='mmpretrain', type='ImageClassifier', backbone=dict(type=name, in_channels=1, **options),
                         neck=dict(type='GlobalAveragePooling'),
                         head=dict(type='LinearClsHead', num_classes=10, in_channels=channels))
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        model.eval()
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'trained.pth')
        paths = export_student(cfg, str(tmp_path / 'trained.pth'), str(tmp_path / name))
        assert len(os.listdir(tmp_path / name)) == 3
        Config.fromfile(paths['config'])  # the copied module may be imported beside the original
        own = model(model.data_preprocessor(dict(inputs=images), False)['inputs'], mode='tensor')
        stock(tmp_path, paths['config'], paths['checkpoint'], tmp_path / 'images.pt', tmp_path / 'logits.pt')
        assert torch.equal(torch.load(tmp_path / 'logits.pt'), own)


def test_the_students_checkpoint_and_its_export_are_evaluated_alike(make_config, tmp_path):
    cfg = make_config('equal', train_cfg__val_interval=1)
    cfg.test_dataloader = cfg.val_dataloader
    runner = Runner.from_cfg(cfg)
    runner.train()
    seen = runner.message_hub.get_scalar('val/accuracy/top1').current()
    checkpoint = os.path.join(cfg.work_dir, 'epoch_2.pth')
    paths = export_student(cfg, checkpoint, str(tmp_path / 'out'))
    for path in (checkpoint, paths['checkpoint']):
        cfg.experiment_name = os.path.basename(path)
        assert evaluate_student(cfg, path)['accuracy/top1'] == pytest.approx(float(seen))


def test_the_exported_config_prepares_images_as_the_training_did(make_config, tmp_path):
    cfg = make_config('equal')
    runner = Runner.from_cfg(cfg)
    torch.save(dict(state_dict=runner.model.state_dict(), meta={}), tmp_path / 'whole.pth')
    exported = Config.fromfile(export_student(cfg, str(tmp_path / 'whole.pth'), str(tmp_path / 'out'))['config'])
    assert exported.model.data_preprocessor.mean == [78.0] and exported.model.data_preprocessor.std == [97.0]
    assert exported.test_dataloader.dataset.pipeline == [dict(type='PackInputs')]


def test_a_checkpoint_of_another_network_is_refused(make_config, tmp_path):
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), meta={}), tmp_path / 'other.pth')
    for call in (lambda path: export_student(make_config('equal'), path, str(tmp_path / 'out')),
                 lambda path: evaluate_student(make_config('equal'), path)):
        with pytest.raises(ConfigError, match="checkpoint='.*other.pth': its names differ from those of the CIFARResNet"):
            call(str(tmp_path / 'other.pth'))
        with pytest.raises(ConfigError, match="checkpoint='nowhere.pth': there is no such file"):
            call('nowhere.pth')
