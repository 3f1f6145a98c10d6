"""Layers and logits of networks that are built like those of timm and Hugging Face."""
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

import distpro
from distpro.errors import ArgumentError
from distpro.tracing import FeatureReader, find_logits, is_headless, resolve_logits, resolve_taps, trace

KEY = 'receivers'


class Block(nn.Module):
    """A residual block of attention-like mixing on tokens [B, L, C], which returns a tuple if asked."""

    def __init__(self, width, as_tuple=False):
        super().__init__()
        self.norm, self.up, self.down, self.as_tuple = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(
            2 * width, width), as_tuple

    def forward(self, x):
        x = x + self.down(self.up(self.norm(x)).tanh()) + x.mean(1, keepdim=True)
        return (x, x.mean()) if self.as_tuple else x


class Embeddings(nn.Module):
    """Patches with a class token, registers and positions, all of them parameters of this module."""

    def __init__(self, width, registers, table):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.tokens = nn.Parameter(torch.randn(1, 1 + registers, width))
        count = 17 + registers
        self.positions = nn.Embedding(count, width) if table else nn.Parameter(torch.randn(1, count, width))

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], 1)
        return x + (self.positions.weight if isinstance(self.positions, nn.Embedding) else self.positions)


class Encoder(nn.Module):

    def __init__(self, width, depth, as_dict):
        super().__init__()
        self.layer = nn.ModuleList([Block(width, as_dict) for _ in range(depth)])
        self.as_dict = as_dict

    def forward(self, x):
        for layer in self.layer:
            x = layer(x)[0] if self.as_dict else layer(x)
        return dict(last_hidden_state=x) if self.as_dict else x


class Transformer(nn.Module):
    """A plain transformer; nested, and of dicts and tuples, as Hugging Face's."""

    def __init__(self, width=12, depth=8, registers=0, as_dict=False, table=False, head='linear'):
        super().__init__()
        self.embeddings = Embeddings(width, registers, table)
        self.encoder, self.norm, self.as_dict = Encoder(width, depth, as_dict), nn.LayerNorm(width), as_dict
        self.head = nn.Linear(width, 5) if head == 'linear' else nn.Identity()

    def forward(self, images):
        x = self.encoder(self.embeddings(images))
        x = self.head(self.norm(x['last_hidden_state'] if self.as_dict else x)[:, 0])
        return dict(logits=x, loss=None) if self.as_dict else x


class Residual(nn.Module):

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, stride, 1), nn.Conv2d(after, after, 3, 1, 1)
        self.skip = nn.Conv2d(before, after, 1, stride)

    def forward(self, x):
        return self.second(self.first(x).tanh()) + self.skip(x)


def staged(*strides, end=None):
    """A CNN whose stages are inside one module, as the ``stages`` or ``blocks`` of timm."""
    stages = [nn.Sequential(Residual(8, 8, stride), Residual(8, 8)) for stride in strides]
    return nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 8, 3, 1, 1), act=nn.ReLU(), stages=nn.Sequential(*stages),
                                 end=nn.Conv2d(8, 16, 1), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
                                 fc=end or nn.Linear(16, 5)))


def traced(model, size=32):
    torch.manual_seed(0)
    images = torch.randn(2, 3, size, size)
    return trace(model, lambda: model(images))


def found(model, size=32):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return resolve_taps('auto', traced(model, size), KEY, trained=True)


@pytest.mark.parametrize('registers', [0, 4])
@pytest.mark.parametrize('as_dict', [False, True])
@pytest.mark.parametrize('table', [False, True])
def test_a_plain_transformer_is_read_at_even_depths(registers, as_dict, table):
    model = Transformer(registers=registers, as_dict=as_dict, table=table)
    taps = found(model)
    assert [tap.layer for tap in taps] == [f'encoder.layer.{block}' for block in (1, 3, 5, 7)]
    assert all(tap.shape == (12, 4, 4) and tap.layout.before == 1 + registers for tap in taps)
    images, seen = torch.randn(3, 3, 32, 32), []
    model.encoder.layer[3].register_forward_hook(lambda *args: seen.append(args[2]))
    with FeatureReader(model, taps) as reader:
        model(images)
    tokens = seen[0][0] if as_dict else seen[0]
    expected = tokens[:, 1 + registers:].transpose(1, 2).reshape(3, 12, 4, 4)
    assert torch.equal(reader.features[taps[1].name], expected)


def test_stages_inside_one_module_are_found():
    taps = found(staged(1, 2, 2))
    assert [(tap.layer, tap.name, tap.shape[1]) for tap in taps] == [
        ('act', 'stem', 32), ('stages.0', 'stages_0', 32), ('stages.1', 'stages_1', 16), ('stages.2', 'stages_2', 8)]


def test_a_chain_of_convolutions_is_opened_beside_a_larger_head():
    """As in timm's VGG: the convolutions are single, and the head has two matrices."""
    chain = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.MaxPool2d(2),
                          nn.Conv2d(6, 8, 3, padding=1), nn.MaxPool2d(2))
    head = nn.Sequential(nn.Conv2d(8, 16, 4), nn.Conv2d(16, 16, 1))
    model = nn.Sequential(OrderedDict(features=chain, pre_logits=head, flat=nn.Flatten(), fc=nn.Linear(16, 5)))
    assert [tap.layer for tap in found(model)][:3] == ['features.0', 'features.2', 'features.4']


