"""Networks by name in configs: search, distillation, export, and the images of a teacher."""
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

import distpro
from distpro.networks import build as sources
from distpro_mm.engine.launch import evaluate_student
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student

HUB = '''
import torch
from torch import nn
class Network(nn.Module):
    def __init__(self, num_classes, width, as_dict):
        super().__init__()
        def block(before, after):
            return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
                                 nn.Conv2d(after, after, 3, 1, 1))
        self.stem, self.stages = nn.Conv2d(1, width, 3, 1, 1), nn.Sequential(block(width, width), block(width, 2 * width))
        self.fc, self.as_dict = nn.Linear(2 * width, num_classes), as_dict
    def forward(self, images):
        logits = self.fc(self.stages(self.stem(images)).mean((2, 3)))
        return dict(logits=logits) if self.as_dict else logits
def small(num_classes=10, width=4, as_dict=False):
    return Network(num_classes, width, as_dict)
'''


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / 'hub'
    folder.mkdir()
    (folder / 'hubconf.py').write_text(HUB)
    return f'torchhub:{folder}:small'


@pytest.mark.parametrize('as_dict', [False, True])
def test_named_networks_are_searched_distilled_and_exported(make_config, hub, tmp_path, as_dict):
    named = dict(_delete_=True, type='mmrazor.NamedClassifier', name=hub, num_classes=10)
    networks = dict(
        model__architecture=dict(named, options=dict(as_dict=as_dict)),
        model__teacher=dict(named, options=dict(width=6, as_dict=as_dict)), train_cfg__max_epochs=1)
    search = Runner.from_cfg(make_config('whole_run', 'search', train_cfg__rounds=1, **networks))
    search.train()
    assert [tap.layer for tap in search.model.distiller.taps('receiver')][:3] == [
        'module.stem', 'module.stages.0', 'module.stages.1']
    cfg = make_config('equal', model__distiller__logits=[dict(type='KLDivergence', tau=4)], **networks)
    runner = Runner.from_cfg(cfg)
    before = runner.model.student.module.stem.weight.clone()
    runner.train()
    assert not torch.equal(runner.model.student.module.stem.weight.cpu(), before)
    checkpoint = f'{cfg.work_dir}/epoch_1.pth'
    paths = export_student(cfg, checkpoint, str(tmp_path / 'exported'))
    recipe = Config.fromfile(paths['config']).network
    plain = distpro.build_network(**recipe, checkpoint=paths['checkpoint']).eval()
    images = torch.randn(2, 1, 8, 8)
    logits = plain(images)['logits'] if as_dict else plain(images)
    torch.testing.assert_close(logits, runner.model.student.cpu().eval()(images))
    assert set(torch.load(paths['checkpoint'])['state_dict']) == set(plain.state_dict())
    assert 0 <= evaluate_student(cfg, checkpoint)['accuracy/top1'] <= 100


def test_a_checkpoint_of_the_network_alone_is_the_teachers(make_config, hub, tmp_path):
    network = distpro.build_network(hub)
    state = {f'module.{name}': value for name, value in network.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'own.pth')
    for how in (dict(model__teacher_ckpt=str(tmp_path / 'own.pth')), dict(model__teacher=dict(
            _delete_=True, type='NamedClassifier', name=hub, checkpoint=str(tmp_path / 'own.pth')))):
        cfg = make_config('equal', **{'model__teacher': dict(_delete_=True, type='NamedClassifier', name=hub), **how})
        teacher = MODELS.build(cfg.model).teacher
        assert teacher.is_init and torch.equal(teacher.module.fc.weight, network.fc.weight)
    other = distpro.build_network(hub, width=6)
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match='model.teacher_ckpt=.*does not fit Network: .* have another shape, first'):
        MODELS.build(dict(cfg.model, teacher_ckpt=str(tmp_path / 'other.pth')))


def test_an_unknown_name_names_the_config(make_config):
    cfg = make_config('equal', model__teacher=dict(_delete_=True, type='NamedClassifier', name='torchvision:resnet17'))
    with pytest.raises(ConfigError, match="name='torchvision:resnet17': torchvision has no network .*nearest: .*resnet18"):
        MODELS.build(cfg.model)


@pytest.mark.parametrize('to_rgb', [False, True])
def test_a_teacher_gets_the_images_of_its_published_weights(monkeypatch, hub, to_rgb):
    expected = distpro.ModelInput((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (16, 16))

    def build(name, source, pretrained, num_classes, options):
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.Conv2d(4, 4, 3, 2, 1),
                                      torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 5))
        return network, expected if pretrained else None

    monkeypatch.setitem(sources.SOURCES, 'toy', build)
    student = dict(mean=[100., 110., 120.], std=[50., 60., 70.], to_rgb=to_rgb)
    model = MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture='toy:student', input_shape=(3, 8, 8),
        teacher=dict(type='NamedClassifier', name='toy:teacher', pretrained=True),
        data_preprocessor=dict(_scope_='mmpretrain', type='ClsDataPreprocessor', **student),
        distiller=dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')])))
    raw, seen = torch.rand(4, 3, 8, 8), {}
    for side in ('teacher', 'student'):
        getattr(model, side).module.register_forward_pre_hook(
            lambda module, inputs, side=side: seen.__setitem__(side, inputs[0].clone()))
    images = (255 * raw - torch.tensor(student['mean'])[:, None, None]) / torch.tensor(student['std'])[:, None, None]
    model.loss(images, [DataSample().set_gt_label(0) for _ in raw])
    wanted = (raw - torch.tensor(expected.mean)[:, None, None]) / torch.tensor(expected.std)[:, None, None]
    wanted = torch.nn.functional.interpolate(wanted, (16, 16), mode='bilinear')
    torch.testing.assert_close(seen['teacher'], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen['student'], images)


def test_published_weights_of_mmpretrain_say_which_images_they_expect():
    from mmpretrain import get_model

    from distpro_mm.models.mmpretrain_source import read_input
    found = read_input(get_model('resnet18_8xb32_in1k'))
    assert found.rgb and found.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-4)
    assert found.std == pytest.approx((0.229, 0.224, 0.225), abs=1e-3)


@pytest.mark.parametrize('kind', ['timm', 'transformers'])
def test_mmpretrains_own_wrappers_are_read_too(kind, tmp_path):
    library = pytest.importorskip(kind)
    if kind == 'timm':
        network = dict(_scope_='mmpretrain', type='TimmClassifier', model_name='mobilenetv3_small_050', num_classes=5)
    else:
        library.ViTConfig(hidden_size=24, num_hidden_layers=8, num_attention_heads=2, intermediate_size=32, image_size=32,
                          patch_size=8, num_labels=5).save_pretrained(tmp_path)
        network = dict(_scope_='mmpretrain', type='HuggingFaceClassifier', model_name=str(tmp_path), num_labels=5)
    model = MODELS.build(dict(
        _scope_='mmrazor', type='DistPro', architecture=dict(network), teacher=dict(network), input_shape=(3, 32, 32),
        data_preprocessor=dict(_scope_='mmpretrain', type='ClsDataPreprocessor', mean=[128.] * 3, std=[64.] * 3),
        distiller=dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')],
                       logits=[dict(type='KLDivergence', tau=4)])))
    layers = [tap.layer for tap in model.distiller.taps('receiver') if tap.name != 'logits']
    assert len(layers) >= 4 and all(layer.startswith('model.') for layer in layers)
    losses = model.loss(torch.randn(4, 3, 32, 32), [DataSample().set_gt_label(label) for label in range(4)])
    losses['distill.loss_pathways'].backward()
    last = model.student.get_submodule(layers[1])
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in last.parameters())
