"""Every shipped config of a baseline trains two steps on the digits with finite losses."""
import pathlib

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from runs import learn_made_up_classes

from distpro_mm.engine.config_file import load_config

ROOT = pathlib.Path(__file__).parent.parent
PAIR = 'resnet20_resnet8-half_digits'
METHODS = sorted(path.stem for path in (ROOT / 'configs' / 'baselines').glob('*.py'))


FIRST = ('ab_initial', 'ft_paraphraser')


def config(method, folder, **options):
    """A shipped digits config for two iterations of 20 images, with a teacher that has not been trained."""
    cfg = load_config(str(ROOT / 'configs' / 'baselines' / f'{method}.py'), pair=PAIR)
    cfg.work_dir = str(folder / method)
    cfg.experiment_name = f'{method}_{folder.name}'
    cfg.log_level = 'ERROR'
    cfg.train_dataloader.batch_size = 20
    cfg.train_dataloader.dataset.dataset.images_per_class = 4
    cfg.train_cfg.max_epochs = 1
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg.pop(key)
    cfg.default_hooks.checkpoint.interval = 1 if method in FIRST else 100
    if 'teacher' in cfg.model:
        cfg.model.teacher_ckpt = None
        cfg.model.teacher.backbone.depth = 8
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


# A second stage starts from the checkpoint of its first stage.
FIRST_STAGES = {
    'ab': ('ab_initial', 'model__init_cfg__checkpoint'),
    'ft': ('ft_paraphraser', 'model__distiller__teacher_connector__init_cfg__checkpoint'),
}
# What a baseline does not train, by prefix: the parts of a stage, and a frozen autoencoder, meta networks.
STILL = {
    'ab_initial': ('architecture.head', ),
    'ft_paraphraser': ('architecture', ),
    'ft': ('distiller.pair_connectors.teacher', ),
    'l2tww': ('distiller.what', 'distiller.where'),
}


def losses_of(cfg):
    """Losses by name of both iterations, and the runner."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    history = runner.message_hub.log_scalars
    return {name[len('train/'):]: buffer.data[0] for name, buffer in history.items() if 'loss' in name}, runner


@pytest.mark.parametrize('method', METHODS)
def test_a_shipped_baseline_trains(method, tmp_path):
    options = {}
    if method in FIRST_STAGES:
        first, key = FIRST_STAGES[method]
        Runner.from_cfg(config(first, tmp_path)).train()
        options[key] = str(tmp_path / first / 'epoch_1.pth')
    cfg = config(method, tmp_path, **options)
    losses, runner = losses_of(cfg)
    assert all(len(values) == 2 for values in losses.values()), 'two iterations'
    assert all(torch.isfinite(torch.tensor(values)).all() for values in losses.values()), losses
    distilled = {name: values for name, values in losses.items() if name.startswith('distill.')}
    if 'distiller' in cfg.model:
        assert distilled and all(value > 0 for values in distilled.values() for value in values), losses
        total = sum(values[-1] for name, values in losses.items() if name != 'loss')
        assert losses['loss'][-1] == pytest.approx(total, rel=1e-5)
    # Every parameter that a baseline trains has changed: SGD has a buffer for each parameter with a gradient.
    wrapper = runner.optim_wrapper
    optimizer = wrapper['student'].optimizer if isinstance(wrapper, OptimWrapperDict) else wrapper.optimizer
    moved = {id(p) for p in optimizer.state}
    still = [name for name, p in runner.model.named_parameters() if p.requires_grad and id(p) not in moved]
    assert [name for name in still if not name.startswith(STILL.get(method, ('nothing', )))] == []


def test_a_second_stage_starts_with_the_weights_of_the_first(tmp_path):
    first = {}
    for method in FIRST_STAGES.values():
        Runner.from_cfg(config(method[0], tmp_path)).train()
        first[method[0]] = torch.load(tmp_path / method[0] / 'epoch_1.pth')['state_dict']
    models = {}
    for method, (stage, key) in FIRST_STAGES.items():
        models[method] = MODELS.build(config(method, tmp_path, **{key: str(tmp_path / stage / 'epoch_1.pth')}).model)
        models[method].init_weights()
    for name, value in models['ab'].state_dict().items():
        assert torch.equal(value, first['ab_initial'][f'architecture.{name}'])
    paraphraser = models['ft'].distiller.pair_connectors['teacher']['layer3>layer3']
    for name, value in paraphraser.state_dict().items():
        assert torch.equal(value, first['ft_paraphraser'][f'distiller.pair_losses.0.autoencoder.{name}'])


@pytest.mark.parametrize('method', METHODS)
def test_it_gives_losses_of_the_same_names_on_cifar100(method, tmp_path):
    cfg = load_config(str(ROOT / 'configs' / 'baselines' / f'{method}.py'), pair='resnet56_resnet20_cifar100')
    digits = config(method, tmp_path)
    assert len(cfg.get('custom_hooks', [])) == len(digits.get('custom_hooks', []))
    if 'teacher' not in cfg.model:
        return
    cfg.model.teacher_ckpt, cfg.model.teacher.backbone.depth, cfg.model.architecture.backbone.depth = None, 8, 8
    names = set()
    for model, shape in ((MODELS.build(cfg.model), (3, 32, 32)), (MODELS.build(digits.model), (1, 8, 8))):
        learn_made_up_classes(model)
        samples = [DataSample(metainfo=dict(sample_idx=index)).set_gt_label(index) for index in range(4)]
        losses = model(torch.randn(4, *shape), samples, mode='loss')
        assert all(torch.isfinite(value).all() for value in losses.values())
        names.add(tuple(losses))
    assert len(names) == 1
