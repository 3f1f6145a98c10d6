"""Made-up weights under the names of published teachers: each weight is converted, or the file is refused."""
import argparse
import pathlib
import zlib

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from published_networks import TEACHERS, Published

from distpro_mm.errors import ConfigError
from distpro_mm.models.checkpoints import load_strict
from distpro_mm.models.published_checkpoints import convert_teacher, read_published

ROOT = pathlib.Path(__file__).parents[2]
NETWORKS = Config.fromfile(ROOT / 'configs' / '_base_' / 'networks' / 'cifar_networks.py')


@pytest.fixture
def images():
    """Images large enough to reach the limit of a ReLU6."""
    return 50 * torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def config(name):
    return Config(dict(model=NETWORKS[name]))


@pytest.mark.parametrize('name', TEACHERS)
def test_a_converted_teacher_computes_what_was_published(name, images, tmp_path):
    describe, number, crc = TEACHERS[name]
    published = Published(describe)
    images.requires_grad_()
    logits = published(images)
    lines = sorted(f'{key} {tuple(value.shape)}' for key, value in published.state.items())
    assert (len(lines), zlib.crc32('\n'.join(lines).encode())) == (number, crc)
    torch.save(dict(epoch=240, model=published.state), tmp_path / 'published.pth')
    weights = convert_teacher(config(name), str(tmp_path / 'published.pth'), str(tmp_path / 'ours' / 'teacher.pth'))
    model = MODELS.build(NETWORKS[name]).double()
    model.eval()
    load_strict(model, str(tmp_path / 'ours' / 'teacher.pth'), 'model.teacher_ckpt')
    own = model(images, mode='tensor')
    assert logits.std() > 1e-3
    torch.testing.assert_close(own, logits, rtol=1e-9, atol=0)
    gradient, = torch.autograd.grad(logits.square().sum(), images)
    torch.testing.assert_close(torch.autograd.grad(own.square().sum(), images)[0], gradient, rtol=1e-6,
                               atol=1e-9 * gradient.abs().max())
    assert sorted(f'{weight.published} {weight.shape}' for weight in weights) == lines
    assert [weight.ours for weight in weights] == list(model.state_dict())


@pytest.fixture
def state():
    published = Published(TEACHERS['resnet8'][0])
    published(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    return published.state


def saved(tmp_path, content, **kwargs):
    torch.save(content, tmp_path / 'published.pth', **kwargs)
    return str(tmp_path / 'published.pth')


def test_every_layout_in_use_is_read(state, tmp_path):
    options = argparse.Namespace(model='resnet8', learning_rate=0.05, lr_decay_epochs=[150, 180, 210], trial=None)
    optimizer = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1).state_dict()
    parallel = {f'module.{name}': value for name, value in state.items()}
    for layout in (dict(opt=options, model=state, optimizer=optimizer),
                   dict(epoch=240, model=state, accuracy=torch.tensor(59.1), optimizer=optimizer),
                   dict(epoch=240, model=parallel, best_acc=59.1), dict(state_dict=state), state, parallel):
        for old in (False, True):
            read = read_published(saved(tmp_path, layout, _use_new_zipfile_serialization=not old))
            assert list(read) == list(state) and all(torch.equal(read[name], state[name]) for name in state)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


class RunsCode:

    def __reduce__(self):
        return print, ('this code was run', )


def test_a_file_that_could_run_code_is_refused(state, tmp_path, capsys):
    for content, named in ((RunsCode(), 'print'), (pathlib.PurePosixPath('here'), 'pathlib.PurePosixPath')):
        with pytest.raises(ConfigError, match=f"^checkpoint='.*published.pth' needs '{named}', and loading this class "
                                              'could run code'):
            read_published(saved(tmp_path, dict(opt=content, model=state)))
    assert 'this code was run' not in capsys.readouterr().out


def test_a_file_without_weights_is_refused(state, tmp_path):
    for content in ([1.0], {}, dict(model={}), dict(epoch=240), dict(model=dict(state, extra=1)), torch.ones(2)):
        with pytest.raises(ConfigError, match="^checkpoint='.*published.pth' has no weights"):
            read_published(saved(tmp_path, content))
    path = saved(tmp_path, dict(model=state))
    whole = pathlib.Path(path).read_bytes()
    for damaged in (whole[:len(whole) // 2], b'<html>', b''):
        pathlib.Path(path).write_bytes(damaged)
        with pytest.raises(ConfigError, match="^checkpoint='.*published.pth' cannot be read as a checkpoint"):
            read_published(path)
    with pytest.raises(ConfigError, match="^checkpoint='.*nowhere.pth': there is no such file"):
        read_published(str(tmp_path / 'nowhere.pth'))


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize('change, message', [
    (lambda state: dict(state, extra=torch.ones(1)), "1 of its weights are not in that network, first 'extra'; give"),
    (lambda state: without(state, 'layer2.0.bn2.running_var'),
     "1 of the weights of that network are not in the file, first 'backbone.layer2.0.bn2.running_var'; give"),
    (lambda state: dict(state, **{'conv1.weight': torch.ones(16, 1, 3, 3)}),
     "1 have another shape, first 'conv1.weight' (16, 1, 3, 3) for 'backbone.conv1.weight' (16, 3, 3, 3); give"),
    (lambda state: dict({'linear.weight': torch.ones(100, 64)}, **state),  # two for head.fc.weight
     "1 of its weights are not in that network, first 'fc.weight'; give"),
    (lambda state: dict(without(state, 'fc.bias'), **{'fc2.bias': torch.ones(100)}),
     "1 of its weights are not in that network, first 'fc2.bias'; 1 of the weights of that network are not in the file, "
     "first 'head.fc.bias'; give"),
])
def test_what_does_not_fit_weight_for_weight_is_refused(state, tmp_path, change, message):
    with pytest.raises(ConfigError) as refused:
        convert_teacher(config('resnet8'), saved(tmp_path, dict(model=change(state))), str(tmp_path / 'out.pth'))
    assert f"published.pth' does not fit the CIFARResNet of the config: {message}" in str(refused.value)
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('name', ['resnet14', 'resnet8x4', 'wrn_16_1', 'vgg8', 'shufflenetv2'])
def test_a_teacher_of_another_network_is_refused(state, tmp_path, name):
    with pytest.raises(ConfigError, match='published.pth. does not fit the .*; give a checkpoint of this network'):
        convert_teacher(config(name), saved(tmp_path, dict(model=state)), str(tmp_path / 'out.pth'))


def test_of_a_distillation_the_teacher_is_converted(state, tmp_path):
    cfg = Config(dict(model=dict(type='DistPro', architecture=NETWORKS.resnet20, teacher=NETWORKS.resnet8)))
    weights = convert_teacher(cfg, saved(tmp_path, dict(model=state)), str(tmp_path / 'out.pth'))
    assert len(weights) == len(state)


def test_a_config_without_a_network_with_published_names_is_refused(state, tmp_path):
    path = saved(tmp_path, dict(model=state))
    with pytest.raises(ConfigError, match="the config '.*' has no model: set model=dict"):
        convert_teacher(Config(dict(train_cfg=dict())), path, str(tmp_path / 'out.pth'))
    other = dict(NETWORKS.resnet8, backbone=dict(type='MobileNetV3', arch='small'))
    with pytest.raises(ConfigError, match="model.backbone.type='MobileNetV3': its published names are not known; supported "
                                          'are CIFARResNet, '):
        convert_teacher(Config(dict(model=other)), path, str(tmp_path / 'out.pth'))
