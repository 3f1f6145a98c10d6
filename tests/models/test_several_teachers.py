"""Several teachers in configs: the same losses as in a plain loop, checkpoints, images, search, replay and resuming."""
import copy
import random
import sys

import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from processes import in_a_process_of_its_own
from toys import SHAPE, batch, classifier, distpro_model as build

import distpro
from distpro.process import DistillationProcess
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError
from distpro_mm.models.cost import teacher_cost

sys.path.insert(0, __file__.rpartition('/models/')[0] + '/engine')
from resuming import result, same, train  # noqa: E402

pytestmark = pytest.mark.usefixtures('fixed_values')

KL = [dict(type='KLDivergence', tau=4, name='kl')]
MANUAL = dict(progress=[0, 0.5, 1], weights=dict(features=[1, 10, 30]))


def teachers():
    return dict(large=classifier(12), small=classifier(6))


def test_both_doors_give_the_same_loss_and_gradients():
    torch.manual_seed(0)
    model = build(teacher=teachers(), distiller=dict(logits=KL, connections='nearest_depth',
                                                     weighting=dict(type='exponential'))).double()
    assert list(model.teachers) == ['large', 'small'] and not any(m.training for m in model.teacher.modules())
    grid = model.distiller.grid
    x, samples = batch(12, torch.float64)
    kd = distpro.Distillation(copy.deepcopy(model.student), model.teachers, dict(inputs=x[:2], mode='tensor'),
                              connections='nearest_depth', map_size=None)
    assert kd.grid.names == grid.names and {name.split(':')[0] for name in grid.names} == {'large', 'small'}
    kd.grid.load_state_dict(grid.state_dict())
    weights = torch.rand(len(grid.names)) + 0.1
    for other in (grid, kd.grid):
        other.set_weights(weights)
    loss = model(x, samples, mode='loss')['distill.loss_pathways']
    out = kd(inputs=x, mode='tensor')
    assert torch.equal(loss, out.loss) and model.passes['teacher'] == 2
    loss.backward()
    out.loss.backward()
    for own, other in zip([*model.student.parameters(), *grid.parameters()], [*kd.student.parameters(), *kd.parameters()]):
        assert own.grad is None and other.grad is None or torch.equal(own.grad, other.grad)
    assert teacher_cost(model) == pytest.approx(sum(teacher_cost(build(teacher=one)) for one in teachers().values()))


