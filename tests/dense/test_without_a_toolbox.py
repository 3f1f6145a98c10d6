"""Segmentation and detection with mmengine's own classes alone: search, process, distillation, export, evaluation."""
import copy

import numpy as np
import pytest
import tiny_dense
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS

from distpro.process import DistillationProcess
from distpro_mm.deployable import deployable_student
from distpro_mm.engine.config_errors import config_errors
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer, evaluate_student
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student

MODEL = dict(segmentation='TinySegmentor', detection='TinyDetector')
METRIC = dict(segmentation='PixelAccuracy', detection='BoxRecall')
TRAINED, HELD_OUT, BATCH = 32, 8, 8
EPOCHS = dict(teacher=8, search=2, distill=10)


def config(folder, task, kind, **options):
    """A config read from a file, as tools/train.py does. kind: teacher, search or distill."""

    def network(channels):
        return dict(type=MODEL[task], channels=channels)

    def loader(count, seed, shuffle):
        return dict(batch_size=BATCH, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=shuffle),
                    dataset=dict(type='Things', count=count, seed=seed, boxes=task == 'detection'))

    distillation = dict(
        _scope_='mmrazor', type='DistPro', architecture=network(4), teacher=network(8),
        teacher_ckpt=str(folder / 'teacher' / 'epoch_8.pth'), input_shape=(3, tiny_dense.SIZE, tiny_dense.SIZE),
        fast_teacher='exact',  # the same values on every machine
        distiller=dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')]))
    cfg = dict(
        custom_imports=dict(imports=['distpro_mm', 'tiny_dense']), default_scope='mmengine', log_level='ERROR',
        randomness=dict(seed=0), data_preprocessor=dict(type='ImgDataPreprocessor', mean=[50.] * 3, std=[50.] * 3),
        model=network(8) if kind == 'teacher' else distillation,
        train_dataloader=loader(TRAINED + HELD_OUT, 1, True),
        train_cfg=dict(type='mmrazor.ReproducibleTrainLoop', max_epochs=EPOCHS[kind]),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.01)),
        val_dataloader=loader(10, 2, False), val_evaluator=dict(type=METRIC[task]), val_cfg=dict(),
        test_dataloader=loader(10, 2, False), test_evaluator=dict(type=METRIC[task]), test_cfg=dict(),
        default_hooks=dict(checkpoint=dict(type='mmrazor.AtomicCheckpointHook', interval=1)))
    if kind == 'search':
        cfg['optim_wrapper']['constructor'] = 'mmrazor.DistProOptimWrapperConstructor'
        cfg['train_cfg']['type'] = 'mmrazor.DistProOneStepSearchLoop'
    elif kind == 'distill':
        process = str(folder / 'search' / 'process.json')
        cfg['custom_hooks'] = [dict(type='mmrazor.ProcessReplayHook', process=process)]
    cfg = Config(cfg)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    folder.mkdir(exist_ok=True)
    (folder / f'{kind}.py').write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.to_dict().items()))
    cfg = load_config(str(folder / f'{kind}.py'))
    cfg.work_dir = str(folder / kind)
    return cfg


