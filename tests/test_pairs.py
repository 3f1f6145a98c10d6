"""Every shipped pair trains two iterations of every method on made-up images with finite losses."""
import os
import pathlib

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from runs import learn_made_up_classes

from distpro.process import DistillationProcess
from distpro_mm.engine.config_file import load_config
from made_up import two_steps

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
PAIRS = sorted(path.stem for path in (CONFIGS / '_base_' / 'pairs').glob('*.py'))
BASELINES = sorted(path.stem for path in (CONFIGS / 'baselines').glob('*.py'))
# Search and distillation of these take less than three seconds.
SMALL = ('resnet110_resnet32_cifar100', 'resnet20_resnet8-half_digits', 'resnet56_resnet20_cifar100',
         'wrn-28-4_resnet56_cifar100', 'wrn-28-4_wrn-16-2_cifar100', 'wrn-40-2_shufflenetv1_cifar100',
         'wrn-40-2_wrn-16-2_cifar100', 'wrn-40-2_wrn-40-1_cifar100')
HUGE = {pair for pair in PAIRS if 'pyramidnet' in pair}
# These methods use the map before pooling, where a plain transformer has its class token.
NOT_FOR = {('deit-small_deit-tiny_imagenet', method) for method in ('atsc', 'norm', 'simkd')}
FIRST_STAGES = {
    'ab': ('ab_initial', 'model.init_cfg.checkpoint'),
    'ft': ('ft_paraphraser', 'model.distiller.teacher_connector.init_cfg.checkpoint'),
}


def config(path, pair, folder, options):
    """A shipped config for two iterations of two images; the teacher has not been trained."""
    cfg = load_config(str(CONFIGS / path), pair=pair)
    cfg.work_dir = str(folder / pathlib.Path(path).stem)
    cfg.experiment_name = f'{path}_{folder.name}'
    cfg.log_level = 'ERROR'
    channels, size, _ = cfg.input_shape
    size = min(size, 64)
    two_steps(cfg, (channels, size, size))
    first = any(pathlib.Path(path).stem == stage for stage, _ in FIRST_STAGES.values())
    cfg.default_hooks.checkpoint = dict(type='mmrazor.AtomicCheckpointHook', interval=1) if first else None
    if 'teacher' in cfg.model:
        cfg.model.teacher_ckpt = None
    cfg.merge_from_dict(options)
    return cfg


def _settle(teacher, shape):
    """Compute the teacher's running statistics, without which the maps of a deep teacher overflow."""
    teacher.init_weights()  # once: the runner leaves it as it is then
    norms = [module for module in teacher.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # of this one batch
        norm.train()
    with torch.no_grad():
        images = torch.randn(4, shape[0], *[min(size, 64) for size in shape[1:]])
        teacher.backbone(images.to(next(teacher.parameters()).device))
    for norm in norms:
        norm.eval()


def train(path, pair, folder, **options):
    """The runner, after two iterations with finite losses."""
    cfg = config(path, pair, folder, {key.replace('__', '.'): value for key, value in options.items()})
    runner = Runner.from_cfg(cfg)
    if 'teacher' in cfg.model:
        _settle(runner.model.teacher, cfg.input_shape)
        learn_made_up_classes(runner.model)
    runner.train()
    losses = {name: buffer.data[0] for name, buffer in runner.message_hub.log_scalars.items() if 'loss' in name}
    assert runner.iter == 2 and all(len(values) == 2 for values in losses.values())
    assert all(np.isfinite(values).all() for values in losses.values()), losses
    if 'distiller' in cfg.model:
        distilled = [values for name, values in losses.items() if name.startswith('train/distill.')]
        assert distilled and all(value > -1e-5 for values in distilled for value in values), losses
    else:
        assert losses
    return runner


# Small pairs whose search takes several seconds.
DEEP = {'wrn-28-4_wrn-16-2_cifar100', 'wrn-28-4_resnet56_cifar100', 'wrn-40-2_shufflenetv1_cifar100',
        'resnet110_resnet32_cifar100', 'wrn-40-2_wrn-40-1_cifar100', 'resnet56_resnet20_cifar100',
        'wrn-40-2_wrn-16-2_cifar100'}


def built(path, pair):
    cfg = load_config(str(CONFIGS / path), pair=pair)
    cfg.model.teacher_ckpt = None
    return MODELS.build(cfg.model)


def marked(**pairs):
    """All pairs, of which some have a mark."""
    marks = {pair: getattr(pytest.mark, mark) for mark, named in pairs.items() for pair in named}
    return [pytest.param(pair, marks=marks.get(pair, ())) for pair in PAIRS]


@pytest.mark.parametrize('pair', marked(slow=set(PAIRS) - set(SMALL), long=DEEP))
def test_search_and_distillation_of_every_pair(pair, tmp_path):
    search = train('distpro/published_search.py', pair, tmp_path)
    path = os.path.join(search.work_dir, 'process.json')
    process = DistillationProcess.load(path)
    assert len(process) == 2 and len(process.names) >= 9
    distiller = search.model.distiller
    assert {name.partition('>')[0] for name in process.names} >= {tap.name for tap in distiller.taps('transmitter')}
    train('distpro/published_distill.py', pair, tmp_path,
          custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=path)])


