"""Comba: the chunked recurrence against the same recurrence written as a loop, and the layer around it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crossdna_interpret.models.crossdna import comba
from crossdna_interpret.models.crossdna.comba import CHUNK, Comba, causal_depthwise, chunked_comba, select_recurrence
from crossdna_interpret.models.crossdna.config import CrossDNAConfig

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None, max_examples=40)

EDGES = sorted({1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK + 1})
LENGTHS = st.one_of(st.sampled_from(EDGES), st.integers(1, 100))

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def loop(q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """The recurrence as it is defined, one position after the other.

    u_t = beta_t (v_t - S_{t-1}^T p_t);  S_t = exp(g_t) S_{t-1} + k_t u_t^T;  o_t = S_t^T q_t / sqrt(d)
    """
    d = q.shape[-1]
    outputs = []
    for batch in range(q.shape[0]):
        for head in range(q.shape[1]):
            state = v.new_zeros(d, v.shape[-1])
            for t in range(q.shape[2]):
                at = batch, head, t
                u = beta[at] * (v[at] - state.T @ p[at])
                state = g[at].exp() * state + torch.outer(k[at], u)
                outputs.append(state.T @ q[at] / math.sqrt(d))
    return torch.stack(outputs).reshape(v.shape)


def inputs(length: int, *, heads: int = 1, d: int = 3, d_v: int = 5, batch: int = 1, seed: int = 0) -> Inputs:
    """q, k, v, p, g, beta in float64; p is not parallel to k, so that exchanging them shows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, p = (F.normalize(normal(batch, heads, length, d), dim=-1) for _ in range(3))
    v = normal(batch, heads, length, d_v)
    return q, k, v, p, -F.softplus(normal(batch, heads, length)), torch.sigmoid(normal(batch, heads, length))


def single(x: Inputs) -> Inputs:
    """The same in float32."""
    q, k, v, p, g, beta = (y.float() for y in x)
    return q, k, v, p, g, beta


def double(x: Inputs) -> Inputs:
    """The same in float64, so that a float32 result and the loop see the same numbers."""
    q, k, v, p, g, beta = (y.double() for y in x)
    return q, k, v, p, g, beta


def with_decay(x: Inputs, g: Tensor | float) -> Inputs:
    """The same with other log-decays."""
    q, k, v, p, old, beta = x
    return q, k, v, p, torch.zeros_like(old) + g, beta


def denormal(x: Tensor) -> int:
    """How many numbers are neither zero nor normal."""
    return int(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).sum())


# The recurrence


def test_the_correction_reads_the_state_before_it_decays() -> None:
    # Two positions by hand, of one channel: S_1 = b v_1; u_2 = b (v_2 - S_1); S_2 = exp(g) S_1 + u_2.
    one = torch.ones(1, 1, 2, 1, dtype=torch.float64)
    v = torch.tensor([2.0, 3.0], dtype=torch.float64).reshape(1, 1, 2, 1)
    g, beta = -0.5 * one[..., 0], 0.25 * one[..., 0]
    first = 0.25 * 2.0
    expected = torch.tensor([first, math.exp(-0.5) * first + 0.25 * (3.0 - first)], dtype=torch.float64)
    for recurrence in (loop, chunked_comba):
        result = recurrence(one, one, v, one, g, beta)
        torch.testing.assert_close(result.flatten(), expected, rtol=0, atol=1e-15)


