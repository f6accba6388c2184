"""Comba: the layer against its description, resumed passes, its convolution, and the choice of the backend."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossdna_interpret.models.crossdna import comba
from crossdna_interpret.models.crossdna.comba import Comba, causal_depthwise, choose_backend
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.recurrence import CHUNK, Chunks, chunked_comba, prepare
from crossdna_interpret.models.crossdna.states import CombaTrace

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None, max_examples=40)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Which implementation runs


def test_the_cpu_runs_the_chunks() -> None:
    x = torch.zeros(1)
    assert choose_backend("torch", x) == "torch"
    assert choose_backend("auto", x) == "torch"


def test_fla_on_the_cpu_is_refused_with_the_reason() -> None:
    with pytest.raises(
        RuntimeError, match=r"`backend`='fla' cannot be used: the model is on cpu.*CUDA.*'torch' or 'auto'"
    ):
        choose_backend("fla", torch.zeros(1))


class OnCuda:
    """What `choose_backend` asks of a tensor, for machines without CUDA."""

    is_cuda = True

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def test_fla_in_float64_is_refused_and_passed_over_by_auto() -> None:
    x = OnCuda(torch.float64)
    with pytest.raises(RuntimeError, match="no float64"):
        choose_backend("fla", x)  # type: ignore[arg-type]
    assert choose_backend("auto", x) == "torch"  # type: ignore[arg-type]


def test_fla_that_cannot_be_imported_is_refused_and_passed_over_by_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fla", None)  # None makes an import fail
    x = OnCuda(torch.float32)
    with pytest.raises(RuntimeError, match="flash-linear-attention cannot be imported"):
        choose_backend("fla", x)  # type: ignore[arg-type]
    assert choose_backend("auto", x) == "torch"  # type: ignore[arg-type]


def test_fla_is_taken_where_it_can_be_imported_unless_torch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fla", "fla.ops", "fla.ops.comba"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    x = OnCuda(torch.float32)
    assert choose_backend("fla", x) == "fla"  # type: ignore[arg-type]
    assert choose_backend("auto", x) == "fla"  # type: ignore[arg-type]
    assert choose_backend("torch", x) == "torch"  # type: ignore[arg-type]


def test_fla_computes_whole_sequences_and_nothing_that_needs_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, config = random_layer()
    x = random(1, 1, CHUNK + 3, config.d_model)
    trace = CombaTrace()
    expected = layer(x, trace=trace)
    calls = []

    def stand_in(*args: Tensor) -> Tensor:
        calls.append(args)
        return chunked_comba(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(comba, "choose_backend", lambda *_: "fla")
    monkeypatch.setattr(comba, "fla_comba", stand_in)
    layer(x, trace=CombaTrace())
    layer(x[:, 5:], layer.past_at(5, trace))
    assert not calls
    assert torch.equal(layer(x), expected)
    assert len(calls) == 1


# The convolution


def convolved(x: Tensor, weight: Tensor, before: Tensor | None = None, pad: int = 0) -> Tensor:
    """The convolution as it is defined, tap by tap, in float64."""
    x, weight = x.double(), weight.double()
    width = weight.shape[-1]
    start = x.new_zeros(1, width - 1, x.shape[2]) if before is None else before.double()
    row = torch.cat([start.expand(len(x), -1, -1), x, x.new_zeros(len(x), pad, x.shape[2])], dim=1)
    return torch.stack([(row[:, t : t + width] * weight[:, 0].T).sum(1) for t in range(x.shape[1] + pad)], dim=1)


def test_causal_depthwise_by_hand() -> None:
    x = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])  # (1, 3 positions, 2 channels)
    weight = torch.tensor([[[0.5, 2.0]], [[0.0, -1.0]]])  # the last tap is the position itself
    expected = [[2.0 * 1, -10.0], [0.5 * 1 + 2.0 * 2, -20.0], [0.5 * 2 + 2.0 * 3, -30.0]]
    assert causal_depthwise(x, weight)[0].tolist() == expected
    assert causal_depthwise(x, weight, pad=2)[0].tolist() == [*expected, [0.5 * 3, 0.0], [0.0, 0.0]]
    before = torch.tensor([[[4.0, 40.0]]])
    expected[0] = [0.5 * 4 + 2.0 * 1, -10.0]
    assert causal_depthwise(x, weight, before)[0].tolist() == expected


@DTYPES
@pytest.mark.parametrize("width", [1, 2, 5])
def test_causal_depthwise_sees_width_positions_back_and_none_ahead(width: int, dtype: torch.dtype) -> None:
    x = random(0, 1, 12, 3).to(dtype)
    weight = random(1, 3, 1, width).to(dtype)
    changed = x.clone()
    changed[:, 6, 1] += 1
    differs = (causal_depthwise(x, weight) != causal_depthwise(changed, weight))[0]
    assert differs.nonzero().tolist() == [[t, 1] for t in range(6, min(6 + width, 12))]


@DTYPES
@unhurried
@given(
    length=st.integers(1, 20),
    width=st.integers(1, 9),
    pad=st.integers(0, 30),
    batch=st.integers(1, 3),
    started=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_causal_depthwise_is_the_sum_over_taps(
    dtype: torch.dtype, length: int, width: int, pad: int, batch: int, started: bool, seed: int
) -> None:
    x = random(seed, batch, length, 7).to(dtype)[..., 1:5]  # as a part of the projections, not contiguous
    weight = random(seed + 1, 4, 1, width).to(dtype)
    before = random(seed + 2, 1, width - 1, 4).to(dtype) if started else None
    copies = [y.clone() for y in (x, weight)] + ([] if before is None else [before.clone()])
    result = causal_depthwise(x, weight, before, pad)
    assert result.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(result.double(), convolved(x, weight, before, pad), rtol=0, atol=tolerance)
    inputs = [x, weight] if before is None else [x, weight, before]
    assert all(torch.equal(y, copy) for y, copy in zip(inputs, copies, strict=True))


@DTYPES
@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_causal_depthwise_goes_on_where_it_stopped(width: int, dtype: torch.dtype) -> None:
    x, weight = random(0, 2, 12, 3).to(dtype), random(1, 3, 1, width).to(dtype)
    x[1] = x[0]  # what comes before is the same for the whole batch
    whole = causal_depthwise(x, weight)
    for start in range(12):
        before = F.pad(x[:1, max(0, start - width + 1) : start], (0, 0, max(0, width - 1 - start), 0))
        resumed = causal_depthwise(x[:, start:], weight, before)
        torch.testing.assert_close(resumed, whole[:, start:], rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("pad", [0, 2, 9])
def test_gradients_of_causal_depthwise_are_those_of_finite_differences(width: int, pad: int) -> None:
    x = [random(0, 2, 5, 3), random(1, 3, 1, width), random(2, 1, width - 1, 3)]
    assert torch.autograd.gradcheck(lambda *y: causal_depthwise(*y, pad), [y.requires_grad_() for y in x])


@pytest.mark.parametrize("pad", [0, 9])
def test_gradients_of_causal_depthwise_in_float32_are_those_in_float64(pad: int) -> None:
    x = [random(0, 2, 5, 3), random(1, 3, 1, 4), random(2, 1, 3, 3)]
    exact = [y.clone().requires_grad_() for y in x]
    rounded = [y.float().requires_grad_() for y in x]
    weight = random(3, 2, 5 + pad, 3)
    theirs = torch.autograd.grad((convolved(*exact, pad) * weight).sum(), exact)
    ours = torch.autograd.grad((causal_depthwise(*rounded, pad) * weight.float()).sum(), rounded)
    for y, z in zip(ours, theirs, strict=True):
        torch.testing.assert_close(y.double(), z, rtol=0, atol=1e-5)


# The layer


def layer_by_the_page(layer: Comba, x: Tensor, config: CrossDNAConfig) -> Tensor:
    """The layer as the page on the published model describes it, projection by projection and head by head."""
    n, d, d_v = config.comba_heads, config.comba_head_dim, config.comba_value_dim
    rows = [n * d, n * d, n * d_v, n * d_v, n, n]
    q_proj, k_proj, v_proj, g_proj, a_proj, b_proj = layer.in_proj.weight.split(rows)
    taps = [None] * 3 if layer.conv is None else layer.conv.split(rows[:3])

    def along_time(projection: Tensor, kernel: Tensor | None) -> Tensor:
        y = x @ projection.T
        if kernel is not None:
            width = kernel.shape[-1]
            y = torch.stack(
                [sum(kernel[:, 0, width - 1 - back] * y[:, t - back] for back in range(min(width, t + 1)))
                 for t in range(y.shape[1])], dim=1)  # fmt: skip
        return y * torch.sigmoid(y)

    q, k, v = (
        along_time(projection, kernel) for projection, kernel in zip((q_proj, k_proj, v_proj), taps, strict=True)
    )
    gate = torch.sigmoid(x @ g_proj.T)
    out = []
    for head in range(n):
        key, value = slice(head * d, (head + 1) * d), slice(head * d_v, (head + 1) * d_v)
        p = k[..., key] * torch.sigmoid(layer.decay[head])
        q_, k_, p_ = (
            y / torch.sqrt((y**2).sum(-1, keepdim=True) + 1e-6)
            for y in (q[..., key] - layer.D[head] * p, k[..., key], p)
        )
        beta = torch.sigmoid(x @ b_proj[head])
        g = -layer.A_log[head].exp() * torch.log1p((x @ a_proj[head] + layer.dt_bias[head]).exp())
        state = x.new_zeros(len(x), d, d_v)
        read = []
        for t in range(x.shape[1]):
            u = beta[:, t, None] * (v[:, t, value] - (state.mT @ p_[:, t, :, None]).squeeze(-1))
            state = g[:, t].exp()[:, None, None] * state + k_[:, t, :, None] * u[:, None]
            read.append((state.mT @ q_[:, t, :, None]).squeeze(-1) / math.sqrt(d))
        o = torch.stack(read, dim=1)
        o = o / torch.sqrt((o**2).mean(-1, keepdim=True) + config.comba_norm_eps) * layer.o_norm
        out.append(o * gate[..., value])
    return torch.cat(out, dim=-1) @ layer.o_proj.weight.T


def random_layer(**changes: object) -> tuple[Comba, CrossDNAConfig]:
    """A Comba in float64 in which every parameter is random."""
    shape = {"d_model": 6, "attention_heads": 1, "comba_heads": 3, "comba_head_dim": 4, "expand_v": 1.5} | changes
    config = CrossDNAConfig(**shape)  # type: ignore[arg-type]
    layer = Comba(config).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer, config


@pytest.mark.parametrize(
    "changes",
    [{}, {"conv_size": 1}, {"conv_size": 7}, {"conv_size": None}, {"expand_v": 0.5}, {"comba_heads": 1},
     {"comba_norm_eps": 0.1}],
    ids=str,
)  # fmt: skip
def test_the_layer_is_the_one_on_the_page(changes: dict[str, object]) -> None:
    layer, config = random_layer(**changes)
    x = torch.randn(2, 9, config.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer_by_the_page(layer, x, config), rtol=0, atol=1e-12)


def test_the_layer_starts_training_with_decays_and_steps_in_range() -> None:
    layer = Comba(CrossDNAConfig(d_model=6, attention_heads=1, comba_heads=5, comba_head_dim=4))
    torch.testing.assert_close(layer.A_log.exp().aminmax(), (torch.tensor(1.0), torch.tensor(16.0)))
    torch.testing.assert_close(F.softplus(layer.dt_bias).aminmax(), (torch.tensor(1e-3), torch.tensor(1e-1)))


# Resuming

# The longest reaches back over a chunk's boundary, and over the first position for more than one start.
CONVOLUTIONS = pytest.mark.parametrize("conv_size", [None, 1, 4, 7])
RESUMED = [1, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 7]


@CONVOLUTIONS
@pytest.mark.parametrize("length", RESUMED)
def test_a_trace_does_not_change_the_layer(conv_size: int | None, length: int) -> None:
    layer, config = random_layer(conv_size=conv_size)
    x = random(1, 1, length, config.d_model)
    assert torch.equal(layer(x, trace=CombaTrace()), layer(x))


@CONVOLUTIONS
@pytest.mark.parametrize("length", RESUMED)
def test_resuming_the_layer_anywhere_gives_what_the_whole_gives(conv_size: int | None, length: int) -> None:
    layer, config = random_layer(conv_size=conv_size)
    x = random(1, 1, length, config.d_model)
    trace = CombaTrace()
    whole = layer(x, trace=trace)
    for start in range(length):
        resumed = layer(x[:, start:], layer.past_at(start, trace))
        torch.testing.assert_close(resumed, whole[:, start:], rtol=0, atol=1e-12, msg=f"from {start} of {length}")


@CONVOLUTIONS
@pytest.mark.parametrize("start", [0, 1, 2, 3, 5, 6, 7, CHUNK - 1, CHUNK, CHUNK + 2])
def test_other_sequences_resume_where_they_part_from_the_traced_one(conv_size: int | None, start: int) -> None:
    layer, config = random_layer(conv_size=conv_size)
    x = random(1, 1, 2 * CHUNK + 7, config.d_model)
    trace = CombaTrace()
    layer(x, trace=trace)
    for length in (start + 1, 2 * CHUNK, 2 * CHUNK + 9):
        others = random(2, 3, length, config.d_model)
        others[:, :start] = x[:, :start]
        resumed = layer.mix(layer.project(others[:, start:]), layer.past_at(start, trace))
        torch.testing.assert_close(resumed, layer(others)[:, start:], rtol=0, atol=1e-12, msg=f"{length} positions")


@CONVOLUTIONS
@pytest.mark.parametrize("length", [7, CHUNK + 2, 4 * CHUNK, 4 * CHUNK + 7])
@pytest.mark.parametrize("own", [1, 2, 6, CHUNK])
def test_sequences_resume_that_have_the_last_positions_in_common(conv_size: int | None, length: int, own: int) -> None:
    layer, config = random_layer(conv_size=conv_size)
    x = random(1, 1, length, config.d_model)
    trace = CombaTrace()
    layer(x, trace=trace)
    for start in {0, 1, 3, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5, length - own}:
        if not 0 <= start <= length - own:
            continue
        others = x.repeat(3, 1, 1)
        others[:, start : start + own] = random(2, 3, own, config.d_model)
        resumed = layer.resume(layer.project(others[:, start : start + own]), start, trace)
        torch.testing.assert_close(resumed, layer(others)[:, start:], rtol=0, atol=1e-12, msg=f"from {start}")


def test_what_sequences_have_in_common_after_the_edit_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, config = random_layer()
    x = random(1, 1, 4 * CHUNK, config.d_model)
    trace = CombaTrace()
    layer(x, trace=trace)
    widths = []

    def seen(q: Tensor, *rest: Tensor) -> Chunks:
        widths.append(q.shape[1])
        return prepare(q, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(comba, "prepare", seen)
    layer.resume(layer.project(random(2, 3, 2, config.d_model)), CHUNK + 1, trace)
    assert len(widths) == 1
    assert 2 <= widths[0] <= CHUNK + 4  # of the 3 chunks that follow


@CONVOLUTIONS
def test_resuming_in_float32_is_as_near_as_float32_allows(conv_size: int | None) -> None:
    layer, config = random_layer(conv_size=conv_size)
    x = random(1, 1, CHUNK + 7, config.d_model).float()
    exact = layer(x.double())
    layer.float()
    trace = CombaTrace()
    layer(x, trace=trace)
    for start in range(CHUNK + 7):
        resumed = layer(x[:, start:], layer.past_at(start, trace))
        assert resumed.dtype == torch.float32
        torch.testing.assert_close(resumed.double(), exact[:, start:], rtol=0, atol=1e-5, msg=f"from {start}")


def test_public_names_exist() -> None:
    assert all(hasattr(comba, name) for name in comba.__all__)
