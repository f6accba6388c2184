"""Concatenated sequences that kernels resume at different positions, against each sequence separately."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossdna_interpret.models.crossdna.attention import rotary_table
from crossdna_interpret.models.crossdna.comba import Comba
from crossdna_interpret.models.crossdna.states import AttentionPast, CombaPast, CombaTrace, Resumed, offsets_of
from tests.models.kernel_cases import Random, comba_by_kernels, comba_of, every_size, projections_of, unhurried
from tests.models.kernel_sizes import Load, assert_near, config_of, every_dtype

pytestmark = pytest.mark.usefixtures("kernel_cache", "without_gradients")


def traced(layer: Comba, projected: Tensor) -> CombaTrace:
    trace = CombaTrace()
    layer.mix(projected, trace=trace)
    return trace


@every_dtype
@every_size
@unhurried
@given(heads=st.integers(1, 3), length=st.integers(1, 100), decay=st.sampled_from([0.05, 1.0, 16.0]),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_states_at(load: Load, size: str, dtype: torch.dtype, heads: int, length: int, decay: float, seed: int) -> None:
    random = Random(seed)
    layer = comba_of(size, heads, random, decay)
    projected = projections_of(layer, random, 1, length)
    places = np.arange(length + 1)[:: 1 + seed % 3]

    def reference(dtype: torch.dtype) -> Tensor:
        trace = traced(copy.deepcopy(layer).to(dtype), projected.to(dtype)).recurrence
        return torch.stack([trace.state_at(int(place)) for place in places])

    of_type = traced(copy.deepcopy(layer).to(dtype), projected.to(dtype)).recurrence
    assert_near(load(size, dtype).states_at(places, of_type), reference)


# Where each of some sequences is taken up, as a share of their length, and how many positions are its own.
RESUMED = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=5)


@every_dtype
@every_size
@unhurried
@given(rows=RESUMED, length=st.integers(1, 100), heads=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_comba_of_sequences_that_are_resumed_at_places_of_their_own(
    load: Load, size: str, dtype: torch.dtype, rows: list[tuple[float, int]], length: int, heads: int, seed: int
) -> None:
    random = Random(seed)
    layer = comba_of(size, heads, random)
    around = projections_of(layer, random, 1, length)
    starts = np.array([round(share * length) for share, _ in rows])
    sizes = np.array([min(own, length - start) for start, (_, own) in zip(starts.tolist(), rows, strict=True)])
    own = [projections_of(layer, random, 1, count) for count in sizes.tolist()]

    def reference(dtype: torch.dtype) -> Tensor:
        of_type, base = copy.deepcopy(layer).to(dtype), around.to(dtype)
        trace, found = traced(of_type, base), []
        for start, stretch in zip(starts.tolist(), own, strict=True):
            rest = torch.cat([stretch.to(dtype), base[:, start + stretch.shape[1] :]], dim=1)
            if rest.shape[1]:
                found.append(of_type.mix(rest, of_type.past_at(start, trace)))
        return torch.cat([base.new_empty(1, 0, heads * layer.value_dim), *found], dim=1)

    resumed = Resumed(starts, length)
    trace = traced(layer, around)
    past = CombaPast(None, torch.stack([trace.recurrence.state_at(int(place)) for place in resumed.places]))
    found, joined = load(size, dtype), torch.cat(own, dim=1)
    result = comba_by_kernels(
        found, layer, joined, past, resumed=resumed, around=around.to(dtype), owned=offsets_of(sizes)
    )
    if result.numel():
        assert_near(result, reference)
    if (starts + sizes == length).all() and joined.shape[1]:
        whole = comba_by_kernels(found, layer, joined, past, resumed=resumed, around=around.to(dtype))
        assert torch.equal(whole, result)


@every_dtype
@every_size
@unhurried
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=5), length=st.integers(1, 100), window=st.integers(1, 130),
       heads=st.sampled_from([(1, 1), (2, 2), (4, 2)]), seed=st.integers(0, 2**16))  # fmt: skip
def test_attention_of_sequences_that_are_resumed_at_places_of_their_own(
    load: Load, size: str, dtype: torch.dtype, shares: list[float], length: int, window: int, heads: tuple[int, int],
    seed: int,
) -> None:  # fmt: skip
    random, dim, (query_heads, kv_heads) = Random(seed), config_of(size).d_model, heads
    resumed = Resumed(np.array([round(share * length) for share in shares]), length)
    before = AttentionPast(*(random(1, kv_heads, length, dim) for _ in range(2)))
    projections = random(1, int(resumed.offsets[-1]), (query_heads + 2 * kv_heads) * dim)
    found = load(size, dtype)

    def attended(dtype: torch.dtype) -> Tensor:
        """One after the other, by what `test_attention` compares with PyTorch."""
        kernels, parts = load(size, dtype), []
        for i, start in enumerate(resumed.starts.tolist()):
            rows = projections[:, resumed.offsets[i] : resumed.offsets[i + 1]].to(dtype)
            if rows.shape[1]:
                past = AttentionPast(*(x[:, :, :start].to(dtype) for x in (before.keys, before.values)))
                table = rotary_table(length - start, dim, 10000.0, rows, start)
                parts.append(kernels.attention(rows, kv_heads, window, past, table).clone())
        return torch.cat([projections[:, :0, : query_heads * dim].to(dtype), *parts], dim=1)

    table = rotary_table(length, dim, 10000.0, projections.to(dtype))
    past = AttentionPast(before.keys.to(dtype), before.values.to(dtype))
    result = found.attention(projections.to(dtype), kv_heads, window, past, table, resumed)
    assert torch.equal(result, attended(dtype))
