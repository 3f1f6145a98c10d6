"""Pathways from covariances: losses, derivatives and running statistics against those from maps, in float64."""
import copy
import random

import pytest
import torch
from torch import nn

from distpro.pathways import HCLLoss, LinearTransform, PathwayGrid, PointwiseTransform, covariances, linear
from distpro.tracing import FeatureTap, Layout
from distpro.weighting import Weighting

BOTH = dict(pointwise=PointwiseTransform, linear=LinearTransform)


def grids(receivers, transmitters, transforms=BOTH, change=lambda transform: None, **kwargs):
    """One grid from covariances and one from maps, in float64, with the same parameters."""
    taps = [[FeatureTap(f'{side}{number}', '', shape=shape) for number, shape in enumerate(shapes)]
            for side, shapes in (('t', transmitters), ('s', receivers))]
    grid = PathwayGrid(*taps, transforms, 'all', **kwargs).double()
    for transform in grid.transforms.values():
        change(transform)
        for parameter in transform.parameters():
            nn.init.normal_(parameter)
    plain = copy.deepcopy(grid)
    plain.from_covariances = False
    return grid, plain


def features(shapes, side, batch, dtype=torch.float64):
    """Maps with a different mean and deviation in each channel."""
    return {f'{side}{number}': torch.randn(batch, *shape, dtype=dtype) * (1 + torch.rand(shape[0], 1, 1, dtype=dtype))
            + torch.randn(shape[0], 1, 1, dtype=dtype) for number, shape in enumerate(shapes)}


def all_derivatives(grid, received, transmitted, catch=False):
    """Losses, first and second derivatives by maps and parameters, and the buffers afterwards."""
    received = {name: feature.clone().requires_grad_() for name, feature in received.items()}
    losses = grid.pathway_losses(received, transmitted, catch=catch)
    leaves = [*received.values(), *(parameter for index in grid.active
                                    for parameter in grid.transforms[grid.names[index]].parameters())]
    factors = torch.linspace(0.5, 2, len(losses), dtype=losses.dtype)
    first = torch.autograd.grad((factors * losses).sum(), leaves, create_graph=True)
    random_state = torch.Generator().manual_seed(7)
    directions = [torch.randn(g.shape, generator=random_state, dtype=g.dtype) for g in first]
    second = torch.autograd.grad(sum((g * c).sum() for g, c in zip(first, directions)), leaves, allow_unused=True)
    second = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(second, leaves)]
    return [losses, *first, *second, *grid.transforms.buffers()]


def error(found, expected):
    """Largest error, relative to the largest value of each tensor."""
    assert len(found) == len(expected)
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item() for a, b in zip(found, expected))


def by_covariances(monkeypatch):
    """A list that grows by one for each pathway that is computed from covariances."""
    seen, add = [], covariances.LinearPathways.add
    monkeypatch.setattr(covariances.LinearPathways, 'add', lambda *args: seen.append(args[1]) or add(*args))
    return seen


def draw(seed):
    """Sizes and channels of receivers and transmitters, batch size and levels."""
    choose = random.Random(seed)
    sides = [(choose.choice([1, 2, 3, 4, 5, 7, 8]), choose.choice([1, 2, 4, 6, 7])) for _ in range(2)]
    # A batch norm removes the scale of a single channel: except for eps, its gradient is 0, and only rounding is left.
    receivers = [(choose.randint(2, 6), *size) for size in sides]
    factors = [(choose.choice([1, 2, 3, 4]), choose.choice([1, 2, 3])) for _ in range(3)]
    transmitters = [(choose.randint(1, 7), sides[number % 2][0] * a, sides[number % 2][1] * b)
                    for number, (a, b) in enumerate(factors)]
    levels = choose.choice([(4, 2, 1), (4, 2, 1), (), (1, ), (5, 3), (8, 3, 1), (2, 6)])
    return receivers, transmitters, choose.choice([2, 3, 7]), levels, choose.choice(['loss', 'variance'])


@pytest.mark.parametrize('seed', range(40))
def test_losses_derivatives_and_running_statistics_are_those_of_the_maps(seed, monkeypatch):
    torch.manual_seed(seed)
    receivers, transmitters, batch, levels, unit = draw(seed)
    both = grids(receivers, transmitters, distance=HCLLoss(levels, loss_weight=1.5),
                 weighting=Weighting('exponential', unit=unit))
    received, transmitted = features(receivers, 's', batch), features(transmitters, 't', batch)
    seen = by_covariances(monkeypatch)
    found, expected = (all_derivatives(grid, received, transmitted) for grid in both)
    assert len(seen) >= 2 * 3  # at least the transmitters made for a receiver, with two transforms
    assert error(found, expected) < 1e-10


FIXED = [((3, 8, 8), (5, 4, 4)), ((4, 16, 16), (6, 8, 8))], [((3, 7, 7), (2, 2, 2)), ((4, 14, 14), (5, 14, 28))]


