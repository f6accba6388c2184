"""Motif matches, seqlets, and their tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from memelite.fimo import fimo
from tangermeme.seqlet import recursive_seqlets

import crossdna_interpret as cdi
from crossdna_interpret import Motif, MotifSites
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.annotation import benjamini_hochberg
from crossdna_interpret.results import Certificate, Mutagenesis

CRX = {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T}


def of_importance(values: np.ndarray, sequence: str | None = None, start: int = 0) -> Mutagenesis:
    """Mutagenesis whose importance is given."""
    sequence = sequence or "A" * len(values)
    ids = alphabet.encode(sequence)[start : start + len(values)]
    predictions = np.where(ids[:, None] == np.arange(4), 0.0, -np.asarray(values)[:, None])[..., None]
    certificate = Certificate("test", "toy", "0", "cpu", "float64", {})
    return Mutagenesis(sequence, start, ("y",), "y", np.zeros(1), predictions, certificate)


# Scans


def by_enumeration(motif: Motif, seqs: list[str]) -> dict[tuple[int, int, str], float]:
    """The p value of every place, from the scores of all words of the motif's length."""
    table = np.round(motif.log_odds * 10).astype(int)
    totals = np.zeros(1, dtype=int)
    for column in table.T:
        totals = (totals[:, None] + column).ravel()
    totals.sort()
    result = {}
    for number, seq in enumerate(seqs):
        for strand, scores in (("+", table), ("-", table[::-1, ::-1])):
            scores = np.vstack([scores, scores.min(axis=0)])
            for start in range(len(seq) - motif.width + 1):
                word = alphabet.encode(seq[start : start + motif.width])
                score = scores[word, np.arange(motif.width)].sum()
                result[number, start, strand] = 1 - np.searchsorted(totals, score) / len(totals)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("p", [1e-4, 2e-3, 0.3])
def test_p_values_are_shares_of_all_words(vertebrates: list[Motif], make_sequence: Callable, p: float) -> None:
    short = [motif for motif in vertebrates if motif.width <= 9]
    chosen = [cdi.read_motifs(CRX)[0], *short[::12]]
    planted = "".join(motif.consensus for motif in chosen)
    seqs = [make_sequence(80, seed=seed, n_at=(3,)) + planted for seed in range(4)]
    assert len(chosen) > 8
    assert {motif.width for motif in chosen} >= {6, 7, 8, 9}
    result = cdi.scan(seqs, chosen, p=p)
    for motif in chosen:
        expected = {place: value for place, value in by_enumeration(motif, seqs).items() if value <= p * (1 + 1e-9)}
        reached = {(row.example, row.start, row.strand): row.p_value for row in result if row.motif == motif.id}
        assert reached == pytest.approx(expected, rel=1e-6)
    assert len(result) > 10


def test_a_perfect_match_is_the_rarest_word_and_a_mismatch_is_not() -> None:
    table = cdi.scan(["TAATCC", "TAATCG"], CRX, p=0.01).table
    by_example = table[table["strand"] == "+"].set_index("example")["p_value"]
    assert by_example[0] == pytest.approx(4**-6)
    assert by_example[1] == pytest.approx(19 * 4**-6)  # itself, and all words of one mismatch


def test_wide_motifs_match_where_fimo_finds_them(vertebrates: list[Motif], make_sequence: Callable) -> None:
    seqs = [make_sequence(400, seed=seed) for seed in range(6)]
    wide = [motif for motif in vertebrates if motif.width >= 10][:150]
    result = cdi.scan(seqs, wide, p=1e-3)
    channels = np.stack([alphabet.one_hot(alphabet.encode(seq), np.float32)[:4] for seq in seqs])
    expected = fimo({motif.id: motif.probabilities for motif in wide}, channels, threshold=1e-3)
    rows = {
        (*place, motif.id): p_value
        for motif, hits in zip(wide, expected, strict=True)
        for *place, p_value in hits[["sequence_name", "start", "strand", "p-value"]].itertuples(index=False)
    }
    ours = {(row.example, row.start, row.strand, row.motif): row.p_value for row in result}
    both = rows.keys() & ours.keys()
    # Rounding a score lets a site at the limit in or out.
    assert len(both) > 0.9 * max(len(rows), len(ours)) > 300
    ratios = np.array([ours[place] / rows[place] for place in both])
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


def test_sequences_of_several_lengths_and_longer_motifs(make_sequence: Callable) -> None:
    wide = np.eye(4)[[0, 1, 1, 3, 2, 0, 0, 1, 2, 2, 1, 0]].T
    result = cdi.scan(["TAATCC", "GGATTAACCTGAACGGCA", "AC"], {**CRX, "wide": wide}, p=1e-3)
    assert [(row.example, row.start, row.end, row.strand, row.name) for row in result] == [
        (0, 0, 6, "+", "CRX"),
        (1, 0, 6, "-", "CRX"),
        (1, 6, 18, "+", "wide"),
    ]


