"""A wrong config gives one message that names the key, the value and valid values."""
import pathlib

import pytest
import torch

from distpro_mm.engine.config_errors import config_errors
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, build_trainer, evaluate_student
from distpro_mm.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
RECORD = [dict(type='mmrazor.ProcessRecordHook', interval='often')]
WARM_UP = [dict(type='mmrazor.LossScheduleHook', warm_up_epochs='20')]


@pytest.mark.parametrize('kind, options, message', [
    ('distill', {'custom_hooks.0.skip_below': '0.5'}, "custom_hooks.0.skip_below='0.5' must be a number: write 0.5 without"),
    ('distill', {'custom_hooks.0.skip_below': 'low'}, "ProcessReplayHook.skip_below='low' must be a number at least 0"),
    ('distill', {'custom_hooks.0.seed': 0.5}, 'ProcessReplayHook.seed=0.5 must be a whole number'),
    ('distill', {'custom_hooks.0.process': 5}, 'ProcessReplayHook.process=5 must be the path of a process file'),
    ('search', {'custom_hooks': RECORD}, "custom_hooks: ProcessRecordHook.interval='often' must be a whole number from 1"),
    ('kd', {'custom_hooks': WARM_UP}, "custom_hooks.0.warm_up_epochs='20' must be a number: write 20 without quotes"),
    ('student', {'optim_wrapper.optimizer.lr': '0.1'}, "optim_wrapper.optimizer.lr='0.1' must be a number at least 0"),
    ('student', {'optim_wrapper.optimizer.lr': '1e-3'}, "optimizer.lr='1e-3' must be a number"),  # as YAML reads it
    ('whole_run', {'optim_wrapper.optimizer.lr': True}, 'optimizer.lr=True must be a number at least 0'),
    ('search', {'optim_wrapper.alpha': dict(optimizer=dict(type='Adam', lr='fast'))}, "optimizer.lr='fast' must be a numb"),
    ('kd', {'train_dataloader.batch_size': '20'}, "train_dataloader.batch_size='20' must be a whole number from 1"),
    ('kd', {'val_dataloader.batch_size': 0}, 'val_dataloader.batch_size=0 must be a whole number from 1'),
    ('kd', {'train_dataloader.num_workers': -1}, 'train_dataloader.num_workers=-1 must be a whole number from 0'),
    ('student', {'train_cfg.max_epochs': 2.5}, 'train_cfg.max_epochs=2.5 must be a whole number from 1'),
    ('student', {'param_scheduler.T_max': '20'}, "param_scheduler.T_max='20' must be a number: write 20 without quotes"),
    ('whole_run', {'train_cfg.held_out': 0.2}, r'train_cfg.held_out=0.2 must be a dict, such as dict\(ratio=0.2\)'),
    ('kd', {'custom_hooks': [dict(momentum=0.1)]}, "custom_hooks.0={'momentum': 0.1}: it must be a dict with the key type"),
    ('student', {'randomness.seed': 'one'}, "randomness.seed='one' must be a whole number from 0"),
    ('student', {'randomness.seed': '1'}, "randomness.seed='1' must be a whole number from 0"),
    ('student', {'model.backbone.depth': 9}, r'^model.backbone: CIFARResNet\(depth=9.*\) cannot be built: .*depth=9'),
    ('equal', {'model.architecture.backbone.depth': 9}, r'^model.architecture.backbone: CIFARResNet\(depth=9'),
    ('kd', {'model.architecture.backbone': dict(_delete_=True, type='mmpretrain.ResNet', depth=19)},
     r'^model.architecture.backbone: ResNet\(depth=19\) cannot be built: invalid depth 19 for resnet'),
    ('kd', {'model.architecture.backbone.widen': 2}, "^model.architecture.backbone.*: .* unexpected keyword .* 'widen'"),
    ('student', {'model.head.type': 'LinearHead'}, '^model.head: LinearHead.* is not in the mmpretrain::model registry'),
    ('student', {'optim_wrapper.optimizer.type': 'SDG'}, "^optim_wrapper.optimizer.type='SDG': there is no .*: SGD"),
    ('student', {'optim_wrapper.optimizer.beta': 2}, "^optim_wrapper.optimizer has no argument 'beta'; SGD has params, lr"),
    ('student', {'param_scheduler.gamma': 2}, "^param_scheduler has no argument 'gamma'; CosineAnn"),
    ('student', {'train_dataloader.dataset.split': 'trian'},
     "SklearnDigits.split='trian' is not one of train, test .nearest: train."),
    ('student', {'train_cfg.epochs': 2}, "^train_cfg has no argument 'epochs' .nearest: max_epochs.; Repr"),
])
def test_it_is_one_message(make_config, kind, options, message):
    cfg = make_config(kind)
    cfg.merge_from_dict(options)
    with pytest.raises(ConfigError, match=message):
        trainer = build_trainer(cfg)
        with config_errors(cfg):  # as tools/train.py does
            trainer.train()


