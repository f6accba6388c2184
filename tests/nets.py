"""Small external networks for tests of `wrap`, and declarations of toy models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.models.protocols import Memory, declare


class Net(nn.Module):
    """Two scores of one-hot DNA."""

    def __init__(self, act: nn.Module | None = None, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv, self.head = nn.Conv1d(4, 8, 5, padding=2), nn.Linear(8, 2)
        self.act = act or nn.ReLU()
        self.scale, self.options = 1.0, {"power": [1]}

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.head(self.act(self.conv(x)).amax(2)) ** self.options["power"][0]


def first(number: int) -> Callable[[Tensor], Tensor]:
    return lambda scores: scores[:, number : number + 1]


def wrapped(net: nn.Module | None = None, **options: Any) -> nn.Module:
    return cdi.wrap(net or Net(), **{"output": first(0), **options})


class _MemoryEstimate:
    def __init__(self, model: Any) -> None:
        self.needed = model.memory_estimate


def with_memory(model: type) -> type:
    """Declare, of a class with a method `memory_estimate`, that it offers `Memory`."""
    declare(model, {Memory: _MemoryEstimate})
    return model
