"""Motifs that the tests share."""

from __future__ import annotations

import pytest

from crossdna_interpret import Motif, read_motifs


@pytest.fixture(scope="session")
def vertebrates() -> list[Motif]:
    """JASPAR's vertebrate motifs."""
    return read_motifs("jaspar-vertebrates")
