"""What is recorded as a CUDA graph, with a stand-in for the graph that runs on a CPU."""
import copy
import pickle

import pytest
import torch
import torch.nn.functional as functional
from test_distillation import MANUAL
from toys import network

import distpro
from distpro import cuda_graph
from distpro.pathways import recorded_loss
from distpro.random_state import without_side_effects
from distpro.tracing import fast_forward


class StandIn:
    """Computes at each replay, from the static inputs into the static outputs, as a CUDA graph does."""
    made: list = []

    def __init__(self, function, inputs, modules=(), pool=None):
        self.inputs, self.function = [tensor.detach().clone() for tensor in inputs], function
        with without_side_effects(*modules):
            self.outputs = function(self.inputs)
        self.made.append(self)

    def __call__(self, inputs):
        torch._foreach_copy_(self.inputs, list(inputs))
        new = self.function(self.inputs)
        pairs = zip(self.outputs.values(), new.values()) if isinstance(new, dict) else zip(self.outputs, new)
        for output, value in pairs:
            if output is not None:
                with torch.no_grad():
                    output.copy_(value)
        return self.outputs


@pytest.fixture
def graphs(monkeypatch):
    """The stand-ins that were made; everything is recorded."""
    monkeypatch.setattr(StandIn, 'made', [])
    monkeypatch.setattr(cuda_graph, 'Recorded', StandIn)
    monkeypatch.setattr(torch.cuda, 'graph_pool_handle', lambda: (0, 0))
    monkeypatch.setattr(fast_forward, 'has_bfloat16', lambda device: False)
    for module in (recorded_loss, fast_forward):
        monkeypatch.setattr(module, 'can_record', lambda tensors: not torch.is_autocast_enabled('cpu'))
    return StandIn.made


def trained(steps=4, sizes=(6, ), **kwargs):
    """A student, the distillation, and its losses, after some steps."""
    torch.manual_seed(0)
    student, teacher = network(), network(8)
    data = [torch.randn(sizes[step % len(sizes)], 3, 16, 16) for step in range(steps)]
    kd = distpro.Distillation(student.double(), teacher.double(), data[0][:2].double(), process=MANUAL, **kwargs)
    optimizer = torch.optim.SGD([*student.parameters(), *kd.parameters()], 0.05, 0.9)
    losses = []
    for step, images in enumerate(data):
        out = kd(images.double(), progress=step / (steps - 1))
        optimizer.zero_grad()
        (functional.cross_entropy(out.logits, torch.arange(len(images)) % 5) + 2 * out.loss).backward()
        optimizer.step()
        losses.append([out.loss.item(), *(loss.item() for loss in out.pathways.values())])
    return student, kd, torch.tensor(losses)


def compare(one, other):
    for first, second in zip(one, other):
        if isinstance(first, torch.nn.Module):
            state, expected = first.state_dict(), second.state_dict()
            for name, value in expected.items():
                torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10)
        else:
            torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('sizes', [(6, ), (6, 4)])
def test_a_recorded_training_is_the_same(graphs, sizes):
    """Student, transforms, their running statistics and all losses, also with batches of several sizes."""
    found = trained(sizes=sizes)
    assert len(graphs) == 2 * len(sizes)  # the teacher and the loss
    graphs.clear()
    plain = trained(sizes=sizes, cuda_graph=False, fast_teacher=False)
    assert not graphs
    compare(found, plain)


def test_a_recording_does_not_use_what_other_graphs_use(monkeypatch, graphs):
    """On a GPU, a parameter's node runs on the stream of the graph that made it, outside of the recording."""
    seen = []

    class Recording(StandIn):

        def __init__(self, function, inputs, modules=(), pool=None):
            grad = torch.autograd.grad
            with monkeypatch.context() as patch:
                patch.setattr(torch.autograd, 'grad', lambda total, leaves, **kwargs: seen.append(
                    (total, leaves)) or grad(total, leaves, **kwargs, retain_graph=True))
                super().__init__(function, inputs, modules, pool)

    monkeypatch.setattr(cuda_graph, 'Recorded', Recording)
    _, kd, _ = trained(1 + 1)
    (total, leaves), = seen
    nodes, found = [total.grad_fn], set()
    while nodes:
        node = nodes.pop()
        found.add(getattr(node, 'variable', None))
        nodes += [following for following, _ in node.next_functions if following is not None]
    assert found - {None} and found - {None} <= set(leaves)
    parameters = set(kd.parameters()) | set(kd.student.parameters())
    assert parameters and not parameters & found
    assert {p.data_ptr() for p in kd.parameters()} <= {leaf.data_ptr() for leaf in leaves}


def test_pathways_of_weight_0_have_a_graph_of_their_own(graphs):
    torch.manual_seed(0)
    kd = distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16))
    plain = copy.deepcopy(kd)
    plain.grid.cuda_graph, plain.teachers.fast[''].ways = False, []
    images = torch.randn(6, 3, 16, 16)
    for weights in ([1.0] * 4, [1.0, 0, 0, 2], [0, 3.0, 0, 0], [2.0] * 4):
        weights = (weights * len(kd.grid.names))[:len(kd.grid.names)]
        for one in (kd, plain):
            one.grid.set_weights(weights)
        torch.testing.assert_close(kd.compare((images, ), {}).loss, plain.compare((images, ), {}).loss)
    assert len(graphs) == 2 * 3


