"""Measures against scipy, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from crossdna_interpret.statistics import correlation, mean, pearson


def test_the_correlation_and_its_interval_are_scipys() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    expected = stats.pearsonr(x, y)
    interval = expected.confidence_interval(0.95)
    assert correlation(x, y) == pytest.approx((expected.statistic, interval.low, interval.high), abs=1e-7)
    assert pearson(x, y) == pytest.approx(expected.statistic, abs=1e-12)


def test_where_nothing_varies_the_correlation_is_open() -> None:
    assert all(math.isnan(value) for value in correlation(np.ones(9), np.arange(9)))
    assert all(math.isnan(value) for value in correlation(np.arange(3), np.arange(3)))


def test_the_interval_of_a_mean_is_that_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(1).exponential(size=50)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=2).confidence_interval
    result, low, high = mean(values, seed=0, draws=10_000)
    assert result == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert mean(values, seed=3) == mean(values, seed=3) != mean(values, seed=4)


def test_the_mean_leaves_out_what_is_not_known() -> None:
    assert mean(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0, 1.0)
    value, low, high = mean(np.array([np.nan, 2.0]))
    assert value == 2.0
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(map(math.isnan, mean(np.array([np.nan]))))


def test_equal_values_have_no_correlation_whatever_rounding_says() -> None:
    equal = np.full(30, 0.1)  # numpy's standard deviation of these is not 0
    with np.errstate(all="raise"):
        assert np.isnan(correlation(equal, np.arange(30.0))).all()
        assert np.isnan(correlation(np.arange(30.0), equal)).all()
