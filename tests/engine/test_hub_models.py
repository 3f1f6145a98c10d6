"""Networks that a config gives by ``cfg_path`` train, resume, export, evaluate and compare as if written out."""
import copy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmpretrain.registry import MODELS
from mmrazor.registry import MODELS as MMRAZOR_MODELS

from distpro_mm.comparison.benchmark import Benchmark
from distpro_mm.comparison.jobs import JobMaker
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, build_trainer, evaluate_student, student_config
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student

HUB = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
CONFIG = """
default_scope = 'mmpretrain'
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
loader = dict(batch_size=10, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='CustomDataset', data_root='{images}', pipeline=pipeline))
train_dataloader = val_dataloader = test_dataloader = loader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, ))
train_cfg = dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
randomness = dict(seed=0)
log_level = 'ERROR'
network = dict(_scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
               backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8),
               head=dict(type='LinearClsHead', num_classes=10, in_channels=64))
model = dict(
    _scope_='mmrazor', type='{algorithm}', architecture=dict(cfg_path='{hub}'), teacher=network,
    distiller={distiller})
"""
KD = """dict(
        type='ConfigurableDistiller', student_recorders=dict(out=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(out=dict(type='ModuleOutputs', source='head.fc')),
        distill_losses=dict(kd=dict(type='KLDivergence', tau=4)),
        loss_forward_mappings=dict(kd=dict(preds_S=dict(from_student=True, recorder='out'),
                                           preds_T=dict(from_student=False, recorder='out'))))"""
DISTILLERS = dict(DistPro="dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')])",
                  SingleTeacherDistill=KD)


@pytest.fixture
def write(tmp_path):
    """write(algorithm, *lines): the path of a config with a student by ``cfg_path``, and more lines."""
    generator = np.random.RandomState(0)
    for label in range(10):
        (tmp_path / 'images' / f'class_{label}').mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'images' / f'class_{label}' / '0.png'), generator.randint(0, 256, (8, 8, 3), np.uint8))

    def call(algorithm, *lines, name='mine'):
        text = CONFIG.format(images=tmp_path / 'images', hub=HUB, algorithm=algorithm, distiller=DISTILLERS[algorithm])
        (tmp_path / f'{name}.py').write_text('\n'.join([text, *lines]))
        return str(tmp_path / f'{name}.py')

    return call


OWN = 'data_preprocessor = dict(num_classes=10, mean=[100.] * 3, std=[50.] * 3)'