@pytest.fixture(scope='module', params=list(MODEL))
def teacher(request, tmp_path_factory):
    """The task, and a folder with its teacher in it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    build_trainer(config(folder, request.param, 'teacher')).train()
    return request.param, folder


class Watch(Hook):
    """Calls functions with the runner before and after every iteration."""
    priority = 'VERY_LOW'

    def __init__(self, before=lambda runner, batch: None, after=lambda runner: None):
        self.before, self.after = before, after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before(runner, data_batch)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.after(runner)


def test_the_way_from_the_search_to_the_exported_student(teacher):
    task, folder = teacher
    told = evaluate_student(config(folder, task, 'teacher'), str(folder / 'teacher' / 'epoch_8.pth'))['right']
    assert told > (0.9 if task == 'segmentation' else 0.5), 'the task can be learned'

    search = build_trainer(config(folder, task, 'search'))
    search.train()
    assert len(search.train_loop.dataloader.dataset) == TRAINED
    assert len(search.train_loop.held_out_dataloader.dataset) == HELD_OUT
    process = DistillationProcess.load(str(folder / 'search' / 'process.json'))
    assert len(process) == search.max_iters == EPOCHS['search'] * TRAINED // BATCH and process.origin['complete']
    assert process.names == search.model.distiller.grid.names and len(process.names) == 6
    assert np.ptp(process.weights, 0).min() > 0.01, 'the weight of every pathway moves'

    cfg = config(folder, task, 'distill')
    replay, weights = build_trainer(cfg), []
    replay.register_hook(Watch(after=lambda runner: weights.append(runner.model.distiller.grid.weights().cpu().numpy())))
    student = replay.train().cpu().student.eval()
    assert replay.max_iters == EPOCHS['distill'] * (TRAINED + HELD_OUT) // BATCH
    np.testing.assert_allclose([weights[0], weights[-1]], process.weights[[0, -1]], rtol=1e-5)

    checkpoint = str(folder / 'distill' / 'epoch_10.pth')
    paths = export_student(config(folder, task, 'distill'), checkpoint, str(folder / 'exported'))
    with pytest.raises(ConfigError, match=f'{MODEL[task]} is not a classifier of mmpretrain .*: pass --formats mm$'):
        deployable_student(config(folder, task, 'distill'), checkpoint)
    exported = Config.fromfile(paths['config'])
    assert exported.default_scope == 'mmengine' and exported.custom_imports.imports == ['tiny_dense']
    plain = MODELS.build(exported.model).eval()
    saved = torch.load(paths['checkpoint'])
    plain.load_state_dict(saved['state_dict'])
    assert saved['meta'] == dict(dataset_meta=dict(classes=['square', 'cross'], palette=[(255, 0, 0), (0, 255, 0)]))
    batch = next(iter(replay.val_dataloader))
    outputs = [model(preprocessor(copy.deepcopy(batch))['inputs']) for model, preprocessor in (
        (student, replay.model.data_preprocessor), (plain, plain.data_preprocessor))]
    assert torch.equal(*outputs) and outputs[0].shape[:2] == (BATCH, 3 if task == 'segmentation' else 6)

    seen = [evaluate_student(config(folder, task, 'distill'), path)['right'] for path in (checkpoint, paths['checkpoint'])]
    assert seen[0] == seen[1] == replay.val_loop.run()['right'] > (0.8 if task == 'segmentation' else 0.3)


def test_a_search_in_rounds_updates_alpha_too(teacher):
    task, folder = teacher
    cfg = config(folder, task, 'search')
    cfg.work_dir = str(folder / 'whole_run')
    cfg.optim_wrapper.pop('constructor')
    cfg.train_cfg.update(type='mmrazor.DistProSearchLoop', rounds=2, references=[], max_divisions=0,
                         min_iterations=1, round_share=1)
    search = build_trainer(cfg)
    search.train()
    first, second = search.train_loop.searcher.history
    assert (second.alpha[0] != first.alpha[0]).all(), 'every pathway has a derivative at the first knot'
    assert len(DistillationProcess.load(str(folder / 'whole_run' / 'process.json'))) == 4


def through_the_whole_step(model, batch, held_out, momenta, lr, mu, decay):
    """dL_val/dalpha by autograd through losses, gradient, SGD's step written out, and the held-out loss."""
    student, distiller, alpha = model.student, model.distiller, model.distiller.grid.alpha
    theta = dict(student.named_parameters())

    def loss(parameters, data):
        return model.parse_losses(torch.func.functional_call(
            student, parameters, (data['inputs'], data['data_samples']), dict(mode='loss')))[0]

    with torch.no_grad(), distiller.transmitter_reader(model.teacher) as transmitted:
        model.teacher(batch['inputs'])
    with distiller.receiver_reader(student) as received:
        own = loss(theta, batch)
    pathways = torch.stack([
        distiller.grid.distances[p.transform](distiller.grid.transforms[p.name](received.features[p.receiver.name],
                                                        size=transmitted.features[p.transmitter.name].shape[2:]),
                           transmitted.features[p.transmitter.name]) for p in distiller.grid.pathways])
    total = own + (distiller.grid.weighting(alpha) * pathways).sum()
    gradients = torch.autograd.grad(total, list(theta.values()), create_graph=True)
    stepped = {name: p - lr * (mu * momenta[name] + g + decay * p) for (name, p), g in zip(theta.items(), gradients)}
    return torch.autograd.grad(loss(stepped, held_out), alpha)[0]