def test_an_error_of_the_training_itself_has_its_traceback(make_config):
    cfg = make_config('student')
    with pytest.raises(TypeError, match='of the training'), config_errors(cfg):
        raise TypeError('of the training')


def test_a_config_without_a_model_is_refused(tmp_path):
    for text in ('', 'model = dict(backbone=1)'):
        (tmp_path / 'config.py').write_text(text)
        with pytest.raises(ConfigError, match="config.py' has .*model.*: give model=dict"):
            build_trainer(load_config(str(tmp_path / 'config.py')))
        with pytest.raises(ConfigError, match="config.py' has .*model.*: give model=dict"):
            evaluate_student(load_config(str(tmp_path / 'config.py')), 'nowhere.pth')


def test_a_config_of_a_model_alone_is_neither_trained_nor_evaluated(tmp_path, make_config):
    (tmp_path / 'config.py').write_text(f"model = {make_config('student').model.to_dict()!r}\nval_cfg = dict()")
    with pytest.raises(ConfigError, match='has no train_dataloader, train_cfg, optim_wrapper, which a training needs'):
        build_trainer(load_config(str(tmp_path / 'config.py')))
    with pytest.raises(ConfigError, match='has no test_dataloader, test_evaluator, test_cfg, which an evaluation needs'):
        evaluate_student(load_config(str(tmp_path / 'config.py')), 'nowhere.pth')


def test_a_type_of_another_scope_is_named_with_its_scope(make_config):
    cfg = make_config('student')
    cfg.default_scope = 'mmengine'
    message = f"it is mmpretrain's, so write 'mmpretrain.{cfg.visualizer.type}', or set default_scope='mmpretrain'"
    with pytest.raises(ConfigError, match=message):
        build_trainer(cfg)


def test_delete_in_a_config_whose_base_has_no_model_is_harmless(tmp_path, make_config):
    (tmp_path / 'base.py').write_text('train_cfg = dict(by_epoch=True, max_epochs=1)')
    network = make_config('student').model.to_dict()
    (tmp_path / 'config.py').write_text(f"_base_ = './base.py'\nmodel = dict(_delete_=True, **{network!r})")
    build_model(load_config(str(tmp_path / 'config.py')))


@pytest.mark.parametrize('entry', ['model', 'state_dict', None])
def test_a_teacher_is_read_wherever_its_file_holds_weights(make_config, tmp_path, entry):
    weights = build_model(make_config('student')).state_dict()
    torch.save({entry: weights, 'epoch': 3, 'optimizer': {}} if entry else weights, tmp_path / 'teacher.pth')
    for kind in ('equal', 'kd'):
        model = build_model(make_config(kind, model__teacher_ckpt=str(tmp_path / 'teacher.pth')))
        assert all(torch.equal(model.teacher.state_dict()[name], value) for name, value in weights.items())
    torch.save({'model': {name.partition('.')[2]: value for name, value in weights.items()}}, tmp_path / 'foreign.pth')
    with pytest.raises(ConfigError, match="teacher_ckpt='.*foreign.pth': its names differ from .*: convert it with"):
        build_model(make_config('equal', model__teacher_ckpt=str(tmp_path / 'foreign.pth')))
