"""The teacher's variances: a constant feature has no weight, and all others are divided as a float64 derivation says."""
import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from toys import labelled_images, network

import distpro
from distpro.pathways import IdentityTransform, LinearTransform, PathwayGrid, PointwiseTransform
from distpro.tracing import FeatureTap

SHAPES = dict(deep=(3, 4, 4), shallow=(2, 8, 8))
VARIES = [(0, 1.0, False), (50, 1.0, False), (0, 1e-5, False), (2e-3, 1e-5, False),
          (5, 0, True), (0, 0, True), (0, 1e-7, True), (0, 1e-22, True), (1e3, 0.5, True)]


def grid_of(dtype, transform, **kwargs):
    taps = {name: FeatureTap(name, '', shape=shape, layer=name) for name, shape in SHAPES.items()}
    return PathwayGrid(list(taps.values()), [taps['deep']], dict(only=transform), [('deep', 'deep'), ('shallow', 'deep')],
                       **kwargs).to(dtype)


def features(mean, spread, dtype):
    """One map of the student, and the teacher's: a varying one and one with a given mean and standard deviation."""
    deep = mean + spread * torch.randn(4, *SHAPES['deep'], dtype=torch.float64)
    shallow = 3 + 2 * torch.randn(4, *SHAPES['shallow'], dtype=torch.float64)
    student = torch.randn(4, *SHAPES['deep'], dtype=torch.float64)
    return [{name: x.to(dtype) for name, x in side.items()}
            for side in (dict(deep=student), dict(deep=deep, shallow=shallow))]


def by_hand(grid, received, transmitted, name):
    """The mean squared distance of the student's affine map to the teacher's map over its deviation, in numpy."""
    student, teacher = (x[key].double().numpy() for x, key in ((received, 'deep'), (transmitted, name)))
    conv = next(module for module in grid.transforms[f'{name}>deep:only'].modules() if isinstance(module, nn.Conv2d))
    out = np.einsum('ic,bchw->bihw', conv.weight.detach().double().numpy()[:, :, 0, 0], student)
    if conv.bias is not None:
        out += conv.bias.detach().double().numpy()[:, None, None]
    out = np.kron(out, np.ones((1, 1, teacher.shape[2] // out.shape[2], teacher.shape[3] // out.shape[3])))
    deviation = math.sqrt(np.mean([teacher[:, channel].var() for channel in range(teacher.shape[1])]))
    return ((out - teacher / deviation)**2).mean() / 2  # of two pathways


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('mean, spread, constant', VARIES)
def test_the_loss_of_a_constant_feature_is_zero_and_others_are_as_by_hand(mean, spread, constant, dtype):
    kind = getattr(torch, dtype)
    grid = grid_of(kind, LinearTransform, distance=nn.MSELoss())
    received, transmitted = features(mean, spread, kind)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        losses = dict(zip(grid.names, grid.pathway_losses(received, transmitted)))
        again = grid.pathway_losses(received, transmitted)
    assert torch.equal(torch.stack(list(losses.values())), again)
    assert ["feature is constant at deep, so" in str(warning.message) for warning in seen] == [True] * constant
    eps = 32 * torch.finfo(kind).eps  # relative error of a mean square; the variance is that less the squared mean
    assert losses['shallow>deep:only'].item() == pytest.approx(by_hand(grid, received, transmitted, 'shallow'), rel=4 * eps)
    if constant:
        assert losses['deep>deep:only'] == 0 and grid.variances[0].isinf()
    else:
        expected = by_hand(grid, received, transmitted, 'deep')
        assert losses['deep>deep:only'].item() == pytest.approx(expected, rel=eps * (1 + (mean / spread)**2))


@pytest.mark.parametrize('transform', [PointwiseTransform, IdentityTransform])
@pytest.mark.parametrize('from_covariances', [True, False])
@pytest.mark.parametrize('spread', [0, 1e-22])
def test_its_pathways_have_gradients_of_zero(spread, from_covariances, transform):
    """Gradients, because training over several processes expects one of every parameter."""
    grid = PathwayGrid(*[[FeatureTap('deep', '', shape=SHAPES['deep'], layer='deep')]] * 2, dict(only=transform),
                       from_covariances=from_covariances)
    received, transmitted = features(0, spread, torch.float32)
    received['deep'].requires_grad_()
    with pytest.warns(UserWarning, match='constant at deep'):
        loss, _ = grid.loss(received, transmitted)
    loss.backward()
    assert loss == 0 and not received['deep'].grad.any()
    assert all(p.grad is not None and not p.grad.any() for p in grid.parameters())


def test_in_the_unit_loss_nothing_is_divided_and_nothing_left_out():
    grid = grid_of(torch.float32, PointwiseTransform, weighting=distpro.Weighting('uniform', unit='loss'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (grid.pathway_losses(*features(5, 0, torch.float32)) > 0).all()


@pytest.mark.parametrize('value', [math.nan, math.inf, 1e30])
def test_a_feature_that_is_not_finite_is_not_taken_for_a_constant_one(value):
    grid = grid_of(torch.float32, PointwiseTransform)
    received, transmitted = features(0, 1, torch.float32)
    transmitted['deep'][0, 0, 0, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        losses = grid.pathway_losses(received, transmitted)
    assert losses.isfinite().tolist() == [False, True] and grid.variances[0].isnan()


def test_a_teacher_whose_deep_features_vanish_teaches_with_its_others(tmp_path):
    """As random weights of some transformers do; a checkpoint knows the constant layers."""
    torch.manual_seed(0)
    student, teacher = network(), network(6).eval()
    with torch.no_grad():
        for layer in teacher[2].modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 1e-11
                layer.bias.zero_()
    images = torch.stack([image for image, _ in labelled_images(4)])
    untouched = copy.deepcopy(student)
    kd = distpro.Distillation(student, teacher, images, connections='all', logits={})
    layer = kd.grid.layer_names['transmitters'][-1]
    assert layer.startswith('2')
    with pytest.warns(UserWarning, match=rf"^transmitters: the teacher's feature is constant at {layer}, so the pathways"):
        out = kd(images)
    assert {name for name, loss in out.pathways.items() if loss == 0} == {
        name for name in out.pathways if name.startswith(f'{layer}>')}
    assert 0.1 < out.loss < 10
    torch.save(kd.state_dict(), tmp_path / 'kd.pth')
    out.loss.backward()
    torch.optim.SGD(student.parameters(), 0.1).step()
    assert all(p.isfinite().all() for p in student.parameters())
    resumed = distpro.Distillation(untouched, teacher, images, connections='all', logits={})
    resumed.load_state_dict(torch.load(tmp_path / 'kd.pth'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert torch.equal(resumed(images).loss, out.loss)
