"""Networks by name: what is built, what is refused, and that the core imports no library for it."""
import subprocess
import sys
import types

import pytest
import torch
from torch import nn
from toys import network as toy

import distpro
from distpro.networks import SOURCES, register_source
from distpro.networks.from_torchvision import read_input

HUB = '''
import torch
dependencies = ['torch']
def small(num_classes=5, width=4):
    body = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(body, torch.nn.Linear(width, num_classes))
def words():
    return 'no network'
'''


VIT = dict(hidden_size=24, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8)


@pytest.fixture
def hub(tmp_path):
    (tmp_path / 'hubconf.py').write_text(HUB)
    return str(tmp_path)


def test_a_network_of_each_source_is_built(hub):
    images = torch.randn(2, 3, 64, 64)
    for name, options in ((f'torchhub:{hub}:small', dict(width=6)), ('torchvision:mobilenet_v3_small', {}),
                          ('mmpretrain:resnet18_8xb32_in1k', {})):
        network = distpro.build_network(name, num_classes=7, **options).eval()
        assert network(images).shape == (2, 7) and distpro.model_input(network) is None, 'random weights expect no images'
    assert distpro.build_network(dict(name=f'torchhub:{hub}:small', width=3))[1].in_features == 3
    module = toy()
    assert distpro.build_network(module) is module


def test_a_network_of_timm_is_built():
    pytest.importorskip('timm')
    network = distpro.build_network('timm:resnet18', num_classes=7, drop_rate=0.25)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7) and network.drop_rate == 0.25
    assert distpro.build_network('timm:resnet18.a1_in1k', num_classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 512)
    with pytest.raises(distpro.ArgumentError, match="^name='timm:resnet19': timm .* has no network .*nearest: .*resnet18"):
        distpro.build_network('timm:resnet19')


