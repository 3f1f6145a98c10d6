"""Which pathways are computed from covariances: layouts, types, what is shared, and what goes the plain way."""
import copy

import pytest
import torch
from both_ways import FIXED, all_derivatives, by_covariances, error, features, grids
from torch import nn

from distpro.pathways import HCLLoss, PointwiseTransform, covariances, linear, map_statistics
from distpro.tracing import Layout


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


def test_statistics_are_in_single_precision_under_autocast():
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
    for part in (map_statistics.TeacherMap, map_statistics.TeacherStatistics):
        make = part.__init__
        monkeypatch.setattr(part, '__init__', lambda self, *args, make=make, part=part: made.append(part.__name__) or make(
            self, *args))
    measured, measure = [], map_statistics.measure
    monkeypatch.setattr(covariances, 'measure', lambda *args: measured.append(args) or measure(*args))
    grid, _ = grids(receivers, transmitters)
    received, transmitted = features(receivers, 's', 2), features(transmitters, 't', 2)
    grid.pathway_losses(received, transmitted)
    assert [made.count(name) for name in ('TeacherMap', 'TeacherStatistics')] == [2, 4]
    # Each map of the student once, with each teacher's map once, though two transforms compare it with each.
    assert [(feature.shape[1:], len(teachers)) for feature, teachers, _ in measured] == [
        ((4, 8, 8), 2), ((6, 8, 8), 2), ((5, 4, 4), 2)]
    made.clear()
    grid.pathway_losses(received, transmitted, catch=False)
    assert len(made) == 6 and len(measured) == 6


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
