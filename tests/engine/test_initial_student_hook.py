"""Compared students start from the same weights, except for parameters that a method adds or freezes."""
import types

import pytest
import torch
from torch import nn

from distpro_mm.engine.hooks import InitialStudentHook
from distpro_mm.errors import ConfigError


def student(width=3):
    return nn.ModuleDict(dict(backbone=nn.Linear(2, width), head=nn.Linear(width, 2)))


def start(model, path, iteration=0):
    InitialStudentHook(path).before_train(types.SimpleNamespace(iter=iteration, model=model))


@pytest.fixture
def initial(tmp_path):
    path = str(tmp_path / 'initial.pth')
    torch.save(dict(state_dict=student().state_dict()), path)
    return path


def same(model, path):
    weights = torch.load(path)['state_dict']
    return {name for name, value in model.state_dict().items()
            if name in weights and value.shape == weights[name].shape and torch.equal(value, weights[name])}


ALL = {'backbone.weight', 'backbone.bias', 'head.weight', 'head.bias'}


def test_all_weights_are_taken(initial):
    model = student()
    start(model, initial)
    assert same(model, initial) == ALL


def test_what_is_frozen_and_what_has_another_shape_stays(initial):
    model = student()
    for parameter in model.head.parameters():  # for example the teacher's
        parameter.requires_grad = False
    start(model, initial)
    assert same(model, initial) == {'backbone.weight', 'backbone.bias'}
    model = student()
    model.head = nn.Linear(3, 5)
    start(model, initial)
    assert same(model, initial) == {'backbone.weight', 'backbone.bias'}


def test_a_student_in_a_distillation_is_found_and_a_resumed_one_left(initial):
    model = nn.Module()
    model.architecture = student()
    start(model, initial, iteration=5)
    assert same(model.architecture, initial) == set()
    start(model, initial)
    assert same(model.architecture, initial) == ALL


def test_the_weights_of_another_network_are_refused(initial):
    with pytest.raises(ConfigError, match="InitialStudentHook.checkpoint='.*initial.pth' has the weights of a"):
        start(nn.ModuleDict(dict(backbone=nn.Linear(5, 7))), initial)


def test_a_student_without_a_backbone_of_that_name_is_accepted(tmp_path):
    student = nn.ModuleDict(dict(module=nn.Linear(5, 7)))
    wanted = {name: torch.randn_like(value) for name, value in student.state_dict().items()}
    torch.save(dict(state_dict=wanted), tmp_path / 'initial.pth')
    start(student, str(tmp_path / 'initial.pth'))
    assert all(torch.equal(value, wanted[name]) for name, value in student.state_dict().items())
    with pytest.raises(ConfigError, match='has the weights of a network different'):
        start(nn.ModuleDict(dict(other=nn.Linear(5, 7))), str(tmp_path / 'initial.pth'))
