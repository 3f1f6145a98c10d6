"""Arguments that are True or False, or one of several words, refuse all other values, by name."""
import importlib
import inspect
import pathlib
import pkgutil
import re
import types

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.models import ClsDataPreprocessor
from toys import network

import distpro
import distpro_app
import distpro_mm
from distpro.checks import FLAG, check_choice
from distpro.errors import ArgumentError, ProcessError
from distpro.process import DistillationProcess, ablation, fit_process
from distpro.searching import EvolutionSearcher, Hypergradient, RandomSearcher, Round, Trajectory
from distpro.searching.optimizer_step import StepSnapshot
from distpro.tracing import FastForward, trace
from distpro_app.run import distill_folder
from distpro_app.settings import FolderSettings
from distpro_mm.commands import train, validate
from distpro_mm.datasets import HeldOutSplit, SklearnDigits
from distpro_mm.engine import hooks, loops
from distpro_mm.engine.launch import build_trainer, evaluate_student
from distpro_mm.models import CIFARPyramidNet, DistPro, NORMNeck, PairDistiller, SimKD
from distpro_mm.models.algorithms.teacher_input import teacher_input
from distpro_mm.models.connectors import ABFConnector, EmbeddingConnector
from distpro_mm.validation import check, check_methods

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
PROCESS = DistillationProcess(['a', 'b'], distpro.Weighting('exponential'), [0, 1], [[0, 0], [0, 1]])


def distillation(**arguments):
    return distpro.Distillation(network(), network(), torch.randn(2, 3, 16, 16), **arguments)


def searched(**arguments):
    batch = [(torch.randn(2, 3, 16, 16), torch.arange(2))]
    return distpro.search(network(), network(), batch, batch, None, None, 1, **arguments)


def hypergradient(method):
    student = network()
    return Hypergradient(student, torch.optim.SGD(student.parameters(), 0.1), method)


def sgd():
    return torch.optim.SGD(network().parameters(), 0.1)


def fast_forward(fast):
    teacher = network()
    return FastForward(trace(teacher, lambda: teacher(torch.randn(2, 3, 16, 16))), fast)


def by_hand(unit):
    return DistillationProcess.by_hand(['a'], [0, 1], [1, 1], unit)


def one_step_search(method):
    return loops.DistProOneStepSearchLoop(None, {}, 1, method=method)


def distilled(kind, **arguments):
    return kind(distiller={}, teacher={}, architecture={}, **arguments)


