"""Sizes for tests of the compiled kernels, and their tolerance against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.native.bindings import Kernels

Call = Callable[..., Tensor]
Load = Callable[[str, torch.dtype], Kernels]

# Each of these is compiled, so there are few: below, at and above whole vectors of 16 or 8 numbers.
SIZES: dict[str, dict[str, Any]] = {
    "released": {"comba_head_dim": 64, "expand_v": 1.0, "conv_size": 4, "d_model": 16},
    "tiny": {"comba_head_dim": 4, "expand_v": 2.0, "conv_size": 4, "d_model": 6},
    "no convolution": {"comba_head_dim": 21, "expand_v": 1.7, "conv_size": None, "d_model": 18},
    "one tap": {"comba_head_dim": 16, "expand_v": 0.5, "conv_size": 1, "d_model": 2},
    "six taps": {"comba_head_dim": 7, "expand_v": 2.5, "conv_size": 6, "d_model": 34},
}
# Vectors as wide as other machines have them; the rest are tested with this machine's.
VECTOR_BYTES = {"tiny": 16, "one tap": 32, "no convolution": 64}
# Names the folder of C files that `load` compiles with sanitizers, in the processes of `test_kernels_source.py`.
SANITIZED_SOURCE = "CROSSDNA_INTERPRET_TEST_SANITIZED_SOURCE"
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
FUNCTIONS = {"comba", "attention", "dilated", "gated", "rms_norm", "gate_norm", "receive", "project"}


def config_of(size: str, **changes: object) -> CrossDNAConfig:
    """Of that size, with one attention head and one Comba head unless `changes` say otherwise."""
    return CrossDNAConfig(**({"attention_heads": 1, "comba_heads": 1} | SIZES[size] | changes))


def sanitized_flags() -> list[list[str]]:
    """Replacements of `compiling.FLAGS` with sanitizers: undefined behaviour in C ends the process."""
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    return [[*sanitize, *machine] for machine in (["-march=native"], ["-mcpu=native"], [])]


def assert_near(result: Tensor, reference: Callable[[torch.dtype], Tensor]) -> None:
    """Within 1e-12 of the largest expected number. In float32, about as exact as PyTorch in float32."""
    expected = reference(torch.float64)
    assert result.shape == expected.shape
    error, largest = float((result - expected).abs().max()), float(expected.abs().max())
    if result.dtype == torch.float64:
        assert error <= 1e-12 * largest
    else:
        assert result.dtype == torch.float32
        assert error <= 3 * float((reference(torch.float32) - expected).abs().max()) + 1e-6 * max(1.0, largest)
