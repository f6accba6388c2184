"""A model in training mode is copied for evaluation, and does not change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.models.fingerprint import fingerprint


def test_functions_that_would_reach_the_original_are_refused_in_training_mode() -> None:
    class Reaching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.after = [lambda x: self.norm(x)]

        def forward(self, x: Tensor) -> Tensor:
            return self.after[0](x).mean((1, 2))[:, None]

    net = Reaching().train()
    before = net.norm.running_mean.clone()
    with pytest.raises(RuntimeError, match=r"in training mode, and the function module.after uses a part of it"):
        cdi.ism("ACGTTGCAAGGC", cdi.wrap(net), end=2)
    assert torch.equal(net.norm.running_mean, before)
    cdi.ism("ACGTTGCAAGGC", cdi.wrap(net.eval()), end=2)


def test_functions_that_use_themselves_are_no_obstacle() -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def countdown(x: Tensor, left: int = 2) -> Tensor:
                return x if left == 0 else countdown(x + 1, left - 1)

            self.after = [countdown]
            self.after.append(self.after)  # type: ignore[arg-type]

        def forward(self, x: Tensor) -> Tensor:
            return self.after[0](x[:, 0].mean(1))

    assert cdi.predict("ACGTTGCAAGGC", cdi.wrap(Recursive().train())).item() == pytest.approx(2 + 3 / 12)
    assert fingerprint(Recursive()) == fingerprint(Recursive())
