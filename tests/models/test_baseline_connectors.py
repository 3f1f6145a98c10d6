import math

import pytest
import torch
from mmrazor.models.distillers import OFDDistiller
from mmrazor.registry import MODELS
from torch import nn


def margin_connector(channels=3):
    return MODELS.build(dict(type='mmrazor.MarginOFDTeacherConnector', channels=channels))


def test_the_margin_is_the_mean_of_the_negative_values_seen_so_far():
    torch.manual_seed(0)
    connector, seen = margin_connector().double(), []
    for size in (2, 5, 3):
        feature = torch.randn(size, 3, 4, 4, dtype=torch.float64) + torch.tensor([-0.5, 0.3, 1.0])[:, None, None]
        seen.append(feature)
        out = connector(feature)
        values = torch.cat(seen).transpose(0, 1).flatten(1)
        expected = torch.stack([row[row < 0].mean() for row in values])[None, :, None, None]
        torch.testing.assert_close(connector.margin, expected)
        torch.testing.assert_close(out, torch.where(feature > expected, feature, expected))


def test_after_a_batch_norm_it_is_the_closed_form_of_paper_and_mmrazor():
    """E[x | x < 0] of a Gaussian with the batch norm's shift and scale: by hand, and mmrazor's own function."""
    torch.manual_seed(1)
    bn = nn.BatchNorm2d(3)
    bn.weight.data, bn.bias.data = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([-0.3, 0.2, 0.9])
    connector = margin_connector()
    connector(bn(torch.randn(400, 3, 40, 40)))
    for found, s, m in zip(connector.margin.flatten().tolist(), bn.weight.tolist(), bn.bias.tolist()):
        density, below = math.exp(-(m / s)**2 / 2) / math.sqrt(2 * math.pi), (1 + math.erf(-m / s / math.sqrt(2))) / 2
        assert found == pytest.approx(m - s * density / below, rel=5e-3)
    torch.testing.assert_close(connector.margin, OFDDistiller._get_margin_from_BN(None, bn), rtol=5e-3, atol=0)


def test_a_channel_that_is_never_negative_has_a_margin_of_zero():
    connector = margin_connector(1)
    feature = torch.rand(2, 1, 4, 4)
    assert torch.equal(connector(feature), feature) and connector.margin == 0


def test_margins_are_learned_in_training_alone_and_live_in_the_checkpoint():
    connector = margin_connector()
    feature = torch.randn(4, 3, 2, 2)
    connector(feature)
    learned = connector.margin.clone()
    connector.eval()(2 * feature)
    assert torch.equal(connector.margin, learned)
    other = margin_connector()
    other.load_state_dict(connector.state_dict())
    assert torch.equal(other.eval()(feature), connector(feature)) and other.count.sum() == (feature < 0).sum()
    # mmrazor does not save the margin in the checkpoint, so that the reloaded connector cannot be used.
    plain = MODELS.build(dict(type='mmrazor.OFDTeacherConnector'))
    plain.init_margin(learned)
    reloaded = MODELS.build(dict(type='mmrazor.OFDTeacherConnector'))
    reloaded.load_state_dict(plain.state_dict())
    with pytest.raises(AssertionError, match='margin must be initialized'):
        reloaded(feature)


def test_a_shortcut_behind_the_batch_norm_counts():
    """mmrazor computes the margin from the last batch norm, which is wrong for a feature with a shortcut."""
    torch.manual_seed(2)
    bn = nn.BatchNorm2d(1)
    shortcut = torch.rand(200, 1, 20, 20) * 3
    feature = bn(torch.randn(200, 1, 20, 20)) + shortcut
    connector = margin_connector(1)
    connector(feature)
    truth = feature[feature < 0].mean().item()
    assert connector.margin.item() == pytest.approx(truth, rel=1e-5)
    assert abs(OFDDistiller._get_margin_from_BN(None, bn).item() / truth - 1) > 0.2
