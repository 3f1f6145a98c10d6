"""Every wrong argument is answered at the call: by its name, its value and what would do."""
import copy
import functools
import re

import pytest
import torch
import torch.nn.functional as functional
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler
from toys import labelled_images, network

import distpro
from distpro.pathways import HCLLoss, PointwiseTransform, Transform
from distpro.searching import SEARCHERS, RandomSearcher, Searcher, register_searcher
from distpro.weighting import WEIGHTINGS

STUDENT = network()
ITEMS = labelled_images(40)


class Own(Transform):
    """Without ``mid``, and with one more argument."""

    def __init__(self, in_channels, out_channels, groups=1):
        self.groups = groups
        super().__init__(in_channels, out_channels)

    def build(self, in_channels, out_channels):
        before = nn.Conv2d(in_channels, out_channels, 1, groups=self.groups)
        return [before], [nn.Conv2d(out_channels, out_channels, 3, padding=1)]


def layers(*found):
    return type('Layers', (Transform, ), dict(build=lambda self, in_channels, out_channels: found[0]))


class Sizeless(nn.Conv2d):

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x):
        return super().forward(x)


def each_image(student, teacher):
    return (student - teacher).square().mean((1, 2, 3))


class Drifting(Searcher):

    def refine(self, step):
        return self.base[0]


def distillation(student=None, teacher=None, example=None, **kwargs):
    return distpro.Distillation(student or network(), teacher or network(8),
                                torch.randn(2, 3, 16, 16) if example is None else example, **kwargs)


def search(**kwargs):
    loaders = DataLoader(ITEMS[:20], 10), DataLoader(ITEMS[20:], 10)
    arguments = dict(train_loader=loaders[0], held_out_loader=loaders[1], criterion=functional.cross_entropy, epochs=1,
                     optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05), min_iterations=1, max_divisions=1,
                     rounds=1, report=lambda line: None)
    arguments = {name: value for name, value in {**arguments, **kwargs}.items() if value != 'missing'}
    return distpro.search(network(), network(8), **arguments)


def by_hand(**schedule):
    return distillation(process=schedule)


def config(kind):
    return dict(a=dict(type=kind))