def test_each_teacher_has_its_checkpoint_and_its_images(tmp_path):
    own = dict(type='ClsDataPreprocessor', mean=[100.0], std=[50.0])
    configs = teachers()
    configs['small']['data_preprocessor'] = own
    paths = {}
    for name, cfg in configs.items():
        torch.manual_seed(len(name))
        paths[name] = str(tmp_path / f'{name}.pth')
        torch.save(dict(state_dict=CLASSIFIERS.build(cfg).state_dict()), paths[name])
    model = build(teacher=configs, teacher_ckpt=paths, teacher_input=dict(large=dict(std=[2.0])),
                  data_preprocessor=dict(_scope_='mmpretrain', type='ClsDataPreprocessor', mean=[10.0], std=[4.0]))
    model.init_weights()
    for name, path in paths.items():
        for key, value in torch.load(path)['state_dict'].items():
            assert torch.equal(value, model.teachers[name].state_dict()[key]), key
    seen = {}
    for name, network in model.teachers.items():
        network.backbone.register_forward_pre_hook(lambda module, given, name=name: seen.__setitem__(name, given[0]))
    raw = torch.rand(4, *SHAPE) * 255
    model.loss((raw - 10) / 4, [DataSample().set_gt_label(0) for _ in raw])
    torch.testing.assert_close(seen['large'], (raw - 10) / 2, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(seen['small'], (raw - 100) / 50, rtol=1e-5, atol=1e-4)
    assert isinstance(model.data_preprocessor, ClsDataPreprocessor)


def test_the_teachers_kl_is_the_mean_of_both():
    model = build(teacher=teachers(), distiller=dict(logits=KL)).eval()
    x, samples = batch(6)
    data = dict(inputs=list(x), data_samples=samples)
    found = model.held_out_loss(data, 1.0)
    divergences = []
    q = model.student(x, mode='tensor').softmax(1)
    for network in model.teachers.values():
        p = network(x, mode='tensor').softmax(1)
        divergences.append((p * (p / q).log()).sum(1).mean())
    torch.testing.assert_close(found, sum(divergences) / 2, rtol=1e-4, atol=1e-6)
    assert abs(divergences[0] / divergences[1] - 1) > 1e-3


def of_two(make_config, kind, name, **options):
    cfg = make_config(kind, name, **options)
    small = cfg.model.architecture.copy()
    cfg.model.teacher = dict(large=cfg.model.architecture.copy(), small=small)
    return cfg


@pytest.mark.parametrize('wrapper', [
    'OptimWrapper', pytest.param('mmrazor.BFloat16OptimWrapper', marks=pytest.mark.long)])
def test_a_search_and_the_replay_of_its_process(make_config, tmp_path, wrapper):
    cfg = of_two(make_config, 'whole_run', 'search', train_cfg__rounds=2, train_cfg__max_epochs=1,
                 optim_wrapper__type=wrapper)
    Runner.from_cfg(cfg).train()
    process = DistillationProcess.load(str(tmp_path / 'search' / 'process.json'))
    assert {name.split(':')[0] for name in process.names} == {'large', 'small'}
    kinds = [trial['kind'] for trial in process.origin['trials']]
    assert 'step' in kinds and process.origin['teacher'].startswith('large: CIFARResNet')
    replay = of_two(make_config, 'distill', 'replay', train_cfg__max_epochs=1, optim_wrapper__type=wrapper, custom_hooks=[
        dict(type='mmrazor.ProcessReplayHook', process=str(tmp_path / 'search' / 'process.json'))])
    replay.model.distiller = cfg.model.distiller
    runner = build_trainer(replay)
    runner.train()
    assert runner.model.distiller.grid.names == process.names
    assert (tmp_path / 'replay' / 'report.html').exists()


@pytest.mark.long
def test_killed_and_resumed_is_bit_identical(make_config, tmp_path):
    def make(name):
        return of_two(make_config, 'equal', name, train_cfg__max_epochs=2, default_hooks__checkpoint=dict(
            type='mmrazor.AtomicCheckpointHook', interval=3, by_epoch=False), custom_hooks=[
                dict(type='mmrazor.ProcessReplayHook', process=MANUAL)])

    assert not in_a_process_of_its_own(train, make('whole'))
    whole = result(tmp_path / 'whole', 3)
    assert in_a_process_of_its_own(train, make('killed'), random.randrange(4, 9))
    assert not in_a_process_of_its_own(train, make('killed'), None, 'auto')
    for part, mine, theirs in zip(('model', 'optimisers', 'process'), result(tmp_path / 'killed', 3), whole):
        assert same(mine, theirs), part


@pytest.mark.parametrize('arguments, message', [
    (dict(teacher=dict(large=classifier())), 'must have a type, or be a dict of two or more teachers by name'),
    (dict(teacher={'a>b': classifier(), 'c': classifier()}), "the name 'a>b' of a teacher"),
    (dict(teacher=dict(a=classifier(), b=dict(depth=3))), r'model.teacher.b=.* has no type'),
    (dict(teacher=dict(a=classifier(), b=dict(classifier()['backbone'], _scope_='mmpretrain'))),
     'model.teacher.b is a CIFARResNet, which is not a model'),
    (dict(teacher_ckpt='x.pth'), "model.teacher_ckpt='x.pth' must be a dict with some of the teachers large, small"),
    (dict(teacher_ckpt=dict(large='no.pth')), "model.teacher_ckpt.large='no.pth'"),
    (dict(teacher_input=dict(mean=[1.0])), 'model.teacher_input=.* must be a dict with some of the teachers'),
    (dict(distiller=dict(transmitters=dict(big='auto'))), "transmitters has 'big', which is not a teacher"),
    (dict(distiller=dict(transmitters=dict(type='clustered', k=2))), 'clusters the layers of one teacher'),
    (dict(distiller=dict(teacher_recorders=dict(r=dict(type='ModuleOutputs', source='head.fc')))),
     'model.distiller.teacher_recorders is for one teacher'),
])
def test_what_does_not_fit_several_teachers_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(**{'teacher': teachers(), **arguments})


def test_other_distillers_compare_one_teacher():
    with pytest.raises(ConfigError, match='model.teacher has several teachers, and PairDistiller compares one'):
        MODELS.build(dict(
            _scope_='mmrazor', type='TapDistill', architecture=classifier(8), teacher=teachers(), input_shape=SHAPE,
            distiller=dict(type='PairDistiller', loss=dict(type='L2Loss'))))
