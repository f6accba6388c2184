"""The capabilities of a CrossDNA model, by name."""

from __future__ import annotations

from contextlib import AbstractContextManager

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.protocols import Acceleration, Compile, Reuse, capability


def reuse_problem(model: CrossDNA) -> str | None:
    offered = capability(model, Reuse)
    assert offered is not None
    return offered.problem()


def accelerated(model: CrossDNA, compile: Compile, operations: float) -> AbstractContextManager[str]:
    offered = capability(model, Acceleration)
    assert offered is not None
    return offered.accelerated(compile, operations)
