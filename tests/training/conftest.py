"""Fixtures shared by the tests of training: models with initial weights, and stopped runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA


def initialised_model(targets: list[str], **config: object) -> CrossDNA:
    """One layer as training begins with it, the same each time; `random_model` has random weights everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CrossDNA(CrossDNAConfig(**{"depth": 1, "rc_blocks": "aligned", **config}), targets)  # type: ignore[arg-type]


class Stopped(Exception):
    """An error that no run raises itself."""


def stop_at(module: Any, steps: int) -> type[Exception]:
    """Stop a run after some steps, as a power failure would. Returns the error that ends the run."""
    step = module.training_step

    def until(batch, batch_idx):  # type: ignore[no-untyped-def]
        if module.global_step == steps:
            raise Stopped
        return step(batch, batch_idx)

    module.training_step = until
    return Stopped


@pytest.fixture
def make_initialised() -> Callable[..., CrossDNA]:
    """`initialised_model`, as a fixture."""
    return initialised_model


@pytest.fixture
def stop_after() -> Callable[[Any, int], type[Exception]]:
    """`stop_at`, as a fixture."""
    return stop_at
