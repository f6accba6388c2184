"""The recurrence in chunks against the same recurrence written as a loop, from a zero state and from any other."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossdna_interpret.models.crossdna import recurrence
from crossdna_interpret.models.crossdna.recurrence import (
    CHUNK,
    RecurrenceTrace,
    chunk_size,
    chunked_comba,
    fla_comba,
    go_on,
    prepare,
)
from tests.models.recurrence_loop import (
    Inputs,
    by_chunks,
    by_loop,
    double,
    gradients,
    inputs,
    loop,
    random,
    single,
    traced,
)

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None, max_examples=40)

EDGES = sorted({1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK + 1})
LENGTHS = st.one_of(st.sampled_from(EDGES), st.integers(1, 100))


def part(x: Inputs, positions: slice) -> Inputs:
    """Some of the positions."""
    return tuple(y[:, positions] for y in x)  # type: ignore[return-value]


# The recurrence


def test_the_correction_reads_the_state_before_it_decays() -> None:
    # Two positions by hand, of one channel: S_1 = b v_1; u_2 = b (v_2 - S_1); S_2 = exp(g) S_1 + u_2.
    one = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    v = torch.tensor([2.0, 3.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    unit = one[..., 0]
    x = one, one, v, unit, unit, unit, -0.5 * unit, 0.25 * unit
    first = 0.25 * 2.0
    expected = torch.tensor([first, math.exp(-0.5) * first + 0.25 * (3.0 - first)], dtype=torch.float64)
    for result in (by_loop(x)[0], by_chunks(*x)):
        torch.testing.assert_close(result.flatten(), expected, rtol=0, atol=1e-15)


def test_each_factor_goes_to_its_own_vector() -> None:
    # The same by hand with q = 7, k = 5, and factors that make them 0.7, 0.5 and, for p, 0.4.
    one = torch.ones(1, 2, 1, dtype=torch.float64)
    v = torch.tensor([2.0, 3.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    x = 7 * one[..., None], 5 * one[..., None], v, 0.1 * one, 0.1 * one, 0.08 * one, -0.5 * one, 0.25 * one
    first = 0.5 * 0.25 * 2.0
    second = math.exp(-0.5) * first + 0.5 * 0.25 * (3.0 - 0.4 * first)
    expected = torch.tensor([0.7 * first, 0.7 * second], dtype=torch.float64)
    torch.testing.assert_close(by_chunks(*x).flatten(), expected, rtol=0, atol=1e-15)


@unhurried
@given(length=LENGTHS, heads=st.integers(1, 3), batch=st.integers(1, 2), d=st.integers(1, 5), d_v=st.integers(1, 5),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_chunks_give_what_the_loop_gives(length: int, heads: int, batch: int, d: int, d_v: int, seed: int) -> None:
    x = inputs(length, heads=heads, d=d, d_v=d_v, batch=batch, seed=seed)
    torch.testing.assert_close(by_chunks(*x), by_loop(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", EDGES)
def test_chunks_give_what_the_loop_gives_around_chunk_boundaries(length: int) -> None:
    x = inputs(length, heads=2, batch=2)
    torch.testing.assert_close(by_chunks(*x), by_loop(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", EDGES)
def test_float32_is_as_near_as_float32_allows(length: int) -> None:
    x = single(inputs(length, heads=2, batch=2))
    result = by_chunks(*x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), by_loop(double(x))[0], rtol=0, atol=5e-6)


def test_heads_and_batch_rows_do_not_mix() -> None:
    x = inputs(CHUNK + 3, heads=3, batch=2)
    state = random(1, 3, 3, 5)
    alone = by_chunks(*(y[1:, :, 2:] for y in x), state=state[2:])
    torch.testing.assert_close(by_chunks(*x, state=state)[1:, :, 2:], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("at", [0, 5, CHUNK - 1, CHUNK, CHUNK + 1])
def test_recurrence_is_causal(at: int) -> None:
    x = inputs(CHUNK + 5)
    before = by_chunks(*x)
    changed = [y.clone() for y in x]
    for y in changed:
        y[:, at] *= 0.5
    after = by_chunks(*changed)
    assert torch.equal(before[:, :at], after[:, :at])
    assert (before[:, at:] != after[:, at:]).any(-1).all()


def test_input_is_not_changed() -> None:
    x = [*inputs(CHUNK + 3), random(1, 1, 3, 5)]
    copies = [y.clone() for y in x]
    by_chunks(*x, trace=RecurrenceTrace())
    assert all(torch.equal(y, copy) for y, copy in zip(x, copies, strict=True))


def test_chunks_are_few_short_and_nearly_full() -> None:
    for length in range(1, 8 * CHUNK):
        size = chunk_size(length)
        assert 1 <= size <= min(CHUNK, length)
        chunks = math.ceil(length / size)
        assert chunks == math.ceil(length / CHUNK)
        assert chunks * size - length < 4 * chunks


@pytest.mark.parametrize("length", [5, CHUNK + 2])
def test_gradients_are_those_of_finite_differences(length: int) -> None:
    x = [y.requires_grad_() for y in [*inputs(length, d=2, d_v=3), random(1, 1, 2, 3)]]
    assert torch.autograd.gradcheck(by_chunks, x)


@pytest.mark.parametrize("length", [1, CHUNK, 2 * CHUNK + 7])
def test_gradients_are_those_of_the_loop(length: int) -> None:
    x = [y.requires_grad_() for y in inputs(length, heads=2)]
    state = random(1, 2, 3, 5).requires_grad_()
    for start in (None, state):
        leaves = x if start is None else [*x, start]
        expected = gradients(by_loop(x, start)[0], leaves)
        for ours, theirs in zip(gradients(by_chunks(*leaves), leaves), expected, strict=True):
            # q and k of any length have gradients of any size.
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


# From a state, and where to take one from


@unhurried
@given(length=LENGTHS, heads=st.integers(1, 3), batch=st.integers(1, 2), d=st.integers(1, 5), d_v=st.integers(1, 5),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_from_a_state_chunks_give_what_the_loop_gives(
    length: int, heads: int, batch: int, d: int, d_v: int, seed: int
) -> None:
    x = inputs(length, heads=heads, d=d, d_v=d_v, batch=batch, seed=seed)
    state = random(seed + 1, heads, d, d_v)
    result, (expected, _) = by_chunks(*x, state=state), by_loop(x, state)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    assert (result != by_chunks(*x)).any()


@pytest.mark.parametrize("length", EDGES)
def test_from_a_state_float32_is_as_near_as_float32_allows(length: int) -> None:
    x, state = single(inputs(length, heads=2, batch=2)), random(1, 2, 3, 5).float()
    result = by_chunks(*x, state=state)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), by_loop(double(x), state.double())[0], rtol=0, atol=5e-6)


@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("length", EDGES)
def test_the_state_at_every_position_is_that_of_the_loop(length: int, started: bool) -> None:
    x = inputs(length, heads=2)
    state = random(1, 2, 3, 5) if started else None
    _, states = by_loop(x, state)
    _, trace = traced(x, state)
    for position in range(length + 1):
        result = trace.state_at(position)
        assert result.shape == (2, 3, 5)
        torch.testing.assert_close(result, states[position, 0], rtol=0, atol=1e-12, msg=f"at {position} of {length}")


@unhurried
@given(length=LENGTHS, d=st.integers(1, 5), d_v=st.integers(1, 5), seed=st.integers(0, 2**16), data=st.data())
def test_the_state_anywhere_is_that_of_the_loop(length: int, d: int, d_v: int, seed: int, data: st.DataObject) -> None:
    x = inputs(length, heads=2, d=d, d_v=d_v, seed=seed)
    position = data.draw(st.integers(0, length))
    _, trace = traced(x)
    torch.testing.assert_close(trace.state_at(position), by_loop(x)[1][position, 0], rtol=0, atol=1e-12)


def test_asking_for_states_does_not_change_them() -> None:
    length = 2 * CHUNK + 3
    _, trace = traced(inputs(length, heads=2))
    first = [trace.state_at(position).clone() for position in range(length + 1)]
    again = [trace.state_at(position) for position in reversed(range(length + 1))]
    assert all(torch.equal(there, back) for there, back in zip(first, reversed(again), strict=True))


@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("length", EDGES)
def test_a_trace_does_not_change_the_outputs(length: int, started: bool) -> None:
    x = inputs(length, heads=2)
    state = random(1, 2, 3, 5) if started else None
    out, _ = traced(x, state)
    assert torch.equal(out, by_chunks(*x, state=state))


@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("length", EDGES)
def test_resuming_anywhere_gives_what_the_whole_gives(length: int, started: bool) -> None:
    x = inputs(length, heads=2)
    whole, trace = traced(x, random(1, 2, 3, 5) if started else None)
    for start in range(length):
        resumed = by_chunks(*part(x, slice(start, None)), state=trace.state_at(start))
        torch.testing.assert_close(resumed, whole[:, start:], rtol=0, atol=1e-12, msg=f"from {start} of {length}")


def test_other_sequences_resume_from_the_state_of_the_common_start() -> None:
    length, start = 3 * CHUNK + 5, CHUNK + 9
    common, others = inputs(length, heads=2), inputs(length, heads=2, batch=3, seed=1)
    for y, same in zip(others, common, strict=True):
        y[:, :start] = same[:, :start]
    _, trace = traced(common)
    resumed = by_chunks(*part(others, slice(start, None)), state=trace.state_at(start))
    torch.testing.assert_close(resumed, by_chunks(*others)[:, start:], rtol=0, atol=1e-12)


@unhurried
@given(chunks=st.integers(1, 3), size=st.sampled_from([1, 3, 5, CHUNK]), heads=st.integers(1, 3),
       batch=st.integers(1, 3), seed=st.integers(0, 2**16))  # fmt: skip
def test_rows_with_states_of_their_own_go_on_over_the_same_positions(
    chunks: int, size: int, heads: int, batch: int, seed: int
) -> None:
    length = chunks * size if size == CHUNK else size
    x = inputs(length, heads=heads, seed=seed)
    q, k, v, *scales, g, beta = x
    states = random(seed + 1, batch, heads, 3, 5)
    result = go_on(prepare(q, k, v, (scales[0], scales[1], scales[2]), g, beta), states.flatten(0, 1), batch)
    expected = torch.cat([by_loop(x, state)[0] for state in states])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_chunks_after_the_first_go_on_from_the_state_at_their_start() -> None:
    x = inputs(4 * CHUNK, heads=2)
    out, trace = traced(x)
    assert trace.chunks is not None
    for chunk in range(4):
        result = go_on(trace.chunks.after(chunk), trace.state_at(chunk * CHUNK), 1)
        torch.testing.assert_close(result, out[:, chunk * CHUNK :], rtol=0, atol=1e-13)


def test_a_trace_knows_the_memory_it_takes() -> None:
    _, trace = traced(inputs(2 * CHUNK, heads=2, d=3, d_v=5))
    # Two chunks with two heads each: numbers before the state is known, two states, and the updates.
    chunk = 2 * CHUNK * 3 + CHUNK * 5 + 3 * CHUNK * CHUNK + 3 * CHUNK
    assert sum(x.nbytes for x in trace.tensors()) == 2 * 2 * 8 * (chunk + 3 * 5 + CHUNK * 5)
    assert RecurrenceTrace().tensors() == []


# Under transforms, and by flash-linear-attention


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, on first use of forward mode
@pytest.mark.parametrize("started", [False, True], ids=["from zero", "from a state"])
def test_it_can_be_mapped_and_differentiated_forward(started: bool) -> None:
    q, *rest = inputs(40)
    rest += [random(2, 1, 3, 5)] if started else []
    tangent = random(1, *q.shape)
    _, derivative = torch.func.jvp(lambda x: by_chunks(x, *rest), (q,), (tangent,))
    torch.testing.assert_close(derivative, by_chunks(tangent, *rest))  # the output is linear in q
    stacked = torch.func.vmap(lambda x: by_chunks(x, *rest))(torch.stack([q, tangent]))
    torch.testing.assert_close(stacked[1], derivative)


def test_fla_is_given_what_it_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk_comba(
        *, q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor, scale: float
    ) -> tuple[Tensor, None]:
        assert scale == pytest.approx(q.shape[-1] ** -0.5)
        assert all(y.is_contiguous() for y in (q, k, v, p, g, beta))
        return loop(q, k, v, p, g, beta)[0], None

    stand_in = types.ModuleType("fla.ops.comba")
    stand_in.chunk_comba = chunk_comba  # type: ignore[attr-defined]
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "fla.ops.comba", stand_in)
    wide = inputs(7, heads=2, d=6, batch=2)
    q, k, v, q_scale, k_scale, p_scale, g, beta = (*(y[..., :3] for y in wide[:2]), *wide[2:])
    assert not q.is_contiguous()
    result = fla_comba(q, k, v, (q_scale, k_scale, p_scale), g, beta)
    expected, _ = by_loop((q, k, v, q_scale, k_scale, p_scale, g, beta))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-14)


@pytest.mark.gpu
@pytest.mark.parametrize("length", [1, CHUNK, 100, 300])
def test_fla_gives_what_the_chunks_give(length: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("fla's kernels need a CUDA device")
    pytest.importorskip("fla.ops.comba", reason="flash-linear-attention is not installed")
    x = single(inputs(length, heads=2, d=32, d_v=64, batch=2))
    q, k, v, q_scale, k_scale, p_scale, g, beta = (y.cuda() for y in x)
    ours, theirs = (f(q, k, v, (q_scale, k_scale, p_scale), g, beta) for f in (chunked_comba, fla_comba))
    assert theirs.shape == ours.shape
    # The kernels multiply in TF32, whose products carry 10 bits after the point.
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-3)


def test_public_names_exist() -> None:
    assert all(hasattr(recurrence, name) for name in recurrence.__all__)
