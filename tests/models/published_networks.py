"""Published networks as functions of their weights, written independently of the backbones."""
import functools

import torch
from torch.nn import functional


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
