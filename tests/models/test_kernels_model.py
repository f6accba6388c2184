"""A whole model on the compiled CPU kernels against the same model without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native.bindings import Kernels, use_kernels
from tests.models.kernel_sizes import FUNCTIONS, SIZES, Call, Load, assert_near, every_dtype

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

pytestmark = pytest.mark.usefixtures("kernel_cache", "without_gradients")

# A busy machine is no reason to fail, so examples have no deadline; `make_model` keeps nothing from one to the next.
unhurried = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def score(model: CrossDNA, seqs: list[str], kernels: Kernels | None = None) -> Tensor:
    with use_kernels(kernels):
        return model(model.one_hot(seqs))


MODELS = st.fixed_dictionaries(
    {
        "size": st.sampled_from(list(SIZES)),
        "depth": st.integers(1, 2),
        "block_size": st.sampled_from([None, 16, 24, 33]),
        "window_size": st.sampled_from([1, 10, 31, 200]),
        "comba_heads": st.integers(1, 3),
        "attention_heads": st.sampled_from([2, 4]),
        "kv_heads": st.sampled_from([None, 1, 2]),
        "use_bridge": st.sampled_from([True, True, False]),
        "gate_freeze_steps": st.sampled_from([0, 0, 1]),
        "gate_temp": st.sampled_from([0.5, 2.0]),
        "targets": st.sampled_from([(), ("activity",), ("rods", "cones", "amacrine")]),
        "seed": st.integers(0, 3),
    }
)


def model_of(make_model: Make, size: str, attention_heads: int = 2, **changes: object) -> CrossDNA:
    """A random model with heads of that size."""
    width = SIZES[size]["d_model"] * attention_heads
    return make_model(**SIZES[size] | changes | {"attention_heads": attention_heads, "d_model": width})


@every_dtype
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
@unhurried
@given(config=MODELS, length=st.integers(1, 80), batch=st.integers(1, 3))
def test_a_model_scores_on_kernels_as_it_does_without(
    load: Load, make_model: Make, make_sequence: MakeSequence, dtype: torch.dtype, rc_blocks: str,
    config: dict[str, Any], length: int, batch: int,
) -> None:  # fmt: skip
    model = model_of(make_model, **config, rc_blocks=rc_blocks)
    seqs = [make_sequence(length, seed, n_at=(length // 2,)) for seed in range(batch)]
    result = score(model.to(dtype), seqs, load(config["size"], dtype))
    assert_near(result, lambda dtype: score(model.to(dtype), seqs))


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls of each function."""
    seen: Counter[str] = Counter()

    def counting(name: str, original: Call) -> Call:
        def call(*args: Any, **options: Any) -> Tensor:
            seen[name] += 1
            return original(*args, **options)

        return call

    for name in FUNCTIONS:
        monkeypatch.setattr(Kernels, name, counting(name, getattr(Kernels, name)))
    return seen


def test_a_model_uses_all_of_them(load: Load, model: CrossDNA, used: Counter[str]) -> None:
    score(model, ["GATTACA"], load("tiny", torch.float32))
    assert set(used) == FUNCTIONS


def test_nothing_is_used_while_gradients_are_on(load: Load, model: CrossDNA, used: Counter[str]) -> None:
    x = model.one_hot(["GATTACA" * 5])
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        expected = model(inputs[0])
        with use_kernels(load("tiny", torch.float32)):
            result = model(inputs[1])
        assert torch.equal(result, expected)
        gradients = [torch.autograd.grad(y.sum(), x)[0] for y, x in zip((expected, result), inputs, strict=True)]
    assert torch.equal(*gradients)
    assert not used


def test_kernels_of_another_type_are_not_used(load: Load, model: CrossDNA, used: Counter[str]) -> None:
    expected = score(model, ["GATTACA"])
    assert torch.equal(score(model, ["GATTACA"], load("tiny", torch.float64)), expected)
    assert not used
