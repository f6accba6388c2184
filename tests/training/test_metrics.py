"""Measures against scipy, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from crossdna_interpret.training.metrics import auroc, correlation, pearson


def test_the_correlation_and_its_interval_are_scipys() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    expected = stats.pearsonr(x, y)
    interval = expected.confidence_interval(0.95)
    assert correlation(x, y) == pytest.approx((expected.statistic, interval.low, interval.high), abs=1e-4)
    assert pearson(x, y) == pytest.approx(expected.statistic, abs=1e-12)


def test_where_nothing_varies_the_correlation_is_open() -> None:
    assert all(math.isnan(value) for value in correlation(np.ones(9), np.arange(9)))
    assert all(math.isnan(value) for value in correlation(np.arange(3), np.arange(3)))


def test_the_area_under_the_curve_by_hand() -> None:
    assert auroc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])) == pytest.approx(3.5 / 4)
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3, dtype=bool)))