FLAGS = {  # by class or function and argument: the name in the message, and a call with the argument
    'Distillation.transfer': ('transfer', lambda value: distillation(transfer=value)),
    'fit_process.transfer': ('transfer', lambda value: fit_process('general', ['a>b:c'], transfer=value)),
    'build_network.pretrained': ('pretrained', lambda value: distpro.build_network('timm:resnet18', pretrained=value)),
    'EmbeddingConnector.if_different': ('EmbeddingConnector.if_different', lambda value: EmbeddingConnector(1, 1, value)),
    'PathwayGrid.compile_transforms': ('compile_transforms', lambda value: distillation(compile_transforms=value)),
    'PathwayGrid.from_covariances': ('from_covariances', lambda value: distillation(from_covariances=value)),
    'PathwayGrid.cuda_graph': ('cuda_graph', lambda value: distillation(cuda_graph=value)),
    'Round.differentiates': ('differentiates', lambda value: Round(None, 1, value)),
    'StepSnapshot.on_host': ('on_host', lambda value: StepSnapshot(sgd(), [], value)),
    'Trajectory.on_host': ('on_host', lambda value: Trajectory({}, sgd(), on_host=value)),
    'Searcher.has_level': ('has_level', lambda value: RandomSearcher(torch.zeros(2, 1), {}, 1, has_level=value)),
    'Searcher.known': ('known', lambda value: RandomSearcher(torch.zeros(2, 1), {}, 1, known=value)),
    'EvolutionSearcher.shrink': ('shrink', lambda value: EvolutionSearcher(dict(a=[1, 2]), 2, shrink=value)),
    'TrainingWatchHook.must_learn': ('custom_hooks: TrainingWatchHook.must_learn',
                                     lambda value: hooks.TrainingWatchHook(must_learn=value)),
    'CIFARPyramidNet.bottleneck': ('CIFARPyramidNet: bottleneck', lambda value: CIFARPyramidNet(11, 12, value)),
    'ABFConnector.fuse': ('ABFConnector.fuse', lambda value: ABFConnector(1, 1, 1, value)),
    'NORMNeck.residual': ('NORMNeck.residual', lambda value: NORMNeck(1, 1, residual=value)),
    'SimKD.calculate_student_loss': ('model.calculate_student_loss',
                                     lambda value: distilled(SimKD, calculate_student_loss=value)),
    'teacher_input.to_rgb': ('model.teacher_input.to_rgb',
                             lambda value: teacher_input(ClsDataPreprocessor(), None, dict(to_rgb=value))),
    'build_trainer.amp': ('amp', lambda value: build_trainer(Config(), amp=value)),
    'build_trainer.report': ('report', lambda value: build_trainer(Config(), report=value)),
    'check_methods.build': ('build', lambda value: list(check_methods(str(CONFIGS), [], value))),
    'check.build': ('build', lambda value: check(Config(), value)),
    'validate.build': ('build', lambda value: validate(str(CONFIGS), [], value)),
    'train.profile': ('profile', lambda value: train(Config(), profile=value)),
    'distill_folder.resume': ('resume', lambda value: distill_folder(FolderSettings('a', 'timm:b', 'timm:c'), value)),
    **{f'TapDistill.{flag}': (f'model.{flag}', lambda value, flag=flag: distilled(DistPro, **{flag: value}))
       for flag in ('teacher_trainable', 'teacher_norm_eval', 'student_trainable')},
}
CHOICES = {  # the same, with the values that would do
    'Distillation.fast_teacher': ('fast_teacher', lambda value: distillation(fast_teacher=value), "True, .*False"),
    'FastForward.fast': ('fast_teacher', fast_forward, "True, exact, False"),
    'Round.memory_on': ('memory_on', lambda value: Round(None, 1, True, memory_on=value), 'device, host'),
    'HeldOutSplit.stratified': ('train_cfg.held_out.stratified', lambda value: HeldOutSplit([], 'train', stratified=value),
                                'None, True, False'),
    'PathwayGrid.compare_at': ('compare_at', lambda value: distillation(compare_at=value), 'teacher, smaller'),
    'PairDistiller.compare_at': ('model.distiller.compare_at', lambda value: PairDistiller({}, compare_at=value),
                                 'own, smaller'),
    'Weighting.type': ('type', distpro.Weighting, 'uniform, softmax, .*exponential'),
    'Weighting.unit': ('unit', lambda value: distpro.Weighting(unit=value), 'None, variance, loss'),
    'by_hand.unit': ('unit', by_hand, 'None, variance, loss'),
    'set_weights.unit': ('unit', lambda value: distillation().grid.set_weights(None, unit=value), 'None, variance, loss'),
    'ablation.name': ('ablation', lambda value: ablation(PROCESS, value, [0, 1]), 'process, uniform, last, .*random'),
    'ProcessReplayHook.ablation': ('custom_hooks: ProcessReplayHook.ablation',
                                   lambda value: hooks.ProcessReplayHook('p.json', value), 'process, uniform, .*random'),
    'ProcessReplayHook.transfer': ('custom_hooks: ProcessReplayHook.transfer',
                                   lambda value: hooks.ProcessReplayHook('p.json', transfer=value), 'None, by_depth'),
    'ProcessReplayHook.fit_length': ('custom_hooks: ProcessReplayHook.fit_length',
                                       lambda value: hooks.ProcessReplayHook('p.json', fit_length=value), 'True, False'),
    'ProcessReplayHook.control_level': ('custom_hooks: ProcessReplayHook.control_level',
                                        lambda value: hooks.ProcessReplayHook('p.json', control_level=value), 'True, False'),
    'Hypergradient.method': ('method', hypergradient, 'auto, jvp, differences'),
    'DistProOneStepSearchLoop.method': ('train_cfg.method', one_step_search, 'auto, jvp, differences'),
    'HeldOutSplit.part': ('HeldOutSplit.part', lambda value: HeldOutSplit([], value), 'train, held_out'),
    'SklearnDigits.split': ('SklearnDigits.split', SklearnDigits, 'train, test'),
    'build_trainer.launcher': ('launcher', lambda value: build_trainer(Config(), value), 'none, pytorch, slurm, mpi'),
    'evaluate_student.launcher': ('launcher', lambda value: evaluate_student(Config(), '', value),
                                  'none, pytorch, slurm, mpi'),
}
# Given by code of the packages alone, or checked under the name in the second place.
UNCHECKED = {
    'FeatureReader.stop_early': None, 'RestReader.stop_early': None, 'opened.few': None, 'opens.few': None,
    'opens.alone': None, 'resolve_taps.trained': None, 'find_stages.trained': None,
    'find_images.labels': None, 'check_readable.skip': None, 'ImageSet.flip': None, 'loader.shuffle': None,
    'build_optimizer.random_weights': None, 'open_run.resume': None, 'adapt_teacher.resume': None,
    'train.amp': 'build_trainer.amp', 'search.amp': 'build_trainer.amp', 'search.profile': 'train.profile',
    'beyond.upper': None, 'load_state.new_classifier': None, 'load_weights.new_classifier': None,
    'build.pretrained': 'build_network.pretrained', 'NamedClassifier.pretrained': 'build_network.pretrained',
    'PyramidBlock.bottleneck': 'CIFARPyramidNet.bottleneck',
    'split.stratified': 'HeldOutSplit.stratified',
    'TapDistill.fast_teacher': 'FastForward.fast',
    **{f'DistProDistiller.{flag}': f'PathwayGrid.{flag}'
       for flag in ('compile_transforms', 'from_covariances', 'cuda_graph')},
}


