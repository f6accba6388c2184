"""Attention: the tiled window against a dense mask, rotary positions, and the MLP beside it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossdna_interpret.models.crossdna import attention
from crossdna_interpret.models.crossdna.attention import Attention, GatedMLP, rotary_table, rotate, windowed_attention
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.states import AttentionPast, AttentionTrace

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None, max_examples=40)

WINDOW = 5
# Below, at and above one window, whole numbers of windows, and one more or less.
LENGTHS = [1, 2, 4, 5, 6, 9, 10, 11, 13, 14, 15, 23]


def dense(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Every score, then a mask: position i sees j with 0 <= i - j <= window - 1."""
    length, heads, kv_heads = q.shape[2], q.shape[1], k.shape[1]
    out = []
    for head in range(heads):
        shared = head * kv_heads // heads  # consecutive heads share a key/value head
        scores = q[:, head] @ k[:, shared].transpose(-1, -2) / math.sqrt(q.shape[-1])
        for i in range(length):
            for j in range(length):
                if not 0 <= i - j <= window - 1:
                    scores[:, i, j] = -math.inf
        out.append(torch.softmax(scores, dim=-1) @ v[:, shared])
    return torch.stack(out, dim=1)


def qkv(length: int, *, heads: int = 4, kv_heads: int = 4, d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, heads, length, d), (2, kv_heads, length, d), (2, kv_heads, length, d)]
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q, k, v


# The window


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("length", LENGTHS)
def test_window_is_that_of_a_dense_mask(length: int, kv_heads: int) -> None:
    x = qkv(length, kv_heads=kv_heads)
    result = windowed_attention(*x, WINDOW)
    assert result.shape == x[0].shape
    torch.testing.assert_close(result, dense(*x, WINDOW), rtol=0, atol=1e-13)


@unhurried
@given(length=st.integers(1, 40), window=st.integers(1, 45), seed=st.integers(0, 2**16))
def test_window_is_that_of_a_dense_mask_for_any_length(length: int, window: int, seed: int) -> None:
    x = qkv(length, heads=2, kv_heads=1, d=2, seed=seed)
    torch.testing.assert_close(windowed_attention(*x, window), dense(*x, window), rtol=0, atol=1e-13)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_is_as_near_as_float32_allows(length: int) -> None:
    x = [y.float() for y in qkv(length)]
    result = windowed_attention(*x, WINDOW)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), dense(*(y.double() for y in x), WINDOW), rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [WINDOW, 3 * WINDOW, 3 * WINDOW + 2])
@pytest.mark.parametrize("at", [0, 1, WINDOW - 1])
def test_a_position_reaches_itself_and_what_follows_within_the_window(length: int, at: int) -> None:
    x = qkv(length)
    before = windowed_attention(*x, WINDOW)
    k, v = x[1].clone(), x[2].clone()
    k[:, :, at] += 1
    v[:, :, at] += 1
    changed = (before != windowed_attention(x[0], k, v, WINDOW)).any(-1).any(1)
    expected = [at <= i < at + WINDOW for i in range(length)]
    assert changed.tolist() == [expected, expected]


def test_a_window_of_one_sees_itself_alone() -> None:
    q, k, v = qkv(7)
    torch.testing.assert_close(windowed_attention(q, k, v, 1), v, rtol=0, atol=1e-15)


