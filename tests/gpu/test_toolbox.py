"""OpenMMLab configs on a GPU: search, distillation, resuming, mixed precision, export."""
import copy
import os

import numpy as np
import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmpretrain.registry import DATASETS

from distpro.process import DistillationProcess
from distpro_mm.datasets import InMemoryDataset
from distpro_mm.engine.launch import build_model, build_trainer, evaluate_student
from distpro_mm.engine.optimizers import BFloat16OptimWrapper
from distpro_mm.export import export_student

pytestmark = pytest.mark.gpu
SMALL = dict(train_cfg__max_epochs=1)


def trained(cfg, device, **arguments):
    """The runner of a config, trained on the device."""
    runner = build_trainer(cfg, **arguments)
    runner.train()
    assert {p.device.type for p in runner.model.parameters()} == {device.type}
    assert all(p.isfinite().all() for p in runner.model.parameters())
    return runner


def replay(make_config, search, name, **options):
    process = os.path.join(search.work_dir, 'process.json')
    return make_config('distill', name, custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=process)], **options)


def test_default_search_distillation_export_and_evaluation(make_config, device, tmp_path):
    options = dict(model__distiller__logits=[dict(type='KLDivergence', tau=4, name='kl')],
                   model__distiller__weighting=dict(_delete_=True, type='exponential'))
    search = trained(make_config('whole_run', train_cfg__rounds=2, train_cfg__references=['student', 'kd'],
                                 train_cfg__max_divisions=1, train_cfg__initial_bump=3, **SMALL, **options), device)
    process = DistillationProcess.load(os.path.join(search.work_dir, 'process.json'))
    assert process.origin['complete'] and np.isfinite(process.weights).all()
    cfg = replay(make_config, search, 'replay', **SMALL, **options)
    runner = trained(copy.deepcopy(cfg), device)
    paths = export_student(cfg, os.path.join(cfg.work_dir, 'epoch_1.pth'), str(tmp_path / 'out'))
    from mmengine.config import Config
    plain = build_model(Config.fromfile(paths['config'])).to(device).eval()
    plain.load_state_dict(torch.load(paths['checkpoint'], device)['state_dict'])
    images = torch.randn(6, 1, 8, 8).to(device)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), runner.model.student.eval()(images))
        torch.testing.assert_close(plain(images).cpu(), plain.cpu()(images.cpu()), rtol=1e-4, atol=1e-5)
    assert 0 <= evaluate_student(cfg, paths['checkpoint'])['accuracy/top1'] <= 100


@pytest.mark.parametrize('kind, options', [
    ('student', {}), ('search', {}), ('distill', {}), ('whole_run', dict(train_cfg__rounds=2)),
    ('search', dict(optim_wrapper__optimizer=dict(_delete_=True, type='AdamW', lr=1e-3)))])
def test_a_deterministic_run_is_repeated_and_resumed_bit_for_bit(make_config, device, kind, options):
    """torch raises where an operation has no deterministic kernel."""
    options = dict(options, randomness=dict(seed=0, deterministic=True))
    if kind == 'distill':
        options['custom_hooks'] = [dict(type='mmrazor.ProcessReplayHook', process=dict(progress=[0, 1], weights=[1, 9]))]
    ended = []
    checkpoint = 'epoch_1.pth' if kind == 'whole_run' else 'iter_3.pth'
    for name, resume in (('whole', None), ('again', None), ('whole', checkpoint)):
        cfg = make_config(kind, name, **options)
        cfg.experiment_name += f'_{len(ended)}'
        if kind != 'whole_run':
            cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3)
        cfg.default_hooks.checkpoint.max_keep_ckpts = -1
        runner = trained(cfg, device, resume=resume and os.path.join(cfg.work_dir, resume))
        assert torch.are_deterministic_algorithms_enabled()
        ended.append(copy.deepcopy(runner.model.state_dict()))
        torch.use_deterministic_algorithms(False)
    for other in ended[1:]:
        assert other.keys() == ended[0].keys()
        assert all(torch.equal(value, other[name]) for name, value in ended[0].items())


@pytest.mark.parametrize('kind', ['search', 'whole_run', 'equal'])
@pytest.mark.parametrize('precision', ['float16', 'bfloat16'])
def test_mixed_precision(make_config, device, kind, precision):
    cfg = make_config(kind, **SMALL, **(dict(train_cfg__rounds=2) if kind == 'whole_run' else {}))
    if precision == 'bfloat16':
        cfg.optim_wrapper.type = 'mmrazor.BFloat16OptimWrapper'
    elif kind == 'whole_run' and device.type == 'cuda':
        cfg.optim_wrapper.loss_scale = dict(init_scale=256.)  # or its few steps may all be skipped
    runner = trained(cfg, device, amp=precision == 'float16')
    wrapper = runner.optim_wrapper['student'] if kind == 'search' else runner.optim_wrapper
    expected = AmpOptimWrapper if precision == 'float16' and device.type == 'cuda' else BFloat16OptimWrapper
    assert type(wrapper) is expected
    if kind != 'equal':
        process = DistillationProcess.load(os.path.join(cfg.work_dir, 'process.json'))
        assert np.isfinite(process.weights).all()
    if kind == 'search':
        assert np.ptp(np.array(process.alpha)) > 0
    if kind == 'whole_run':
        first, second = runner.train_loop.searcher.history
        assert np.isfinite([first.loss, second.loss]).all() and not torch.equal(first.alpha, second.alpha)


def test_resuming_in_float16_restores_the_scaler(make_config, device):
    options = dict(train_cfg__max_epochs=2, randomness=dict(seed=0, deterministic=True),
                   default_hooks__checkpoint__max_keep_ckpts=-1)
    whole = trained(make_config('equal', **options), device, amp=True)
    cfg = make_config('equal', **options)
    cfg.experiment_name += '_resumed'
    path = os.path.join(cfg.work_dir, 'epoch_1.pth')
    resumed = trained(cfg, device, amp=True, resume=path)
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.model.state_dict().items())
    if device.type == 'cuda':
        assert 'loss_scaler' in torch.load(path, 'cpu')['optimizer']


def test_images_in_memory_leave_random_numbers_of_the_gpu_alone(device):
    if device.type == 'cuda':
        torch.zeros(1, device=device)
        before = torch.cuda.get_rng_state()
    pack = [dict(type='PackInputs')]
    digits = DATASETS.build(dict(type='SklearnDigits', split='train', images_per_class=5, pipeline=pack))
    assert len(InMemoryDataset(digits)) == 50
    if device.type == 'cuda':
        assert torch.equal(torch.cuda.get_rng_state(), before)
