"""ScaleKD: its projector and its two losses, derived independently in float64, and the teacher's last stage."""
import numpy as np
import pytest
import torch
from formulas import B, assert_gradient, build, differs, softmax
from mmrazor.registry import MODELS
from runs import trained, written_process
from scipy.fft import dctn, idctn
from toys import SHAPE, batch, classifier, distpro_model

from distpro.errors import ArgumentError
from distpro.pathways import CrossAttention, CrossAttentionTransform
from distpro.pathways.cross_attention import interpolated
from distpro_mm.errors import ConfigError

pytestmark = pytest.mark.usefixtures('fixed_values')

CS, CT, HEADS = 3, 8, 2

BEFORE = [dict(module='auto', before_activation=True)]


def projected(module, feature, query, sharpness=5.0, heads=HEADS, scaled=True, identity=True, over=-1):
    """The projector, pixel by pixel and head by head; its convolution, batch norm and position as they are."""
    def linear(layer, x):
        return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    weight, bias = (part.detach().numpy() for part in (module.asked[0].weight[:, :, 0, 0], module.asked[0].bias))
    x = (module.feature(torch.from_numpy(feature)) + module.position).detach().numpy()
    results = []
    for own, asked in zip(x, query):
        own = own.reshape(len(own), -1).T
        asked = np.maximum(asked.reshape(len(asked), -1).T @ weight.T + bias, 0)
        q, k, v = linear(module.queries, asked), linear(module.keys, own), linear(module.values, own)
        d = CT // heads
        joined = []
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            scores = sharpness * q[:, part] @ k[:, part].T / (np.sqrt(d) if scaled else 1)
            joined.append(np.apply_along_axis(softmax, over, scores) @ v[:, part])
        y = linear(module.joined, np.concatenate(joined, 1))
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
        y = y * module.norm.weight.detach().numpy() + module.norm.bias.detach().numpy()
        results.append((y * identity + linear(module.wide[2], np.maximum(linear(module.wide[0], y), 0))).T)
    return np.array(results).reshape(len(x), CT, *query.shape[2:])


def test_the_projector_is_cross_attention_from_a_query_map_to_the_students_pixels(draw):
    module = CrossAttention(CS, CT, in_size=(3, 4), heads=HEADS).double()
    feature, query = draw(B, CS, 3, 4), draw(B, CT, 2, 3)
    value = module(torch.from_numpy(feature), torch.from_numpy(query)).detach().numpy()
    np.testing.assert_allclose(value, projected(module, feature, query), rtol=1e-9, atol=1e-12)
    for wrong in (dict(sharpness=1), dict(heads=1), dict(scaled=False), dict(identity=False), dict(over=0)):
        assert np.abs(projected(module, feature, query, **wrong) - value).max() > 1e-3


def test_the_transform_has_a_learned_query_and_any_size(draw):
    assert sum(p.numel() for p in CrossAttentionTransform(32, 64).parameters()) == 63936
    assert '63,936' in CrossAttentionTransform.__doc__
    module = CrossAttentionTransform(CS, CT, in_size=(3, 4), out_size=(3, 2), heads=HEADS).double()
    feature = draw(B, CS, 3, 4)
    query = module.query.detach().numpy().repeat(B, 0)
    value = module(torch.from_numpy(feature), size=(3, 2)).detach().numpy()
    np.testing.assert_allclose(value, projected(module, feature, query), rtol=1e-9, atol=1e-12)
    for size in ((6, 1), (2, 5)):
        assert module(torch.from_numpy(draw(2, CS, 5, 2)), size=size).shape == (2, CT, *size)
    assert module(torch.from_numpy(draw(2, CS, 5, 2))).shape == (2, CT, 5, 2)
    for size in ((7, 3), (2, 5), (3, 2)):
        expected = torch.nn.functional.interpolate(module.query, size, mode='bilinear')
        torch.testing.assert_close(interpolated(module.query, size), expected)


