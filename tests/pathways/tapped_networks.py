"""A toy network with shared in-place activations, and how its layers are found and read."""
import torch
from mmpretrain.registry import MODELS
from torch import nn

from distpro.tracing import FeatureReader, probe_input, resolve_taps, trace

KEY = 'receivers'


class Residual(nn.Module):
    """A residual block that uses one in-place ReLU twice, like the real networks."""

    def __init__(self, width=6):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


class Network(nn.Module):
    """A stem, two stages with pooling between them, a list of layers, an unused layer, and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.layer1, self.pool, self.layer2 = Residual(), nn.AvgPool2d(2), Residual()
        self.blocks = nn.ModuleList([nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 1)])
        self.spare = nn.Conv2d(4, 4, 1)
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x):
        x = self.layer2(self.pool(self.layer1(self.relu(self.bn(self.conv(x))))))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.dropout(x).mean((2, 3)))


class Split(nn.Module):

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return x * 2, self.relu(x - 1)


def shaken(model):
    """The model in double precision, with batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.2
    return model.double()


def traced(model, channels=3, size=8):
    shape = (channels, size, size)
    return trace(model, lambda: model(probe_input(model, shape)))


def resolve(model, *layers, **kwargs):
    return resolve_taps(list(layers), traced(model, **kwargs), KEY)


def read(model, taps, images, **kwargs):
    with FeatureReader(model, taps, **kwargs) as reader:
        model(images)
    return reader.features


def number_of_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def convolved(x, conv):
    return nn.functional.conv2d(x, conv.weight, conv.bias, padding=conv.padding)


def normalised(x, bn):
    """Output of a batch norm in training mode, from its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean)**2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + bn.eps).sqrt() * bn.weight[:, None, None] + bn.bias[:, None, None]


def positive(x):
    return x * (x > 0)


def stem_of(network, images):
    """Output of the stem before its activation."""
    return normalised(convolved(images, network.conv), network.bn)


def block_of(block, x):
    """Outputs of a block before each of its two activations."""
    first = normalised(convolved(x, block.conv1), block.bn1)
    return first, normalised(convolved(positive(first), block.conv2), block.bn2) + x


# ---- reading


LAYERS = ('relu', 'layer1', 'layer2')
BEFORE = [dict(module=name, before_activation=True) for name in LAYERS]


# ---- finding the stages


def classifier(backbone):
    torch.manual_seed(4)
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone))


RESNET20 = dict(type='CIFARResNet', depth=20)
RESNET8X4 = dict(type='CIFARResNet', depth=8, stem_channels=32, channels=(64, 128, 256))
IMAGENET = ('stem', 'layer1', 'layer2', 'layer3', 'layer4')