def test_scores_are_bits_of_the_bases_that_are_there() -> None:
    motif = cdi.read_motifs(CRX)[0]
    (site,) = cdi.scan("GGATTA", CRX, p=1e-3)
    assert site.score == pytest.approx(motif.log_odds.max(axis=0).sum())
    assert np.isnan(site.attribution)


def test_an_unknown_base_scores_as_the_one_that_fits_worst() -> None:
    motif = cdi.read_motifs(CRX)[0]
    (site,) = cdi.scan("TAATNC", CRX, p=0.05).table.itertuples()
    (worst,) = [row for row in cdi.scan("TAATACC"[:6], CRX, p=0.05).table.itertuples() if row.strand == "+"]
    columns = motif.log_odds.max(axis=0)
    assert site.score == pytest.approx(columns.sum() - columns[4] + motif.log_odds[:, 4].min())
    assert site.score == pytest.approx(worst.score)


def test_results_give_their_attributions(model: CrossDNA) -> None:
    result = cdi.ism("ACGTAATCCGTACG", model)
    (site,) = cdi.scan(result, CRX, p=1e-3)
    assert site.attribution == pytest.approx(result.importance[3:9].sum(dtype=float))
    (again,) = cdi.scan([result], CRX, p=1e-3)
    assert (again.start, again.attribution) == (site.start, site.attribution)


def test_q_values_are_over_all_places() -> None:
    p_values = np.array([[0.01, 0.04, 0.001]])
    np.testing.assert_allclose(benjamini_hochberg(p_values), [[0.015, 0.04, 0.003]])
    np.testing.assert_allclose(benjamini_hochberg(p_values, 100), [[0.5, 1.0, 0.1]])
    result = cdi.scan("TAATCC" + "G" * 54, CRX, p=1e-3)
    assert result.table["p_value"].iloc[0] == pytest.approx(4**-6)  # one of all words of six letters
    assert result.table["q_value"].iloc[0] == pytest.approx(min(1, result.table["p_value"].iloc[0] * 2 * 55))
    assert len(cdi.scan("TAATCC" + "G" * 54, CRX, p=1e-3, q=1e-3)) == 0


def test_nothing_found_is_an_empty_table() -> None:
    result = cdi.scan("GGGGGGGGGG", CRX)
    assert len(result) == 0
    assert result.measured
    assert list(result) == []
    assert cdi.site_effects(result).table.empty


# Stretches that stand out


def test_seqlets_are_tangermemes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(scale=0.1, size=(3, 90))
    values[0, 20:28] += 1
    values[2, 50:60] += 1
    result = cdi.find_seqlets([of_importance(row) for row in values], sign=1, threshold=0.01)
    expected = recursive_seqlets(torch.from_numpy(values), threshold=0.01)
    columns = ["example_idx", "start", "end"]
    rows = expected.sort_values(columns[:2])
    assert result.table[["example", "start", "end"]].values.tolist() == rows[columns].values.tolist()
    np.testing.assert_allclose(result.table["p_value"], rows["p-value"])
    for row in result:
        assert row.attribution == pytest.approx(values[row.example, row.start : row.end].sum())


def test_negative_stretches_are_found_and_give_way() -> None:
    values = np.random.default_rng(1).normal(scale=0.05, size=120)
    values[30:38] += 1
    values[70:78] -= 1
    result = of_importance(values)
    computed = cdi.find_seqlets(result, threshold=0.01)
    assert [np.sign(row.attribution) for row in computed if abs(row.attribution) > 3] == [1, -1]
    assert {tuple(row) for row in cdi.find_seqlets(result, sign=-1, threshold=0.01)} <= {tuple(row) for row in computed}
    assert all(row.attribution > 0 for row in cdi.find_seqlets(result, sign=1, threshold=0.01))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_huge_stretch_of_the_other_sign_changes_no_p_value(sign: int) -> None:
    """Chance, from convolving the values themselves: what is far below zero cannot be part of a large sum."""
    values = np.random.default_rng(0).normal(scale=0.5, size=150)
    values[30:40] = 3
    values[90:100] = -1e4
    result = cdi.find_seqlets(of_importance(sign * values), sign=sign)
    (site,) = [row for row in result if row.start <= 32 and row.end >= 38]
    near = np.round(values[values > -1e3] / 0.01).astype(int)
    shares = np.bincount(near - near.min(), minlength=1) / len(values)
    sums = np.ones(1)
    for _ in range(site.end - site.start):
        sums = np.convolve(sums, shares)
    total = round(abs(site.attribution) / 0.01) - (site.end - site.start) * near.min()
    assert np.log10(site.p_value) == pytest.approx(np.log10(sums[total:].sum()), abs=1)  # of bins of 0.08
    assert site.p_value < 1e-8