@pytest.mark.parametrize('pair', marked(slow=HUGE, long=set(PAIRS) - set(SMALL) - HUGE))
def test_every_pair_distils_logits(pair, tmp_path):
    train('baselines/kd.py', pair, tmp_path)


# Channels of the student's and the teacher's maps, and the common width, as ReviewKD's release and mdistiller list them.
@pytest.mark.parametrize('pair, student, teacher, mid', [
    ('wrn-40-2_wrn-16-2_cifar100', [32, 64, 128, 128], [32, 64, 128, 128], 128),
    ('wrn-40-2_shufflenetv1_cifar100', [240, 480, 960, 960], [32, 64, 128, 128], 512),
    ('resnet32x4_shufflenetv2_cifar100', [116, 232, 464, 1024], [64, 128, 256, 256], 512),
    ('vgg13_vgg8_cifar100', [128, 256, 512, 512, 512], [128, 256, 512, 512, 512], 512),
    ('resnet50_mobilenetv2_cifar100', [12, 16, 48, 160, 1280], [256, 512, 1024, 2048, 2048], 512),
    ('resnet34_resnet18_imagenet', [64, 128, 256, 512, 512], [64, 128, 256, 512, 512], 512),
    ('resnet50_mobilenetv1_imagenet', [128, 256, 512, 1024, 1024], [256, 512, 1024, 2048, 2048], 256)])
def test_reviewkd_has_the_layers_of_its_release(pair, student, teacher, mid):
    fusions = built('baselines/reviewkd.py', pair).distiller.fusions
    assert [fusion.reduce[0].in_channels for fusion in fusions] == student
    assert [fusion.expand[0].out_channels for fusion in fusions] == teacher
    assert {fusion.reduce[0].out_channels for fusion in fusions} == {mid}


@pytest.mark.parametrize('pair', [
    'wrn-40-2_shufflenetv1_cifar100', 'resnet32x4_shufflenetv2_cifar100', 'vgg13_vgg8_cifar100',
    'resnet50_mobilenetv2_cifar100', 'wrn-28-4_resnet56_cifar100'])
def test_what_is_pooled_is_what_the_classifiers_are_given(pair):
    model = built('baselines/cc.py', pair).eval()
    images = torch.randn(2, 3, 32, 32)
    for network, reader in ((model.teacher, model.distiller.transmitter_reader(model.teacher)),
                            (model.student, model.distiller.receiver_reader(model.student))):
        with torch.no_grad(), reader:
            network(images, mode='tensor')
            feature, = reader.features.values()
            assert torch.equal(feature, network.backbone(images)[-1])


@pytest.mark.slow
@pytest.mark.parametrize('pair, method', [
    (pair, method) for pair in PAIRS for method in BASELINES if (pair, method) not in NOT_FOR])
def test_every_baseline_of_every_pair(pair, method, tmp_path):
    options = {}
    if method in FIRST_STAGES:
        first, key = FIRST_STAGES[method]
        train(f'baselines/{first}.py', pair, tmp_path)
        options[key] = str(tmp_path / first / 'epoch_1.pth')
    runner = train(f'baselines/{method}.py', pair, tmp_path, **options)
    if method == 'ft':
        written = torch.load(options[key])['state_dict']
        connectors = runner.model.distiller.pair_connectors['teacher']
        read = connectors[next(iter(connectors))].state_dict()
        assert all(any(torch.equal(value, other) for other in written.values()) for value in read.values())
