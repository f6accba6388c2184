"""Names of seqlets: random sequences have none, whatever their bases and importance, and p values are exact."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

import crossdna_interpret as cdi
from crossdna_interpret import Motif
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.motifs.annotation import _stretch, benjamini_hochberg
from crossdna_interpret.motifs.collection import find_motif
from crossdna_interpret.motifs.matching import Matcher, Stretch
from crossdna_interpret.motifs.prevalence import Prevalence
from crossdna_interpret.results import Certificate, Seqlets
from tests.motifs.logic import planted

CERTIFICATE = Certificate("test", "toy", "0", "cpu", "float64", {})
PROFILES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "all alike": lambda rng, n: np.ones(n),
    "one of them": lambda rng, n: np.where(np.arange(n) == rng.integers(n), 20, rng.normal(size=n)),
    "a hill": lambda rng, n: np.exp(-(((np.arange(n) - n / 2) / (n / 4)) ** 2)),
    "exponential": lambda rng, n: rng.exponential(size=n),
}


def random_sequences(rng: np.random.Generator, count: int, length: int = 150, gc: float = 0.5) -> list[str]:
    shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return ["".join(rng.choice(list("ACGT"), length, p=shares)) for _ in range(count)]


def random_stretches(
    rng: np.random.Generator, sequences: list[str], profile: str, *, each: int, length: int | None = None
) -> list[Stretch]:
    result = []
    for number, sequence in enumerate(sequences):
        for _ in range(each):
            width = length or int(rng.integers(4, 26))
            start = int(rng.integers(len(sequence) - width + 1))
            values = PROFILES[profile](rng, width)
            result.append(Stretch(number, start, start + width, values * np.sign(values.sum())))
    return result


def as_seqlets(sequences: list[str], stretches: list[Stretch]) -> Seqlets:
    """Seqlets with their importance at their positions. The stretches must not overlap."""
    importances = [np.zeros(len(sequence)) for sequence in sequences]
    for stretch in stretches:
        importances[stretch.sequence][stretch.start : stretch.end] = stretch.importance
    rows = [(each.sequence, each.start, each.end, each.importance.sum(), 0.01) for each in stretches]
    table = pd.DataFrame(rows, columns=["example", "start", "end", "attribution", "p_value"])
    return Seqlets(tuple(sequences), "y", table, CERTIFICATE, tuple(importances))


def one_stretch(sequence: str, start: int, end: int, importance: np.ndarray | float = 1.0) -> Seqlets:
    return as_seqlets([sequence], [Stretch(0, start, end, np.broadcast_to(importance, end - start).astype(float))])


def q_values_alone(motifs: list[Motif], sequences: list[str], stretches: list[Stretch]) -> np.ndarray:
    """The q value of each stretch if it is annotated by itself."""
    q_values = benjamini_hochberg(Matcher(motifs, sequences).p_values(stretches)[0])
    result: np.ndarray = q_values.min(axis=1)
    return result


# Random sequence


@pytest.mark.slow
def test_q_values_of_random_stretches_are_what_they_say(vertebrates: list[Motif]) -> None:
    rng = np.random.default_rng(0)
    result = np.empty((3, len(PROFILES), 100))
    for at, gc in enumerate((0.3, 0.5, 0.7)):
        for number, profile in enumerate(PROFILES):
            sequences = random_sequences(rng, 25, gc=gc)
            stretches = random_stretches(rng, sequences, profile, each=4)
            result[at, number] = q_values_alone(vertebrates, sequences, stretches)
    assert (result < 0.05).mean(axis=(1, 2)).max() <= 0.05
    assert (result < 0.05).mean(axis=(0, 2)).max() <= 0.05
    assert (result < 0.01).mean() <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("length", [6, 8, 40, 120])
def test_q_values_do_not_depend_on_length(length: int, vertebrates: list[Motif]) -> None:
    rng = np.random.default_rng(length)
    sequences = random_sequences(rng, 60)
    result = q_values_alone(
        vertebrates, sequences, random_stretches(rng, sequences, "all alike", each=3, length=length)
    )
    assert (result < 0.05).mean() <= 0.05


def test_q_values_hold_where_pairs_of_bases_are_uneven(vertebrates: list[Motif]) -> None:
    """Shuffles of a repeat, of CpG and of runs of A. Words of some motifs are frequent in them."""
    rng = np.random.default_rng(0)
    repeat = "CA" * 40 + "GATTACAGGCATGAGCCACCGCGCCCGGCC" + "A" * 30 + "TTTTTCTTTTT"
    sequences = [alphabet.decode(ids) for ids in dinucleotide_shuffles(repeat, 24, 0)]
    result = q_values_alone(vertebrates, sequences, random_stretches(rng, sequences, "exponential", each=10))
    assert (result < 0.05).mean() <= 0.05


@pytest.mark.parametrize("motifs", ["jaspar-vertebrates", "jaspar-insects", "jaspar-plants"])
def test_random_stretches_have_no_names(motifs: str) -> None:
    rng = np.random.default_rng(2)
    sequences = [seq for gc in (0.35, 0.5, 0.65) for seq in random_sequences(rng, 8, gc=gc)]
    stretches = [
        Stretch(number, start, start + 12, PROFILES[list(PROFILES)[number % 4]](rng, 12))
        for number in range(len(sequences))
        for start in range(10, 130, 15)
    ]
    sites = cdi.annotate(as_seqlets(sequences, stretches), motifs)
    assert len(sites) <= 0.05 * len(stretches)
    assert sites.certificate.checks["seqlets"] == len(stretches)
    assert sites.certificate.checks["seqlets_without_name"] == len(stretches) - len(sites)


@pytest.mark.slow
@pytest.mark.parametrize("flank", [0, 3, 5])
def test_what_the_bundled_model_sees_in_random_sequence_has_hardly_any_name(flank: int, bundled_results: list) -> None:
    seqlets = cdi.find_seqlets(bundled_results, flank=flank)
    assert len(seqlets) > 20
    assert len(cdi.annotate(seqlets)) <= 0.05 * len(seqlets)


@pytest.fixture(scope="module")
def bundled_results() -> list[cdi.Mutagenesis]:
    """Of random sequences, and of shuffles of an enhancer."""
    enhancer = cdi.example("strong-enhancer").sequence
    shuffles = [alphabet.decode(ids) for ids in dinucleotide_shuffles(enhancer, 3, 0)]
    return cdi.ism([*random_sequences(np.random.default_rng(3), 3, 164), *shuffles])


def test_untrimmed_patterns_do_not_name_random_words(vertebrates: list[Motif]) -> None:
    """Patterns of thirty columns, most of them with little information, as from TF-MoDISco."""
    rng = np.random.default_rng(0)
    patterns = []
    for name in ("CTCF", "Crx", "Spi1", "NRL", "GATA1"):
        core = find_motif(name, vertebrates).probabilities
        before = int(rng.integers(0, 31 - core.shape[1]))
        shares = rng.dirichlet([30] * 4, 30).T
        shares[:, before : before + core.shape[1]] = core
        patterns.append(Motif(name, name, 100 * shares))
    words = random_sequences(rng, 200, 8)
    named = [bool(len(cdi.annotate(one_stretch(word, 0, 8), patterns))) for word in words]
    inside = [planted(sequence, (70, word)) for sequence, word in zip(random_sequences(rng, 200), words, strict=True)]
    named_inside = [bool(len(cdi.annotate(one_stretch(sequence, 70, 78), patterns))) for sequence in inside]
    assert np.mean(named) <= 0.05
    assert np.mean(named_inside) <= 0.05


@pytest.mark.parametrize("flank", [0, 3])
def test_unknown_bases_have_no_name(flank: int, vertebrates: list[Motif]) -> None:
    for count in (6, 20, 40):
        sequence = "ACGT" * 5 + "N" * count + "ACGT" * 5
        assert len(cdi.annotate(one_stretch(sequence, 20 - flank, 20 + count + flank), vertebrates)) == 0


def test_an_unknown_base_counts_as_the_one_that_fits_worst() -> None:
    motif = Motif("M", "M", np.eye(4)[[3, 0, 0, 3, 1, 1, 2, 2]].T * 50)
    whole, lacking = ("GTCGTCAG" + site + "GTCGACTG" for site in ("TAATCCGG", "TAATCNGG"))
    (named,) = cdi.annotate(one_stretch(whole, 8, 16), [motif])
    (still,) = cdi.annotate(one_stretch(lacking, 8, 16), [motif])
    assert (named.start, named.strand) == (still.start, still.strand) == (8, "+")
    assert named.p_value < 20 * named.p_value < still.p_value


# What a name stands on


def test_names_have_scores_that_random_words_hardly_reach(vertebrates: list[Motif]) -> None:
    """The motifs are few, weak, long or short, so that the correction alone would accept many names."""
    rng = np.random.default_rng(5)
    sets = [[find_motif(name, vertebrates)] for name in ("CTCF", "REST", "Crx", "NRL", "Yy1")]
    sets += [[Motif("short", "", np.eye(4)[[0, 1, 2]].T * 20)], [Motif("weak", "", rng.dirichlet([2] * 4, 12).T * 50)]]
    named = 0
    for motifs in sets:
        sequences = random_sequences(rng, 60)
        stretches = [
            Stretch(number, start, start + 10, rng.exponential(size=10))
            for number in range(len(sequences))
            for start in range(10, 130, 20)
        ]
        (motif,) = motifs
        words = rng.integers(0, 4, (100_000, motif.width))
        scores = motif.log_odds[words, np.arange(motif.width)].sum(axis=1)
        for row in cdi.annotate(as_seqlets(sequences, stretches), motifs, q=1):
            named += 1
            assert row.score > 0
            assert (scores >= row.score - 1e-9).mean() <= 2e-3  # 1e-3, of scores in tenths of a bit
    assert named > 20


@pytest.mark.parametrize(
    "sequence", ["ACGGTTAATCCGATTACAGATTTACCAGT", "AAAATTAAATTTAATCCAAAATATATAT", "NNCCGGTAATCCGCGNGCGG"]
)
@pytest.mark.parametrize("strand", "+-")
def test_p_values_are_shares_of_random_words(sequence: str, strand: str) -> None:
    """All words of six bases, with probabilities from a Markov chain counted on both strands."""
    counts = np.array([[1, 0, 2, 9, 1, 2], [3, 1, 0, 0, 9, 7], [0, 2, 1, 1, 0, 1], [9, 9, 9, 2, 2, 2]])
    counts[:, 1:4] = np.array([[9, 9, 1], [1, 0, 0], [2, 1, 1], [0, 2, 9]])
    motif = Motif("M", "M", counts)
    at = sequence.index("TAATCC")
    if strand == "-":
        sequence, at = cdi.reverse_complement(sequence), len(sequence) - at - 6
    start, reverse, p_value = Matcher([motif], [sequence]).placement(Stretch(0, at, at + 6, np.ones(6)), 0, 1.0)
    assert (start, "+-"[reverse]) == (at, strand)
    both = [sequence, cdi.reverse_complement(sequence)]
    bases = np.array([sum(strand.count(base) for strand in both) + 5 for base in "ACGT"])
    first = bases / bases.sum()
    pairs = np.array([
        [sum(strand[at : at + 2] == a + b for strand in both for at in range(len(sequence) - 1)) for b in "ACGT"]
        for a in "ACGT"
    ])  # fmt: skip
    then = pairs + 20 * np.outer(first, first)
    then = then / then.sum(axis=1, keepdims=True)
    scores = np.round(motif.log_odds * 10)
    own = sum(scores["ACGT".index(base), column] for column, base in enumerate("TAATCC"))
    share = 0.0
    for word in itertools.product(range(4), repeat=6):
        if sum(scores[base, column] for column, base in enumerate(word)) >= own:
            share += first[word[0]] * np.prod([then[a, b] for a, b in itertools.pairwise(word)])
    assert p_value == pytest.approx(share, rel=1e-9)


def test_placements_and_motifs_share_one_error_rate(vertebrates: list[Motif]) -> None:
    """Bonferroni's rule with weights that average one over motifs. All but 5 % of the weight follows the importance."""
    motifs, rng = vertebrates[:200], np.random.default_rng(0)
    (sequence,) = random_sequences(rng, 1, 60)
    importance = rng.exponential(size=9)
    profile = np.sqrt(importance) / np.linalg.norm(np.sqrt(importance))
    weights = {}
    for number, motif in enumerate(motifs):
        bits = np.sqrt(2 + (motif.probabilities * np.log2(motif.probabilities)).sum(axis=0))
        for reverse, start in itertools.product((0, 1), range(30 - motif.width + 1, 39)):
            oriented = bits[::-1] if reverse else bits
            fit = sum(profile[at - 30] * oriented[at - start] for at in range(30, 39) if 0 <= at - start < motif.width)
            weights[number, start, reverse] = np.exp(60 * fit / np.linalg.norm(bits))
    matcher, stretch = Matcher(motifs, [sequence]), Stretch(0, 30, 39, importance)
    (result,), (mean,) = matcher.p_values([stretch])
    assert (result < 1).sum() >= 3
    for number in np.flatnonzero(result < 1):
        start, reverse, p_value = matcher.placement(stretch, number, mean)
        share = weights[number, start, reverse] / sum(weights.values()) * len(motifs)
        width = motifs[number].width
        inside = [np.sum(profile[max(0, at - 30) : max(0, at - 30 + width)] ** 2) for at in range(31 - width, 39)]
        covers = inside[start - (31 - width)] >= 0.5
        alike = 0.05 * covers / (2 * max(1, np.sum(np.array(inside) >= 0.5)))
        assert result[number] == pytest.approx(p_value / max(0.95 * share, alike))