def test_the_transform_can_be_differentiated_twice_as_a_search_does(draw):
    module = CrossAttentionTransform(2, 4, in_size=(2, 1), out_size=(1, 2), heads=2).double()
    feature = torch.from_numpy(draw(2, 2, 2, 1)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: module(x, size=(1, 2)).square().mean(), (feature, ), atol=1e-6)
    model = distpro_model(distiller=dict(transforms=[dict(type='CrossAttentionTransform', in_size=(4, 4))])).double()
    losses = model(*batch(4, torch.float64), mode='loss')
    parameters = list(model.distiller.grid.transforms.parameters())
    gradients = torch.autograd.grad(losses['distill.loss_pathways'], parameters, create_graph=True)
    seconds = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), parameters)
    assert all(second.isfinite().all() for second in seconds)


def test_a_search_weights_pathways_with_the_projector(make_config):
    cfg = make_config('search', train_cfg__max_epochs=1)
    cfg.model.distiller.transforms = [dict(type='CrossAttentionTransform', in_size=(4, 4), out_size=(4, 4))]
    process = written_process(trained(cfg))
    assert process.names[-1] == 'layer3>layer3:cross_attention' and np.isfinite(process.weights).all()


def test_heads_are_a_divisor_of_the_channels():
    assert [CrossAttention(2, width).heads for width in (8, 64, 192, 200)] == [1, 1, 3, 2]
    for options, text in ((dict(heads=3), 'heads=3 must divide out_channels=8'), (dict(heads=0), 'heads=0 must be a whole'),
                          (dict(in_size=7), 'in_size=7 must be a height and a width')):
        with pytest.raises(ArgumentError, match=f'^{text}'):
            CrossAttention(2, 8, **options)


def dual(s, t, frequency=True, constant=0, unit=True, mean=False):
    total = 0
    for maps in zip(s, t):
        if frequency:
            coefficients = [dctn(m, axes=(1, 2)) for m in maps]
            for c in coefficients:
                c[:, 0, 0] *= constant
            maps = [idctn(c, axes=(1, 2)) for c in coefficients]
        a, b = (m / (np.linalg.norm(m, axis=0) if unit else 1) for m in maps)
        total += ((a - b)**2).mean() if mean else ((a - b)**2).sum()
    return 0.06 * total / len(s)


@pytest.mark.parametrize('view', ['spatial', 'frequency'])
def test_the_views_compare_directions_with_and_without_the_constant_frequency(draw, view):
    loss = build(type='DualViewLoss', view=view, loss_weight=0.06)
    s, t = draw(B, 4, 3, 5) + 1, 2 * draw(B, 4, 3, 5) + 1
    value = loss(torch.from_numpy(s), torch.from_numpy(t)).item()
    frequency = view == 'frequency'
    assert value == pytest.approx(dual(s, t, frequency), rel=1e-9)
    differs(value, dual(s, t, not frequency), dual(s, t, frequency, unit=False), dual(s, t, frequency, mean=True))
    assert dual(s, t, constant=1) == pytest.approx(dual(s, t, False)), 'the transform alone changes nothing'
    assert_gradient(loss, s[:2], torch.from_numpy(t[:2]))
    assert loss(torch.zeros(2, 4, 1, 1), torch.ones(2, 4, 1, 1)).isfinite()


def test_a_view_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match='DualViewLoss.view=.frequencies. is not one of spatial, frequency .nearest'):
        build(type='DualViewLoss', view='frequencies')


SWIN = dict(
    _scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
    backbone=dict(type='SwinTransformer', img_size=16, patch_size=2, window_size=2, in_channels=1, drop_path_rate=0.0,
                  arch=dict(embed_dims=8, depths=[1, 1, 2], num_heads=[1, 1, 1]), out_indices=(2, )),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=32))
MIXER = dict(
    _scope_='mmpretrain', type='ImageClassifier', neck=dict(type='GlobalAveragePooling', dim=1),
    backbone=dict(type='MlpMixer', img_size=16, patch_size=4, patch_cfg=dict(in_channels=1), drop_path_rate=0.0,
                  arch=dict(embed_dims=12, num_layers=4, tokens_mlp_dims=8, channels_mlp_dims=16)),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=12))
VIT = dict(
    _scope_='mmpretrain', type='ImageClassifier', neck=None,
    backbone=dict(type='VisionTransformer', img_size=16, patch_size=4, in_channels=1,
                  arch=dict(embed_dims=8, num_layers=4, num_heads=2, feedforward_channels=16)),
    head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=8))


