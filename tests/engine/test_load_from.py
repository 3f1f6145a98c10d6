"""load_from loads the weights of a file into a student, or raises an error."""
import os

import pytest
import torch
from mmengine.hooks import Hook
from runs import trained

from distpro_mm.engine.launch import build_model, build_trainer
from distpro_mm.errors import ConfigError
from distpro_mm.models.checkpoints import with_names_of


class Begin(Hook):
    """Stores the weights at the start of a training, and ends it."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights = {name: value.cpu().clone() for name, value in runner.model.state_dict().items()}
        raise KeyboardInterrupt


def begin(cfg, path):
    cfg.load_from = str(path)
    runner, hook = build_trainer(cfg), Begin()
    runner.register_hook(hook)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    return hook.weights


@pytest.fixture
def student(make_config):
    torch.manual_seed(1)
    return build_model(make_config('student')).state_dict()


LAYOUTS = dict(mmengine=lambda weights: dict(state_dict=weights), deit=lambda weights: dict(model=weights, epoch=3),
               plain=lambda weights: weights,
               parallel=lambda weights: dict(model={f'module.{name}': value for name, value in weights.items()}))


@pytest.mark.parametrize('kind, layout', [('whole_run', 'mmengine'), ('search', 'deit'), *(('kd', it) for it in LAYOUTS)])
def test_a_students_checkpoint_is_loaded_into_a_distillation(make_config, student, tmp_path, kind, layout):
    torch.save(LAYOUTS[layout](student), tmp_path / 'student.pth')
    begun = begin(make_config(kind), tmp_path / 'student.pth')
    assert all(torch.equal(begun[f'architecture.{name}'], value) for name, value in student.items())


def test_the_student_of_a_distillation_is_loaded_into_a_plain_training(make_config, student, tmp_path):
    distillation = build_model(make_config('kd'))
    distillation.architecture.load_state_dict(student)
    torch.save(dict(state_dict=distillation.state_dict()), tmp_path / 'kd.pth')
    begun = begin(make_config('student'), tmp_path / 'kd.pth')
    assert all(torch.equal(begun[name], value) for name, value in student.items())


def test_a_distillation_is_loaded_except_for_its_teacher(make_config, student, tmp_path):
    other = build_model(make_config('equal'))
    with torch.no_grad():
        other.distiller.grid.alpha.add_(2)
    torch.save(dict(state_dict=other.state_dict()), tmp_path / 'other.pth')
    torch.save(dict(state_dict=student), tmp_path / 'teacher.pth')
    begun = begin(make_config('equal', model__teacher_ckpt=str(tmp_path / 'teacher.pth')), tmp_path / 'other.pth')
    for name, value in other.state_dict().items():
        part, _, inner = name.partition('.')
        if name == 'distiller.grid._extra_state':  # alpha and variances belong to the new training
            assert torch.equal(begun[name][:4], torch.ones(4)) and torch.equal(value[:4], torch.full((4, ), 3.0))
            continue
        assert torch.equal(begun[name], student[inner] if part == 'teacher' else value), name


def test_a_file_that_does_not_fit_is_refused_and_a_partial_fit_reported(make_config, student, tmp_path):
    torch.save(dict(state_dict={f'encoder.{name}': value for name, value in student.items()}), tmp_path / 'other.pth')
    for kind in ('student', 'equal'):
        with pytest.raises(ConfigError, match="load_from='.*other.pth': none of the 56 weights of the student fits"):
            build_trainer(make_config(kind, load_from=str(tmp_path / 'other.pth'))).train()
    torch.save(dict(epoch=3), tmp_path / 'empty.pth')
    with pytest.raises(ConfigError, match="load_from='.*empty.pth' has no weights under 'state_dict'"):
        build_trainer(make_config('student', load_from=str(tmp_path / 'empty.pth'))).train()
    student['head.fc.weight'], student['head.fc.bias'] = torch.zeros(5, 32), torch.zeros(5)  # of other classes
    torch.save(dict(state_dict=student), tmp_path / 'five.pth')
    cfg = make_config('equal', 'told', log_level='WARNING')
    begun = begin(cfg, tmp_path / 'five.pth')
    log, = (tmp_path / 'told').glob('*/*.log')
    assert torch.equal(begun['architecture.backbone.conv1.weight'], student['backbone.conv1.weight'])
    assert "54 of the 56 weights of the student are loaded, not ['architecture.head.fc.bias'," in log.read_text()


def test_a_training_that_is_resumed_before_its_first_checkpoint_keeps_load_from(make_config, student, tmp_path):
    torch.save(student, tmp_path / 'student.pth')
    cfg, hook = make_config('student', load_from=str(tmp_path / 'student.pth')), Begin()
    runner = build_trainer(cfg, resume='auto')
    runner.register_hook(hook)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert all(torch.equal(hook.weights[name], value) for name, value in student.items())


def test_a_named_students_checkpoint_is_loaded(make_config, tmp_path, monkeypatch):
    (tmp_path / 'one_channel.py').write_text(
        'from torch import nn\n\n\ndef small(num_classes=10):\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), '
        'nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = make_config('student')
    cfg.model = dict(type='mmrazor.NamedClassifier', name='module:one_channel.small')
    weights = build_model(cfg).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'student.pth')
    begun = begin(cfg, tmp_path / 'student.pth')
    assert all(torch.equal(begun[name], value) for name, value in weights.items())
    cfg.train_cfg.max_epochs, cfg.load_from = 2, None
    runner = trained(cfg)
    wanted = {name: value.clone() for name, value in runner.model.state_dict().items()}
    cfg.train_cfg.max_epochs = 3
    runner, hook = build_trainer(cfg, resume=os.path.join(cfg.work_dir, 'epoch_2.pth')), Begin()
    runner.register_hook(hook)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert all(torch.equal(hook.weights[name], value) for name, value in wanted.items()) and runner.iter


@pytest.mark.parametrize('own', ['', 'architecture.', 'module.', 'architecture.module.'])
@pytest.mark.parametrize('given', ['', 'architecture.', 'module.', 'architecture.module.'])
def test_names_that_differ_by_prefixes_are_those_of_the_network(own, given):
    found = with_names_of({f'{given}0.weight': 1, 'other': 2}, [f'{own}0.weight', f'{own}0.bias'])
    assert found == {f'{own}0.weight': 1, 'other': 2}