@pytest.mark.parametrize("length", [3, WINDOW, 2 * WINDOW + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_finite_and_those_of_the_dense_mask(length: int, dtype: torch.dtype) -> None:
    x = [y.to(dtype).requires_grad_() for y in qkv(length, kv_heads=2)]
    exact = [y.detach().double().requires_grad_() for y in x]
    weight = torch.randn(x[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = torch.autograd.grad((windowed_attention(*x, WINDOW) * weight).sum(), x)
    theirs = torch.autograd.grad((dense(*exact, WINDOW) * weight).sum(), exact)
    for y, z in zip(ours, theirs, strict=True):
        assert y.isfinite().all()
        torch.testing.assert_close(y.double(), z, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("length", [3, WINDOW, 2 * WINDOW + 3])
def test_gradients_are_finite_where_scores_are_huge(length: int) -> None:
    q, k, v = (y.float().requires_grad_() for y in qkv(length))
    out = windowed_attention(q * 1e3, k * 1e3, v, WINDOW)
    assert out.isfinite().all()
    assert all(y.isfinite().all() for y in torch.autograd.grad(out.sum(), (q, k, v)))


# Resuming


def resumed(x: tuple[Tensor, Tensor, Tensor], window: int, start: int) -> Tensor:
    """Outputs from `start` on, given the keys and values of the first row before it."""
    q, k, v = (y[:, :, start:] for y in x)
    past = AttentionPast(x[1][:1, :, :start], x[2][:1, :, :start])
    return windowed_attention(q, k, v, window, past)


@pytest.mark.parametrize("window", [1, 2, WINDOW, 22, 23, 24, 60])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, WINDOW, WINDOW + 1, 2 * WINDOW, 23])
def test_resuming_anywhere_gives_what_the_whole_gives(length: int, kv_heads: int, window: int) -> None:
    q, k, v = qkv(length, kv_heads=kv_heads)
    k[1], v[1] = k[0], v[0]  # what comes before is the same for all rows
    whole = dense(q, k, v, window)
    for start in range(length):
        result = resumed((q, k, v), window, start)
        torch.testing.assert_close(result, whole[:, :, start:], rtol=0, atol=1e-13, msg=f"from {start} of {length}")


@unhurried
@given(length=st.integers(1, 40), window=st.integers(1, 45), seed=st.integers(0, 2**16), data=st.data())
def test_resuming_gives_what_the_whole_gives_for_any_length(
    length: int, window: int, seed: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, length - 1))
    x = qkv(length, heads=2, kv_heads=1, d=2, seed=seed)
    for y in x[1:]:
        y[1, :, :start] = y[0, :, :start]  # from there on, rows differ
    expected = windowed_attention(*x, window)[:, :, start:]
    torch.testing.assert_close(resumed(x, window, start), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("window", [3, WINDOW, 60])
@pytest.mark.parametrize("start", [1, 4, 9, 20])
def test_resuming_in_float32_is_as_near_as_float32_allows(start: int, window: int) -> None:
    q, k, v = (y[:1].float() for y in qkv(23))
    result = resumed((q, k, v), window, start)
    assert result.dtype == torch.float32
    expected = dense(q.double(), k.double(), v.double(), window)[:, :, start:]
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [1, WINDOW, 3 * WINDOW])
def test_what_comes_before_reaches_as_far_as_the_window(length: int) -> None:
    start = 8
    x = qkv(start + length)
    x = (x[0][:1], x[1][:1], x[2][:1])
    before = resumed(x, WINDOW, start)
    for at in range(start):
        k, v = x[1].clone(), x[2].clone()
        k[:, :, at] += 1
        v[:, :, at] += 1
        changed = (before != resumed((x[0], k, v), WINDOW, start)).any(-1).any(1)
        assert changed.tolist() == [[i < at + WINDOW for i in range(start, start + length)]]


# Rotary positions


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate` for heads before positions."""
    return rotate(x.transpose(1, 2), cos, sin).transpose(1, 2)


@pytest.mark.parametrize("theta", [10000.0, 50.0])
def test_rotation_turns_each_pair_by_its_own_angle(theta: float) -> None:
    # Channels 2i and 2i + 1 are the parts of one complex number, turned by t * theta^(-2i/d).
    q, _, _ = qkv(9, d=6)
    cos, sin = rotary_table(9, 6, theta, like=q)
    reverse = torch.empty_like(q)
    for t in range(9):
        for i in range(3):
            angle = t * theta ** (-2 * i / 6)
            number = torch.complex(q[:, :, t, 2 * i], q[:, :, t, 2 * i + 1]) * complex(math.cos(angle), math.sin(angle))
            reverse[:, :, t, 2 * i], reverse[:, :, t, 2 * i + 1] = number.real, number.imag
    torch.testing.assert_close(rotated(q, cos, sin), reverse, rtol=0, atol=1e-14)


def test_scores_depend_on_the_distance_alone() -> None:
    length, d = 12, 6
    q, k, _ = qkv(1, d=d)
    cos, sin = rotary_table(length, d, 10000.0, like=q)
    # The same query and key at every position.
    scores = rotated(q.expand(-1, -1, length, -1), cos, sin) @ rotated(k.expand(-1, -1, length, -1), cos, sin).mT
    for distance in range(-length + 1, length):
        diagonal = scores.diagonal(distance, dim1=-2, dim2=-1)
        torch.testing.assert_close(diagonal, diagonal[..., :1].expand_as(diagonal), rtol=0, atol=1e-13)
    # And they do depend on it.
    assert (
        scores.diagonal(0, dim1=-2, dim2=-1)[..., 0] - scores.diagonal(-3, dim1=-2, dim2=-1)[..., 0]
    ).abs().min() > 1e-3


def test_rotation_keeps_lengths_and_leaves_the_first_position_alone() -> None:
    q, _, _ = qkv(9)
    cos, sin = rotary_table(9, 6, 10000.0, like=q)
    reverse = rotated(q, cos, sin)
    torch.testing.assert_close(reverse.norm(dim=-1), q.norm(dim=-1), rtol=0, atol=1e-14)
    assert torch.equal(reverse[:, :, 0], q[:, :, 0])


def test_angles_are_those_of_float64_in_float32_too() -> None:
    # At position 1000 an angle computed in float32 is off by up to 6e-5.
    for exact, rounded in zip(*(rotary_table(1001, 6, 10000.0, like=torch.zeros(1, dtype=dtype))
                                for dtype in (torch.float64, torch.float32)), strict=True):  # fmt: skip
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded, exact.float())


# The modules


def config_of(**changes: object) -> CrossDNAConfig:
    shape = {
        "d_model": 12,
        "attention_heads": 2,
        "window_size": WINDOW,
        "comba_heads": 1,
        "comba_head_dim": 2,
    } | changes
    return CrossDNAConfig(**shape)  # type: ignore[arg-type]


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """In float64, with every parameter random."""
    module.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


@pytest.mark.parametrize("length", [3, WINDOW, 2 * WINDOW + 3])
@pytest.mark.parametrize(
    "changes",
    [{}, {"attention_heads": 6, "kv_heads": 2}, {"attention_heads": 6, "kv_heads": 1}, {"attention_heads": 1},
     {"rope_theta": 50.0}, {"window_size": 3}],
    ids=str,
)  # fmt: skip
def test_attention_is_the_one_on_the_page(length: int, changes: dict[str, object]) -> None:
    config = config_of(**changes)
    module = randomised(Attention(config))
    x = torch.randn(2, length, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    d = 12 // config.attention_heads
    shared = config.kv_heads or config.attention_heads
    rows = module.qkv_proj.weight.split([12, shared * d, shared * d])
    q, k, v = ((x @ part.T).reshape(2, length, -1, d).transpose(1, 2) for part in rows)
    angle = torch.tensor(
        [[t * config.rope_theta ** (-2 * i / d) for i in range(d // 2)] for t in range(length)], dtype=torch.float64
    )

    def turned(y: Tensor) -> Tensor:
        number = torch.complex(y[..., : d // 2], y[..., d // 2 :]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([number.real, number.imag], dim=-1)

    out = dense(turned(q), turned(k), v, config.window_size).transpose(1, 2).reshape(2, length, 12)
    torch.testing.assert_close(module(x), out @ module.o_proj.weight.T, rtol=0, atol=1e-12)


MODULES = pytest.mark.parametrize(
    "changes",
    [{}, {"attention_heads": 6, "kv_heads": 2}, {"window_size": 1}, {"window_size": 3}, {"window_size": 100}],
    ids=str,
)


@MODULES
@pytest.mark.parametrize("length", [1, WINDOW, 4 * WINDOW + 2])
def test_a_trace_does_not_change_the_module(length: int, changes: dict[str, object]) -> None:
    module = randomised(Attention(config_of(**changes)))
    x = torch.randn(1, length, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(module(x, trace=AttentionTrace()), module(x))


@MODULES
@pytest.mark.parametrize("length", [1, WINDOW, 4 * WINDOW + 2])
def test_resuming_the_module_anywhere_gives_what_the_whole_gives(length: int, changes: dict[str, object]) -> None:
    module = randomised(Attention(config_of(**changes)))
    x = torch.randn(3, length, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    trace = AttentionTrace()
    module(x[:1], trace=trace)
    assert trace.keys is not None
    assert trace.values is not None
    for start in range(length):
        x[1:, :start] = x[0, :start]
        past = AttentionPast(trace.keys[:, :, :start], trace.values[:, :, :start])
        again = AttentionTrace()
        result = module(x[:, start:], past)
        torch.testing.assert_close(result, module(x)[:, start:], rtol=0, atol=1e-13, msg=f"from {start}")
        assert torch.equal(module(x[:1, start:], past, again), module(x[:1, start:], past))
        assert again.keys is not None
        torch.testing.assert_close(again.keys, trace.keys[:, :, start:], rtol=0, atol=1e-13)


def test_angles_may_begin_at_any_position() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    for whole, part in zip(rotary_table(30, 6, 50.0, like), rotary_table(13, 6, 50.0, like, start=17), strict=True):
        assert torch.equal(part, whole[17:])


def test_fewer_key_value_heads_are_repeated_ones() -> None:
    few = randomised(Attention(config_of(attention_heads=6, kv_heads=2)))
    full = randomised(Attention(config_of(attention_heads=6)))
    q, k, v = few.qkv_proj.weight.split([12, 4, 4])
    repeated = [part.unflatten(0, (2, 2)).repeat_interleave(3, dim=0).flatten(0, 1) for part in (k, v)]
    full.qkv_proj.weight.copy_(torch.cat([q, *repeated]))
    full.o_proj.weight.copy_(few.o_proj.weight)
    x = torch.randn(2, 13, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(few(x), full(x), rtol=0, atol=1e-13)


def test_mlp_is_the_one_on_the_page() -> None:
    config = config_of()
    module = randomised(GatedMLP(config))
    gate, up = module.gate_up_proj.weight.split([config.mlp_width, config.mlp_width])
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gated = x @ gate.T
    expected = (gated / (1 + (-gated).exp()) * (x @ up.T)) @ module.down_proj.weight.T
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("module", [Attention, GatedMLP])
def test_there_are_no_biases(module: type[torch.nn.Module]) -> None:
    assert all(name.endswith("weight") for name, _ in module(config_of()).named_parameters())


def test_public_names_exist() -> None:
    assert all(hasattr(attention, name) for name in attention.__all__)
