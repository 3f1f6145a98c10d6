"""Made-up weights under the names of published teachers: each weight is converted, or the file is refused."""
import argparse
import functools
import pathlib
import zlib

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch.nn import functional

from distpro_mm.errors import ConfigError
from distpro_mm.models.checkpoints import load_strict
from distpro_mm.models.published_checkpoints import convert_teacher, read_published

ROOT = pathlib.Path(__file__).parents[2]
NETWORKS = Config.fromfile(ROOT / 'configs' / '_base_' / 'networks' / 'cifar_networks.py')


class Published:
    """A published network as a function of images, in double precision. Draws each weight at its first use."""

    def __init__(self, describe):
        self.describe = describe
        self.state = {}
        self.random = torch.Generator().manual_seed(0)

    def __call__(self, images):
        return self.describe(self, images)

    def weight(self, name, *shape, above_zero=False):
        if name not in self.state:
            value = torch.randn(shape, generator=self.random)
            value *= (2 * shape[0] / value.numel())**0.5 if shape[1:] else 0.3  # prevents maps from vanishing or exploding
            self.state[name] = value.abs() + 0.7 if above_zero else value
        return self.state[name].double()

    def conv(self, x, name, channels, size=3, stride=1, groups=1, bias=False):
        weight = self.weight(f'{name}.weight', channels, x.shape[1] // groups, size, size)
        bias = self.weight(f'{name}.bias', channels) if bias else None
        return functional.conv2d(x, weight, bias, stride, size // 2, groups=groups)

    def bn(self, x, name):
        weight, bias, mean, variance = (
            self.weight(f'{name}.{part}', x.shape[1], above_zero=part in ('weight', 'running_var'))[:, None, None]
            for part in ('weight', 'bias', 'running_mean', 'running_var'))
        self.state[f'{name}.num_batches_tracked'] = torch.tensor(240 * 782)
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def unit(self, x, number, channels, *args, within='', **kwargs):
        """Convolution and batch norm, conv<number> and bn<number>."""
        return self.bn(self.conv(x, f'{within}conv{number}', channels, *args, **kwargs), f'{within}bn{number}')

    def classify(self, x, name):
        x = x.mean((2, 3))
        return x @ self.weight(f'{name}.weight', 100, x.shape[1]).T + self.weight(f'{name}.bias', 100)


def positive(x):
    return x * (x > 0)


def shuffled(x, groups):
    return torch.cat([x[:, i::x.shape[1] // groups] for i in range(x.shape[1] // groups)], 1)


def resnet(depth, channels, net, x):
    x = positive(net.unit(x, 1, channels[0]))
    for stage, width in enumerate(channels[1:], 1):
        for block in range((depth - 2) // 6):
            within, stride = f'layer{stage}.{block}.', 2 if stage > 1 and block == 0 else 1
            y = net.unit(positive(net.unit(x, 1, width, 3, stride, within=within)), 2, width, within=within)
            if y.shape != x.shape:
                x = net.bn(net.conv(x, f'{within}downsample.0', width, 1, stride), f'{within}downsample.1')
            x = positive(x + y)
    return net.classify(x, 'fc')


def wide_resnet(depth, factor, net, x):
    x = net.conv(x, 'conv1', 16)
    for stage in (1, 2, 3):
        for block in range((depth - 4) // 6):
            within, stride = f'block{stage}.layer.{block}.', 2 if stage > 1 and block == 0 else 1
            width = 8 * 2**stage * factor
            y = positive(net.bn(x, f'{within}bn1'))
            if width != x.shape[1]:
                x = net.conv(y, f'{within}convShortcut', width, 1, stride)
            y = positive(net.bn(net.conv(y, f'{within}conv1', width, 3, stride), f'{within}bn2'))
            x = x + net.conv(y, f'{within}conv2', width)
    return net.classify(positive(net.bn(x, 'bn1')), 'fc')


def vgg(stages, net, x):
    for stage, (width, number) in enumerate(zip((64, 128, 256, 512, 512), stages)):
        if 0 < stage < 4:
            x = functional.max_pool2d(x, 2)
        for index in range(number):
            x = net.conv(x, f'block{stage}.{3 * index}', width, bias=True)
            x = positive(net.bn(x, f'block{stage}.{3 * index + 1}'))
    return net.classify(x, 'classifier')


def mobilenet_v2(net, x):
    x = positive(net.bn(net.conv(x, 'conv1.0', 16, 3, 2), 'conv1.1'))
    settings = [(1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1)]
    for stage, (expansion, width, number, stride) in enumerate(settings):
        for block in range(number):
            within, between = f'blocks.{stage}.{block}.conv', expansion * x.shape[1]
            y = positive(net.bn(net.conv(x, f'{within}.0', between, 1), f'{within}.1'))
            y = net.conv(y, f'{within}.3', between, 3, 1 if block else stride, groups=between)
            y = net.bn(net.conv(positive(net.bn(y, f'{within}.4')), f'{within}.6', width, 1), f'{within}.7')
            x = x + y if y.shape == x.shape else y
    return net.classify(positive(net.bn(net.conv(x, 'conv2.0', 1280, 1), 'conv2.1')), 'classifier.0')


def shufflenet_v1(net, x):
    x = positive(net.unit(x, 1, 24, 1))
    for stage, (total, number) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for block in range(number):
            within, groups = f'layer{stage}.{block}.', 1 if stage == 1 and block == 0 else 3
            width = total if block else total - x.shape[1]
            y = positive(net.unit(x, 1, width // 4, 1, groups=groups, within=within))
            y = shuffled(y, groups)
            y = positive(net.unit(y, 2, width // 4, 3, 1 if block else 2, groups=width // 4, within=within))
            y = net.unit(y, 3, width, 1, groups=3, within=within)
            x = positive(x + y if block else torch.cat([y, functional.avg_pool2d(x, 3, 2, 1)], 1))
    return net.classify(x, 'linear')


def shufflenet_v2(net, x):
    x = positive(net.unit(x, 1, 24, 1))
    for stage, (total, number) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        for block in range(number):
            within, width = f'layer{stage}.{block}.', total // 2
            first, stride = (1, 1) if block else (3, 2)  # of the right path
            left, right = (x[:, :width], x[:, width:]) if block else (x, x)
            if not block:
                left = net.unit(left, 1, left.shape[1], 3, 2, groups=left.shape[1], within=within)
                left = positive(net.unit(left, 2, width, 1, within=within))
            right = positive(net.unit(right, first, width, 1, within=within))
            right = net.unit(right, first + 1, width, 3, stride, groups=width, within=within)
            right = positive(net.unit(right, first + 2, width, 1, within=within))
            x = shuffled(torch.cat([left, right], 1), 2)
    return net.classify(positive(net.unit(x, 2, 1024, 1)), 'linear')


def resnet50(net, x):
    x = positive(net.unit(x, 1, 64))
    for stage, number in enumerate((3, 4, 6, 3), 1):
        for block in range(number):
            within, stride, width = f'layer{stage}.{block}.', 2 if stage > 1 and block == 0 else 1, 32 * 2**stage
            y = positive(net.unit(x, 1, width, 1, within=within))
            y = positive(net.unit(y, 2, width, 3, stride, within=within))
            y = net.unit(y, 3, 4 * width, 1, within=within)
            if y.shape != x.shape:
                x = net.bn(net.conv(x, f'{within}shortcut.0', 4 * width, 1, stride), f'{within}shortcut.1')
            x = positive(x + y)
    return net.classify(x, 'linear')


NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
# By our name: what the published network computes, and the number and CRC-32 of the lines "name shape", sorted, of the
# state_dict of RepDistiller's running model.
TEACHERS = dict(
    resnet8=(functools.partial(resnet, 8, NARROW), 56, 0x0698f333),
    resnet56=(functools.partial(resnet, 56, NARROW), 344, 0x1ccb13f4),
    resnet110=(functools.partial(resnet, 110, NARROW), 668, 0xc8ebf41d),
    resnet32x4=(functools.partial(resnet, 32, WIDE), 206, 0xbb9c0b61),
    wrn_16_1=(functools.partial(wide_resnet, 16, 1), 82, 0xf10cbfad),
    wrn_40_2=(functools.partial(wide_resnet, 40, 2), 227, 0xf0c8ada6),
    vgg8=(functools.partial(vgg, (1, 1, 1, 1, 1)), 37, 0x9de39bc6),
    vgg13=(functools.partial(vgg, (2, 2, 2, 2, 2)), 72, 0xe672a684),
    mobilenetv2_half=(mobilenet_v2, 320, 0x1b2b19fa),
    shufflenetv1=(shufflenet_v1, 296, 0xd27e5449),
    shufflenetv2=(shufflenet_v2, 338, 0x378fd062),
    resnet50_cifar=(resnet50, 320, 0x6dedc22b))


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