SHARED = DataLoader(ITEMS, 10)
DISTILLATION = [
    (dict(transform=Own), "Distillation has no argument 'transform' (nearest: transforms)"),
    (dict(proces='general'), "Distillation has no argument 'proces' (nearest: process)"),
    (dict(compile=True), "Distillation has no argument 'compile'"),
    (dict(transforms=[Own]), "transforms=[<class 'test_arguments.Own'>] must be a dict by labels of your own, such as di"),
    (dict(transforms=Own), 'transforms=the class Own must be a dict by labels'),
    (dict(transforms={}), 'transforms={} must be a dict by labels'),
    (dict(transforms={'a:b': Own}), "transforms: the label='a:b' must be a text without . : >"),
    (dict(transforms=config('Own')), "transforms: a={'type': 'Own'} must be a class or function build(in_channels, out_cha"),
    (dict(transforms=dict(a=Own(4, 8))), 'transforms: a=a Own must be a class or function build(in_channels, out_channels)'),
    (dict(transforms=dict(a=lambda width: None)), 'transforms: a=the function <lambda> must be a class or function build'),
    (dict(transforms=dict(a=lambda in_channels, out_channels: 1)), 'transforms: a=1 must be a class or function that giv'),
    (dict(transforms=dict(a=Transform)), 'Transform must define build(self, in_channels, out_channels) (pathway '),
    (dict(transforms=dict(a=layers([nn.ReLU()]))), 'Layers.build=[ReLU()] must be two lists of modules: those before the'),
    (dict(transforms=dict(a=lambda in_channels, out_channels: PointwiseTransform(out_channels, in_channels))),
     "transforms: a (PointwiseTransform) fails for 'stem>stem:a', called with (2, 4, 4, 4): RuntimeError: Given groups=1"),
    (dict(transforms=dict(a=lambda in_channels, out_channels: Own(in_channels, in_channels))),
     "transforms: a (Own) gives a Tensor of shape (2, 4, 4, 4) for 'stem>stem:a', called with (2, 4, 4, 4)|it must give "
     'the transformed map, (2, 8, 4, 4), for size=(4, 4)'),
    (dict(transforms=dict(a=Sizeless)), "transforms: a (Sizeless) fails for 'stem>stem:a', called with (2, 4, 4, 4): T"),
    (dict(distance=nn.MSELoss), 'distance=the class MSELoss must be an nn.Module, such as MSELoss(), or a function'),
    (dict(distance='HCLLoss'), "distance='HCLLoss' must be an nn.Module"),
    (dict(distance=each_image), "distance (the function each_image) gives a Tensor of shape (2,) for 'stem>stem:pointwis"),
    (dict(distance=nn.MSELoss(reduction='none')), 'distance (MSELoss) gives a Tensor of shape (2, 8, 4, 4) for'),
    (dict(logits=[nn.MSELoss()]), 'logits=[MSELoss()] must be a dict of losses by label'),
    (dict(logits=dict(mse=nn.MSELoss)), 'logits: mse=the class MSELoss must be an nn.Module, such as MSELoss(), or a fun'),
    (dict(logits=dict(mse=functools.partial(functional.mse_loss, reduction='none'))), 'logits (a partial) gives a Tensor'),
    (dict(weighting='softplus'), "weighting.type='softplus' is not one of uniform, softmax"),
    (dict(weighting=config('softmax')), "weighting.a={'type': 'softmax'} is not a parameter of biased_softmax"),
    (dict(weighting=dict(type='exponential', scal=2)), 'weighting.scal=2 is not a parameter of exponential, which has none '
                                                       '(nearest: scale)'),
    (dict(weighting=functional.softplus), 'weighting=<built-in function softplus> must be a Weighting, a name'),
    (dict(process='genral'), "process: there is no process file 'genral' (nearest: general): run the search first"),
    (dict(process=5), "process: process=5 must be a name of the library such as 'general'"),
    (dict(process=dict(progress=[0, 1], weight=[1, 2])), 'weight=[1, 2] (nearest: weights)'),
    (dict(process=dict(progress=[0], weights=dict(feature=[1], logits=[1]))), "weights has 'feature' (nearest: features)"),
    (dict(get_logits='logits'), "get_logits='logits' must be a function of what a network returns"),
    (dict(get_logits=lambda output: None), 'student: get_logits(output)=None must be logits [B, K]'),
    (dict(example=torch.randn(2, 1, 16, 16)), 'example: the teacher fails when it is called with a Tensor of shape (2, 1'),
    (dict(example=torch.randn(3, 16, 16)), 'example: the teacher fails when it is called with a Tensor of shape (3, 16,'),
    (dict(student=STUDENT, teacher=STUDENT), 'student and teacher are the same module: give a copy.deepcopy of it'),
    (dict(student=STUDENT, teacher=dict(a=STUDENT, b=network(8))), 'student and teacher are the same module'),
    (dict(student=nn.Identity()), 'student=Identity() has no parameters, so there is nothing to train'),
    (dict(student=network), 'student: name=<function network'),
    (dict(teacher=7), 'teacher: name=7 must be SOURCE:NAME'),
]
SEARCH = [
    (dict(epoch=3, epochs='missing'), "search has no argument 'epoch' (nearest: epochs)"),
    (dict(epochs='missing'), "search: missing a required argument: 'epochs'"),
    (dict(transform=Own), "search has no argument 'transform' (nearest: transforms)"),
    (dict(transforms=dict(a=Sizeless)), 'transforms: a (Sizeless) fails for'),
    (dict(searcher='RandmSearcher'), "searcher.type='RandmSearcher' is not one of |(nearest: RandomSearcher)"),
    (dict(searcher=network()), 'searcher.type=a Sequential is not one of'),
    (dict(searcher=dict(type='RpropSearcher', step=1)), "searcher has no argument 'step' (nearest: step_size)"),
    (dict(searcher=dict(type='RandomSearcher', seed=1)), 'searcher has seed, which the search sets itself'),
    (dict(searcher=type('Lazy', (Searcher, ), {})), 'searcher.type=the class Lazy must be a strategy that defines refine'),
    (dict(searcher=dict(type=Drifting, confirmations=0), max_divisions=0, references=[]),
     'Drifting.refine(0)=a Tensor of shape (7,) must be alpha [knots, N], a Tensor of shape (4, 7)'),
    (dict(searcher='CMAESSearcher'), "rounds=1 is too few for searcher.type='CMAESSearcher', which needs 8"),
    (dict(optimizer=torch.optim.SGD(STUDENT.parameters(), 0.1)), 'optimizer=a SGD must be a function of the parameters'),
    (dict(optimizer=lambda parameters: None), 'optimizer=None must be one of torch'),
    (dict(scheduler=lambda optimizer, iterations: None), 'scheduler=None must be one of torch'),
    (dict(scheduler=lambda optimizer, iterations: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)),
     'scheduler=a ReduceLROnPlateau must be one of torch that steps after each iteration, without a metric'),
    (dict(scheduler='cosine'), "scheduler='cosine' must be a function scheduler(optimizer, iterations), or None"),
    (dict(criterion='ce'), "criterion='ce' must be a function criterion(logits, labels)"),
    (dict(criterion=nn.CrossEntropyLoss), 'criterion=the class CrossEntropyLoss must be a function criterion(logits, lab'),
    (dict(criterion=nn.CrossEntropyLoss(reduction='none')), 'criterion(logits, labels)=a Tensor of shape (2,) must be the '),
    (dict(criterion=nn.BCEWithLogitsLoss()), 'criterion=BCEWithLogitsLoss() fails for logits (2, 5) and labels, a Tensor'),
    (dict(report=None), 'report=None must be a function of a line, such as print'),
    (dict(seed=-1), 'seed=-1 must be a whole number from 0'),
    (dict(held_out_loader=[]), 'held_out_loader=[] must be a DataLoader, or what else gives its batches'),
    (dict(held_out_loader=iter([1])), 'held_out_loader=a list_iterator must be a DataLoader'),
    (dict(train_loader=SHARED, held_out_loader=SHARED), 'held_out_loader=a DataLoader gives the images of train_loader'),
    (dict(train_loader=SHARED, held_out_loader=DataLoader(ITEMS, 5)), 'held_out_loader=a DataLoader gives the images of'),
]


