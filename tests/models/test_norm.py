"""NORM: the loss of the segments, the neck for training, and the plain classifier that it is merged into."""
import pathlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.necks import GlobalAveragePooling
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import nn

from distpro_mm.engine.config_file import load_config
from distpro_mm.errors import ConfigError
from distpro_mm.models import NORMLoss, NORMNeck

pytestmark = pytest.mark.usefixtures('fixed_values')

ROOT = pathlib.Path(__file__).parents[2]


def test_the_loss_is_the_sum_over_segments_of_their_mean_squared_errors():
    s, t = np.random.randn(3, 8 * 5, 4, 4), np.random.randn(3, 5, 4, 4)
    expected = sum(((s[:, 5 * n:5 * (n + 1)] - t)**2).mean() for n in range(8))
    found = NORMLoss(loss_weight=2.0)(torch.from_numpy(s), torch.from_numpy(t)).item()
    assert found == pytest.approx(2 * expected, rel=1e-12)
    interleaved = sum(((s[:, n::8] - t)**2).mean() for n in range(8))  # the nearest wrong formulas
    assert found != pytest.approx(2 * interleaved, rel=1e-4) and found != pytest.approx(2 * expected / 8, rel=1e-4)


def test_the_larger_map_is_max_pooled():
    s, t = torch.randn(2, 6, 4, 4), torch.randn(2, 3, 8, 8)
    loss = NORMLoss()
    torch.testing.assert_close(loss(s, t), loss(s, F.max_pool2d(t, 2)))
    torch.testing.assert_close(loss(s, t[..., :2, :2]), loss(F.max_pool2d(s, 2), t[..., :2, :2]))


def test_channels_that_are_no_multiple_name_the_key():
    with pytest.raises(ConfigError, match='model.architecture.neck: 10 expanded channels .* the 4 .* teacher_channels=4'):
        NORMLoss()(torch.zeros(1, 10, 2, 2), torch.zeros(1, 4, 2, 2))


def trained_neck(**kwargs):
    torch.manual_seed(0)
    neck = NORMNeck(6, 5, segments=3, **kwargs).double()
    for p in neck.parameters():
        nn.init.normal_(p, std=0.7)
    for _ in range(3):
        neck(torch.randn(4, 6, 3, 5, dtype=torch.float64) * 2 + 1)
    return neck.eval()


@pytest.mark.parametrize('residual', [True, False])
def test_merged_into_the_classifier_it_gives_the_same_logits(residual):
    neck, fc = trained_neck(residual=residual), nn.Linear(6, 4).double()
    x = torch.randn(7, 6, 3, 5, dtype=torch.float64)
    before = fc(neck((x, ))[0].mean((2, 3)))
    without = fc(x.mean((2, 3)))
    neck.merge_into(fc)
    torch.testing.assert_close(fc(x.mean((2, 3))), before, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(before, without, rtol=1e-2)


def test_the_transform_is_expansion_contraction_and_the_map_itself():
    neck = trained_neck()
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    y = x
    for conv, bn in (neck.expand, neck.contract):
        y = torch.einsum('oc,bchw->bohw', conv.weight[:, :, 0, 0], y) - bn.running_mean[:, None, None]
        y = y * (bn.weight / (bn.running_var + bn.eps).sqrt())[:, None, None] + bn.bias[:, None, None]
    torch.testing.assert_close(neck((x, ))[0], x + y)
    assert neck.expand(x).shape == (2, 15, 3, 3)
    assert trained_neck(residual=False)(x)[0].shape == x.shape
    out = neck((None, x))  # the last of several maps
    assert isinstance(out, tuple) and torch.equal(GlobalAveragePooling()(out)[0], out[0].mean((2, 3)))


def test_the_expanded_map_is_what_is_compared():
    cfg = load_config(str(ROOT / 'configs' / 'baselines' / 'norm.py'), pair='resnet20_resnet8-half_digits')
    cfg.model.teacher_ckpt, cfg.model.teacher.backbone.depth, cfg.model.fast_teacher = None, 8, 'exact'
    model = MODELS.build(cfg.model)
    neck, seen = model.student.neck[0], []
    model.distiller.pair_losses['layer3>expanded'].register_forward_pre_hook(lambda module, maps: seen.append(maps))
    x, samples = torch.randn(3, 1, 8, 8), [DataSample().set_gt_label(i) for i in range(3)]
    losses = model(x, samples, mode='loss')
    feature = model.student.backbone(x)[-1]
    torch.testing.assert_close(seen[0][0], neck.expand(feature))
    torch.testing.assert_close(seen[0][1], model.teacher.backbone(x)[-1])
    entropy = F.cross_entropy(model.student(x, mode='tensor'), torch.arange(3))
    torch.testing.assert_close(losses['student.loss'], 0.1 * entropy)