def test_a_network_of_hugging_face_is_built_and_read_from_a_folder(tmp_path):
    pytest.importorskip('transformers')
    network = distpro.build_network('hf:vit', num_classes=7, **VIT).eval()
    images = torch.randn(2, 3, 32, 32)
    assert network(images).logits.shape == (2, 7)
    network.save_pretrained(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text(
        '{"image_processor_type": "ViTImageProcessor", "do_normalize": true, "image_mean": [0.1, 0.2, 0.3], '
        '"image_std": [0.4, 0.5, 0.6], "size": {"height": 32, "width": 32}}')
    same = distpro.build_network(f'hf:{tmp_path}', pretrained=True).eval()
    assert torch.equal(same(images).logits, network(images).logits)
    assert distpro.model_input(same) == distpro.ModelInput((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (32, 32))
    other = distpro.build_network(f'hf:{tmp_path}', pretrained=True, num_classes=3)
    assert other(images).logits.shape == (2, 3)
    kept = dict(network.vit.named_parameters())
    assert len(kept) > 20 and all(torch.equal(value, kept[name]) for name, value in other.vit.named_parameters())
    assert 'logits' not in distpro.build_network(f'hf:{tmp_path}', pretrained=True, num_classes=0)(images)
    several = distpro.build_network('hf:deit', num_classes=7, **VIT)  # transformers has two classifiers of this kind
    assert type(several).__name__ == 'DeiTForImageClassification' and several(images).logits.shape == (2, 7)
    with pytest.raises(distpro.ArgumentError, match="'vitt' among its .*nearest: .*vit"):
        distpro.build_network('hf:vitt')
    with pytest.raises(distpro.ArgumentError, match="^name='hf:./nowhere': there is no folder './nowhere'"):
        distpro.build_network('hf:./nowhere')
    with pytest.raises(distpro.ArgumentError, match="'vit' is a kind of network without weights"):
        distpro.build_network('hf:vit', pretrained=True)


@pytest.mark.parametrize('name, message', [
    ('resnet18', r"^name='resnet18' must be SOURCE:NAME with one of the sources timm, .*such as 'timm:resnet18'"),
    ('timn:resnet18', '^name=.timn:resnet18. must be SOURCE'), ('timm:', 'must be SOURCE:NAME'), (3, 'must be SOURCE:NAME'),
    (dict(num_classes=3), "must be the dict of a network, with the key name"),
    ('torchvision:resnet17', "^name='torchvision:resnet17': torchvision has no network 'resnet17' .*nearest: .*resnet18"),
    ('mmpretrain:resnet18', "mmpretrain has no network 'resnet18' .*nearest: resnet18"),
    ('torchhub:small', "must be 'torchhub:REPO:NAME'"), ('torchhub:./nowhere:small', "neither a folder nor a repository")])
def test_an_unknown_name_is_refused(name, message):
    with pytest.raises(distpro.ArgumentError, match=message):
        distpro.build_network(name)


def test_what_does_not_fit_a_source_is_refused(hub):
    for options, message in ((dict(name=f'torchhub:{hub}:smal'), "has no network 'smal' .*nearest: small"),
                             (dict(name=f'torchhub:{hub}:words'), 'gives a str, not an nn.Module'),
                             (dict(name=toy(), num_classes=3), 'is built already'),
                             (dict(name=f'torchhub:{hub}:small', num_classes=-1), 'num_classes=-1 must be a whole number')):
        with pytest.raises(distpro.ArgumentError, match=message):
            distpro.build_network(**options)


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    code = '''if True:
        import sys
        for name in 'timm transformers torchvision mmpretrain mmengine PIL'.split():
            sys.modules[name] = None
        import distpro
        commands = {'timm:resnet18': "pip install 'distpro_mm[timm]'", 'hf:vit': "pip install 'distpro_mm[hf]'",
                    'torchvision:resnet18': 'pip install torchvision'}
        for name, command in commands.items():
            try:
                distpro.build_network(name)
            except distpro.ArgumentError as error:
                assert command in str(error) and 'not installed' in str(error), error
            else:
                raise AssertionError(name)
        try:
            distpro.build_network('mmpretrain:resnet18')
        except distpro.ArgumentError as error:
            assert 'import distpro_mm first' in str(error)
    '''
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_library_is_imported_when_it_is_named_only():
    code = '''if True:
        import sys
        import distpro.networks
        libraries = {'timm', 'transformers', 'torchvision', 'mmpretrain', 'safetensors'}
        assert not libraries & {name.partition('.')[0] for name in sys.modules}
    '''
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_source_of_ones_own(monkeypatch):
    monkeypatch.setattr('distpro.networks.build.SOURCES', dict(SOURCES))
    expected = distpro.ModelInput((0.5, ), (0.25, ))

    def build(name, source, pretrained, num_classes, options):
        return toy(int(name), num_classes), expected if pretrained else None

    from distpro.networks import build as module
    monkeypatch.setitem(module.SOURCES, 'toy', build)
    network = distpro.build_network('toy:6', pretrained=True, num_classes=3)
    assert network[-1].out_features == 3 and distpro.model_input(network) == expected
    assert register_source and network[0][0].out_channels == 6


def test_a_function_of_a_module_builds_a_network(monkeypatch):
    module = types.ModuleType('made_up_networks')
    expected = distpro.ModelInput((0.5, ), (0.25, ))

    def small(num_classes=4, pretrained=False):
        network = toy(6, num_classes)
        network.model_input = expected if pretrained else None
        return network

    def own_weights(num_classes=4):
        return toy(8, num_classes)

    module.small, module.own_weights, module.words = small, own_weights, lambda: 'no network'
    monkeypatch.setitem(sys.modules, 'made_up_networks', module)
    network = distpro.build_network('module:made_up_networks.small', num_classes=3, pretrained=True)
    assert network[-1].out_features == 3 and distpro.model_input(network) == expected
    assert distpro.model_input(distpro.build_network('module:made_up_networks.small')) is None
    assert distpro.build_network('module:made_up_networks.own_weights', pretrained=True)[-1].out_features == 4
    for name, options, message in (
            ('small', dict(width=3), 'the function cannot be called with width'),
            ('smal', {}, "'made_up_networks' has no network 'smal' among its 3; nearest: small"),
            ('words', {}, 'gives a str, not an nn.Module'), ('', {}, "must be 'module:PACKAGE.ATTRIBUTE'")):
        with pytest.raises(distpro.ArgumentError, match=message):
            distpro.build_network(f'module:made_up_networks.{name}', **options)
    with pytest.raises(distpro.ArgumentError, match="'no_such_networks' cannot be imported"):
        distpro.build_network('module:no_such_networks.small')


def test_published_weights_say_which_images_they_expect():
    transforms = types.SimpleNamespace(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), crop_size=[224], resize_size=[256])
    found = read_input(types.SimpleNamespace(transforms=lambda: transforms))
    assert found == distpro.ModelInput((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (224, 224))
    models = pytest.importorskip('torchvision.models')
    assert read_input(models.ResNet18_Weights.DEFAULT) == distpro.ModelInput(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (224, 224))


def test_timm_says_which_images_its_weights_expect():
    timm = pytest.importorskip('timm')
    from distpro.networks.from_timm import read_input as of_timm
    found = of_timm(timm.create_model('vit_tiny_patch16_224'))
    assert found == distpro.ModelInput((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (224, 224))


# ---- the images of a network


def test_images_are_converted_to_those_that_a_network_expects():
    raw = torch.rand(4, 3, 8, 8)
    given, wanted = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)), dict(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))

    def prepared(images, mean, std):
        return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    seen, network = [], toy()
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    handle = distpro.convert_input(network, given, distpro.ModelInput(**wanted, size=(16, 16), rgb=False))
    network.eval()
    network(prepared(raw, **given))
    assert seen[0].shape == (4, 3, 8, 8), 'a hook from before sees the images as they are given'
    seen.clear()
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(prepared(raw, **given))
    expected = prepared(raw.flip(1), **wanted)
    expected = nn.functional.interpolate(expected, (16, 16), mode='bilinear')
    torch.testing.assert_close(seen[-1], expected)
    handle.remove()
    network(raw)
    assert torch.equal(seen[-1], raw)