def scalekd(teacher, student, shape=(1, 16, 16), **options):
    cfg = dict(type='ScaleKDDistiller', **options)
    return MODELS.build(dict(_scope_='mmrazor', type='ScaleKD', architecture=student, teacher=teacher, input_shape=shape,
                             distiller=cfg))


@pytest.mark.parametrize('teacher, student', [
    (SWIN, classifier()), (VIT, classifier()), (MIXER, VIT), (classifier(6), SWIN), (SWIN, MIXER)],
    ids=['swin-cnn', 'vit-cnn', 'mixer-vit', 'cnn-swin', 'swin-mixer'])
def test_the_losses_are_those_of_projected_features_in_the_teachers_last_stage(teacher, student):
    """The teacher's last stage runs on a projected feature as if its earlier layer had returned it."""
    model = scalekd(teacher, student).double()
    images, samples = batch(3, torch.float64, shape=(1, 16, 16))
    distiller, ran = model.distiller, []
    (start, end), (shallow, deep) = distiller.teacher_taps, distiller.student_taps
    first = model.teacher.get_submodule(distiller.rest.before[0])
    first.register_forward_pre_hook(lambda module, given: ran.append('forward' in vars(module)))
    losses = model(images, samples, mode='loss')
    assert ran[-3:] == [False, True, True] and 'forward' not in vars(first), 'as it is, and then replaced for each view'
    with distiller.receiver_reader(model.student) as reader, torch.no_grad():
        model.student(images, samples, mode='loss')
    for view, weight in dict(spatial=0.08, frequency=0.06).items():
        projectors = distiller.projectors[view]
        entered = projectors['shallow'](reader.features[shallow.name], size=start.shape[1:]).detach()

        def replace(module, given, output, entered=entered):
            return start.write(output, entered)

        with torch.no_grad(), distiller.rest.reader(False) as plain:
            model.teacher(images, mode='tensor')
        handle = model.teacher.get_submodule(start.module).register_forward_hook(replace)
        with torch.no_grad(), distiller.rest.reader(False) as changed:
            model.teacher(images, mode='tensor')  # all of it
        handle.remove()
        target, perceived = (found.features[end.name].numpy() for found in (plain, changed))
        expected = dual(perceived, target, view == 'frequency') * weight / 0.06
        value = losses[f'distill.loss_{view}_{shallow.name}'].item()
        assert value == pytest.approx(expected, rel=1e-9)
        differs(value, dual(entered.numpy(), target, view == 'frequency') * weight / 0.06
                if entered.shape == target.shape else 2 * value, by=1e-6)  # distances of noise may be alike
        query = torch.from_numpy(perceived)
        expected = dual(projectors['deep'](reader.features[deep.name], query).detach().numpy(), target, view == 'frequency')
        assert losses[f'distill.loss_{view}_{deep.name}'].item() == pytest.approx(expected * weight / 0.06, rel=1e-9)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(p.grad is not None for p in distiller.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_a_view_may_be_left_out_and_wrong_options_are_named():
    model = scalekd(classifier(6), classifier(), SHAPE, weights=dict(spatial=0.08, frequency=0.0), heads=(1, 2))
    losses = model(*batch(2), mode='loss')
    assert [name for name in losses if 'distill' in name] == ['distill.loss_spatial_layer2', 'distill.loss_spatial_layer3']
    for options, text in ((dict(weights=dict(spatial=0)), "weights={'spatial': 0}: a view needs a weight above 0"),
                          (dict(weights=dict(fourier=1)), 'weights=.* must be a dict with the keys spatial, frequency'),
                          (dict(heads=4), 'heads=4 must be two numbers'), (dict(sharpness=0), 'sharpness=0 must be a '),
                          (dict(transmitters=['backbone.layer3']), 'transmitters has 1 layer: ScaleKD compares'),
                          (dict(transmitters=BEFORE), "transmitters: layer 'backbone.layer2' is read before its")):
        with pytest.raises(ConfigError, match=f'^model.distiller.{text}'):
            scalekd(classifier(6), classifier(), SHAPE, **options)