def test_of_three_blocks_none_is_opened():
    model = nn.Sequential(OrderedDict(one=Residual(3, 4), two=nn.Sequential(Residual(4, 4, 2), Residual(4, 4, 2)),
                                  three=Residual(4, 4, 2)))
    assert [tap.layer for tap in found(model)] == ['one', 'two', 'three']


def test_a_class_token_alone_is_no_map():
    """As in CaiT, whose last blocks return the class token."""
    class ClassBlocks(nn.Module):

        def __init__(self):
            super().__init__()
            self.body, self.blocks = Transformer(head='none'), nn.ModuleList([Block(12), Block(12)])
            self.fc = nn.Linear(12, 5)

        def forward(self, images):
            x = self.body.encoder(self.body.embeddings(images))[:, :1]
            for block in self.blocks:
                x = block(x)
            return self.fc(x[:, 0])

    assert [tap.layer for tap in found(ClassBlocks())] == [f'body.encoder.layer.{block}' for block in (1, 3, 5, 7)]


def test_branches_are_no_sequence():
    class Branches(nn.Module):

        def __init__(self):
            super().__init__()
            self.fine, self.coarse, self.mix = Residual(8, 8, 2), Residual(8, 8, 4), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            fine, coarse = self.fine(x), self.coarse(x)
            return self.mix(fine + nn.functional.interpolate(coarse, fine.shape[2:]))

    model = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 8, 3, 1, 1), body=Residual(8, 8), branches=Branches()))
    assert [tap.layer for tap in found(model)] == ['stem', 'body', 'branches']


def test_two_layers_are_warned_of():
    model = nn.Sequential(Residual(3, 4), Residual(4, 4, 2))
    with pytest.warns(UserWarning, match=f"^{KEY}='auto' found only two layers, 0 and 1: list"):
        resolve_taps('auto', traced(model), KEY)


# ---- logits


def test_logits_are_named_in_a_dict_and_equal_what_the_model_returns():
    model = Transformer(as_dict=True)
    tap = resolve_logits(traced(model), 'logits')
    images = torch.randn(3, 3, 32, 32)
    with FeatureReader(model, [tap]) as reader:
        output = model(images)
    assert tap.shape == (5, ) and torch.equal(reader.features['logits'], output['logits'])


def test_a_mean_of_two_heads_is_read_where_a_layer_returns_it_in_a_dict():
    """As Hugging Face's distilled DeiT: no layer returns the tensor alone."""
    class Heads(nn.Module):

        def __init__(self):
            super().__init__()
            self.body, self.first, self.second = staged(1, 2, end=nn.Identity()), nn.Linear(16, 5), nn.Linear(16, 5)

        def forward(self, images):
            x = self.body(images)
            first, second = self.first(x), self.second(x)
            return dict(logits=(first + second) / 2, first=first, second=second)

    model = nn.Sequential(Heads())
    tap = resolve_logits(traced(model), 'logits')
    assert (tap.module, tap.element) == ('0', 'logits')
    images = torch.randn(3, 3, 32, 32)
    with FeatureReader(model, [tap]) as reader:
        output = model(images)
    torch.testing.assert_close(reader.features['logits'], (output['first'] + output['second']) / 2)
    named = resolve_logits(traced(model), 'logits', dict(module='0', element='second'))
    assert named.element == 'second'
    with pytest.raises(ArgumentError, match="^logits: layer '0' returns dict, not logits"):
        resolve_logits(traced(model), 'logits', dict(module='0', element='third'))


@pytest.mark.parametrize('build, headless', [
    (lambda: staged(1, 2), False), (lambda: staged(1, 2, end=nn.Identity()), True),
    (lambda: nn.Sequential(staged(1, 2), nn.Identity()), False),
    (lambda: nn.Sequential(staged(1, 2), nn.Softmax(1)), False),
    (lambda: Transformer(), False), (lambda: Transformer(as_dict=True), False), (lambda: Transformer(head='none'), True)])
def test_pooled_features_are_no_logits(build, headless):
    found = traced(build())
    assert is_headless(found, find_logits(found.output)) is headless


@pytest.mark.parametrize('teacher', [lambda: staged(1, 2, 2, end=nn.Identity()), lambda: staged(1, 2, 2)[:3]],
                         ids=['pooled', 'maps'])
def test_a_teacher_without_logits_teaches_by_its_features(teacher):
    torch.manual_seed(0)
    student, images = staged(1, 2, 2), torch.randn(4, 3, 32, 32)
    with pytest.warns(UserWarning, match='^the teacher returns no logits, so only features are compared$'):
        kd = distpro.Distillation(student, teacher(), images[:2])
    assert not kd.grid.logit_indices
    kd(images).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student[2].parameters() if p.dim() > 1)
    with pytest.raises(ArgumentError, match='teacher'):
        distpro.Distillation(staged(1, 2), staged(1, 2, 2)[:3], images[:2], logits=dict(
            kl=distpro.pathways.KLDivergence(4)))


def test_a_search_with_a_teacher_without_logits():
    torch.manual_seed(0)
    items = [(torch.randn(3, 32, 32), label % 5) for label in range(24)]
    loaders = [torch.utils.data.DataLoader(part, 8) for part in (items[:16], items[16:])]
    process = distpro.search(
        staged(1, 2, 2), staged(1, 2, 2, end=nn.Identity()), *loaders, nn.functional.cross_entropy,
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.01), epochs=2, min_iterations=2, rounds=2,
        max_divisions=1, report=str)
    assert process.names and not any(name.startswith('logits') for name in process.names)
