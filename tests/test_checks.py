"""Refusals of numbers that are out of range."""
import math

import numpy as np
import pytest

from distpro.checks import check_number, check_whole
from distpro.errors import ArgumentError, ProcessError


@pytest.mark.parametrize('value', [True, 0, -1, 1.0, '2', None, math.nan, 6, np.float64(2)])
def test_what_is_no_whole_number_in_the_range_is_refused(value):
    with pytest.raises(ProcessError, match='^knots=.* must be a whole number from 1 to 5$'):
        check_whole('knots', value, most=5, error=ProcessError)


def test_whole_numbers_in_the_range_pass():
    for value in (1, 5):
        check_whole('knots', value, most=5)
    check_whole('seed', 0, least=0)


@pytest.mark.parametrize('value, limits, message', [
    (True, {}, 'share=True must be a number$'),
    (math.nan, {}, 'share=nan must be a number$'),
    (math.inf, dict(least=0), 'share=inf must be a number at least 0$'),
    ('0.5', dict(least=0, most=1), "share='0.5' must be a number at least 0 and at most 1$"),
    (-0.1, dict(least=0), 'at least 0$'), (0, dict(above=0), 'above 0$'),
    (1.1, dict(above=0, most=1), 'above 0 and at most 1$'),
    (1, dict(above=0, below=1), 'above 0 and below 1$')])
def test_what_is_no_number_in_the_range_is_refused(value, limits, message):
    with pytest.raises(ArgumentError, match=message):
        check_number('share', value, **limits)


def test_numbers_in_the_range_pass():
    for value, limits in ((-3, {}), (0, dict(least=0, most=1)), (1.0, dict(above=0, most=1)),
                          (np.float64(0.5), dict(below=1))):
        check_number('share', value, **limits)
