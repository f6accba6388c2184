"""Exact reuse: scores from resumed passes equal those of full forward passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from crossdna_interpret import capture
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.branch import Layer
from crossdna_interpret.models.crossdna.comba import Comba
from crossdna_interpret.models.crossdna.incremental import Incremental
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.scoring.forward import score_ids
from tests.models.offers import accelerated, reuse_problem

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

# A busy machine is no reason to fail, so examples have no deadline; `make_model` keeps nothing from one to the next.
unhurried = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])

CONFIGS = st.fixed_dictionaries(
    {
        "depth": st.sampled_from([1, 2, 2, 3]),
        "window_size": st.sampled_from([1, 2, 7, 10, 31, 200]),
        "conv_size": st.sampled_from([None, 1, 2, 4, 6]),
        "expand_v": st.sampled_from([0.5, 1.0, 2.0]),
        "kv_heads": st.sampled_from([None, 1]),
        "rc_blocks": st.sampled_from(["aligned", "mirrored"]),
        "use_bridge": st.booleans(),
        "gate_freeze_steps": st.sampled_from([0, 0, 1]),
        "targets": st.sampled_from([(), ("activity",), ("rods", "cones", "amacrine")]),
        "seed": st.integers(0, 3),
    }
)
# How many blocks (or one, whatever the length), and how many bases they hold beyond what that takes.
BLOCKS = st.one_of(st.none(), st.tuples(st.integers(1, 5), st.sampled_from([0, 0, 1, 2, 5])))
KINDS = ["itself", "substitution", "stretch", "two", "insertion", "deletion", "moved", "unrelated"]
# kind, two places (taken modulo the length), size, and the end at which the length is made right
ROWS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99), st.integers(1, 9), st.booleans()),
    min_size=1,
    max_size=6,
)
# Of few letters, so that what has moved falls on its like.
LETTERS = st.sampled_from([[0], [0, 3], [4, 1], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4]])


def edited(reference: np.ndarray, row: tuple, length: int, letters: list[int], rng: np.random.Generator) -> np.ndarray:
    """One edited sequence of a given length."""
    kind, one, other, size, at_left = row
    one, other = one % len(reference), other % len(reference)
    if kind == "unrelated":
        return rng.integers(0, 5, length)
    ids = reference.copy()
    if kind == "substitution":
        ids[one] = (ids[one] + size) % 5
    elif kind == "stretch":
        ids[one : one + size] = rng.choice(letters, len(ids[one : one + size]))
    elif kind == "two":
        ids[[one, other]] = (ids[[one, other]] + size) % 5
    elif kind == "insertion":
        ids = np.insert(ids, one, rng.choice(letters, size))
    elif kind == "deletion":
        ids = np.delete(ids, slice(one, one + size))
    elif kind == "moved":
        ids = np.roll(ids, size)
    missing = rng.choice(letters, max(0, length - len(ids)))
    ids = np.concatenate([missing, ids] if at_left else [ids, missing])
    return ids[len(ids) - length :] if at_left else ids[:length]


def assert_exact(plain: np.ndarray, reused: np.ndarray, reference: np.ndarray) -> None:
    """In float64, within 1e-10 of the largest effect, or within rounding of the scores if effects are tiny."""
    assert reused.dtype == plain.dtype == np.float64
    assert reused.shape == plain.shape
    rounding = 64 * np.finfo(np.float64).eps * max(1.0, np.abs(plain).max())
    assert np.abs(reused - plain).max() <= max(1e-10 * np.abs(plain - reference).max(), rounding)


# The property


EDITED = {
    "blocks": BLOCKS,
    "length": st.integers(1, 110),
    "change": st.one_of(st.just(0), st.integers(-9, 9), st.integers(-99, 40)),
    "rows": ROWS,
    "letters": LETTERS,
    "seed": st.integers(0, 2**16),
}


def check_reuse(
    make_model: Make, config: dict[str, Any], blocks: tuple[int, int] | None, length: int, change: int,
    rows: list[tuple], letters: list[int], seed: int, *, compiled: bool = False,
) -> None:  # fmt: skip
    """Scores of edited sequences with reuse are those of whole passes, on kernels or without."""
    block_size = None if blocks is None else -(-length // blocks[0]) + blocks[1]
    model = make_model(**config, block_size=block_size).double()
    rng = np.random.default_rng(seed)
    reference = rng.choice(letters, length)
    at_reference = score_ids(model, reference[None])[0]
    scorer = Incremental(model, reference)
    event("one length" if change == 0 else "other length")

    def check(ids: np.ndarray) -> Tensor:
        with accelerated(model, compiled, 0.0):
            reused, plain = scorer.score(ids), score_ids(model, ids)
        assert_exact(plain, reused.numpy(), at_reference)
        return reused

    ids = np.stack([edited(reference, row, length, letters, rng) for row in rows])
    first = check(ids)
    if change:
        other = max(1, length + change)
        check(np.stack([edited(reference, row, other, letters, rng) for row in rows]))
        # The calls in between have not changed the cache. Only what was shared in the first call may round differently.
        assert_exact(first.numpy(), check(ids).numpy(), at_reference)


@pytest.mark.slow
@unhurried
@given(config=CONFIGS, **EDITED)
def test_reuse_gives_the_scores_of_whole_passes(make_model: Make, config: dict[str, Any], **given_to: Any) -> None:
    check_reuse(make_model, config, **given_to)


compiler = pytest.mark.skipif(compiling.find_compiler() is None, reason="there is no C compiler")


# Each pair of these is compiled, so there are few.
OF_KERNELS = {"conv_size": st.sampled_from([None, 4]), "expand_v": st.sampled_from([1.0, 2.0])}


@pytest.mark.slow
@compiler
@unhurried
@given(config=CONFIGS, of_kernels=st.fixed_dictionaries(OF_KERNELS), **EDITED)
def test_reuse_on_compiled_kernels_gives_the_scores_of_whole_passes(
    kernel_cache: Path, make_model: Make, config: dict[str, Any], of_kernels: dict[str, Any], **given_to: Any
) -> None:
    check_reuse(make_model, config | of_kernels, **given_to, compiled=True)


VARIANTS: dict[str, dict[str, Any]] = {
    "blocks": {},
    "one block": {"block_size": None},
    "mirrored": {"rc_blocks": "mirrored"},
    "no convolution": {"conv_size": None},
    "no bridge": {"use_bridge": False},
    "shared keys": {"kv_heads": 1, "window_size": 40},
    "three targets": {"targets": ("rods", "cones", "amacrine")},
    "log-likelihood": {"targets": ()},
}


def many_edits(length: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A reference, and edited sequences of all kinds."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 4, length)
    rows = [
        (kind, *rng.integers(0, length, 2).tolist(), int(rng.integers(1, 9)), bool(rng.integers(2)))
        for kind in rng.choice(KINDS[1:], count)
    ]
    return reference, np.stack([edited(reference, row, length, [0, 1, 2, 3], rng) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=compiler)], ids=["PyTorch", "kernels"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_in_float32_reuse_is_as_near_to_the_truth_as_whole_passes(
    kernel_cache: Path, make_model: Make, variant: str, compiled: bool
) -> None:
    model = make_model(**VARIANTS[variant])
    reference, ids = many_edits(80)
    truth = score_ids(make_model(**VARIANTS[variant]).double(), ids)
    plain = score_ids(model, ids)
    with accelerated(model, compiled, 0.0):
        reused = Incremental(model, reference).score(ids).numpy()
    assert reused.dtype == np.float32
    unit = np.finfo(np.float32).eps * np.abs(truth).max()
    error = np.abs(reused - truth).max()
    assert error <= 3 * np.abs(plain - truth).max() + unit
    assert error < 1e-3 * np.ptp(truth, axis=0).min()  # and small against what edits do


# Work that is saved


class Seen:
    """What the layers of a model compute: (rows, positions that enter, positions that leave) for each call.

    Where fewer positions enter than leave, the others are the reference's.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[nn.Module, int, int, int]] = []
        self.readings = 0  # of the reference, by a layer

    def clear(self) -> None:
        self.calls, self.readings = [], 0

    def by_layer(self, model: CrossDNA) -> dict[str, list[tuple[int, int, int]]]:
        """The calls of each layer, under "a" or "b" for the branch and the layer's number."""
        names = {module: name for name, module in model.named_modules()}
        result: dict[str, list[tuple[int, int, int]]] = {}
        for layer, *counts in self.calls:
            branch, _, number = names[layer].split(".")
            result.setdefault(f"{branch[-1]}{number}", []).append(tuple(counts))  # type: ignore[arg-type]
        return result


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What layers compute from now on, by any path through them."""
    record, entered = Seen(), []
    project, finish = Comba.project, Layer.finish

    def counting_project(self: Comba, x: Tensor, *args: Any, **options: Any) -> Tensor:
        entered.append(x.shape[1])
        return project(self, x, *args, **options)

    def counting_finish(self: Layer, m: Tensor, *args: Any, **options: Any) -> Tensor:
        own = entered.pop()
        assert not entered  # a layer projects its input once
        if options.get("trace") is None:
            record.calls.append((self, m.shape[0], own, m.shape[1]))
        else:
            record.readings += 1
        return finish(self, m, *args, **options)

    monkeypatch.setattr(Comba, "project", counting_project)
    monkeypatch.setattr(Layer, "finish", counting_finish)
    return record


def substituted(reference: np.ndarray, *places: int) -> np.ndarray:
    """One row for each place: the reference with another base there."""
    ids = np.repeat(reference[None], len(places), axis=0)
    ids[np.arange(len(places)), list(places)] = (reference[list(places)] + 1) % 4
    return ids


@pytest.fixture
def reference(make_sequence: MakeSequence) -> np.ndarray:
    """Three blocks of 24."""
    return alphabet.encode(make_sequence(72))


def test_a_whole_pass_is_seen_whole(make_model: Make, reference: np.ndarray, seen: Seen) -> None:
    model = make_model()
    score_ids(model, reference[None])
    # The first and the last of three blocks are read alike, and so at once.
    assert seen.by_layer(model) == {name: [(2, 24, 24), (1, 24, 24)] for name in ("a0", "a1", "b0", "b1")}


def test_an_edit_late_in_a_block_is_read_from_where_it_shows(
    make_model: Make, reference: np.ndarray, seen: Seen
) -> None:
    model = make_model()
    scorer = Incremental(model, reference)
    ids = substituted(reference, 43)  # position 19 of the second block, 4 on the reverse strand
    scorer.score(reference[None])  # one pass over the reference, for what untouched blocks add
    seen.clear()
    scorer.score(ids)
    assert seen.readings == 2 * 2  # layers and branches
    seen.clear()
    scorer.score(ids)
    assert seen.readings == 0
    assert seen.by_layer(model) == {
        # The stem sees four bases on either side. In an odd block branch B has the forward strand: 15 to 23.
        "b0": [(1, 9, 9)],
        "b1": [(1, 9, 9)],
        # Branch A meets the edit at once. After position 8 the input of its first layer is the reference's.
        "a0": [(1, 9, 24)],
        "a1": [(1, 24, 24)],
    }


def test_a_batch_is_read_from_its_first_edit_to_its_last(make_model: Make, reference: np.ndarray, seen: Seen) -> None:
    model = make_model()
    scorer = Incremental(model, reference)
    # On the reverse strand of the first block these are positions 15, 12 and 8.
    ids = np.concatenate([substituted(reference, 8, 11, 15), reference[None]])
    scorer.score(ids)
    seen.clear()
    scorer.score(ids)
    assert seen.by_layer(model) == {name: [(3, 16 if name[1] == "0" else 20, 20)] for name in ("a0", "a1", "b0", "b1")}


def test_untouched_blocks_and_rows_cost_nothing(make_model: Make, reference: np.ndarray, seen: Seen) -> None:
    model = make_model()
    scorer = Incremental(model, reference)
    scorer.score(reference[None])  # one pass over the reference, for what untouched blocks add
    seen.clear()
    scorer.score(np.repeat(reference[None], 5, axis=0))
    assert not seen.calls
    assert not seen.readings
    scorer.score(np.concatenate([substituted(reference, 60, 30), reference[None], substituted(reference, 10)]))
    # Each of the three blocks for a row of its own.
    assert {name: [rows for rows, _, _ in calls] for name, calls in seen.by_layer(model).items()} == {
        name: [1, 1, 1] for name in ("a0", "a1", "b0", "b1")
    }


@pytest.mark.parametrize(("place", "blocks"), [(19, 1), (20, 2), (23, 2), (24, 2), (27, 2), (28, 1)])
def test_an_edit_beside_a_block_reaches_four_bases_into_it(
    make_model: Make, reference: np.ndarray, seen: Seen, place: int, blocks: int
) -> None:
    model = make_model()
    scorer = Incremental(model, reference)
    scorer.score(reference[None])  # one pass over the reference, for what untouched blocks add
    seen.clear()
    scorer.score(substituted(reference, place))
    assert [len(calls) for calls in seen.by_layer(model).values()] == [blocks] * 4


def test_in_mirrored_pairing_the_strand_that_stands_still_is_not_read(
    make_model: Make, reference: np.ndarray, seen: Seen
) -> None:
    model = make_model(rc_blocks="mirrored")
    scorer = Incremental(model, reference)
    ids = substituted(reference, 10)
    scorer.score(ids)
    seen.clear()
    scorer.score(ids)
    # Position 10 of the first forward block, which is branch A's, and 13 of the last reverse one, which is branch B's.
    assert seen.by_layer(model) == {"a0": [(1, 9, 18)], "a1": [(1, 18, 18)], "b0": [(1, 9, 15)], "b1": [(1, 15, 15)]}


def test_what_lies_before_an_insertion_is_not_read(make_model: Make, reference: np.ndarray, seen: Seen) -> None:
    model = make_model(rc_blocks="mirrored")
    scorer = Incremental(model, reference)
    longer = np.insert(reference, 60, (reference[60:63] + 1) % 4)[None]
    scorer.score(longer)
    seen.clear()
    scorer.score(longer)
    # The forward strand is read from four bases before the insertion on: in its third block, branch A's, from position
    # 8, and the fourth, of three bases, branch B's, is new. The reverse strand, 12 bases before it: in its first block,
    # branch B's, from position 8, and all of what follows, which has moved.
    leaving = {name: [out for _, _, out in calls] for name, calls in seen.by_layer(model).items()}
    assert leaving["a1"] == [24, 16, 3]
    assert leaving["b1"] == [16, 24, 3]


@pytest.mark.parametrize("variant", ["blocks", "mirrored"])
def test_a_reference_whose_blocks_are_not_kept_is_read_again(
    make_model: Make, reference: np.ndarray, variant: str, seen: Seen
) -> None:
    model = make_model(**VARIANTS[variant]).double()
    ids = substituted(reference, 12, 36, 60)
    generous, frugal = Incremental(model, reference), Incremental(model, reference, cache_bytes=0)
    expected = generous.score(ids)
    assert_exact(score_ids(model, ids), expected.numpy(), score_ids(model, reference[None])[0])
    seen.clear()
    assert torch.equal(generous.score(ids), expected)
    assert seen.readings == 0
    for times in (1, 2):
        assert torch.equal(frugal.score(ids), expected)
        assert seen.readings == times * 2 * 2 * 3  # layers, branches and blocks


@pytest.mark.parametrize("variant", ["blocks", "mirrored", "one block"])
def test_an_edit_alone_is_exact_wherever_it_lies(make_model: Make, reference: np.ndarray, variant: str) -> None:
    # One at a time: in a batch, another edit may have a block read that this one would have been found to leave alone.
    model = make_model(**VARIANTS[variant], depth=1).double()
    scorer = Incremental(model, reference)
    ids = substituted(reference, *range(len(reference)))
    plain, at_reference = score_ids(model, ids), score_ids(model, reference[None])[0]
    for row, expected in zip(ids, plain, strict=True):
        assert_exact(expected[None], scorer.score(row[None]).numpy(), at_reference)


def test_a_last_block_that_grows_is_read_where_it_has_grown(
    make_model: Make, make_sequence: MakeSequence, seen: Seen
) -> None:
    model = make_model().double()
    reference = alphabet.encode(make_sequence(68))  # the last block has 20 bases, one whole chunk of the recurrence
    longer = np.insert(reference, 10, 4)[None]
    scorer = Incremental(model, reference)
    scorer.score(longer)
    seen.clear()
    reused = scorer.score(longer).numpy()
    # On the reverse strand, branch B's in the last block, the first 20 positions are what they were, and one is new.
    assert {name: calls[-1][2] for name, calls in seen.by_layer(model).items() if name[0] == "b"} == {"b0": 1, "b1": 1}
    assert_exact(score_ids(model, longer), reused, score_ids(model, reference[None])[0])


def test_a_sequence_of_nothing_but_n_has_a_likelihood_of_zero(make_model: Make) -> None:
    model = make_model(targets=()).double()
    nothing = np.full((1, 40), alphabet.N_ID)
    # What the reference's bases add, some -60, is taken away again.
    assert Incremental(model, np.zeros(40, dtype=np.int64)).score(nothing).item() == pytest.approx(0.0, abs=1e-13)
    assert score_ids(model, nothing).tolist() == [[0.0]]


# What it asks of a model, and what it leaves behind


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_a_problem_while_they_are_there(make_model: Make, register: str) -> None:
    model = make_model()
    assert reuse_problem(model) is None
    handle = getattr(model.branch_a.layers[1].mlp, register)(lambda *args: None)
    assert "hooks are active" in (reuse_problem(model) or "")
    handle.remove()
    assert reuse_problem(model) is None
    with capture(model, "fusion.out"):
        assert "hooks are active" in (reuse_problem(model) or "")
    assert reuse_problem(model) is None


def test_a_model_that_computes_something_else_is_a_problem(model: CrossDNA) -> None:
    class Doubled(CrossDNA):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    assert "Doubled has a `forward` of its own" in (reuse_problem(Doubled(model.config, model.targets)) or "")


def test_a_scorer_leaves_the_model_as_it_was(make_model: Make) -> None:
    model = make_model().requires_grad_(True)
    reference, ids = many_edits(50, 5)

    def state(module: nn.Module) -> list[object]:
        return [
            (sorted(vars(each)), each.training, len(each._forward_hooks), len(each._forward_pre_hooks))
            for each in module.modules()
        ]

    before, weights = state(model), {name: x.clone() for name, x in model.state_dict().items()}
    kept = ids.copy()
    scores = Incremental(model, reference).score(ids)
    assert not scores.requires_grad
    assert state(model) == before
    assert all(torch.equal(x, weights[name]) for name, x in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    np.testing.assert_array_equal(ids, kept)