def test_a_network_of_unknown_images_is_refused():
    with pytest.raises(distpro.ArgumentError, match='^wanted=None: the images that this network was trained with are not'):
        distpro.convert_input(toy(), dict(mean=(0.5, )))
    for wrong, message in ((dict(std=(0., 1., 1.)), 'every std must be above 0'), (dict(mean=0.5), 'mean=0.5 must be'),
                           (dict(size=-1), 'size=-1 must be height'), (dict(mean=(0.5, )), 'numbers of channels must be')):
        with pytest.raises(distpro.ArgumentError, match=message):
            distpro.convert_input(toy(), dict(mean=(0.5, 0.5, 0.5)), wrong)


# ---- the user's way


@pytest.mark.parametrize('student', ['torchvision:mobilenet_v3_small', 'torchvision:resnet18', 'timm:convnext_atto',
                                     'timm:deit_tiny_distilled_patch16_224', 'hf:vit', 'mmpretrain:resnet18_8xb32_in1k'])
def test_a_named_student_is_distilled_and_its_weights_load_in_its_library(student, tmp_path):
    source = student.partition(':')[0]
    pytest.importorskip(dict(hf='transformers').get(source, source))
    timm = dict(img_size=32, embed_dim=24, num_heads=2) if 'deit' in student else {}
    options = dict(hf=VIT, timm=timm).get(source, {})
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4) % 5
    teacher = toy(8)
    kd = distpro.Distillation(dict(name=student, num_classes=5, **options), teacher, images[:2])
    before = {name: value.clone() for name, value in kd.student.state_dict().items()}
    optimizer = torch.optim.SGD([*kd.student.parameters(), *kd.parameters()], 1e-3)
    for _ in range(2):
        out = kd(images)
        assert out.logits.shape == (4, 5)
        optimizer.zero_grad()
        (nn.functional.cross_entropy(out.logits, labels) + out.loss).backward()
        optimizer.step()
    deepest = kd.grid.pathways[-2].receiver.layer
    gradients = [p.grad for p in kd.student.get_submodule(deepest).parameters()]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    torch.save(kd.student.state_dict(), tmp_path / 'student.pth')
    plain = distpro.build_network(student, num_classes=5, checkpoint=str(tmp_path / 'student.pth'), **options)
    assert any(not torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    kd.student.eval(), plain.eval()
    logits = [kd.get_logits(network(images)) for network in (kd.student, plain)]
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize('teacher', ['torchvision:densenet121', 'timm:resnet18', 'hf:convnext'])
def test_a_named_teacher_teaches(teacher):
    source = teacher.partition(':')[0]
    pytest.importorskip(dict(hf='transformers').get(source, source))
    options = dict(hf=dict(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])).get(source, {})
    images = torch.randn(4, 3, 64, 64)
    kd = distpro.Distillation(toy(), dict(name=teacher, num_classes=5, **options), images[:2])
    out = kd(images)
    out.loss.backward()
    assert len(kd.grid.layer_names['transmitters']) == 5 and 'logits>logits:kl' in out.pathways
    assert all(p.grad is None for p in kd.teacher.parameters())
