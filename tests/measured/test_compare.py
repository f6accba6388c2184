"""Predicted and measured effects: rows match for any notation of an edit, and errors name the row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.dna.edits import Editor
from crossdna_interpret.models.crossdna.model import CrossDNA


@pytest.fixture
def sequence(make_sequence: Callable) -> str:
    return make_sequence(40, seed=5)


def measured(sequence: str, seed: int = 0) -> pd.DataFrame:
    """Every substitution of every second base, in no order."""
    rng = np.random.default_rng(seed)
    rows = [(at, sequence[at], base) for at in range(0, 40, 2) for base in "ACGT" if base != sequence[at]]
    table = pd.DataFrame(rows, columns=["position", "ref", "alt"]).assign(effect=rng.normal(size=len(rows)))
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


def test_correlations_are_scipys(sequence: str, model: CrossDNA) -> None:
    table, result = measured(sequence), cdi.ism(sequence, model)
    computed = cdi.compare_with_measured(result, table)
    expected = np.array([result.delta[row.position, "ACGT".index(row.alt)] for row in table.itertuples()])
    np.testing.assert_array_equal(computed.table["predicted"], expected)
    np.testing.assert_array_equal(computed.table["measured"], table["effect"])
    r = pearsonr(expected, table["effect"])
    interval = r.confidence_interval()
    assert (computed.r, computed.low, computed.high) == pytest.approx((r.statistic, *interval), abs=1e-6)
    assert computed.rho == pytest.approx(spearmanr(expected, table["effect"]).statistic, abs=1e-9)
    assert computed.same_sign == np.mean(np.sign(expected) == np.sign(table["effect"]))
    assert (len(computed), computed.left_out) == (60, 0)


def test_an_edit_is_the_same_however_it_is_written(sequence: str, model: CrossDNA) -> None:
    table, result = measured(sequence), cdi.ism(sequence, model)
    as_stretch = table.assign(start=table["position"], end=table["position"] + 1)[["start", "end", "alt", "effect"]]
    made = [Editor(sequence)(cdi.Edit(row.position, row.position + 1, row.alt)) for row in table.itertuples()]
    as_sequence = pd.DataFrame({"sequence": [each.lower() for each in made], "effect": table["effect"]})
    expected = cdi.compare_with_measured(result, table)
    for other in (as_stretch, as_sequence):
        computed = cdi.compare_with_measured(result, other)
        pd.testing.assert_frame_equal(computed.table, expected.table)
    scored = cdi.score_edits(sequence, [cdi.edit_to(sequence, each) for each in made], model)
    np.testing.assert_allclose(cdi.compare_with_measured(scored, table).r, expected.r, atol=1e-4)


def test_deletions_and_longer_edits_of_scans(sequence: str, model: CrossDNA) -> None:
    scan = cdi.deletion_scan(sequence, model, width=1)
    table = pd.DataFrame({"position": [3, 9, 20, 33], "alt": "-", "effect": [0.1, 0.2, -0.3, 0.0]})
    result = cdi.compare_with_measured(scan, table)
    assert len(result) == 4
    assert set(result.table["alt"]) == {""}


def test_rows_without_an_effect_or_a_prediction_are_left_out(sequence: str, model: CrossDNA) -> None:
    table = measured(sequence)
    table.loc[3, "effect"] = np.nan
    result = cdi.compare_with_measured(cdi.ism(sequence, model, start=10, end=20), table)
    inside = table["position"].between(10, 19) & table["effect"].notna()
    assert len(result) == inside.sum()
    assert result.left_out == 60 - inside.sum()


def test_positions_counted_from_1_are_noticed(sequence: str, model: CrossDNA) -> None:
    """Also without reference bases: some rows then have an effect without a change."""
    result = cdi.ism(sequence, model)
    table = result.to_dataframe()[["position", "alt", "delta"]].rename(columns={"delta": "effect"})
    table = table[table["position"] < len(sequence) - 1]
    shifted = table.assign(position=table["position"] + 1)
    same = sum(sequence[at] == alt for at, alt in zip(shifted["position"], shifted["alt"], strict=True))
    with pytest.warns(UserWarning, match=f"{same} of {len(table)} rows have an effect, but do not change"):
        compared = cdi.compare_with_measured(result, shifted)
    assert compared.left_out == same
    assert f"({same} rows left out)" in str(compared)
    # A table with the bases of the sequence, whose effect is 0, is as good as one without them.
    own = pd.DataFrame({"position": range(len(sequence)), "alt": list(sequence), "effect": 0.0})
    assert cdi.compare_with_measured(result, pd.concat([table, own])).r == pytest.approx(1)


def test_the_sequence_itself_is_no_edit(sequence: str, model: CrossDNA) -> None:
    """Also where it was scored."""
    table = measured(sequence)[:6]
    mutants = [Editor(sequence)(cdi.Edit(row.position, row.position + 1, row.alt)) for row in table.itertuples()]
    whole = pd.DataFrame({"sequence": [sequence, *mutants], "effect": [0.7, *table["effect"]]})
    scores = cdi.score_edits(sequence, [cdi.edit_to(sequence, each) for each in whole["sequence"]], model)
    expected = cdi.compare_with_measured(scores, whole[1:])
    with pytest.warns(UserWarning, match="1 of 7 rows have an effect, but do not change the sequence"):
        result = cdi.compare_with_measured(scores, whole)
    assert (result.r, result.left_out) == (expected.r, 1)
    without = cdi.compare_with_measured(scores, whole.assign(effect=[0.0, *table["effect"]]))
    assert (without.r, without.left_out) == (expected.r, 1)


def test_insertions_have_no_reference(sequence: str, model: CrossDNA) -> None:
    scores = cdi.score_edits(sequence, [(4, 4, "AC"), (9, 9, "T")], model)
    table = pd.DataFrame({"start": [4, 9], "end": [4, 9], "ref": ["-", ""], "alt": ["AC", "T"], "effect": [1.0, 2.0]})
    assert len(cdi.compare_with_measured(scores, table)) == 2
    with pytest.raises(ValueError, match="`table` row 0: ref is '-', but the sequence has"):
        cdi.compare_with_measured(scores, table.assign(end=[5, 9]))
    with pytest.raises(ValueError, match="no edit in common, as no row has a value of effect"):
        cdi.compare_with_measured(scores, table.assign(effect=np.nan))


def test_rows_without_an_effect_need_nothing_else(sequence: str, model: CrossDNA) -> None:
    result = cdi.ism(sequence, model)
    table = result.to_dataframe()[["position", "alt", "delta"]].rename(columns={"delta": "effect"}).astype(object)
    table = pd.concat([pd.DataFrame([[None, None, pd.NA]], columns=table.columns), table], ignore_index=True)
    table.loc[5, "position"] = np.int64(table.loc[5, "position"])
    assert len(cdi.compare_with_measured(result, table)) == len(table) - 1
    table.loc[9, "alt"] = 3
    with pytest.raises(ValueError, match="`table` row 9: alt must be bases"):
        cdi.compare_with_measured(result, table)


def test_means_by_position(sequence: str, model: CrossDNA) -> None:
    result = cdi.compare_with_measured(cdi.ism(sequence, model), measured(sequence)).by_position
    assert result["position"].tolist() == list(range(0, 40, 2))
    assert set(result["n"]) == {3}
    first = measured(sequence).query("position == 4")["effect"].mean()
    assert result.set_index("position").loc[4, "measured"] == pytest.approx(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="effect"), '`table` must hold "effect"'),
        (lambda t: t.drop(columns="alt"), "position, alt .*but it has the columns"),
        (lambda t: t.assign(ref="N"), "`table` row 0: ref is 'N', but the sequence has '.' at"),
        (lambda t: t.assign(position=t["position"] + 40), r"`table` row 0: .* is not within the sequence of 40 bases"),
        (lambda t: t.assign(position=-1), "`table` row 0: -1 to 0 is not within"),
        (lambda t: t.assign(position=t["position"] + 0.5), "`table` row 0: position must be a whole number, but is"),
        (lambda t: t.assign(alt="X").drop(columns="ref"), "`table` row 0: .*'X'"),
        (lambda t: t.assign(alt=3), "`table` row 0: alt must be bases, but is 3"),
        (lambda t: t.assign(effect="high"), "`table` row 0: effect must be a number, but is 'high'"),
        (lambda t: t.assign(effect=np.inf), "`table` row 0: effect must be finite"),
        (lambda t: t.assign(sequence="ACXT"), "`table` row 0: .*'X'"),
        (lambda t: t.iloc[:0], "no edit in common"),
    ],
)
def test_bad_tables_are_named_by_row(change: Callable, message: str, sequence: str, model: CrossDNA) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        cdi.compare_with_measured(cdi.ism(sequence, model), change(measured(sequence)))


def test_what_is_no_result_or_no_table(sequence: str, model: CrossDNA) -> None:
    with pytest.raises(TypeError, match="`result` must be a result of ism, score_edits or a scan, but got str"):
        cdi.compare_with_measured(sequence, measured(sequence))
    with pytest.raises(TypeError, match="`table` must be a pandas DataFrame, but got list"):
        cdi.compare_with_measured(cdi.ism(sequence, model), [1])


def test_deletions_with_flanks_are_told_apart_by_what_enters_the_window() -> None:
    """Two deletions in a run of one base leave the same bases, and different flanks may fill the window."""
    sequence = "ACGTTTTTTTTTTACG"
    scored = cdi.deletion_scan(sequence, width=1, flanks=("GGGGG", "CCCCC"))
    own = pd.DataFrame(
        {
            "start": [edit.start for edit in scored.scores.edits],
            "end": [edit.end for edit in scored.scores.edits],
            "alt": "",
            "effect": scored.scores.delta,
        }
    )
    result = cdi.compare_with_measured(scored, own)
    assert result.r == pytest.approx(1.0)
    np.testing.assert_allclose(result.table["predicted"], result.table["measured"])


def test_a_predicted_zero_has_the_wrong_sign() -> None:
    zero = cdi.wrap(Zero(), targets=["y"], length=8)
    table = pd.DataFrame({"position": [0, 1, 2, 3], "alt": ["C", "A", "A", "A"], "effect": [1.0, -1.0, 0.0, 2.0]})
    compared = cdi.compare_with_measured(cdi.ism("ACGTACGT", zero), table)
    assert compared.same_sign == 0


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((1, 2))[:, None] * 0
