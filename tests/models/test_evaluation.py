"""A model in training mode is copied for evaluation, and does not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
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


class Normalised(nn.Module):
    """A convolution and a normalisation, which a list hides from `eval()` unless it is a ModuleList."""

    def __init__(self, kind: Callable[[list[nn.Module]], Any]) -> None:
        super().__init__()
        self.layers = kind([nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Dropout(0.5)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x.mean((1, 2))


@pytest.mark.parametrize("kind", [list, tuple, lambda layers: [[layers[0]], layers[1:]]])
def test_modules_in_a_list_that_would_train_are_refused(kind: Callable[[list[nn.Module]], Any]) -> None:
    class Nested(Normalised):
        def forward(self, x: Tensor) -> Tensor:
            for layer in [each for part in self.layers for each in (part if isinstance(part, list) else [part])]:
                x = layer(x)
            return x.mean((1, 2))

    net = Nested(kind)
    flat = [each for part in net.layers for each in (part if isinstance(part, list) else [part])]
    before = flat[1].running_mean.clone()
    with pytest.raises(RuntimeError, match=r"in its attribute `module.layers`, and no `eval\(\)` reaches it there"):
        cdi.predict("ACGTTGCAAGGC", cdi.wrap(net.eval()))
    assert torch.equal(flat[1].running_mean, before)
    for layer in flat:
        layer.eval()
    assert np.array_equal(*(cdi.predict("ACGTTGCAAGGC", cdi.wrap(net)) for _ in range(2)))


def exported(net: nn.Module) -> nn.Module:
    batch = torch.export.Dim("batch", min=1, max=1024)
    return torch.export.export(net, (torch.zeros(2, 4, 12),), dynamic_shapes=({0: batch},)).module()


def test_an_exported_program_computes_in_the_mode_of_its_export() -> None:
    net = Normalised(nn.ModuleList).eval()
    result = cdi.ism("ACGTTGCAAGGC", cdi.wrap(exported(net), length=12))
    np.testing.assert_allclose(
        result.predictions, cdi.ism("ACGTTGCAAGGC", cdi.wrap(net, length=12)).predictions, atol=1e-6
    )
    with pytest.raises(RuntimeError, match=r"exported in training mode .* Call the `eval\(\)` of the module before"):
        cdi.wrap(exported(net.train()), length=12)
