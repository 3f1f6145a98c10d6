import json

import numpy as np
import pytest
import torch

from distpro.errors import ArgumentError
from distpro.process import DistillationProcess
from distpro.weighting import WEIGHTINGS, Weighting, register_weighting

# The weightings of the table in docs/method.md, without code of the package.
CLOSED = dict(
    uniform=lambda a, b: np.ones_like(a),
    softmax=lambda a, b: np.exp(a) / np.exp(a).sum(),
    biased_softmax=lambda a, b: np.exp(a) / (np.exp(b) + np.exp(a).sum()),
    sigmoid=lambda a, b: 1 / (1 + np.exp(-a)),
    absolute=lambda a, b: np.abs(a),
    normalised_absolute=lambda a, b: 3 * np.abs(a) / np.abs(a).sum(),
    bounded_absolute=lambda a, b: 10 * np.abs(a) / (1 + np.abs(a).sum()),
    exponential=lambda a, b: np.exp(a),
)


def draw(seed, size=7):
    """Numbers of both signs away from 0, where the absolute weightings are not differentiable."""
    generator = np.random.RandomState(seed)
    return generator.uniform(0.1, 2.5, size) * generator.choice([-1, 1], size)


def test_these_are_all_the_forms():
    assert set(WEIGHTINGS) == set(CLOSED)


def with_bias(form, bias):
    return dict(bias=bias) if form == 'biased_softmax' else {}


@pytest.fixture
def squared():
    @register_weighting
    def squared(alpha, offset=0.5):
        return (alpha + offset)**2

    yield squared
    del WEIGHTINGS['squared']


def test_a_function_of_a_user_is_a_weighting_and_its_parameters_are_in_the_process_file(squared, tmp_path):
    weighting = Weighting('squared', kd_weight=2, offset=-1)
    process = DistillationProcess(['a>b:c', 'd>e:c'], weighting, [0, 1], [[1, 2], [3, 4]])
    process.save(str(tmp_path / 'process.json'))
    loaded = DistillationProcess.load(str(tmp_path / 'process.json'))
    assert loaded.weighting.parameters == dict(offset=-1) and np.array_equal(loaded.weights, [[0, 2], [8, 18]])
    assert Weighting('squared').parameters == dict(offset=0.5)
    with pytest.raises(ArgumentError, match="^ofset=1 is not a parameter of squared, which has offset"):
        Weighting('squared', ofset=1)
    with pytest.raises(ArgumentError, match="^bias=1 is not a parameter of softmax, which has none"):
        Weighting('softmax', bias=1)


@pytest.mark.parametrize('form', CLOSED)
@pytest.mark.parametrize('seed', range(3))
def test_the_weights_are_the_closed_form(form, seed):
    alpha, bias = draw(seed), 0.3 * seed - 0.4
    weights = Weighting(form, **with_bias(form, bias))(torch.from_numpy(alpha))
    assert weights.dtype == torch.float64 and weights.shape == (7, )
    assert np.allclose(weights.numpy(), CLOSED[form](alpha, bias), rtol=1e-13, atol=0)


@pytest.mark.parametrize('form', CLOSED)
def test_the_jacobian_is_that_of_the_closed_form(form):
    """Autograd against central differences of a numpy formula, scaled as in a distillation."""
    alpha, bias, step = draw(5), -0.7, 1e-6
    weighting = Weighting(form, scale='num_pathways', kd_weight=0.9, **with_bias(form, bias))
    jacobian = torch.autograd.functional.jacobian(weighting, torch.from_numpy(alpha)).numpy()
    moved = [(CLOSED[form](alpha + d, bias) - CLOSED[form](alpha - d, bias)) / (2 * step) for d in step * np.eye(7)]
    assert np.allclose(jacobian, 7 * 0.9 * np.stack(moved, axis=1), rtol=1e-6, atol=1e-8)
    assert (form == 'uniform') == (not jacobian.any())


@pytest.mark.parametrize('form', CLOSED)
def test_scale_and_kd_weight_multiply(form):
    alpha = torch.from_numpy(draw(6))
    plain = CLOSED[form](alpha.numpy(), 1.0)
    assert np.allclose(Weighting(form, scale=0.25, kd_weight=6.0)(alpha), 1.5 * plain, rtol=1e-13)
    assert np.allclose(Weighting(form, scale='num_pathways')(alpha), 7 * plain, rtol=1e-13)
    assert np.allclose(Weighting(form, scale='num_pathways', kd_weight=2)(alpha[:4]),
                       8 * CLOSED[form](alpha[:4].numpy(), 1.0), rtol=1e-13)


def test_ten_pathways_start_at_ten_elevenths():
    weighting = Weighting('biased_softmax', scale='num_pathways')
    start = weighting.start(10)
    assert torch.equal(start, torch.ones(10))
    assert np.allclose(weighting(start.double()), 10 / 11, rtol=1e-14)


