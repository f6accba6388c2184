"""`integrated_gradients` with shuffled baselines: what a shuffle preserves, and which shuffles are drawn."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from crossdna_interpret import ShuffleWarning, integrated_gradients
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.dna.shuffling import _shuffled, dinucleotide_shuffles

# Fixed quadrature that accepts any error, so that all draws have the same number of points.
FIXED = {"tolerance": 1e6}
# Fewer points than by default, and enough for the smooth models.
FEW = {"steps": 8}


def test_every_shuffle_is_as_likely_as_every_other() -> None:
    own = "ACCCACGATGATG"
    others = {"".join(order) for order in permutations_with_ends(own)}
    expected = {other for other in others if Counter(pairwise(other)) == Counter(pairwise(own))}
    drawn = Counter(alphabet.decode(ids) for ids in dinucleotide_shuffles(own, 200 * len(expected), 0))
    assert set(drawn) == expected
    assert own in expected
    assert scipy.stats.chisquare(list(drawn.values())).pvalue > 0.01


def permutations_with_ends(own: str) -> Iterator[tuple[str, ...]]:
    """Every order of the bases in which the first and the last one stay, each once, by what is left of each base."""

    def orders(rest: Counter[str], made: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not rest.total():
            yield (*made, own[-1])
        for base in [base for base in rest if rest[base]]:
            yield from orders(rest - Counter(base), (*made, base))

    yield from orders(Counter(own[1:-1]), (own[0],))


def test_only_the_ends_are_the_same_in_every_shuffle(make_sequence: Callable) -> None:
    for seed in range(20):
        own = make_sequence(50, seed=seed)
        drawn = dinucleotide_shuffles(own, 64, seed)
        np.testing.assert_array_equal(np.flatnonzero((drawn == drawn[0]).all(0)), [0, 49])


def test_large_seeds_differ() -> None:
    one, other = (dinucleotide_shuffles("ACGTTGCATGCAGTCA", 4, seed) for seed in (1, 1 + 2**32))
    assert (one != other).any()


@pytest.mark.parametrize("n_at", [(), (0, 39), (13, 14, 30)])
def test_shuffles_keep_dinucleotides_and_unknown_positions(n_at: tuple[int, ...], make_sequence: Callable) -> None:
    sequence = make_sequence(40, seed=1, n_at=n_at)
    shuffles = [alphabet.decode(ids) for ids in _shuffled(alphabet.encode(sequence), 6, 0)]
    assert len(set(shuffles)) > 1
    for shuffle in shuffles:
        assert shuffle != sequence
        stretches, own = shuffle.split("N"), sequence.split("N")
        assert [len(stretch) for stretch in stretches] == [len(stretch) for stretch in own]
        for stretch, original in zip(stretches, own, strict=True):
            assert Counter(pairwise(stretch)) == Counter(pairwise(original))


def test_a_draw_does_not_depend_on_how_many_follow() -> None:
    own = "ATTAAGCGA"
    expected = {"".join(order) for order in permutations_with_ends(own)}
    expected = {other for other in expected if Counter(pairwise(other)) == Counter(pairwise(own))}
    pairs = [[alphabet.decode(ids) for ids in _shuffled(alphabet.encode(own), 2, seed)] for seed in range(100)]
    assert {shuffle for pair in pairs for shuffle in pair} == expected
    for seed, pair in enumerate(pairs):
        assert alphabet.decode(_shuffled(alphabet.encode(own), 1, seed)[0]) == pair[0]


def test_shuffles_do_not_change_their_input(make_sequence: Callable) -> None:
    ids = alphabet.encode(make_sequence(40, n_at=(15,)))
    before = ids.copy()
    _shuffled(ids, 3, 0)
    np.testing.assert_array_equal(ids, before)


@pytest.mark.parametrize("sequence", ["A", "AC", "A" * 12, "ACG", "ACNGTA", "AANCCCCNACG"])
def test_sequences_with_one_shuffle_have_nothing_to_explain(sequence: str, model: nn.Module) -> None:
    with pytest.warns(ShuffleWarning, match=f"shuffles of {sequence} is the sequence itself") as caught:
        a = integrated_gradients(sequence, model, baseline="shuffle", steps=3)
    assert caught[0].filename == __file__
    assert not a.values.any()
    assert a.certificate.settings["steps"] == 3


def test_seed_decides_the_shuffles(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence = smooth().float(), make_sequence(36, n_at=(17,))
    first, again, other = (integrated_gradients(sequence, model, shuffles=2, seed=seed, **FEW) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.forward, again.forward)
    np.testing.assert_array_equal(first.reverse, again.reverse)
    assert first.baseline_prediction == again.baseline_prediction
    assert not np.allclose(first.values, other.values, rtol=0, atol=1e-4)
    assert first.certificate.settings["seed"] == 3


@pytest.mark.parametrize("seed", [-1, 1.5, None, True, "3"])
def test_bad_seed(seed: object, model: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"`seed` must be an integer of at least 0, but got {seed!r}"):
        integrated_gradients("ACGTACGT", model, seed=seed)


def test_global_random_state_is_not_read(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence = smooth(), make_sequence(24)
    results = []
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            results.append(integrated_gradients(sequence, model, shuffles=2, steps=4, max_steps=4, **FIXED))
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
    np.testing.assert_array_equal(results[0].values, results[1].values)


def test_a_duplex_is_shuffled_alike_from_either_strand(make_sequence: Callable) -> None:
    sequence = make_sequence(40, n_at=(5,))
    reverse = strand.reverse_complement(sequence)
    np.testing.assert_array_equal(
        dinucleotide_shuffles(sequence, 3, 2), strand.reverse_complement(dinucleotide_shuffles(reverse, 3, 2))
    )
    first = min(sequence, reverse)
    np.testing.assert_array_equal(dinucleotide_shuffles(first, 3, 2), _shuffled(alphabet.encode(first), 3, 2))