def refused(call, message, error=distpro.ArgumentError):
    """All parts of a message, separated by |."""
    with pytest.raises(error) as found:
        call()
    assert all(part in str(found.value) for part in message.split('|')), str(found.value)
    first = message.split('|')[0]
    assert str(found.value).startswith(first) or not re.match(r'\w+=', str(found.value))


@pytest.mark.parametrize('kwargs, message', DISTILLATION, ids=[message[:40] for _, message in DISTILLATION])
def test_a_wrong_argument_of_a_distillation_is_named(kwargs, message):
    refused(lambda: distillation(**kwargs), message)


@pytest.mark.parametrize('kwargs, message', SEARCH, ids=[message[:40] for _, message in SEARCH])
def test_a_wrong_argument_of_a_search_is_named(kwargs, message):
    refused(lambda: search(**kwargs), message)


PROCESS = distpro.DistillationProcess(['a>a:b'], distpro.Weighting('exponential'), [0], [[0]])


@pytest.mark.parametrize('call, message', [
    (lambda: distpro.convert_input('resnet', {}), "network='resnet' must be an nn.Module"),
    (lambda: distpro.convert_input(STUDENT, dict(men=1), {}), "given: ModelInput has no argument 'men' (nearest: "),
    (lambda: distpro.convert_input(STUDENT, {}, 224), 'wanted=224 must be a ModelInput or a dict, such as'),
    (lambda: distpro.map_process('general', ['a>a:b']), "process='general' must be a DistillationProcess"),
    (lambda: distpro.DistillationProcess('abc', distpro.Weighting(), [0], [[1]]), "names='abc' must be the list"),
    (lambda: distpro.DistillationProcess(['a'], distpro.Weighting(), ['x'], [[1]]), 'progress and alpha of a process must'),
    (lambda: distpro.DistillationProcess.load(5), 'path=5 must be the path of a process file'),
    (lambda: distpro.model_input('resnet'), "network='resnet' must be an nn.Module"),
    (lambda: distpro.map_process(PROCESS, 'a>a:b'), "names='a>a:b' must be the list of the names"),
    (lambda: distpro.DistillationProcess(['a>a:b'], 'exponentia'), "weighting.type='exponentia' is not one of |(nearest: "),
])
def test_a_wrong_argument_of_another_function_is_named(call, message):
    refused(call, message)


def constant(alpha):
    return alpha.sum().exp()[None]


def fixed(alpha):
    return torch.ones_like(alpha)


@pytest.mark.parametrize('function, message', [
    (constant, "type='constant' must give weights [N] that are differentiable in alpha [N], one for each pathway; for alpha "
               '[3] it gives a Tensor of shape (1,)'),
    (fixed, "type='fixed' must give weights [N] that are differentiable"),
    (lambda alpha, width: alpha, '<lambda>(alpha, width): a weighting has alpha and then parameters with numbers as defa'),
    (lambda alpha, kind='a': alpha, "<lambda>(alpha, kind='a'): a weighting has alpha and then parameters"),
    ('softmax', "function='softmax' must be a function"),
])
def test_a_wrong_weighting_is_named(function, message, monkeypatch):
    monkeypatch.setattr(distpro.weighting, 'WEIGHTINGS', dict(WEIGHTINGS))
    refused(lambda: distpro.Weighting(distpro.register_weighting(function).__name__), message)