def test_only_the_biased_softmax_can_switch_everything_off():
    alpha = torch.from_numpy(draw(7))
    total = np.exp(alpha.numpy()).sum()
    assert np.isclose(Weighting('biased_softmax', bias=2.0)(alpha).sum(), total / (np.exp(2.0) + total), rtol=1e-13)
    assert 0 < Weighting('biased_softmax')(alpha - 30).sum() < 1e-10
    assert np.isclose(Weighting('softmax')(alpha - 30).sum(), 1, rtol=1e-13)


@pytest.mark.parametrize('form', ['softmax', 'biased_softmax', 'sigmoid'])
def test_far_alpha_does_not_overflow(form):
    weights = Weighting(form)(torch.tensor([1000.0, 1000.0, -1000.0], dtype=torch.float64))
    assert np.allclose(weights, [1, 1, 0] if form == 'sigmoid' else [0.5, 0.5, 0], rtol=1e-14)


def test_precision_and_graph_are_those_of_alpha():
    alpha = torch.from_numpy(draw(8)).float().requires_grad_()
    weights = Weighting('biased_softmax', scale='num_pathways')(alpha)
    assert weights.dtype == torch.float32
    gradient, = torch.autograd.grad(weights.sum(), alpha)
    biased = CLOSED['biased_softmax'](alpha.detach().double().numpy(), 1.0)
    assert np.allclose(gradient, 7 * biased * (1 - biased.sum()), rtol=1e-4)


@pytest.mark.parametrize('form', CLOSED)
def test_alpha_starts_at_one_or_at_the_given_value(form):
    assert torch.equal(Weighting(form).start(3), torch.full((3, ), 0.0 if form == 'exponential' else 1.0))
    assert torch.equal(Weighting(form, initial_alpha=-2).start(4), torch.full((4, ), -2.0))
    assert torch.equal(Weighting(form, initial_alpha=0).start(2), torch.zeros(2))


@pytest.mark.parametrize('arguments, message', [
    (dict(type='softmaxx'), ".type='softmaxx' is not one of uniform, softmax, .*(nearest: softmax)"),
    (dict(type='Exponential'), ".type='Exponential' is not one of .*(nearest: exponential)"),
    (dict(type='qqq'), ".type='qqq' is not one of uniform, .*exponential$"),
    *[(dict(scale=value), f'.scale={value!r} is neither a number above 0 nor')
      for value in (0, -1.0, float('nan'), float('inf'), 'pathways', None, True)],
    *[(dict(kd_weight=value), f'.kd_weight={value!r} is not a finite number above 0')
      for value in (0.0, -2, float('nan'), float('inf'), '1', None)],
    *[(dict(bias=value), f'.bias={value!r} is not a finite number$') for value in (float('nan'), float('-inf'), '1', None)],
    (dict(unit='nats'), ".unit='nats' is not one of None, variance, loss"),
    *[(dict(initial_alpha=value), f'.initial_alpha={value!r} is not a finite number')
      for value in (float('nan'), float('inf'), 'one', False)],
])
def test_bad_arguments_name_their_key(arguments, message):
    message = message.replace('(', r'\(').replace(')', r'\)')
    with pytest.raises(ArgumentError, match=f'^{message[1:]}'):
        Weighting(**arguments)


def test_a_bias_may_have_either_sign():
    alpha = draw(9)
    for bias in (-3, 0, 4.5):
        assert np.allclose(Weighting(bias=bias)(torch.from_numpy(alpha)), CLOSED['biased_softmax'](alpha, bias), rtol=1e-13)


@pytest.mark.parametrize('arguments', [
    dict(type='exponential', scale=0.125, kd_weight=3.0, initial_alpha=-0.5, unit='variance'),
    dict(type='biased_softmax', scale='num_pathways', kd_weight=0.7, bias=-2.5, initial_alpha=0.0, unit='loss'),
    *[dict(type=form, scale=2.0, kd_weight=1.0, initial_alpha=1.0, unit='loss') for form in CLOSED],
])
def test_a_weighting_is_built_again_from_its_dict(arguments):
    weighting = Weighting(**arguments)
    stored = weighting.to_dict()
    assert {**{key: value for key, value in stored.items() if key != 'parameters'}, **stored['parameters']} == {
        **arguments, **with_bias(arguments['type'], arguments.get('bias', 1.0))}
    again = Weighting.from_dict(json.loads(json.dumps(stored)))
    alpha = torch.from_numpy(draw(10))
    assert again.to_dict() == stored and torch.equal(again(alpha), weighting(alpha))
    assert torch.equal(again.start(3), weighting.start(3))


def test_the_defaults_are_written_out():
    assert Weighting().to_dict() == dict(type='biased_softmax', scale=1.0, kd_weight=1.0, initial_alpha=1.0, unit='loss',
                                         parameters=dict(bias=1.0))
    assert Weighting('exponential').to_dict() == dict(type='exponential', scale=1.0, kd_weight=1.0, initial_alpha=0.0,
                                                      unit='variance', parameters={})
