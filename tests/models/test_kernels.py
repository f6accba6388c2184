"""The compiled CPU kernels against the PyTorch code that they replace."""

from __future__ import annotations

import copy
import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.attention import rotary_table
from crossdna_interpret.models.crossdna.bridge import Context
from crossdna_interpret.models.crossdna.native.bindings import Kernels, load_kernels
from crossdna_interpret.models.crossdna.native.compiling import Sizes
from crossdna_interpret.models.crossdna.states import AttentionPast
from tests.models.kernel_cases import (
    Random,
    attention_by_torch,
    comba_by_kernels,
    comba_by_torch,
    comba_of,
    every_size,
    past_of,
    projections_of,
    unhurried,
)
from tests.models.kernel_sizes import FUNCTIONS, Call, Load, assert_near, config_of, every_dtype

pytestmark = pytest.mark.usefixtures("kernel_cache", "without_gradients")

# Each function against PyTorch


@pytest.mark.slow
@every_dtype
@every_size
@unhurried
@given(
    batch=st.integers(1, 3), heads=st.integers(1, 3), length=st.one_of(st.sampled_from([1, 31, 32, 33, 64, 97]),
    st.integers(1, 100)), resumed=st.booleans(), decay=st.sampled_from([0.05, 1.0, 16.0]),
    seed=st.integers(0, 2**16),
)  # fmt: skip
def test_comba(
    load: Load, size: str, dtype: torch.dtype, batch: int, heads: int, length: int, resumed: bool, decay: float,
    seed: int,
) -> None:  # fmt: skip
    random = Random(seed)
    layer = comba_of(size, heads, random, decay)
    projected = projections_of(layer, random, batch, length)
    past = past_of(layer, random) if resumed else None
    result = comba_by_kernels(load(size, dtype), layer, projected, past)
    assert_near(result, comba_by_torch(layer, projected, past))


@every_dtype
@every_size
@pytest.mark.parametrize("resumed", [False, True], ids=["from the start", "resumed"])
@pytest.mark.parametrize(("strong", "step"), [(50.0, 1), (50.0, 7), (1000.0, 1), (1000.0, 31)])
def test_comba_under_strong_decays(
    load: Load, size: str, dtype: torch.dtype, strong: float, step: int, resumed: bool
) -> None:
    random = Random(0)
    layer = comba_of(size, 2, random)
    layer.A_log.zero_()
    layer.dt_bias.zero_()
    projected = projections_of(layer, random, 2, 80)
    decays = torch.full((80,), -3.0, dtype=torch.float64)  # of which little is left by softplus
    decays[::step] = strong
    projected[..., -2 * layer.heads : -layer.heads] = decays[:, None]
    past = past_of(layer, random) if resumed else None
    result = comba_by_kernels(load(size, dtype), layer, projected, past)
    assert_near(result, comba_by_torch(layer, projected, past))


@every_dtype
@pytest.mark.parametrize("decay", [0.3, 0.7, 1.0, 3.0])
def test_what_fades_away_in_comba_does_not_become_denormal(load: Load, dtype: torch.dtype, decay: float) -> None:
    random = Random(0)
    layer = comba_of("no convolution", 2, random)
    layer.A_log.zero_()
    layer.dt_bias.fill_(math.log(math.expm1(decay)))
    projected = projections_of(layer, random, 1, 400)
    projected[..., -2 * layer.heads : -layer.heads] = 0
    projected[:, 3:, 2 * layer.heads * layer.key_dim : layer.splits[0]] = 0  # values of the first three alone
    result = comba_by_kernels(load("no convolution", dtype), layer, projected)
    assert_near(result, comba_by_torch(layer, projected))
    assert not ((result != 0) & (result.abs() < torch.finfo(dtype).tiny)).any()
    if dtype == torch.float32:
        assert not result[:, -1].any()