def worst_error():
    torch.manual_seed(0)
    worst = 0.0
    for receivers, transmitters in FIXED:
        both = grids(receivers, transmitters)
        received, transmitted = features(receivers, 's', 3), features(transmitters, 't', 3)
        worst = max(worst, error(*(all_derivatives(grid, received, transmitted) for grid in both)))
    return worst


def half_gradient(ctx, gradient):
    return gradient @ ctx.saved_tensors[0]


def constant_statistics(transforms, mean, covariance, count, right=linear.stacked_affine):
    return right(transforms, mean, covariance.detach(), count)


def unbiased_output(transforms, mean, covariance, count, right=linear.stacked_affine):
    return right(transforms, mean, covariance * (count / (count - 1)), count)


def biased_running(norms, mean, variance, count, right=linear._update_running):
    right(norms, mean, variance * ((count - 1) / count), count)


def full_weight(distance, height, width, right=HCLLoss.levels_of):
    levels = right(distance, height, width)
    return [(size, 2 * weight if size != (height, width) else weight) for size, weight in levels]


FAULTS = {
    'gradient of the covariance': (covariances._Gram, 'backward', staticmethod(half_gradient)),
    'constant mean in the covariance': (covariances.StudentStatistics, 'covariance', lambda student, mean: student.products),
    'constant batch statistics': (covariances, 'stacked_affine', constant_statistics),
    'unbiased variance in the output': (covariances, 'stacked_affine', unbiased_output),
    'biased running variance': (linear, '_update_running', biased_running),
    'bins of one size': (covariances.Pooling, 'uneven', property(lambda pooling: False)),
    'every bin of entire pixels': (covariances.Pooling, 'aligned', property(lambda pooling: True)),
    'levels of twice the weight': (HCLLoss, 'levels_of', full_weight),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_planted_fault_is_seen(fault, monkeypatch):
    assert worst_error() < 1e-10
    monkeypatch.setattr(*FAULTS[fault])
    assert worst_error() > 1e-4


NORMS = dict(
    running=lambda norm: norm.eval(), average=lambda norm: setattr(norm, 'momentum', None),
    fixed_scale=lambda norm: [norm.register_parameter(name, None) for name in ('weight', 'bias')],
    without_running=lambda norm: [setattr(norm, name, None) for name in ('running_mean', 'running_var')] and setattr(
        norm, 'track_running_stats', False),
    own_eps=lambda norm: setattr(norm, 'eps', 0.5))


@pytest.mark.parametrize('name', NORMS)
def test_every_setting_of_the_batch_norm_is_followed(name, monkeypatch):
    torch.manual_seed(3)

    def change(transform):
        for norm in transform.modules():
            if isinstance(norm, nn.BatchNorm2d):
                NORMS[name](norm)
                if norm.running_var is not None:
                    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)

    receivers, transmitters = FIXED[0]
    both = grids(receivers, transmitters, change=change)
    received, transmitted = features(receivers, 's', 5), features(transmitters, 't', 5)
    seen = by_covariances(monkeypatch)
    for _ in range(3):  # the running statistics are those of several steps
        assert error(*(all_derivatives(grid, received, transmitted) for grid in both)) < 1e-10
    assert len(seen) == 3 * 8
    with torch.no_grad():
        assert error(*([grid.pathway_losses(received, transmitted), *grid.buffers()] for grid in both)) < 1e-10
    for grid in both:
        grid.eval()
    assert error(*(all_derivatives(grid, received, transmitted) for grid in both)) < 1e-10


@pytest.mark.parametrize('scale', [1.0, 0.1, 0.01, 0.001])
def test_gradients_in_single_precision_are_as_exact_as_those_of_maps(scale):
    """Also where the student is close to the teacher, so that the gradient is a small difference."""
    torch.manual_seed(5)
    receivers, transmitters = [(8, 8, 8)], [(12, 16, 16)]
    both = grids(receivers, transmitters, dict(pointwise=PointwiseTransform),
                 weighting=Weighting('exponential', unit='loss'))
    received = features(receivers, 's', 16)
    with torch.no_grad():
        close = copy.deepcopy(both[0].transforms['t0>s0:pointwise'])(received['s0'], size=(16, 16))
    transmitted = dict(t0=close + scale * torch.randn_like(close))

    def gradients(grid, dtype):
        grid = copy.deepcopy(grid).to(dtype)
        given = {name: feature.to(dtype).requires_grad_() for name, feature in received.items()}
        loss = grid.pathway_losses(given, dict(t0=transmitted['t0'].to(dtype))).sum()
        return torch.autograd.grad(loss, [*given.values(), *grid.transforms.parameters()])

    exact = gradients(both[1], torch.float64)
    assert error(gradients(both[0], torch.float64), exact) < 1e-10
    errors, usual = ([(torch.linalg.vector_norm(g - e) / torch.linalg.vector_norm(e)).item() for g, e in zip(found, exact)]
                     for found in (gradients(grid, torch.float32) for grid in both))
    assert all(mine < 4 * its for mine, its in zip(errors, usual)), (errors, usual)