def test_the_site_that_matters_has_the_name(vertebrates: list[Motif]) -> None:
    crx, ctcf = find_motif("Crx", vertebrates), find_motif("CTCF", vertebrates)
    (sequence,) = random_sequences(np.random.default_rng(4), 1, 100)
    sequence = planted(sequence, (30, "TAATCC"), (45, ctcf.consensus))
    for start, end, name in ((30, 36, "Crx"), (45, 60, "CTCF")):
        importance = np.zeros(40)
        importance[start - 25 : end - 25] = 1
        (site,) = cdi.annotate(one_stretch(sequence, 25, 65, importance), [crx, ctcf])
        assert (site.start, site.end, site.name) == (start, end, name)


def test_a_site_that_was_cut_in_two_is_one_site(vertebrates: list[Motif]) -> None:
    ctcf = find_motif("CTCF", vertebrates)
    sequence = planted(random_sequences(np.random.default_rng(4), 1, 100)[0], (40, ctcf.consensus))
    parts = [Stretch(0, 41, 47, np.ones(6)), Stretch(0, 49, 55, np.ones(6))]
    (site,) = cdi.annotate(as_seqlets([sequence], parts))
    assert (site.start, site.end, site.name) == (40, 55, "CTCF")


def test_sites_may_reach_beyond_the_ends(vertebrates: list[Motif]) -> None:
    ctcf = find_motif("CTCF", vertebrates)
    sequence = ctcf.consensus[2:] + "ACGATAGATC" * 5
    (site,) = cdi.annotate(one_stretch(sequence, 0, 13))
    assert (site.start, site.end, site.name) == (0, 13, "CTCF")


