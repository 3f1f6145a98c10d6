"""Checkpoints that a run is not resumed with, and those that it finds."""
import ast
import os

import numpy as np
import pytest
import torch
from resuming import NAMES, same, train

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.engine.launch import build_model, build_trainer
from distpro_mm.engine.resume import latest_training_checkpoint
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student


def test_a_damaged_checkpoint_is_refused_and_a_valid_one_named(config, tmp_path):
    train(config('search', 'run'))
    folder = tmp_path / 'run'
    newest = folder / 'epoch_3.pth'
    content = newest.read_bytes()
    spoilt = bytearray(content)
    weight = torch.load(newest)['state_dict']['architecture.backbone.layer3.0.conv2.weight']
    spoilt[content.index(weight.numpy().tobytes()) + 40] ^= 0xff  # one bit pattern within a weight
    for bad in (content[:len(content) // 2], b'', b'no checkpoint', bytes(spoilt)):
        newest.write_bytes(bad)
        valid, others = latest_training_checkpoint([str(folder)])
        # Two files have the last iteration. Either may be read first.
        assert os.path.basename(valid) == 'iter_12.pth' and set(others) <= {str(newest)}
        with pytest.raises(ConfigError, match=f"epoch_3.pth': .*; the latest checkpoint of a training there is '{valid}'"):
            build_trainer(config('search', 'run'), resume=str(newest))
        assert build_trainer(config('search', 'run'), resume='auto')._load_from == valid
    with pytest.raises(ConfigError, match="nowhere.pth': there is no such checkpoint"):
        build_trainer(config('search', 'run'), resume=str(folder / 'nowhere.pth'))


def test_what_is_resumed_does_not_depend_on_names_and_times_of_files(config, tmp_path):
    """The folder also has the best checkpoint, an exported student, weights alone, and a copy of an old checkpoint."""
    cfg = config('distill', 'run', train_cfg__val_interval=1)
    cfg.default_hooks.checkpoint.update(save_best='auto', interval=5)
    train(cfg)
    folder = tmp_path / 'run'
    best, = folder.glob('best_*.pth')
    (folder / 'epoch_3.pth').unlink()
    export_student(cfg, str(folder / 'iter_15.pth'), str(folder))
    torch.save(torch.load(folder / 'iter_15.pth')['state_dict'], folder / 'weights.pth')
    (folder / 'epoch_99.pth').write_bytes((folder / 'iter_10.pth').read_bytes())
    (folder / 'iter_15.pth').rename(folder / 'a.pth')
    for time, path in enumerate(sorted(folder.glob('*.pth'))):
        os.utime(path, (time, time))
    resumed = config('distill', 'run', train_cfg__val_interval=1)
    assert build_trainer(resumed, resume='auto')._load_from == str(folder / 'a.pth')
    resumed = config('distill', 'run', resume=True)  # as the config may say, too
    assert build_trainer(resumed)._load_from == str(folder / 'a.pth')
    for path in (best, folder / 'student.pth', folder / 'weights.pth'):
        with pytest.raises(ConfigError, match=f"{path.name}': it has no .*optimizer.*; the latest .* is '{folder}/a.pth'"):
            build_trainer(config('distill', 'run'), resume=str(path))


def test_checkpoints_in_a_separate_folder_are_found(config, tmp_path):
    def made():
        cfg = config('distill', 'run')
        cfg.default_hooks.checkpoint.out_dir = str(tmp_path / 'elsewhere')
        return cfg

    build_trainer(made()).train()
    assert build_trainer(made(), resume='auto')._load_from == str(tmp_path / 'elsewhere' / 'run' / 'iter_15.pth')


def test_a_run_without_a_seed_resumes_with_that_of_its_checkpoint(config, tmp_path):
    def made(name):
        cfg = config('distill', name)
        cfg.randomness = dict(seed=None)
        return cfg

    runner = build_trainer(made('run'))
    runner.train()
    (tmp_path / 'run' / 'iter_15.pth').unlink()
    resumed = build_trainer(made('run'), resume='auto')
    assert resumed.seed == runner.seed
    resumed.train()
    assert same(resumed.model.state_dict(), runner.model.state_dict())


def test_weights_alone_are_no_state_of_a_training(config, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(2))), path)
    with pytest.raises(ConfigError, match='has the weights only, not the state of a training.*load_from or teacher_ckpt'):
        build_trainer(config('search', 'run'), resume=str(path))


CHANGES = [
    ('train_dataloader.batch_size=10', 'train_dataloader.batch_size: 20 then, 10 now; iterations per epoch .*: 5 then, 10'),
    ('train_dataloader.dataset.images_per_class=12', 'images_per_class: 10 then, 12 now; iterations per epoch .*: 5 then'),
    ('randomness.seed=5', 'randomness.seed: 0 then, 5 now'),
    ('optim_wrapper.clip_grad.max_norm=1', 'optim_wrapper.clip_grad.max_norm: None then, 1 now'),
    ('custom_hooks.0.skip_below=0.5', 'custom_hooks.0.skip_below: None then, 0.5 now'),
    ('custom_hooks.0.ablation=mean', "custom_hooks.0.ablation: None then, 'mean' now"),
    ('model.distiller.weighting.kd_weight=2.0', 'model.distiller.weighting.kd_weight: 1.0 then, 2.0 now'),
    ('train_cfg.max_epochs=4', 'scales the process to the length of the run, which had 15 iterations and now has 20'),
]


def test_a_run_that_was_changed_is_not_resumed(config, tmp_path):
    train(config('distill', 'run'))
    for change, message in CHANGES:
        cfg = config('distill', 'run')
        key, value = change.split('=')
        cfg.merge_from_dict({key: ast.literal_eval(value) if value[0].isdigit() else value})
        with pytest.raises(ConfigError, match=f'^--resume: .*{message}'):
            build_trainer(cfg, resume='auto').train()
    cfg = config('distill', 'run')
    DistillationProcess(NAMES, Weighting('exponential'), [0, 1], np.ones((2, 4))).save(str(tmp_path / 'replayed.json'))
    with pytest.raises(ConfigError, match='ProcessReplayHook.process is not the process of the checkpoint'):
        build_trainer(cfg, resume='auto').train()


def test_another_teacher_is_not_resumed_with(make_config, tmp_path):
    def made(teacher):
        cfg = make_config('kd', 'run', train_cfg__max_epochs=1)
        cfg.model.teacher_ckpt = str(tmp_path / teacher)
        return cfg

    for name in ('one.pth', 'other.pth'):
        torch.save(dict(state_dict=build_model(make_config('student')).state_dict()), tmp_path / name)
    build_trainer(made('one.pth')).train()
    (tmp_path / 'one.pth').rename(tmp_path / 'moved.pth')
    build_trainer(made('moved.pth'), resume='auto').train()
    with pytest.raises(ConfigError, match="model.teacher_ckpt='.*other.pth' is not the teacher of the checkpoint"):
        build_trainer(made('other.pth'), resume='auto').train()


def test_the_checkpoint_of_another_model_is_refused(config, tmp_path):
    train(config('distill', 'run'))
    cfg = config('distill', 'run')
    cfg.model.architecture.backbone.channels = (8, 16, 16)
    cfg.model.architecture.head.in_channels = 16
    with pytest.raises(ConfigError, match='the checkpoint is of another model: .* weights of the config are missing'):
        train(cfg, resume='auto')


def test_nothing_to_resume_starts_a_new_run(config, tmp_path):
    train(config('distill', 'new'), resume='auto')
    assert (tmp_path / 'new' / 'epoch_3.pth').exists()