def test_a_name_is_registered_once_and_again_by_the_same_definition(monkeypatch):
    def sigmoid(alpha):
        return alpha.tanh()

    refused(lambda: distpro.register_weighting(sigmoid), "the name 'sigmoid' is registered already, by distpro.weighting.")
    refused(lambda: register_searcher(type('RandomSearcher', (Drifting, ), {})), "the name 'RandomSearcher' is registered")
    for _ in range(2):  # as a cell of a notebook that is run again
        register_searcher(type('Again', (Drifting, ), dict(__module__='cell', __qualname__='Again')))
    del SEARCHERS['Again']


def test_what_the_pages_allow_is_accepted():
    assert type(distillation(distance=functional.mse_loss).grid.distances['pointwise']).__name__ == 'FunctionLoss'
    assert distillation(weighting='softmax').grid.weighting.type == 'softmax'
    assert distillation(weighting=dict(type='sigmoid', kd_weight=2)).grid.weighting.kd_weight == 2
    assert distillation(weighting='biased_softmax').grid.weighting.scale == 'num_pathways'  # as in a config
    kd = distillation(transforms=dict(own=functools.partial(Own, groups=4), plain=Own), logits=dict(mse=functional.mse_loss))
    kd(torch.randn(4, 3, 16, 16)).loss.backward()
    assert next(iter(kd.grid.transforms.values())).groups == 4
    for searcher in ('RandomSearcher', RandomSearcher):
        assert len(search(searcher=searcher, max_divisions=0).origin['trials']) >= 3
    half = [DataLoader(ITEMS, 10, sampler=SubsetRandomSampler(range(start, 40, 2))) for start in (0, 1)]
    assert search(train_loader=half[0], held_out_loader=half[1], searcher='RandomSearcher').origin['complete']


def test_a_trial_changes_neither_the_part_nor_the_random_state():
    def own(in_channels, out_channels):
        return PointwiseTransform(in_channels, out_channels)

    found = []
    for transforms in (dict(a=own), dict(a=PointwiseTransform)):
        torch.manual_seed(3)
        kd = distillation(network(), network(8), torch.ones(2, 3, 16, 16), transforms=transforms)
        found.append([*kd.grid.state_dict().values(), torch.get_rng_state()])
        assert all(module.training for module in kd.grid.transforms.modules())
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_function_is_the_same_distance_as_its_module():
    torch.manual_seed(torch.initial_seed() % 1000)
    student, teacher, x = network(), network(8), torch.randn(4, 3, 16, 16)
    first = distillation(student, teacher, x, distance=nn.MSELoss())
    second = distillation(student, teacher, x, distance=functional.mse_loss)
    second.grid.load_state_dict(first.grid.state_dict())
    assert torch.equal(first(x).loss, second(x).loss)


def test_a_closed_distillation_is_refused_and_two_on_one_student_leave_each_other_alone():
    student, x = network(), torch.randn(4, 3, 16, 16)
    first, second = (distillation(student, network(8), x) for _ in range(2))
    expected = second(x).loss
    first.close()
    refused(lambda: first(x), 'this Distillation is closed')
    with torch.no_grad():
        assert torch.isfinite(first(x).logits).all()
    assert torch.equal(second(x).loss, expected)  # in place, activations would overwrite what is read
    assert not any(getattr(module, 'inplace', False) for module in student.modules())
    second.close()
    assert sum(getattr(module, 'inplace', False) for module in student.modules()) == 3
    lost = distillation(student, network(8), x)
    third = distillation(student, network(8), x)
    del lost
    third.close()
    assert sum(getattr(module, 'inplace', False) for module in student.modules()) == 3


def test_control_level_is_given_a_loss_and_optimisers_after_a_step():
    kd, loss = distillation(process='general'), torch.zeros(())
    optimizer = torch.optim.SGD(kd.student.parameters(), 0.1)
    refused(lambda: kd.control_level('x', 'y'), "loss='x' must be the mean cross-entropy of a batch, a scalar")
    refused(lambda: kd.control_level(loss, 'y'), "optimizers='y' must be a torch.optim.Optimizer")
    refused(lambda: kd.control_level(loss, optimizer), 'control_level: there is no step yet')
    kd(torch.randn(4, 3, 16, 16), progress=0.0)
    kd.control_level(loss, optimizer)


def test_parts_of_the_package_are_not_tried(monkeypatch):
    ran = []
    monkeypatch.setattr(HCLLoss, 'forward', lambda *args: ran.append(args))
    distillation()
    copy.deepcopy(distillation(distance=HCLLoss(levels=(2, ))))
    assert not ran
