"""Families of sequences whose measurements are known, and a truth report of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from torch import Tensor, nn

import crossdna_interpret as cdi

LENGTH, WORD = 24, "TGATAAGC"
MOTIF = np.eye(4)[["ACGT".index(base) for base in WORD]].T + 0.001


class Weighted(nn.Module):
    """Adds up a weight for each base and position."""

    def __init__(self, length: int, seed: int = 0) -> None:
        super().__init__()
        weights = np.random.default_rng(seed).normal(size=(4, length)).astype(np.float32)
        self.register_buffer("weights", Tensor(weights))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weights).sum((1, 2))


@pytest.fixture(scope="module")
def model() -> cdi.SequenceModel:
    return cdi.wrap(Weighted(LENGTH), targets=["activity"])


@pytest.fixture(scope="module")
def table(model: cdi.SequenceModel) -> pd.DataFrame:
    """Fifty families of nine sequences. The noise of the measurements is known."""
    random = np.random.default_rng(1)
    rows = []
    for family in range(50):
        start = random.choice(list("ACGT"), LENGTH)
        if family % 2:
            start[5 : 5 + len(WORD)] = list(WORD)
        for _ in range(9):
            own = start.copy()
            at = random.choice(LENGTH, int(random.integers(0, 3)), replace=False)
            own[at] = random.choice(list("ACGT"), len(at))
            rows.append((f"f{family}", "".join(own)))
    result = pd.DataFrame(rows, columns=["family", "sequence"])
    scores = cdi.predict(result["sequence"].tolist(), model)[:, 0]
    result["activity"] = scores + random.normal(scale=0.5, size=len(result))
    return result


@pytest.fixture(scope="module")
def report(table: pd.DataFrame, model: cdi.SequenceModel) -> cdi.TruthReport:
    return cdi.truth_report(table, model, measured="activity", motifs={"GATA": MOTIF})