# Many stretches


def test_q_values_are_over_all_stretches_of_a_call(vertebrates: list[Motif]) -> None:
    """Weighted Benjamini and Hochberg: a stretch with more attribution needs less evidence."""
    rng = np.random.default_rng(6)
    sequences = random_sequences(rng, 30)
    sites = [find_motif(name, vertebrates) for name in ("Crx", "NFYA", "CTCF", "Spi1", "GATA1")]
    sequences[:5] = [planted(seq, (60, site.consensus)) for seq, site in zip(sequences, sites, strict=False)]
    ends = [60 + site.width for site in sites] + [68] * 25
    stretches = [Stretch(number, 60, end, np.full(end - 60, 1.0 + number % 3)) for number, end in enumerate(ends)]
    alone = q_values_alone(vertebrates, sequences, stretches)
    sizes = np.array([stretch.importance.sum() for stretch in stretches])
    expected = false_discovery_control(np.minimum(alone / (0.8 * sizes / sizes.mean() + 0.2), 1))
    result = cdi.annotate(as_seqlets(sequences, stretches)).table
    assert result["example"].tolist() == np.flatnonzero(expected <= 0.05).tolist()
    np.testing.assert_allclose(result["q_value"], expected[expected <= 0.05])
    assert 2 <= len(result) < (alone <= 0.05).sum()  # some need no correction to pass, and do not with it