@unhurried
@given(length=LENGTHS, heads=st.integers(1, 3), batch=st.integers(1, 2), d=st.integers(1, 5), d_v=st.integers(1, 5),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_chunks_give_what_the_loop_gives(length: int, heads: int, batch: int, d: int, d_v: int, seed: int) -> None:
    x = inputs(length, heads=heads, d=d, d_v=d_v, batch=batch, seed=seed)
    torch.testing.assert_close(chunked_comba(*x), loop(*x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", EDGES)
def test_chunks_give_what_the_loop_gives_around_chunk_boundaries(length: int) -> None:
    x = inputs(length, heads=2, batch=2)
    torch.testing.assert_close(chunked_comba(*x), loop(*x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", EDGES)
def test_float32_is_as_near_as_float32_allows(length: int) -> None:
    x = single(inputs(length, heads=2, batch=2))
    result = chunked_comba(*x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), loop(*double(x)), rtol=0, atol=5e-6)


def test_heads_and_batch_rows_do_not_mix() -> None:
    x = inputs(CHUNK + 3, heads=3, batch=2)
    alone = chunked_comba(*(y[1:, 2:] for y in x))
    torch.testing.assert_close(chunked_comba(*x)[1:, 2:], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("at", [0, 5, CHUNK - 1, CHUNK, CHUNK + 1])
def test_recurrence_is_causal(at: int) -> None:
    x = inputs(CHUNK + 5)
    before = chunked_comba(*x)
    changed = [y.clone() for y in x]
    for y in changed:
        y[:, :, at] *= 0.5
    after = chunked_comba(*changed)
    assert torch.equal(before[:, :, :at], after[:, :, :at])
    assert (before[:, :, at:] != after[:, :, at:]).any(-1).all()


def test_input_is_not_changed() -> None:
    x = inputs(CHUNK + 3)
    copies = [y.clone() for y in x]
    chunked_comba(*x)
    assert all(torch.equal(y, copy) for y, copy in zip(x, copies, strict=True))


@pytest.mark.parametrize("length", [5, CHUNK + 2])
def test_gradients_are_those_of_finite_differences(length: int) -> None:
    x = [y.requires_grad_() for y in inputs(length, d=2, d_v=3)]
    assert torch.autograd.gradcheck(chunked_comba, x)


def gradients(result: Tensor, x: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a sum in which every output has another weight."""
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.autograd.grad((result * weight.to(result.dtype)).sum(), x)


@pytest.mark.parametrize("length", [1, CHUNK, 2 * CHUNK + 7])
def test_gradients_are_those_of_the_loop(length: int) -> None:
    x = [y.requires_grad_() for y in inputs(length, heads=2)]
    for ours, theirs in zip(gradients(chunked_comba(*x), x), gradients(loop(*x), x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


# Strong decays


def strong(value: float, step: int) -> Tensor:
    """Log-decays, one in `step` of them strong enough to leave nothing."""
    g = torch.full((2 * CHUNK + 7,), -0.05)
    g[::step] = value
    return g


STRONG = [
    pytest.param(strong(value, step), id=f"{value} every {step}") for value in (-50.0, -1000.0) for step in (1, 7)
]


@pytest.mark.parametrize("decay", STRONG)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_strong_decays_agree_with_the_loop(decay: Tensor, dtype: torch.dtype) -> None:
    x = inputs(len(decay), heads=2)
    x = with_decay(x if dtype == torch.float64 else single(x), decay.to(dtype))
    assert x[0].dtype == dtype
    result = chunked_comba(*x)
    assert result.isfinite().all()
    tolerance = 1e-11 if dtype == torch.float64 else 5e-6
    torch.testing.assert_close(result.double(), loop(*double(x)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("decay", STRONG)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_strong_decays_have_the_gradients_of_the_loop(decay: Tensor, dtype: torch.dtype) -> None:
    x = inputs(len(decay), heads=2)
    x = with_decay(x if dtype == torch.float64 else single(x), decay.to(dtype))
    leaves = [y.clone().requires_grad_() for y in x]
    exact = [y.clone().requires_grad_() for y in double(x)]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for ours, theirs in zip(gradients(chunked_comba(*leaves), leaves), gradients(loop(*exact), exact), strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance)


class Denormals(TorchDispatchMode):
    """Counts the denormal numbers in whatever any operation returns while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, Tensor) and x.is_floating_point():
                self.count += denormal(x)
        return out


def denormals_inside(g: Tensor) -> int:
    """Denormal numbers that form on the way there and back, values coming in at every position."""
    x = [y.requires_grad_() for y in single(with_decay(inputs(len(g), heads=2), g.float()))]
    with Denormals() as seen:
        torch.autograd.grad(chunked_comba(*x).sum(), x)
    return seen.count


@pytest.mark.parametrize("decay", [*STRONG, pytest.param(strong(-3.0, 1), id="-3 everywhere")])
def test_strong_decays_form_no_denormal_numbers(decay: Tensor) -> None:
    assert denormals_inside(decay) == 0


def test_without_a_floor_strong_decays_do_form_denormal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comba, "_decay", torch.exp)
    assert denormals_inside(strong(-3.0, 1)) > 0
    assert denormals_inside(strong(-50.0, 1)) > 0


# A pulse fades through every magnitude down to zero. It cost a factor of two in time where it did so through denormals.
FADING = [(-0.3, 12 * CHUNK), (-0.7, 5 * CHUNK), (-1.0, 5 * CHUNK)]


@pytest.mark.parametrize(("decay", "length"), FADING)
def test_what_fades_away_does_not_become_denormal(decay: float, length: int) -> None:
    q, k, v, p, g, beta = single(with_decay(inputs(length), decay))
    v[:, :, 3:] = 0
    assert denormal(loop(q, k, v, p, g, beta)) > 0  # so that the check below has something to miss
    assert denormal(chunked_comba(q, k, v, p, g, beta)) == 0


@pytest.mark.parametrize(("decay", "length"), FADING)
def test_gradients_that_fade_away_do_not_become_denormal(decay: float, length: int) -> None:
    # A question about the last position alone, as attribution may ask: its gradient fades towards the start.
    x = [y.requires_grad_() for y in single(with_decay(inputs(length), decay))]
    assert sum(map(denormal, torch.autograd.grad(loop(*x)[:, :, -1].sum(), x))) > 0
    assert sum(map(denormal, torch.autograd.grad(chunked_comba(*x)[:, :, -1].sum(), x))) == 0


# Which implementation runs


def test_the_cpu_runs_the_chunks() -> None:
    x = torch.zeros(1)
    assert select_recurrence("torch", x) is chunked_comba
    assert select_recurrence("auto", x) is chunked_comba


def test_fla_on_the_cpu_is_refused_with_the_reason() -> None:
    with pytest.raises(
        RuntimeError, match=r"`backend`='fla' cannot be used: the model is on cpu.*CUDA.*'torch' or 'auto'"
    ):
        select_recurrence("fla", torch.zeros(1))


class OnCuda:
    """What `select_recurrence` asks of a tensor, for machines without CUDA."""

    is_cuda = True

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def test_fla_in_float64_is_refused_and_passed_over_by_auto() -> None:
    x = OnCuda(torch.float64)
    with pytest.raises(RuntimeError, match="no float64"):
        select_recurrence("fla", x)  # type: ignore[arg-type]
    assert select_recurrence("auto", x) is chunked_comba  # type: ignore[arg-type]


def test_fla_that_cannot_be_imported_is_refused_and_passed_over_by_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fla", None)  # None makes an import fail
    x = OnCuda(torch.float32)
    with pytest.raises(RuntimeError, match="flash-linear-attention cannot be imported"):
        select_recurrence("fla", x)  # type: ignore[arg-type]
    assert select_recurrence("auto", x) is chunked_comba  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("length", [1, CHUNK, 100, 300])
def test_fla_gives_what_the_chunks_give(length: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("fla's kernels need a CUDA device")
    pytest.importorskip("fla.ops.comba", reason="flash-linear-attention is not installed")
    q, k, v, p, g, beta = (y.cuda() for y in single(inputs(length, heads=2, d=32, d_v=64, batch=2)))
    ours, theirs = (f(q, k, v, p, g, beta) for f in (chunked_comba, comba.fla_comba))
    assert theirs.shape == ours.shape
    # The kernels multiply in TF32, whose products carry 10 bits after the point.
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-3)


# The convolution and the layer


def test_causal_depthwise_by_hand() -> None:
    x = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])  # (1, 3 positions, 2 channels)
    weight = torch.tensor([[[0.5, 2.0]], [[0.0, -1.0]]])  # the last tap is the position itself
    expected = [[2.0 * 1, -10.0], [0.5 * 1 + 2.0 * 2, -20.0], [0.5 * 2 + 2.0 * 3, -30.0]]
    assert causal_depthwise(x, weight)[0].tolist() == expected


@pytest.mark.parametrize("width", [1, 2, 5])
def test_causal_depthwise_sees_width_positions_back_and_none_ahead(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 12, 3, generator=generator)
    weight = torch.randn(3, 1, width, generator=generator)
    changed = x.clone()
    changed[:, 6, 1] += 1
    differs = (causal_depthwise(x, weight) != causal_depthwise(changed, weight))[0]
    assert differs.nonzero().tolist() == [[t, 1] for t in range(6, min(6 + width, 12))]


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
        o = loop(*(y.unsqueeze(1) for y in (q_, k_, v[..., value], p_, g, beta)))[:, 0]
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


def test_public_names_exist() -> None:
    assert all(hasattr(comba, name) for name in comba.__all__)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, on first use of forward mode
def test_it_can_be_mapped_and_differentiated_forward() -> None:
    q, *rest = inputs(40)
    tangent = torch.randn(q.shape, generator=torch.Generator().manual_seed(1), dtype=q.dtype)
    _, derivative = torch.func.jvp(lambda x: chunked_comba(x, *rest), (q,), (tangent,))
    torch.testing.assert_close(derivative, chunked_comba(tangent, *rest))  # the output is linear in q
    stacked = torch.func.vmap(lambda x: chunked_comba(x, *rest))(torch.stack([q, tangent]))
    torch.testing.assert_close(stacked[1], derivative)