@pytest.mark.long
@pytest.mark.parametrize('algorithm, own', [('DistPro', OWN), ('SingleTeacherDistill', '')])
def test_a_student_by_cfg_path_trains_exports_and_is_evaluated(write, tool, tmp_path, algorithm, own):
    path, work = write(algorithm, own), tmp_path / 'work'
    done = tool('train', path, '--work-dir', work)
    assert done.returncode == 0, done.stderr
    done = tool('export_student', path, work / 'epoch_1.pth', '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    exported = Config.fromfile(tmp_path / 'out' / 'student.py')
    hub = get_config(HUB)
    prepared = dict(mean=[100.] * 3, std=[50.] * 3) if own else hub.data_preprocessor
    assert [exported.model.data_preprocessor[key] for key in ('mean', 'std')] == [prepared[key] for key in ('mean', 'std')]
    assert exported.model.backbone == hub.model.backbone and exported.default_scope == 'mmpretrain'
    plain = MODELS.build(exported.model)
    plain.load_state_dict(torch.load(tmp_path / 'out' / 'student.pth')['state_dict'])
    done = tool('test', path, work / 'epoch_1.pth', '--work-dir', tmp_path / 'test')
    assert done.returncode == 0, done.stderr
    cfg = load_config(path)
    cfg.work_dir = str(tmp_path / 'test')
    cfg.test_evaluator = dict(type='SingleLabelMetric', items=('precision', ), average=None, num_classes=10)
    trained, alone = (evaluate_student(cfg, str(path)) for path in (work / 'epoch_1.pth', tmp_path / 'out' / 'student.pth'))
    assert trained == alone


def test_it_has_the_effect_of_mmrazors_own_reading(write):
    """Arguments beside cfg_path are those that the toolbox's config does not set."""
    given = dict(cfg_path=HUB, train_cfg=dict(augments=dict(type='Mixup', alpha=0.3)))
    cfg = load_config(write('DistPro', f'model["architecture"].update({given!r})'))
    theirs, ours = MMRAZOR_MODELS.build(dict(given)), MMRAZOR_MODELS.build(cfg.model.architecture)
    assert str(ours) == str(theirs) and type(ours) is type(theirs)
    assert [[augment.alpha for augment in model.data_preprocessor.batch_augments.augments] for model in (ours, theirs)] == [
        [0.3], [0.3]]
    assert 'cfg_path' not in cfg.pretty_text
    again = copy.deepcopy(cfg)
    build_model(again)
    assert again.model == cfg.model


def test_a_pure_python_config_gives_it_too(write, tmp_path):
    path = write('DistPro', 'from mmpretrain.models import ResNet_CIFAR', "network['backbone'].update(type=ResNet_CIFAR)",
                 "model['architecture'].update(init_cfg=dict(type='Constant', layer='Linear', val=0.5))")
    cfg = load_config(path)
    assert cfg.model.teacher.backbone.type.__name__ == 'ResNet_CIFAR' and cfg.model.architecture.type == 'ImageClassifier'
    model = build_model(cfg)
    model.init_weights()
    assert model.architecture.init_cfg == dict(type='Constant', layer='Linear', val=0.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'run.pth')
    exported = Config.fromfile(export_student(cfg, str(tmp_path / 'run.pth'), str(tmp_path / 'out'))['config'])
    assert exported.model.backbone == get_config(HUB).model.backbone
    assert load_config(cfg_of(cfg, tmp_path / 'dumped.py')).model.architecture == cfg.model.architecture


def cfg_of(cfg, path):
    """A config as a run writes it into its folder."""
    cfg.dump(path)
    return str(path)


def test_a_config_made_in_python_is_written_out_too(write):
    cfg = Config.fromfile(write('DistPro'))
    assert student_config(cfg).model.type == 'ImageClassifier' and cfg.model.architecture == dict(cfg_path=HUB)
    build_trainer(Config(dict(cfg._cfg_dict, work_dir=cfg.filename[:-3])))


def weights(path):
    """A checkpoint of the network as the toolbox publishes it."""
    network = MODELS.build(get_config(HUB).model)
    torch.save(dict(state_dict=network.state_dict(), meta={}), path)
    return network.state_dict()


@pytest.mark.parametrize('algorithm', DISTILLERS)
@pytest.mark.parametrize('side', ['architecture', 'teacher'])
def test_pretrained_loads_the_published_checkpoint(write, tmp_path, monkeypatch, algorithm, side):
    published, asked = weights(tmp_path / 'hub.pth'), []

    def download(path, *args, **kwargs):
        asked.append(path)
        return torch.load(tmp_path / 'hub.pth')

    monkeypatch.setattr('mmengine.runner.checkpoint._load_checkpoint', download)
    path = write(algorithm, f"model['{side}'] = dict(cfg_path='{HUB}', pretrained=True)")
    cfg = load_config(path)
    cfg.work_dir = str(tmp_path / 'work')
    assert not asked, 'a config that is only read needs no network'
    model = build_trainer(cfg).model
    model.init_weights()
    network = getattr(model, side)
    assert asked == [get_config(HUB, pretrained=True).model_path]
    assert all(torch.equal(value.cpu(), published[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_of_the_teacher_wins_over_pretrained(write, tmp_path, monkeypatch):
    own = weights(tmp_path / 'own.pth')
    cfg = load_config(write('DistPro', f"model['teacher'] = dict(cfg_path='{HUB}', pretrained=True)",
                            f"model['teacher_ckpt'] = '{tmp_path / 'own.pth'}'"))
    model = build_model(cfg)
    model.init_weights()
    assert all(torch.equal(value, own[name]) for name, value in model.teacher.state_dict().items())


@pytest.mark.parametrize('pretrained', [True, False])
def test_a_teachers_images_are_those_of_its_published_checkpoint(write, pretrained):
    teacher = f"model['teacher'] = dict(cfg_path='{HUB}', pretrained={pretrained})"
    model = build_model(load_config(write('DistPro', OWN, teacher, name='taps')))
    assert (model.teacher_images[''] is not None) == pretrained
    kd = load_config(write('SingleTeacherDistill', OWN, teacher, name='kd'))
    if not pretrained:
        build_trainer(kd)
        return
    with pytest.raises(ConfigError, match='model.teacher.data_preprocessor=.*125.307.* made by data_preprocessor=.*100.0'):
        build_trainer(kd)


def test_a_teacher_of_the_same_images_is_not_refused(write):
    cfg = load_config(write('SingleTeacherDistill', f"model['teacher'] = dict(cfg_path='{HUB}')"))
    assert cfg.model.teacher.data_preprocessor == cfg.model.architecture.data_preprocessor
    build_trainer(cfg)


@pytest.mark.parametrize('given, message', [
    (dict(cfg_path='mmcls::resnet/resnet18_8xb16_cifar10.py'), 'architecture.cfg_path=.*: mmcls is not installed; .*mmpre'),
    (dict(cfg_path='mmpretrain::resnet/nothing.py'), "cfg_path='mmpretrain::resnet/nothing.py' cannot be read .FileNot"),
    (dict(cfg_path='resnet/resnet18_8xb16_cifar10.py'), "cfg_path='resnet/.*' must be '<toolbox>::<config>', such as"),
    (dict(cfg_path='os::some/thing.py'), "cfg_path='os::some/thing.py' cannot be read .AssertionError: mmengine does not"),
    (dict(cfg_path='mmpretrain::_base_/default_runtime.py'), 'default_runtime.py.* has no model: name the config'),
    (dict(cfg_path='mmpretrain::_base_/models/resnet18_cifar.py', pretrained=True),
     'architecture.pretrained=True: mmpretrain lists no published checkpoint of cfg_path='),
    (dict(cfg_path=HUB, head=dict(num_classes=3)), "architecture.head={'num_classes': 3} is not used, because the config"),
])
def test_what_cannot_be_written_out_is_refused(write, given, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write('DistPro', f"model['architecture'] = {given!r}"))


def test_it_is_compared(write, tmp_path, monkeypatch):
    path = write('SingleTeacherDistill', "model['architecture'].update(pretrained=True)")
    plain = write('DistPro', f"model = dict(_scope_='mmrazor', cfg_path='{HUB}')", name='plain')
    (tmp_path / 'benchmark.py').write_text(
        f"benchmark = dict(teacher='{plain}', reference='student', seeds=[0], methods=dict(student='{plain}', kd='{path}', "
        f"own=dict(config='{path}', options=dict(model=dict(architecture=dict(_delete_=True, cfg_path='{HUB}'))))))")
    maker = JobMaker(Benchmark(str(tmp_path / 'benchmark.py')))
    jobs = {name: maker.run(method, 0) for name, method in maker.benchmark.methods.items()}
    initial = {name: [hook.type for hook in job.config.get('custom_hooks', []) if 'Initial' in hook.type]
               for name, job in jobs.items()}
    assert initial == dict(student=['mmrazor.InitialStudentHook'], kd=[], own=['mmrazor.InitialStudentHook'])
    assert maker.student.model.type == jobs['own'].config.model.architecture.type == 'ImageClassifier'
