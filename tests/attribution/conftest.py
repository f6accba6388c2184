"""Fixtures shared by the tests of attribution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn


@pytest.fixture
def smooth(make_model: Callable) -> Callable[..., nn.Module]:
    """Float64 models whose path integral converges with few steps.

    The keys and queries of tiny models are short, so one of them may pass near zero on a path. Its normalisation has a
    kink there. Wide keys and a weak stem prevent this.
    """

    def build(**options: object) -> nn.Module:
        model = make_model(**{"comba_head_dim": 24, "depth": 1, **options}).double()
        for convolution in (model.stem.conv_forward, model.stem.conv_reverse):
            convolution.weight.mul_(0.3)
        return model

    return build
