"""Models that run without annotations, and models that do not."""
import functools

import pytest
import torch
from torch import nn

from distpro.tracing import resolve_taps, trace
from distpro_mm.models.probing import probe


class WantsSizes(nn.Module):
    """Extracts features of any images, but its head needs the image sizes, as DETR does."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1))
        self.head = nn.Conv2d(5, 6, 1)

    def extract_feat(self, images):
        return self.backbone(images)

    def forward(self, images, data_samples=None, mode='tensor'):
        return self.head(self.extract_feat(images))[:, :, :data_samples[0]['height']]


def test_what_extracts_the_features_is_observed_where_the_whole_wants_annotations():
    model = WantsSizes()
    traced = probe(model, (3, 16, 24), functools.partial(trace, model))
    assert [call.name for call in traced.calls] == ['backbone.0', 'backbone.1', 'backbone']
    taps = resolve_taps(['backbone.0', 'backbone.1'], traced, 'key')
    assert [(tap.call, tap.shape) for tap in taps] == [(0, (4, 8, 12)), (0, (5, 4, 6))], 'as in the true forward'


def test_the_whole_is_observed_where_that_is_possible():
    model = WantsSizes()
    model.forward = lambda images, mode: model.head(model.extract_feat(images))
    assert probe(model, (3, 16, 16), lambda forward: forward()).shape == (2, 6, 4, 4)


def test_the_error_of_a_model_that_cannot_be_run_at_all_is_its_own():
    model = nn.Conv2d(3, 4, 1)  # its forward has no mode
    with pytest.raises(TypeError, match="unexpected keyword argument 'mode'"):
        probe(model, None, lambda forward: forward())
    broken = WantsSizes()
    broken.backbone[1] = nn.Conv2d(7, 5, 3)
    with pytest.raises(RuntimeError, match='expected input.* to have 7 channels'):
        probe(broken, None, lambda forward: forward())
    assert torch.is_grad_enabled()