def test_two_losses_before_one_backward_pass(graphs):
    """A replay overwrites what the graph returned, so each loss has its gradients to itself."""
    torch.manual_seed(0)
    kd = distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16))
    images = torch.randn(2, 6, 3, 16, 16)
    (kd(images[0]).loss + 3 * kd(images[1]).loss).backward()
    found = [p.grad.clone() for p in kd.parameters()]
    kd.zero_grad()
    kd.grid.cuda_graph = False
    (kd(images[0]).loss + 3 * kd(images[1]).loss).backward()
    for one, p in zip(found, kd.parameters()):
        torch.testing.assert_close(one, p.grad)
    assert len(graphs) == 2


def test_what_cannot_be_recorded_is_computed_with_a_warning(monkeypatch, graphs):
    def fails(*args, **kwargs):
        raise RuntimeError('operation not permitted when stream is capturing')

    monkeypatch.setattr(cuda_graph, 'Recorded', fails)
    with pytest.warns(UserWarning) as told:
        found = trained()
    texts = [str(warning.message) for warning in told]
    for what in ('the teacher', 'the loss of the pathways'):
        assert sum(text.startswith(f'{what} cannot be recorded as a CUDA graph') for text in texts) == 1
    compare(found, trained(cuda_graph=False, fast_teacher=False))


def test_shapes_that_never_come_again_are_not_recorded_for_ever(graphs):
    found = trained(24, range(2, 26))
    assert len(graphs) == 2 * cuda_graph.LIMIT
    compare(found, trained(24, range(2, 26), cuda_graph=False, fast_teacher=False))


def test_a_deterministic_training_is_always_recorded(graphs, monkeypatch):
    """A run that is resumed late records its first steps, so the run itself must still record then."""
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: True)
    found = trained(24, range(2, 26))
    assert len(graphs) == 2 * 24 and len(found[1].grid._recorded_loss._recorder._graphs) == cuda_graph.LIMIT
    compare(found, trained(24, range(2, 26), cuda_graph=False, fast_teacher=False))


def test_weights_with_a_graph_and_second_derivatives(graphs):
    """What a search differentiates is not recorded."""
    torch.manual_seed(0)
    kd = distpro.Distillation(network().double(), network(8).double(), torch.randn(2, 3, 16, 16).double())
    images = torch.randn(6, 3, 16, 16).double()
    weights = torch.ones(len(kd.grid.names)).double().requires_grad_()
    with kd.grid.using_weights(weights):
        loss = kd.compare((images, ), {}).loss
    gradient, = torch.autograd.grad(loss, next(kd.student.parameters()), create_graph=True)
    by_weights, = torch.autograd.grad(gradient.square().sum(), weights)
    assert by_weights.abs().max() > 0 and len(graphs) == 1  # the teacher's


def test_a_recorded_loss_is_not_differentiated_twice(graphs):
    kd = distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16))
    loss = kd(torch.randn(6, 3, 16, 16)).loss
    with pytest.raises(RuntimeError, match='can be differentiated once: set cuda_graph=False'):
        torch.autograd.grad(loss, next(kd.student.parameters()), create_graph=True)


@pytest.mark.parametrize('change', ['teacher', 'transforms'])
def test_weights_that_move_are_recorded_again(graphs, change):
    torch.manual_seed(0)
    kd = distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16))
    images = torch.randn(6, 3, 16, 16)
    kd(images)
    module = kd.teacher if change == 'teacher' else kd.grid.transforms
    for p in module.parameters():
        p.data = torch.randn_like(p)
    found = kd(images).loss
    assert len(graphs) == 3
    kd.grid.cuda_graph = False
    kd.teachers.fast[''].ways = []
    torch.testing.assert_close(found, kd(images).loss)


def test_copies_and_pickles_have_no_graphs(graphs):
    kd = distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16))
    images = torch.randn(6, 3, 16, 16)
    loss = kd(images).loss
    for other in (copy.deepcopy(kd), pickle.loads(pickle.dumps(kd))):
        assert not other.grid._recorded_loss._recorder._graphs and not other.teachers.fast['']._recorder._graphs
        torch.testing.assert_close(other(images).loss, loss)
        assert other.grid._recorded_loss.grid is other.grid


def test_autocast_is_not_recorded(graphs):
    kd = distpro.Distillation(network(), network(8), torch.randn(2, 3, 16, 16))
    with torch.autocast('cpu', torch.bfloat16):
        kd(torch.randn(6, 3, 16, 16))
    assert not graphs


@pytest.mark.parametrize('change', ['distance', 'temperature'])
def test_a_recording_is_used_while_the_numbers_of_the_losses_are_those_that_it_has(graphs, monkeypatch, change):
    """As LossScheduleHook changes the weight of a loss. The stand-in computes with the present numbers, a graph does not."""
    replay, replays = StandIn.__call__, []
    monkeypatch.setattr(StandIn, '__call__', lambda graph, inputs: (replays.append(graph), replay(graph, inputs))[1])

    def trained_with(record):
        torch.manual_seed(0)
        student, teacher = network(), network(8)
        images, losses = torch.randn(6, 3, 16, 16), []
        kd = distpro.Distillation(student, teacher, images[:2], process=MANUAL, fast_teacher=False, cuda_graph=record)
        part = next(iter((kd.grid.distances if change == 'distance' else kd.grid.logit_losses).values()))
        name = 'loss_weight' if change == 'distance' else 'tau'
        for factor in (1.0, 1.0, 0.5, 2.0, 1.0):
            setattr(part, name, factor * 4)
            losses.append(kd(images, progress=0.5).loss.item())
        return losses

    with_graphs = trained_with(True)
    assert len(graphs) == 1 and len(replays) == 3, 'of five steps, two have other numbers'
    assert with_graphs == pytest.approx(trained_with(False), rel=1e-5)