@pytest.mark.parametrize('value', [7, 1, 0, None, 'yes', 'True', [], np.True_], ids=repr)
@pytest.mark.parametrize('argument', FLAGS)
def test_what_is_neither_true_nor_false_is_refused(argument, value):
    name, call = FLAGS[argument]
    with pytest.raises(ValueError, match=f'^{name}={re.escape(repr(value))} is not one of True, False$'):
        call(value)


@pytest.mark.parametrize('value', [7, 1, 'nonsense', {}, ['nonsense']], ids=repr)
@pytest.mark.parametrize('argument', CHOICES)
def test_what_is_not_one_of_the_choices_is_refused(argument, value):
    name, call, choices = CHOICES[argument]
    with pytest.raises(ArgumentError, match=f'^{name}={re.escape(repr(value))} is not one of {choices}'):
        call(value)


@pytest.mark.parametrize('value', [7, 'student', None, ['studnet'], [['kd']]], ids=repr)
def test_references_are_a_list_of_known_ones(value):
    with pytest.raises(ArgumentError, match=f'^references={re.escape(repr(value))} must be a list with some of student, kd'):
        searched(references=value)


@pytest.mark.parametrize('key, choices', [
    ('distiller.cuda_graph', 'True, False'), ('distiller.from_covariances', 'True, False'),
    ('distiller.compile_transforms', 'True, False'), ('distiller.compare_at', 'teacher, smaller'),
    ('calculate_student_loss', 'True, False'), ('fast_teacher', "True, exact, False")])
def test_a_config_with_nonsense_names_its_key(make_config, key, choices):
    cfg = make_config('equal')
    cfg.merge_from_dict({f'model.{key}': 'yes'})
    with pytest.raises(ArgumentError, match=f"model.{key}='yes' is not one of {choices}$"):
        Runner.from_cfg(cfg)


class Compiled(torch.nn.Module):
    """What torch.compile makes of a network; importing the compiler takes seconds."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network


def test_a_teacher_that_is_compiled_does_not_hide_a_wrong_value():
    with pytest.raises(ArgumentError, match="^fast_teacher='yes' is not one of True, exact, False"):
        distpro.Distillation(network(), Compiled(network()), torch.randn(2, 3, 16, 16), fast_teacher='yes')


def test_every_flag_of_a_public_class_or_function_is_checked():
    found = set()
    for package in (distpro, distpro_app, distpro_mm):
        for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):
            for name, item in vars(importlib.import_module(module.name)).items():
                if name.startswith('_') or getattr(item, '__module__', '') != module.name:
                    continue
                called = item.__init__ if inspect.isclass(item) and '__init__' in vars(item) else item
                if isinstance(called, types.FunctionType) and not hasattr(item, '__dataclass_fields__'):
                    found |= {f'{name}.{parameter.name}' for parameter in inspect.signature(called).parameters.values()
                              if re.search(r'\bbool\b', re.sub(r'Callable\[.*', '', str(parameter.annotation)))
                              or isinstance(parameter.default, bool)}
    assert len(found) > 20
    assert found - set(UNCHECKED) <= set(FLAGS) | set(CHOICES)
    assert set(UNCHECKED) <= found and set(filter(None, UNCHECKED.values())) <= set(FLAGS) | set(CHOICES)


def test_choices_pass_and_similar_ones_are_named():
    for value in FLAG:
        check_choice('flag', value, FLAG)
    check_choice('split', np.str_('train'), ('train', 'test'))
    check_choice('unit', None, (None, 'loss'))
    with pytest.raises(ProcessError, match="^split='trian' is not one of train, test .nearest: train.$"):
        check_choice('split', 'trian', ('train', 'test'), ProcessError)