@every_dtype
@every_size
@unhurried
@given(
    batch=st.integers(1, 3), heads=st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (6, 2)]),
    length=st.integers(1, 100), start=st.one_of(st.just(0), st.integers(1, 120)), window=st.integers(1, 130),
    scale=st.sampled_from([0.1, 1.0, 10.0]), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_attention(
    load: Load, size: str, dtype: torch.dtype, batch: int, heads: tuple[int, int], length: int, start: int,
    window: int, scale: float, seed: int,
) -> None:  # fmt: skip
    random = Random(seed)
    query_heads, kv_heads = heads
    dim = config_of(size).d_model
    splits = [query_heads * dim, kv_heads * dim, kv_heads * dim]
    projections = random(batch, length, sum(splits))
    projections[..., : splits[0]] *= scale
    before = [random(1, kv_heads, start, dim) for _ in range(2)]

    def past(dtype: torch.dtype) -> AttentionPast | None:
        return AttentionPast(before[0].to(dtype), before[1].to(dtype)) if start else None

    def reference(dtype: torch.dtype) -> Tensor:
        return attention_by_torch(projections.to(dtype), heads, window, past(dtype))

    rows = projections.to(dtype)
    table = rotary_table(length, dim, 10000.0, rows, start)
    assert_near(load(size, dtype).attention(rows, kv_heads, window, past(dtype), table), reference)


@every_dtype
def test_a_key_that_is_no_number_is_not_passed_over(load: Load, dtype: torch.dtype) -> None:
    projections = Random(0)(1, 9, 3 * 6).to(dtype)
    projections[:, 4, 6:12] = torch.nan
    table = rotary_table(9, 6, 10000.0, projections)
    result = load("tiny", dtype).attention(projections, 1, 3, None, table)
    assert result.isnan().any(-1).tolist() == [[t in (4, 5, 6) for t in range(9)]]


def test_attention_without_memory_says_so() -> None:
    library: Any = SimpleNamespace(attention=lambda **_: 0)
    x = torch.zeros(1, 1234, 18)
    kernels = Kernels(library, Sizes(key=4, value=4, taps=0, head=6))
    with pytest.raises(MemoryError, match="1,234 positions"):
        kernels.attention(x, 1, 3, None, rotary_table(1234, 6, 10000.0, x))


@every_dtype
@unhurried
@given(batch=st.integers(1, 3), length=st.integers(1, 100), width=st.integers(1, 50), seed=st.integers(0, 2**16))
def test_dilated(load: Load, dtype: torch.dtype, batch: int, length: int, width: int, seed: int) -> None:
    random = Random(seed)
    context = Context(width).double()
    for conv in context.convs:
        conv.weight.copy_(random(*conv.weight.shape))
    context.mix = nn.Linear(5 * width, 5 * width, bias=False).double()
    context.mix.weight.copy_(torch.eye(5 * width))
    x = random(batch, length, width)
    taps = torch.stack([conv.weight[:, 0].t() for conv in context.convs])
    result = load("tiny", dtype).dilated(x.to(dtype), taps.to(dtype))
    assert_near(result, lambda dtype: copy.deepcopy(context).to(dtype)(x.to(dtype)))