@pytest.mark.parametrize('arrange', ['tokens', 'class tokens', 'channels_last'])
def test_tokens_and_other_layouts_are_read_in_place(arrange, monkeypatch):
    torch.manual_seed(6)
    receivers, transmitters = [(6, 4, 4)], [(10, 8, 8)]
    both = grids(receivers, transmitters)
    student, teacher = features(receivers, 's', 3)['s0'], features(transmitters, 't', 3)
    before = int(arrange == 'class tokens')
    if arrange == 'channels_last':
        given, layout = student.permute(0, 2, 3, 1).contiguous(), Layout('channels_last')
    else:
        given = torch.cat([torch.randn(3, before, 6).double(), student.flatten(2).transpose(1, 2)], 1)
        layout = Layout('tokens', (4, 4), before)
    seen, found = by_covariances(monkeypatch), []
    for grid in both:
        leaf = given.clone().requires_grad_()
        loss = grid.pathway_losses(dict(s0=layout(leaf)), teacher).sum()
        found.append([loss, *torch.autograd.grad(loss, [leaf, *grid.transforms.parameters()])])
    assert len(seen) == 2 and error(*found) < 1e-10
    assert not before or not found[0][1][:, 0].any()


def test_moments_are_in_single_precision_under_autocast():
    torch.manual_seed(8)
    receivers, transmitters = FIXED[0]
    both = [grid.float() for grid in grids(receivers, transmitters)]
    received, transmitted = (features(shapes, side, 6, torch.float32) for shapes, side in ((receivers, 's'),
                                                                                          (transmitters, 't')))
    half = [{name: feature.bfloat16() for name, feature in maps.items()} for maps in (received, transmitted)]
    exact = copy.deepcopy(both[0]).pathway_losses(*({name: feature.float() for name, feature in maps.items()}
                                                    for maps in half))
    found = []
    for grid in both:
        leaves = {name: feature.clone().requires_grad_() for name, feature in half[0].items()}
        with torch.autocast('cpu', torch.bfloat16):
            losses = grid.pathway_losses(leaves, half[1])
        losses.sum().backward()
        found.append([losses, *(leaf.grad.float() for leaf in leaves.values()),
                      *(parameter.grad for parameter in grid.transforms.parameters())])
    assert found[0][0].dtype == torch.float32 and torch.allclose(found[0][0], exact, rtol=1e-6)
    assert error(*found) < 0.05  # the loss from maps rounds them to bfloat16
    assert all(parameter.grad.dtype == torch.float32 for parameter in both[0].transforms.parameters())


def test_no_map_of_the_teachers_width_has_a_graph():
    receivers, transmitters = [(4, 8, 8)], [(40, 16, 16)]
    kept = {}
    for name, grid in zip(('covariances', 'plain'), grids(receivers, transmitters)):
        received = {key: feature.requires_grad_() for key, feature in features(receivers, 's', 5).items()}
        saved = kept[name] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x) or x, lambda x: x):
            grid.pathway_losses(received, features(transmitters, 't', 5))
    with_graph = {name: max(x.numel() for x in saved if x.requires_grad) for name, saved in kept.items()}
    assert with_graph['plain'] >= 5 * 40 * 16 * 16
    assert with_graph['covariances'] <= 5 * 4 * 8 * 8
    assert max(x.numel() for x in kept['covariances']) <= 5 * 40 * 8 * 8  # the teacher's averages, at the student's size


def test_what_receivers_share_is_computed_once(monkeypatch):
    receivers, transmitters = [(4, 8, 8), (6, 8, 8), (5, 4, 4)], [(7, 16, 16), (3, 8, 8)]
    made = []
    for part in (covariances.TeacherMap, covariances.TeacherStatistics, covariances.StudentStatistics):
        make = part.__init__
        monkeypatch.setattr(part, '__init__', lambda self, *args, make=make, part=part: made.append(part.__name__) or make(
            self, *args))
    grid, _ = grids(receivers, transmitters)
    received, transmitted = features(receivers, 's', 2), features(transmitters, 't', 2)
    grid.pathway_losses(received, transmitted)
    assert [made.count(name) for name in ('TeacherMap', 'TeacherStatistics', 'StudentStatistics')] == [2, 4, 3]
    made.clear()
    grid.pathway_losses(received, transmitted, catch=False)
    assert len(made) == 9


