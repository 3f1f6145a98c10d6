"""Every backbone works as teacher and as student. Part of benchmarks/backbone_matrix.py; slow tests run all of it."""
import pytest
from mmpretrain.models import backbones
from mmpretrain.registry import MODELS

from backbone_matrix import PARTNER, attempt, sample
from backbones import BACKBONES, REFUSED
from distpro.tracing import in_place_off, probe_input, resolve_taps, trace
from distpro_mm.reporting.inspection import as_config

# The base class of three registered ones: its config holds functions, so that it can be trained and not exported.
NOT_EXPORTED = {'CSPNet': 'ConfigError: model.architecture has the function'}


def some(names, quick, long=()):
    marks = {name: pytest.mark.long if name in long else pytest.mark.slow for name in names if name not in quick}
    return [pytest.param(name, marks=marks.get(name, ())) for name in names]


@pytest.mark.parametrize('name', some(BACKBONES, ('MobileNetV2', ), long=('SwinTransformer', )))
def test_every_backbone_is_taught(name):
    outcome = attempt(PARTNER, name)
    assert outcome.error is None or outcome.error.startswith(NOT_EXPORTED.get(name, 'nothing'))
    assert outcome.by_steps_alone is None


@pytest.mark.parametrize('name', some(BACKBONES, ('ResNet', ), long=('VisionTransformer', )))
def test_every_backbone_teaches(name):
    assert attempt(name, PARTNER).error is None


@pytest.mark.slow
@pytest.mark.parametrize('teacher, student', sample(30, list(BACKBONES)))
def test_pairs_of_different_families(teacher, student):
    assert attempt(teacher, student).error is None


def test_every_backbone_of_mmpretrain_is_in_the_matrix():
    assert set(backbones.__all__) <= set(BACKBONES) | set(REFUSED)


def test_what_a_student_computes_without_a_graph_is_refused(monkeypatch):
    own = BACKBONES['RevVisionTransformer'].backbone
    monkeypatch.setitem(own, 'no_custom_backward', False)
    error = attempt(PARTNER, 'RevVisionTransformer').error
    assert error.startswith("ConfigError: model.distiller.receivers: in training, layer 'layers_0' of the student has "
                            'no gradient')


@pytest.mark.parametrize('name', some(BACKBONES, ('ResNet', 'VGG', 'SwinTransformer', 'ViTSAM', 'TNT', 'VAN')))
def test_the_layers_that_auto_finds_can_be_spelt_out(name):
    small = BACKBONES[name]
    model = MODELS.build(small.classifier)
    in_place_off(model)
    found = trace(model, lambda: model(probe_input(model, small.shape), mode='tensor'))
    taps = resolve_taps('auto', found, 'receivers')
    assert resolve_taps([as_config(tap) for tap in taps], found, 'receivers') == taps and len(taps) >= 2


def test_inner_patches_are_not_taken_for_images():
    small = BACKBONES['TNT']
    model = MODELS.build(small.classifier)
    found = trace(model, lambda: model(probe_input(model, small.shape), mode='tensor'))
    pixels, patches = found.of('backbone.layers.1')[0].output
    assert len(pixels) == 32 and found.layouts.layout(pixels) is None
    layout = found.layouts.layout(patches)
    assert (layout.kind, layout.size, layout.before) == ('tokens', (4, 4), 1)
