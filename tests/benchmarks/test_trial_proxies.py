"""Measures of short trials against scipy and their definition."""
import numpy as np
import pytest
import scipy.stats

from trial_proxies import rank_correlation, sharpness


@pytest.mark.parametrize('high', [1e9, 4])  # with equal numbers in the second case
def test_the_rank_correlation_is_spearmans(high):
    random = np.random.RandomState(0)
    x, y = random.randint(0, high, 16).astype(float), random.randn(16)
    assert rank_correlation(x, y) == pytest.approx(scipy.stats.spearmanr(x, y)[0], abs=1e-12)


def test_the_sharpness_does_not_depend_on_the_logits_mean():
    logits = 3 * np.random.RandomState(0).randn(5, 4)
    expected = [np.log(np.exp(row - row.mean()).sum()) for row in logits]
    assert np.allclose(sharpness(logits), expected) and np.allclose(sharpness(logits + 7), expected)
