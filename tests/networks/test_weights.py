"""Weights from files of other training codes."""
import pytest
import torch
from toys import network as toy

from distpro.errors import ArgumentError
from distpro.networks import load_weights


@pytest.fixture
def trained():
    torch.manual_seed(3)
    return toy().state_dict()


def load(tmp_path, content, classes=5, **kwargs):
    """The loaded network, and the lines that were reported."""
    torch.save(content, tmp_path / 'file.pth')
    torch.manual_seed(7)
    network, lines = toy(classes=classes), []
    load_weights(network, str(tmp_path / 'file.pth'), report=lines.append, **kwargs)
    return network, lines


def equal(network, state):
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize('prefix', ['', 'module.', 'model.', 'backbone.', 'module.model.', 'student.0.'])
@pytest.mark.parametrize('entry', ['', 'state_dict', 'model', 'model_state_dict', 'net'])
def test_a_prefix_of_the_names_is_understood_and_said(tmp_path, trained, prefix, entry):
    state = {prefix + name: value for name, value in trained.items()}
    network, lines = load(tmp_path, {entry: state, 'epoch': 3} if entry else state)
    assert equal(network, trained)
    assert [line.partition('.pth\': ')[2] for line in lines] == (
        [f"the prefix '{prefix}' of {len(trained)} names is removed"] if prefix else [])


def test_a_prefix_is_added_where_the_network_has_it(tmp_path, trained):
    network = torch.nn.ModuleDict(dict(backbone=toy()))
    torch.save(trained, tmp_path / 'file.pth')
    lines = []
    load_weights(network, str(tmp_path / 'file.pth'), report=lines.append)
    assert equal(network['backbone'], trained)
    assert lines[0].endswith(f"the prefix 'backbone.' is added to {len(trained)} names")


@pytest.mark.parametrize('entry', ['state_dict_ema', 'model_ema', 'ema_state_dict'])
def test_averaged_weights_come_first_and_it_is_said(tmp_path, trained, entry):
    other = {name: value + 1 for name, value in trained.items()}
    averaged = {f'module.{name}': value for name, value in trained.items()}
    with pytest.warns(UserWarning, match='1 weights of the file are not in Sequential, first n_averaged'):
        network, lines = load(tmp_path, {'state_dict': other, entry: {**averaged, 'n_averaged': torch.tensor(3)}})
    assert equal(network, trained) and f"the averaged weights under '{entry}' are loaded" in lines[0]


def test_the_student_is_taken_from_a_distillation(tmp_path, trained):
    teacher = {f'teacher.{name}': value + 1 for name, value in trained.items()}
    with pytest.warns(UserWarning, match='are not in Sequential, first teacher'):
        network, _ = load(tmp_path, {**teacher, **{f'architecture.{name}': value for name, value in trained.items()}})
    assert equal(network, trained)


def test_a_classifier_of_other_classes_is_left_out_only_if_asked(tmp_path, trained):
    with pytest.raises(ArgumentError, match=r"fit Sequential: 2 have another shape, first 5.weight \(5, 8\) for \(3, 8\)"):
        load(tmp_path, trained, classes=3)
    network, lines = load(tmp_path, trained, classes=3, new_classifier=True)
    assert torch.equal(network[0][0].weight, trained['0.0.weight']) and network[5].out_features == 3
    assert lines[-1].endswith('starts from random weights (5.weight, 5.bias)')


def test_missing_weights_are_named(tmp_path, trained):
    del trained['1.0.weight']
    with pytest.raises(ArgumentError, match='1 of the .* weights of the network are not in the file, first 1.0.weight'):
        load(tmp_path, trained)
    with pytest.raises(ArgumentError, match='7 weights of the file are not in the network, first x.0'):
        load(tmp_path, {f'x.{place}': torch.ones(1) for place in range(7)})


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="^checkpoint='nowhere.pth': there is no such file"):
        load_weights(toy(), 'nowhere.pth')
    (tmp_path / 'text.pth').write_text('hello')
    with pytest.raises(ArgumentError, match='cannot be read as a checkpoint'):
        load_weights(toy(), str(tmp_path / 'text.pth'))
    with pytest.raises(ArgumentError, match='has no weights under'):
        load(tmp_path, dict(epoch=3))


def test_code_in_a_file_does_not_run(tmp_path):
    with pytest.raises(ArgumentError, match='has more than weights|incomplete'):
        load(tmp_path, dict(model=toy()))


def test_safetensors_are_read(tmp_path, trained):
    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(trained, str(tmp_path / 'file.safetensors'))
    network = toy()
    load_weights(network, str(tmp_path / 'file.safetensors'))
    assert equal(network, trained)