@every_dtype
@unhurried
@given(batch=st.integers(1, 3), length=st.integers(1, 100), parts=st.integers(1, 3), scale=st.sampled_from([1.0, 50.0]),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_gated(load: Load, dtype: torch.dtype, batch: int, length: int, parts: int, scale: float, seed: int) -> None:
    rows = scale * Random(seed)(batch, length, 512 * parts)

    def reference(dtype: torch.dtype) -> Tensor:
        gate, up = rows.to(dtype).chunk(2, dim=-1)
        return F.silu(gate) * up

    assert_near(load("tiny", dtype).gated(rows.to(dtype)), reference)


@every_dtype
def test_the_sigmoid_is_right_wherever_float32_can_hold_it(load: Load, dtype: torch.dtype) -> None:
    gate = torch.linspace(-80, 80, 400 * 256).view(1, 400, 256).to(dtype)
    result = load("tiny", dtype).gated(torch.cat([gate, torch.ones_like(gate)], dim=-1))
    relative = 5e-7 if dtype == torch.float32 else 2e-15
    torch.testing.assert_close(result.double(), F.silu(gate.double()), rtol=relative, atol=0)


@every_dtype
def test_beyond_that_the_sigmoid_stays_within_its_limits(load: Load, dtype: torch.dtype) -> None:
    gate = torch.tensor([-1e4, -200.0, -100.0, 100.0, 200.0, 1e4], dtype=dtype).repeat_interleave(256).view(1, 6, 256)
    result = load("tiny", dtype).gated(torch.cat([gate, torch.ones_like(gate)], dim=-1))
    torch.testing.assert_close(result[:, 3:], gate[:, 3:], rtol=0, atol=0)
    assert (result[:, :3] <= 0).all()
    assert (result[:, :3] >= -1e-30).all()


@every_dtype
@unhurried
@given(batch=st.integers(1, 3), length=st.integers(1, 100), width=st.integers(1, 70),
       scale=st.sampled_from([1e-3, 1.0, 30.0]), seed=st.integers(0, 2**16))  # fmt: skip
def test_rms_norm(load: Load, dtype: torch.dtype, batch: int, length: int, width: int, scale: float, seed: int) -> None:
    random = Random(seed)
    x, weight = scale * random(batch, length, width), random(width)
    result = load("tiny", dtype).rms_norm(x.to(dtype), weight.to(dtype), 1e-5, 0.7)
    assert_near(result, lambda dtype: F.rms_norm(x.to(dtype), (width,), weight.to(dtype), 1e-5) * 0.7)


def norm_of(width: int, random: Random) -> nn.LayerNorm:
    """A layer norm in float64 with weights and an epsilon of its own."""
    norm = nn.LayerNorm(width, eps=1e-3).double()
    norm.weight.copy_(random(width))
    norm.bias.copy_(random(width))
    return norm


@every_dtype
@unhurried
@given(batch=st.integers(1, 3), length=st.integers(1, 100), width=st.integers(6, 70), weighted=st.booleans(),
       temperature=st.sampled_from([0.5, 1.0, 2.0]), scale=st.sampled_from([1.0, 100.0]),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_gate_norm(
    load: Load, dtype: torch.dtype, batch: int, length: int, width: int, weighted: bool, temperature: float,
    scale: float, seed: int,
) -> None:  # fmt: skip
    random = Random(seed)
    m, t, logits = random(batch, length, width), random(batch, length, width), scale * random(batch, length, width)
    norm = norm_of(width, random) if weighted else nn.LayerNorm(width, eps=1e-5, elementwise_affine=False)

    def reference(dtype: torch.dtype) -> Tensor:
        gate = torch.sigmoid(logits.to(dtype) / temperature)
        return copy.deepcopy(norm).to(dtype)(torch.lerp(m.to(dtype), t.to(dtype), gate))

    of_type = copy.deepcopy(norm).to(dtype) if weighted else None
    result = load("tiny", dtype).gate_norm(m.to(dtype), t.to(dtype), logits.to(dtype), of_type, temperature)
    assert_near(result, reference)


@every_dtype
@unhurried
@given(batch=st.integers(1, 3), length=st.integers(1, 100), width=st.integers(6, 70), branch=st.integers(0, 1),
       scale=st.sampled_from([1.0, 100.0]), seed=st.integers(0, 2**16))  # fmt: skip
def test_receive(
    load: Load, dtype: torch.dtype, batch: int, length: int, width: int, branch: int, scale: float, seed: int
) -> None:
    random = Random(seed)
    x, message, whole = random(batch, length, width), random(batch, length, width), random(batch, 1, width)
    of_both = scale * random(batch, length, 2 * width)
    norm = norm_of(width, random)

    def parts(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, nn.LayerNorm]:
        logits = of_both.to(dtype).chunk(2, dim=-1)[branch]
        return x.to(dtype), logits, message.to(dtype), whole.to(dtype), copy.deepcopy(norm).to(dtype)

    def reference(dtype: torch.dtype) -> Tensor:
        x, logits, message, whole, norm = parts(dtype)
        return norm(x + torch.sigmoid(logits) * (message + whole))

    assert_near(load("tiny", dtype).receive(*parts(dtype)), reference)


def product(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return F.linear(x.to(dtype), weight.to(dtype))


@every_dtype
@unhurried
@given(batch=st.integers(1, 3), length=st.integers(1, 100), width=st.integers(1, 50), out=st.integers(1, 50),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_project(load: Load, dtype: torch.dtype, batch: int, length: int, width: int, out: int, seed: int) -> None:
    random = Random(seed)
    x, weight = random(batch, length, width), random(out, width)
    kernels = load("tiny", dtype)
    for part in (x, x[:, :1], x):  # the second and third in memory that is there
        reference = functools.partial(product, part, weight)
        assert_near(kernels.project(part.to(dtype), weight.to(dtype)), reference)


# What holds for all of them


def calls(kernels: Kernels) -> dict[str, tuple[Call, list[Tensor]]]:
    """Each compiled function, as a function of the tensors that have a row for each sequence; three rows."""
    random, dtype = Random(0), kernels.dtype
    layer = comba_of("six taps", 2, random)
    dim = config_of("six taps").d_model
    norm, past = norm_of(20, random).to(dtype), past_of(layer, random)
    taps, weight = random(5, 9, 20).to(dtype), random(20).to(dtype)
    before = AttentionPast(random(1, 2, 9, dim).to(dtype), random(1, 2, 9, dim).to(dtype))
    table = rotary_table(40, dim, 10000.0, weight, 9)

    def rows(*shape: int) -> Tensor:
        return random(3, *shape).to(dtype)

    features = rows(40, 20)
    return {
        "comba": (
            lambda x: comba_by_kernels(kernels, layer, x, past),
            [projections_of(layer, random, 3, 40).to(dtype)],
        ),
        "attention": (lambda x: kernels.attention(x, 2, 7, before, table), [rows(40, 8 * dim)]),
        "dilated": (lambda x: kernels.dilated(x, taps), [features]),
        "gated": (kernels.gated, [rows(40, 512)]),
        "rms_norm": (lambda x: kernels.rms_norm(x, weight, 1e-5, 0.7), [features]),
        "gate_norm": (
            lambda m, t, logits: kernels.gate_norm(m, t, logits, norm, 2.0),
            [features, rows(40, 20), rows(40, 20)],
        ),
        "receive": (
            lambda x, logits, message, whole: kernels.receive(x, logits, message, whole, norm),
            [features, rows(40, 20), rows(40, 20), rows(1, 20)],
        ),
    }


every_function = pytest.mark.parametrize("name", sorted(FUNCTIONS - {"project"}))  # which PyTorch computes


@every_dtype
@every_function
def test_rows_of_a_batch_do_not_mix(load: Load, dtype: torch.dtype, name: str) -> None:
    call, x = calls(load("six taps", dtype))[name]
    together = call(*x).clone()
    for row in range(3):
        assert torch.equal(together[row], call(*(y[row : row + 1] for y in x))[0])
    assert not torch.equal(together[0], together[1])


@every_dtype
@every_function
def test_threads_that_use_the_same_kernels_do_not_meet(load: Load, dtype: torch.dtype, name: str) -> None:
    call, x = calls(load("six taps", dtype))[name]
    inputs = [[scale * y for y in x] for scale in (1.0, 0.5, 0.25, 0.75)]
    expected = [call(*each).clone() for each in inputs]
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda at: call(*inputs[at % 4]).clone(), range(64))
        assert all(torch.equal(result, expected[at % 4]) for at, result in enumerate(results))


@every_dtype
@every_function
def test_inputs_are_left_alone(load: Load, dtype: torch.dtype, name: str) -> None:
    call, x = calls(load("six taps", dtype))[name]
    before = [y.clone() for y in x]
    first = call(*x).clone()
    assert all(torch.equal(y, kept) for y, kept in zip(x, before, strict=True))
    assert torch.equal(call(*x), first)


@every_dtype
@every_function
def test_inputs_need_not_be_contiguous(load: Load, dtype: torch.dtype, name: str) -> None:
    call, x = calls(load("six taps", dtype))[name]
    expected = call(*x).clone()
    wide = [torch.cat([y, y + 1], dim=-1)[..., : y.shape[-1]] for y in x]
    assert not any(y.is_contiguous() for y in wide[:1])
    assert torch.equal(call(*wide), expected)


@every_dtype
def test_kernels_serve_in_inference_mode_and_out_of_it(load: Load, dtype: torch.dtype) -> None:
    kernels = load_kernels(config_of("tiny"), dtype)
    x, weight = Random(0)(2, 5, 7).to(dtype), Random(1)(3, 7).to(dtype)
    with torch.inference_mode():
        inside = kernels.project(x, weight).clone()
    assert torch.equal(kernels.project(x, weight), inside)


def test_nothing_global_changes(load: Load) -> None:
    def state() -> tuple[object, ...]:
        tiny = torch.tensor([1e-40]), torch.tensor([1e-310], dtype=torch.float64)
        return (
            torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype(),
            torch.is_grad_enabled(), dict(os.environ), Path.cwd(), [float(x * 1.0) for x in tiny],
        )  # fmt: skip

    before = state()
    kernels = load_kernels(config_of("six taps"), torch.float32)
    for call, x in calls(kernels).values():
        call(*x)
    assert state() == before
