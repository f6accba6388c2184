"""Fixtures shared by all tests: small random models, and the folder with reference numbers where it is present."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Widths differ wherever they can, so that a transposition shows.
TINY = {
    "d_model": 12, "depth": 2, "block_size": 24, "comba_heads": 3, "comba_head_dim": 4, "expand_v": 2.0,
    "attention_heads": 2, "window_size": 10, "dropout": 0.3,
}  # fmt: skip


def pytest_configure() -> None:
    """If tests run in several processes (`-n`), divide the cores among them and the processes they start."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = max(1, (os.cpu_count() or 1) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


# Tests of how the bundled models are made, which is in a clone and in the sdist, and not in the wheel.
IMPORTS_RECIPES = re.compile(r"^(from|import) crossdna_interpret\.training\.recipes", re.MULTILINE)
RECIPES = sorted(
    path.name
    for path in (Path(__file__).parent / "training").glob("test_*.py")
    if IMPORTS_RECIPES.search(path.read_text(encoding="utf-8"))
)
HAS_RECIPES = importlib.util.find_spec("crossdna_interpret.training.recipes") is not None
collect_ignore = [] if HAS_RECIPES else [f"training/{name}" for name in RECIPES]


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if HAS_RECIPES else f"left out, since recipes are not installed: {', '.join(collect_ignore)}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Random weights of a test, and of the fixtures that it is the first to use, are the same in each run."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with a browser or a notebook as slow."""
    for item in items:
        if item.get_closest_marker("browser") or item.get_closest_marker("notebook"):
            item.add_marker(pytest.mark.slow)


def random_model(targets: tuple[str, ...] = ("activity",), seed: int = 0, **changes: object) -> CrossDNA:
    """A small model with random weights everywhere, also where training starts from constants; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.random.get_rng_state()
    model = CrossDNA(CrossDNAConfig(**{**TINY, **changes}), targets)  # type: ignore[arg-type]
    torch.random.set_rng_state(state)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.5 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def random_sequence(length: int, seed: int = 0, n_at: tuple[int, ...] = ()) -> str:
    """Random bases, with N at the given positions."""
    bases = np.random.default_rng(seed).choice(list("ACGT"), length)
    bases[list(n_at)] = "N"
    return "".join(bases)


@pytest.fixture
def make_model() -> Callable[..., CrossDNA]:
    """`random_model`, as a fixture."""
    return random_model


@pytest.fixture
def make_sequence() -> Callable[..., str]:
    """`random_sequence`, as a fixture."""
    return random_sequence


@pytest.fixture
def model() -> CrossDNA:
    """Two layers, blocks of 24, one target, float32."""
    return random_model()


@pytest.fixture
def shared() -> Path:
    """Reference numbers and measured data, which the repository does not contain."""
    if not SHARED.is_dir():
        pytest.skip("the reference numbers in ../shared are not part of the repository and are not here")
    return SHARED


@pytest.fixture(scope="module")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where kernels are kept while a module's tests run, in place of the user's folder."""
    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSDNA_INTERPRET_CACHE", str(folder))
        yield folder