def test_the_hypergradient_of_a_segmentors_search_is_that_through_the_whole_step(tmp_path):
    """Alpha's update by the loop at the fourth step, in float64."""
    lr, mu, decay, seen = 0.05, 0.9, 1e-3, {}
    runner = build_trainer(config(
        tmp_path, 'segmentation', 'search', model__teacher_ckpt=None, optim_wrapper__alpha=dict(optimizer=dict(
            type='SGD', lr=1.0)),
        optim_wrapper__optimizer=dict(_delete_=True, type='SGD', lr=lr, momentum=mu, weight_decay=decay)))
    model = runner.model.double()
    plain_loss = model.held_out_loss
    model.held_out_loss = lambda data, teacher_kl_share: (
        seen.update(held_out=copy.deepcopy(data)), plain_loss(data, teacher_kl_share))[1]

    def before(runner, batch):
        if runner.iter == 3:
            state = runner.optim_wrapper['student'].optimizer.state
            seen.update(batch=copy.deepcopy(batch), alpha=model.distiller.grid.alpha.detach().clone(), momenta={
                name: state[p]['momentum_buffer'].clone() for name, p in model.student.named_parameters()})
            own = model.__dict__.pop('held_out_loss')
            seen['model'] = copy.deepcopy(model)
            model.held_out_loss = own

    def after(runner):
        if runner.iter == 3:
            prepared = [model.data_preprocessor(seen[key]) for key in ('batch', 'held_out')]
            expected = through_the_whole_step(seen['model'], *prepared, seen['momenta'], lr, mu, decay)
            seen.update(expected=expected, moved=seen['alpha'] - model.distiller.grid.alpha.detach())

    runner.register_hook(Watch(before, after))
    runner.train()
    assert seen['expected'].dtype == torch.float64 and seen['expected'].abs().min() > 1e-7
    torch.testing.assert_close(seen['moved'], seen['expected'], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize('task', list(MODEL))
@pytest.mark.parametrize('kind', ['teacher', 'search', 'kd'])
def test_a_preprocessor_without_a_type_is_refused_where_the_model_has_no_default(tmp_path, task, kind):
    """Like the models of mmseg and mmdet, these have none."""
    distillation = {} if kind != 'kd' else dict(
        model__type='SingleTeacherDistill', model__teacher_ckpt=None,
        model__distiller=dict(_delete_=True, type='ConfigurableDistiller'))
    if kind == 'search':
        distillation = dict(model__teacher_ckpt=None)
    cfg = config(tmp_path, task, 'distill' if kind == 'kd' else kind, **distillation)
    cfg.data_preprocessor.pop('type')
    with pytest.raises(ConfigError, match="^data_preprocessor.*={'mean': .* has no type: give .*'mmseg.SegDataPre"):
        build_trainer(cfg)


def test_a_part_without_a_type_is_named(tmp_path):
    cfg = config(tmp_path, 'segmentation', 'search', model__teacher_ckpt=None)
    cfg.val_dataloader.dataset.pop('type')
    with pytest.raises(ConfigError, match="val_dataloader.dataset={'count': 10, .*} has no type: give the name of its"), \
            config_errors(cfg):  # as in tools/train.py
        build_trainer(cfg).train()


def test_a_toolbox_that_is_not_installed_is_named(tmp_path):
    (tmp_path / 'base.py').write_text("_base_ = 'mmselfsup::some/config.py'\n")
    (tmp_path / 'mine.py').write_text("_base_ = './base.py'\n")
    with pytest.raises(ConfigError, match="mine.py' is based on a config of a toolbox: mmselfsup is not installed, "):
        load_config(str(tmp_path / 'mine.py'))


def test_what_a_config_imports_and_is_not_there_is_no_toolbox(tmp_path):
    (tmp_path / 'mine.py').write_text("custom_imports = dict(imports=['nothing_of_that_name'])\n")
    with pytest.raises(ImportError, match='nothing_of_that_name'):
        load_config(str(tmp_path / 'mine.py'))
