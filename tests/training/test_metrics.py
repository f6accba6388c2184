"""Area under the ROC curve, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crossdna_interpret.training.metrics import auroc


def test_the_area_under_the_curve_by_hand() -> None:
    assert auroc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])) == pytest.approx(3.5 / 4)
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3, dtype=bool)))