def test_stretches_without_attribution_count_alike() -> None:
    motif = Motif("M", "M", np.eye(4)[[3, 0, 0, 3, 1, 1, 2, 2]].T * 50)
    (sequence,) = random_sequences(np.random.default_rng(0), 1, 60)
    silent = one_stretch(planted(sequence, (20, "TAATCCGG")), 20, 28, 0.0)
    assert cdi.annotate(silent, [motif]).table["name"].tolist() == ["M"]


def test_long_stretches_take_little_memory(vertebrates: list[Motif]) -> None:
    (sequence,) = random_sequences(np.random.default_rng(0), 1, 4000)
    seqlets = one_stretch(planted(sequence, (2000, find_motif("REST", vertebrates).consensus)), 0, 4000)
    tracemalloc.start()
    try:
        sites = cdi.annotate(seqlets, [*vertebrates[::4], find_motif("REST", vertebrates)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sites.table["name"].tolist() == ["REST"]
    assert peak < 200e6


# Motifs that match often have more weight


def with_recurring_sites(rng: np.random.Generator, motif: Motif, count: int, share: float) -> Seqlets:
    """Random sequences with one stretch in each. In a fraction of them it is a site of the motif."""
    sequences, stretches = [], []
    for number, sequence in enumerate(random_sequences(rng, count)):
        if rng.random() < share:
            word = "".join(rng.choice(list("ACGT"), p=column) for column in motif.probabilities.T)
            sequence = sequence[:60] + word + sequence[60 + motif.width :]
        sequences.append(sequence)
        stretches.append(Stretch(number, 60, 60 + motif.width, np.ones(motif.width)))
    return as_seqlets(sequences, stretches)


@pytest.mark.slow
def test_a_short_motif_that_recurs_is_found(vertebrates: list[Motif]) -> None:
    (crx,) = [motif for motif in vertebrates if motif.name == "Crx"]
    seqlets = with_recurring_sites(np.random.default_rng(0), crx, 300, 0.15)
    together = cdi.annotate(seqlets, vertebrates).table
    alone = q_values_alone(vertebrates, list(seqlets.sequences), [_stretch(seqlets, row) for row in seqlets])
    assert (false_discovery_control(alone) <= 0.05).sum() < 5
    assert len(together) >= 20
    named_so = (together["name"] == "Crx") | together["also"].str.contains("Crx")
    assert named_so.mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("motifs", ["all", "one family"])
def test_weights_learned_from_random_stretches_give_no_names(motifs: str, vertebrates: list[Motif]) -> None:
    chosen = vertebrates if motifs == "all" else [each for each in vertebrates if each.name in ("Crx", "OTX2", "GSC")]
    wrong = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sequences = random_sequences(rng, 60)
        sites = cdi.annotate(as_seqlets(sequences, random_stretches(rng, sequences, "exponential", each=1)), chosen)
        wrong += len(sites) > 0
    assert wrong <= 2  # of 10, where each may have a name by a chance of 5 %


@pytest.mark.slow
@pytest.mark.parametrize("width", [8, 10, 12])
def test_a_word_that_recurs_teaches_nothing_about_itself(width: int, vertebrates: list[Motif]) -> None:
    """A chance match of a word, and of its many copies, is still a single match."""
    named = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        (word,) = random_sequences(rng, 1, length=width)
        sequences = [each[:60] + word + each[60 + width :] for each in random_sequences(rng, 60)]
        stretches = [Stretch(number, 60, 60 + width, np.ones(width)) for number in range(60)]
        named += len(cdi.annotate(as_seqlets(sequences, stretches), vertebrates)) > 6
    assert named <= 2  # of 12


def test_weights_average_one_and_see_neither_themselves_nor_their_like() -> None:
    rng = np.random.default_rng(0)
    p_values = rng.uniform(size=(100, 7))
    stretches = list(rng.integers(0, 4, (100, 12)))
    stretches[7] = stretches[3]
    stretches[8] = 3 - stretches[3][::-1]  # its reverse complement
    weights = np.stack(list(Prevalence(p_values, stretches).weights()))
    np.testing.assert_allclose(weights.mean(axis=1), 1)
    changed = p_values.copy()
    changed[[3, 7, 8], 2] = 1e-9
    after = np.stack(list(Prevalence(changed, stretches).weights()))
    np.testing.assert_allclose(after[[3, 7, 8]], weights[[3, 7, 8]], rtol=1e-5)
    assert (after[20:, 2] > weights[20:, 2]).mean() > 0.9
    few = Prevalence(p_values[:20], stretches[:20]).weights()
    assert all((each == 1).all() for each in few)
    none = Prevalence(np.ones((2, 7)), [np.empty(0, dtype=np.uint8), np.full(9, alphabet.N_ID)]).weights()
    assert len(list(none)) == 2