def test_stretches_have_the_sign_that_was_asked_for() -> None:
    """Where all is negative, what is least so does not raise the prediction."""
    values = -np.ones(60)
    values[20:28] = -0.1
    assert len(cdi.find_seqlets(of_importance(values), sign=1)) == 0
    assert (cdi.find_seqlets(of_importance(values)).table["attribution"] < 0).all()
    assert (cdi.find_seqlets(of_importance(-values)).table["attribution"] > 0).all()


def test_stretches_are_sorted_by_place() -> None:
    values = np.random.default_rng(1).normal(scale=0.05, size=(2, 120))
    values[:, 30:38] += 1
    values[:, 70:78] -= 2
    table = cdi.find_seqlets([of_importance(row) for row in values], threshold=0.01).table
    assert len(table) >= 4
    assert table.equals(table.sort_values(["example", "start"]))


def test_windows_and_several_lengths() -> None:
    values = np.random.default_rng(2).normal(scale=0.05, size=80)
    values[30:38] += 1
    whole = cdi.find_seqlets(of_importance(values), sign=1)
    windowed = cdi.find_seqlets(of_importance(values, "A" * 100, start=15), sign=1)
    assert [(row.start + 15, row.end + 15) for row in whole] == [(row.start, row.end) for row in windowed]
    both = cdi.find_seqlets([of_importance(values), of_importance(values[:60])], sign=1)
    assert {row.example for row in both} == {0, 1}
    np.testing.assert_array_equal(both.of(0).table[["start", "end"]], whole.table[["start", "end"]])


def test_flanks_stay_inside() -> None:
    values = np.random.default_rng(3).normal(scale=0.05, size=60)
    values[1:9] += 1
    near, far = (cdi.find_seqlets(of_importance(values), sign=1, flank=flank).table.iloc[0] for flank in (0, 5))
    assert (far["start"], far["end"]) == (max(0, near["start"] - 5), near["end"] + 5)


def test_short_and_silent_sequences_have_none() -> None:
    assert len(cdi.find_seqlets(of_importance(np.ones(3)))) == 0
    assert len(cdi.find_seqlets(of_importance(np.zeros(50)))) == 0
    assert len(cdi.annotate(cdi.find_seqlets(of_importance(np.zeros(50))), CRX)) == 0


# Tables


def test_what_is_chosen() -> None:
    result = cdi.scan(["TAATCC", "GGATTATAATCC"], CRX, p=1e-3)
    assert len(result) == 3
    second = result.of(1)
    assert second.sequences == ("GGATTATAATCC",)
    assert [(row.example, row.start) for row in second] == [(0, 0), (0, 6)]
    assert [row.start for row in result.where(result.table["strand"] == "-")] == [0]
    assert result.to_xarray()["start"].values.tolist() == [0, 0, 6]
    with pytest.raises(ValueError, match="`example` must be from 0 to 1, but got 2"):
        result.of(2)
    with pytest.raises(ValueError, match=r"`chosen` must be a mask of 3 rows, but is of shape \(2,\)"):
        result.where([True, False])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="motif"), r"`table` lacks the columns \['motif'\]"),
        (lambda t: t.assign(example=1), "examples 1 to 1 of 1"),
        (lambda t: t.assign(end=7), "`table` row 0: 0 to 7 is not a span of a sequence of 6 bases"),
        (lambda t: t.assign(start=6), "`table` row 0: 6 to 6 is not a span"),
    ],
)
def test_tables_are_checked(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    result = cdi.scan("TAATCC", CRX, p=1e-3)
    with pytest.raises(ValueError, match=message):
        MotifSites(result.sequences, "", change(result.table), result.certificate, importances=None)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda r: cdi.find_seqlets([]), ValueError, "`result` is an empty list"),
        (lambda r: cdi.find_seqlets([r, 3]), TypeError, r"`result\[1\]` must be an Attribution, Mutagenesis or"),
        (lambda r: cdi.find_seqlets(r, threshold=0), ValueError, "`threshold` must be above 0 and at most 1"),
        (lambda r: cdi.find_seqlets(r, min_length=1), ValueError, "`min_length` must be an integer of at least 2"),
        (lambda r: cdi.find_seqlets(r, max_length=3), ValueError, "`max_length` must be an integer of at least 4"),
        (lambda r: cdi.find_seqlets(r, flank=-1), ValueError, "`flank` must be an integer of at least 0"),
        (lambda r: cdi.find_seqlets(r, sign=2), ValueError, "`sign` must be 1, -1 or None"),
        (lambda r: cdi.annotate(r), TypeError, "`seqlets` must be the result of find_seqlets, but got Mutagenesis"),
        (lambda r: cdi.annotate(cdi.find_seqlets(r), CRX, q=0), ValueError, "`q` must be above 0 and at most 1"),
        (lambda r: cdi.scan("ACGT", CRX, p=2), ValueError, "`p` must be above 0 and at most 1"),
        (lambda r: cdi.scan("ACXT", CRX), ValueError, "'X'"),
        (lambda r: cdi.scan([], CRX), ValueError, "must hold at least one sequence"),
    ],
)
def test_bad_input(ask: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask(of_importance(np.arange(20.0)))
