"""Fixtures shared by the tests of models: checkpoints in both layouts, and compiled kernels."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.models.crossdna.native.bindings import Kernels, load_kernels
from crossdna_interpret.models.crossdna.native.compiling import find_compiler

pytest.register_assert_rewrite("tests.models.kernel_sizes")  # so that a failure there shows its numbers

from tests.models.kernel_sizes import (  # noqa: E402
    SANITIZED_SOURCE,
    VECTOR_BYTES,
    Load,
    config_of,
    sanitized_flags,
)
from tests.models.published_checkpoint import PUBLISHED_CONFIG, published_tensors  # noqa: E402


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder in the published layout."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    save_file(published_tensors(), folder / "model.safetensors")
    return folder


@pytest.fixture
def ours(tmp_path: Path, make_model: Callable[..., CrossDNA]) -> Path:
    """A folder in our layout."""
    model = make_model(targets=("one", "two"))
    model.name = "a name"
    return save_crossdna(model, tmp_path / "ours", card="# A card\n")


@pytest.fixture(scope="session")
def load() -> Load:
    """Kernels of a size, which is compiled once for all files, into the `kernel_cache` of the first that asks."""
    if find_compiler() is None:
        pytest.skip("there is no C compiler here")

    @functools.cache
    def of(size: str, dtype: torch.dtype) -> Kernels:
        with pytest.MonkeyPatch.context() as patch:
            if size in VECTOR_BYTES:
                patch.setattr(compiling, "ALWAYS", [*compiling.ALWAYS, f"-DBYTES={VECTOR_BYTES[size]}"])
            if SANITIZED_SOURCE in os.environ:
                patch.setattr(compiling, "FLAGS", sanitized_flags())
                patch.setattr(compiling, "SOURCE", Path(os.environ[SANITIZED_SOURCE]))
            return load_kernels(config_of(size), dtype)

    return of


@pytest.fixture
def without_gradients() -> Iterator[None]:
    """As kernels are used."""
    with torch.no_grad():
        yield