def test_pathways_without_weight_are_left_alone():
    receivers, transmitters = FIXED[0]
    grid, plain = grids(receivers, transmitters)
    received, transmitted = features(receivers, 's', 3), features(transmitters, 't', 3)
    before = {name: buffer.clone() for name, buffer in grid.transforms.named_buffers()}
    both = grid, plain
    for one in both:
        one.set_weights([0, 2, 0, 0, 1, 0, 3, 0])
    assert grid.active == [1, 4, 6]
    assert error(*(all_derivatives(one, received, transmitted) for one in both)) < 1e-10
    after = dict(grid.transforms.named_buffers())
    changed = {name.split('.')[0] for name, buffer in before.items() if not torch.equal(buffer, after[name])}
    active = {grid.transforms.numbers[grid.names[index]] for index in grid.active if 'pointwise' in grid.names[index]}
    assert changed == active


def test_sensitivities_of_each_pathway_are_those_of_the_maps():
    receivers, transmitters = FIXED[0]
    received, transmitted = features(receivers, 's', 3), features(transmitters, 't', 3)
    caught = []
    for grid in grids(receivers, transmitters):
        grid.record_sensitivities(True)
        weights = torch.rand(8, generator=torch.Generator().manual_seed(1)).double() + 0.5
        losses = grid.pathway_losses({name: x.clone().requires_grad_() for name, x in received.items()}, transmitted,
                                     catch=True)
        (weights * losses).sum().backward()
        caught.append([value.double() for _, value in grid.sensitivities()])
    assert len(caught[0]) == 8 and error(*caught) < 1e-6  # in the type of alpha


class Halved(HCLLoss):
    """A distance of a user's."""

    def forward(self, s_feature, t_feature):
        return 0.5 * super().forward(s_feature, t_feature)


def hooked(transform):
    transform.before[0].register_forward_hook(lambda module, inputs, output: 2 * output)


def another_norm(transform):
    if len(transform.before) > 1:
        transform.before[1] = nn.InstanceNorm2d(transform.before[1].num_features)


def normed_weight(transform):
    nn.utils.parametrizations.weight_norm(transform.before[0])


@pytest.mark.parametrize('case', ['ratio', 'larger', 'distance', 'mse', 'hook', 'norm', 'weight', 'switch'])
def test_everything_else_goes_the_plain_way(case, monkeypatch):
    receivers, transmitters = [(4, 6, 6)], [(5, 12, 12)]
    if case in ('ratio', 'larger'):
        transmitters = [(5, 8, 12)] if case == 'ratio' else [(5, 3, 3)]
    change = dict(hook=hooked, norm=another_norm, weight=normed_weight).get(case, lambda transform: None)
    distance = dict(distance=Halved(), mse=nn.MSELoss()).get(case)
    grid, plain = grids(receivers, transmitters, change=change, distance=distance)
    grid.from_covariances = case != 'switch'
    seen = by_covariances(monkeypatch)
    received, transmitted = features(receivers, 's', 3), features(transmitters, 't', 3)
    found, expected = (one.pathway_losses(received, transmitted) for one in (grid, plain))
    assert torch.equal(found[0], expected[0]) and torch.allclose(found[1], expected[1], rtol=1e-12)
    assert len(seen) == (case == 'norm')  # LinearTransform has none


def test_synchronised_batch_norm_goes_the_plain_way():
    transform = nn.SyncBatchNorm.convert_sync_batchnorm(PointwiseTransform(3, 4))
    assert type(transform.before[1]) is nn.SyncBatchNorm and linear.linear_layers(transform) is None


def test_a_single_pixel_is_refused_as_by_batch_norm():
    grid, _ = grids([(3, 1, 1)], [(4, 2, 2)], dict(pointwise=PointwiseTransform))
    with pytest.raises(ValueError, match='Expected more than 1 value per channel'):
        grid.pathway_losses(dict(s0=torch.randn(1, 3, 1, 1).double()), dict(t0=torch.randn(1, 4, 2, 2).double()))


def test_a_constant_map_has_finite_derivatives():
    receivers, transmitters = FIXED[0]
    for value in (0.0, 3.0):
        received = {f's{number}': torch.full((3, *shape), value).double() for number, shape in enumerate(receivers)}
        found, expected = (all_derivatives(grid, received, features(transmitters, 't', 3)) for grid in grids(
            receivers, transmitters))
        assert all(tensor.isfinite().all() for tensor in found)


def test_compared_at_the_smaller_size(monkeypatch):
    receivers, transmitters = [(4, 4, 4), (3, 8, 8)], [(5, 12, 16), (6, 4, 4)]
    both = grids(receivers, transmitters, compare_at='smaller')
    received, transmitted = features(receivers, 's', 3), features(transmitters, 't', 3)
    seen = by_covariances(monkeypatch)
    assert error(*(all_derivatives(grid, received, transmitted) for grid in both)) < 1e-10
    assert len(seen) == 2 * 3  # a student's map that is larger is resized
