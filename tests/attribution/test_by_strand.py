"""Attributions record whether the model has a separate path for each strand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi

SEQUENCE = "GATTACAGCCATTGACCGTA"


class Convolution(nn.Module):
    """An ordinary model: four channels in, one score out, nothing known about strands."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(4, 8, 5, padding=2)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.convolution(x)).mean((1, 2))


EXPLAIN = {
    "integrated gradients": lambda *args, **options: cdi.integrated_gradients(*args, baseline="zeros", **options),
    "gradient": cdi.input_gradient,
}


@pytest.mark.parametrize("rc_average", [False, True])
@pytest.mark.parametrize("method", EXPLAIN)
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_only_models_with_strand_paths_are_split_by_strand(method: str, rc_average: bool, make_model: Callable) -> None:
    ordinary = EXPLAIN[method](SEQUENCE, cdi.wrap(Convolution()), rc_average=rc_average)
    assert not ordinary.by_strand
    assert not ordinary.reverse.any()
    np.testing.assert_array_equal(ordinary.values, ordinary.forward)
    crossdna = EXPLAIN[method](SEQUENCE, make_model(), rc_average=rc_average)
    assert crossdna.by_strand
    assert crossdna.reverse.any()
    for result in (ordinary, crossdna):
        assert {one.by_strand for one in result.orientations or ()} <= {result.by_strand}
