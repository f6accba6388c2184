"""Truth reports: pairs, groups, intervals that hold what they say, and the page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.measured import pairs, truth
from crossdna_interpret.measured.pairs import close_pairs, unrelated_groups
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.results.truth import _interval_of_r, _jackknife
from tests.measured.truth.conftest import LENGTH, WORD, Weighted


def test_every_close_pair_of_a_family_is_there_once(report: cdi.TruthReport, table: pd.DataFrame) -> None:
    expected = set()
    for _, group in table.groupby("family"):
        for one in group.index:
            for other in group.index[group.index > one]:
                a, b = table["sequence"][one], table["sequence"][other]
                if 1 <= sum(x != y for x, y in zip(a, b, strict=True)) <= 4:
                    expected.add((one, other))
    assert set(zip(report.table["reference"], report.table["mutant"], strict=True)) == expected
    assert len(report) == len(expected) > 500


def test_changes_are_differences_of_mutant_and_reference(report: cdi.TruthReport, table: pd.DataFrame) -> None:
    for row in report.table.sample(30, random_state=0).itertuples():
        a, b = report.sequences[row.reference], report.sequences[row.mutant]
        at = [place for place in range(LENGTH) if a[place] != b[place]]
        assert row.positions == ",".join(map(str, at))
        assert row.changes == len(at)
        assert row.measured == pytest.approx(table["activity"][row.mutant] - table["activity"][row.reference])
    # Each change in both directions.
    both = [np.concatenate([report.table[name], -report.table[name]]) for name in ("predicted", "measured")]
    np.testing.assert_allclose(report.summary()["r_changes"], np.corrcoef(*both)[0, 1])


def test_no_number_depends_on_the_order_of_the_rows(table: pd.DataFrame, model: cdi.SequenceModel) -> None:
    table = table.drop_duplicates("sequence")
    reports = [
        cdi.truth_report(each, model, measured="activity", draws=0)
        for each in (table, table.sort_values("activity"), table.sample(frac=1, random_state=3))
    ]
    for each in reports[1:]:
        for what in ("size", "kind"):
            columns = ["n", "r", "same_sign", "mean_error"]
            np.testing.assert_allclose(each.by(what)[columns], reports[0].by(what)[columns], rtol=1e-6)
        np.testing.assert_allclose(each.calibration(7), reports[0].calibration(7), rtol=1e-6, atol=1e-9)
        for name, value in each.summary().items():
            assert value == pytest.approx(reports[0].summary()[name], rel=1e-6), name


def test_the_error_of_a_mean_is_that_of_repeated_experiments(model: cdi.SequenceModel) -> None:
    """Twelve families of dense pairs: the spread of the means over new noise is what the report says."""
    random = np.random.default_rng(0)
    rows = []
    for family in range(12):
        start = random.choice(list("ACGT"), LENGTH)
        for at in range(LENGTH):
            own = start.copy()
            own[at] = random.choice(list("ACGT"))
            rows.append((family, "".join(own)))
    table = pd.DataFrame(rows, columns=["family", "sequence"]).drop_duplicates("sequence", ignore_index=True)
    scores = cdi.predict(table["sequence"].tolist(), model)[:, 0]
    means, errors = [], []
    for _ in range(30):
        activity = scores + random.normal(size=len(table))
        report = cdi.truth_report(table.assign(activity=activity), model, measured="activity", draws=0)
        calibration = report.calibration(6)
        means.append(calibration["measured"])
        errors.append(calibration["error"])
    ratio = np.std(means, axis=0, ddof=1) / np.mean(errors, axis=0)
    assert (ratio < 1.5).all()
    assert (ratio > 0.6).all()
    one = cdi.truth_report(table.assign(activity=activity), model, measured="activity", draws=0)
    alone = dataclasses.replace(one, table=one.table.assign(group=0))
    assert alone.calibration(3)["error"].isna().all()


def test_a_copied_family_is_held_out_with_its_copy() -> None:
    families = np.array(["d", "d", "b", "b", "c", "c", "a", "a"])
    sequences = ["AA", "AC", "AC", "AA", "AA", "AG", "TT", "TA"]
    pairs = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    # One shared sequence, such as an unchanged promoter, does not make two families one.
    assert unrelated_groups(families, sequences, pairs).tolist() == [0, 0, 1, 2]


def test_equal_predictions_are_in_one_bin() -> None:
    """Of a model whose predictions are right on average, and have few values."""
    random = np.random.default_rng(0)
    rows = []
    for family in range(40):
        start = random.choice(list("ACGT"), LENGTH)
        for _ in range(8):
            own = start.copy()
            own[random.integers(LENGTH)] = random.choice(list("ACGT"))
            rows.append((family, "".join(own)))
    table = pd.DataFrame(rows, columns=["family", "sequence"]).drop_duplicates("sequence", ignore_index=True)
    count = table["sequence"].str.count("[GC]").to_numpy()
    table["activity"] = count + random.normal(scale=0.5, size=len(table))

    class Count(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 1:3].sum((1, 2))

    report = cdi.truth_report(table, cdi.wrap(Count(), targets=["activity"]), measured="activity", draws=0)
    calibration = report.calibration(12)
    np.testing.assert_allclose(calibration["measured"], calibration["predicted"], atol=0.15)
    assert calibration["n"].sum() == 2 * len(report)


def test_the_error_of_a_mean_knows_that_one_family_dominates(model: cdi.SequenceModel) -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(10), [200, *[8] * 9])
    means, errors = [], []
    for _ in range(400):
        values = random.normal(size=10)[group] + random.normal(size=len(group)) * 0.3
        means.append(values.mean())
        errors.append(_jackknife(values, group))
    assert np.std(means) / np.sqrt(np.mean(np.square(errors))) < 1.1


def test_groups_have_numbers_that_do_not_depend_on_the_order() -> None:
    random = np.random.default_rng(0)
    families = random.integers(6, size=40)
    sequences = ["".join(random.choice(list("AC"), 3)) for _ in range(40)]
    pairs = np.array([(a, b) for a in range(40) for b in range(a) if families[a] == families[b]])
    pairs = pairs[[sequences[a] != sequences[b] for a, b in pairs]]
    groups = unrelated_groups(families, sequences, pairs)
    order = random.permutation(40)
    place = np.argsort(order)
    moved = unrelated_groups(families[order], [sequences[row] for row in order], place[pairs][:, ::-1])
    np.testing.assert_array_equal(groups, moved)


def test_too_few_changes_are_refused_before_the_model_is_used(
    table: pd.DataFrame, model: cdi.SequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(truth, "predict")
    small = table[table["family"].isin(["f0", "f1"])]
    with pytest.raises(ValueError, match="`table` must have at least 40 changes in each half of its families"):
        cdi.truth_report(small, model, measured="activity", draws=0)


def test_measurements_that_are_all_equal_have_no_r(table: pd.DataFrame, model: cdi.SequenceModel) -> None:
    report = cdi.truth_report(table.assign(activity=1.0), model, measured="activity", draws=0)
    assert np.isnan(report.summary()["r_changes"])
    assert report.by("size", min_changes=1)["n"].sum() == len(report)
    assert np.isnan(report.by("size", min_changes=1)["same_sign"]).all()


def test_rows_that_were_not_measured_need_nothing_else(table: pd.DataFrame, model: cdi.SequenceModel) -> None:
    more = pd.concat([table, pd.DataFrame({"sequence": [None], "family": [None], "activity": [np.nan]})])
    report = cdi.truth_report(more, model, measured="activity", draws=0)
    assert len(report.sequences) == len(table)
    worse = pd.concat([more, more[:1].assign(sequence="X")])  # row 451, after one that was not measured
    with pytest.raises(ValueError, match=r"`sequence\[451\]` has 'X'"):
        cdi.truth_report(worse, model, measured="activity", draws=0)


def test_changes_of_one_predicted_size_are_in_their_intervals(report: cdi.TruthReport) -> None:
    groups = report.by("predicted")
    assert groups.columns[0] == "predicted"
    size = report.table["predicted"].abs()
    limits = np.sqrt((size**2).mean()) * np.array([0, 0.25, 0.5, 1, 2, np.inf])
    expected = [int(((size > low) & (size <= high)).sum()) for low, high in itertools.pairwise(limits)]
    expected[0] += int((size == 0).sum())
    assert groups["n"].tolist() == [count for count in expected if count >= 20]
    assert str(report).count("\n") == len(report.summary())


def test_groups_add_up(report: cdi.TruthReport) -> None:
    assert report.by("kind", min_changes=1)["n"].sum() == len(report)
    assert report.by("size", min_changes=1)["n"].sum() == len(report)
    motifs = report.by("motif", min_changes=1)
    assert set(motifs["motif"]) == {"GATA", "no motif"}
    own = report.table[report.table["motifs"] == "GATA"]
    row = motifs.set_index("motif").loc["GATA"]
    assert row["n"] == len(own)
    assert row["same_sign"] == pytest.approx((np.sign(own["predicted"]) == np.sign(own["measured"])).mean())
    for each in own.itertuples():
        places = [int(at) for at in each.positions.split(",")]
        texts = [report.sequences[row] for row in (each.reference, each.mutant)]
        assert any(WORD in text or cdi.reverse_complement(WORD) in text for text in texts)
        assert any(5 <= at < 5 + len(WORD) for at in places)
    calibration = report.calibration(5)
    assert calibration["n"].sum() == 2 * len(report)  # in both directions
    assert calibration["predicted"].is_monotonic_increasing
    worst = report.worst(4)
    assert len(worst) == worst["family"].nunique() == 4


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"activity": "x"}, {}, "`table` row 0: activity must be a finite number, but is 'x'"),
        ({"activity": np.inf}, {}, "`table` row 0: activity must be a finite number"),
        ({"activity": np.nan}, {}, "has no measurement in the column activity"),
        ({"family": None}, {}, "`table` row 0: family is missing"),
        ({"sequence": None}, {}, "`table` row 0: sequence is missing"),
        ({"activity": pd.Timestamp(0)}, {}, "`table`: activity must be numbers, but is datetime64"),
        ({"activity": 1j}, {}, "`table`: activity must be numbers, but is complex"),
        ({"sequence": "ACGX"}, {}, r"`sequence\[0\]` has 'X'"),
        ({}, {"measured": "other"}, r"`table` must have the columns \['other'\]"),
        ({}, {"level": 0.7}, "`level` must be one of"),
        ({}, {"max_changes": 0}, "`max_changes` must be an integer of at least 1"),
        ({"family": "one"}, {}, "at least two families"),
        ({"family": range(450)}, {}, "no two sequences of a family that differ"),
    ],
)
def test_bad_input(change: dict, options: dict, message: str, table: pd.DataFrame, model: cdi.SequenceModel) -> None:
    with pytest.raises(ValueError, match=message):
        cdi.truth_report(table.assign(**change), model, **{"measured": "activity", **options})


def test_the_interval_of_r_leaves_out_one_group_after_the_other(report: cdi.TruthReport) -> None:
    summary, changes = report.summary(), report.table
    names = changes["group"].unique()
    assert summary["groups"] == len(names)
    without = []
    for name in names:
        rest = changes[changes["group"] != name]
        both = [np.concatenate([rest[column], -rest[column]]) for column in ("predicted", "measured")]
        without.append(np.arctanh(np.corrcoef(*both)[0, 1]))
    error = np.sqrt((len(names) - 1) / len(names) * np.square(without - np.mean(without)).sum())
    middle = np.arctanh(summary["r_changes"])
    half_width = stats.t.ppf(0.975, len(names) - 1) * error
    np.testing.assert_allclose(
        [summary["r_low"], summary["r_high"]], np.tanh([middle - half_width, middle + half_width]), rtol=1e-6
    )


@pytest.mark.parametrize("groups", [3, 8])
def test_intervals_of_r_hold_it_as_often_as_they_say(groups: int) -> None:
    """Changes of groups that differ in their slopes: the interval is of the r of all such groups."""
    random = np.random.default_rng(0)

    def changes(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = random.normal(size=(count, 10))
        slopes = random.normal(1, 0.5, size=(count, 1))
        y = slopes * x + random.normal(size=x.shape)
        return x.reshape(-1), y.reshape(-1), np.repeat(np.arange(count), 10)

    x, y, _ = changes(100_000)
    true = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    intervals = np.array([_interval_of_r(*changes(groups)) for _ in range(1000)])
    assert ((intervals[:, 0] <= true) & (true <= intervals[:, 1])).mean() >= 0.93


def test_families_are_compared_by_the_same_function(
    table: pd.DataFrame, model: cdi.SequenceModel, report: cdi.TruthReport
) -> None:
    result = cdi.compare_with_measured(model, table, effect="activity", family="family")
    np.testing.assert_array_equal(result.table["predicted"], report.table["predicted"])
    with pytest.raises(TypeError, match="`result` must be a model if `family` is given, but got Mutagenesis"):
        cdi.compare_with_measured(cdi.ism("ACGT" * 6, model), table, effect="activity", family="family")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="`result` must be a result of ism"):
        cdi.compare_with_measured(model, table)  # type: ignore[call-overload]


def test_measurements_without_a_relation_are_said_to_have_none(model: cdi.SequenceModel, table: pd.DataFrame) -> None:
    noise = np.random.default_rng(5).normal(size=len(table))
    result = cdi.truth_report(table.assign(activity=noise), model, measured="activity")
    assert abs(result.summary()["r_changes"]) < 0.15
    assert abs(result.summary()["slope"]) < 0.1
    assert 0.85 <= result.coverage <= 0.95


def test_a_model_that_predicts_one_number_has_no_r(table: pd.DataFrame) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * x.sum((1, 2))

    with np.errstate(all="raise"):
        result = cdi.truth_report(table, cdi.wrap(Constant(), targets=["activity"]), measured="activity")
    summary = result.summary()
    assert np.isnan([summary["r_changes"], summary["slope"], summary["r_large"]]).all()
    assert 0.85 <= result.coverage <= 0.95
    assert (result.table["low"] < 0).all()


def test_pairs_of_a_large_family_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 2, (60, 6))
    family = np.repeat([0, 1], 30)
    expected = close_pairs(ids, family)
    monkeypatch.setattr(pairs, "_COMPARED", 1000)
    np.testing.assert_array_equal(close_pairs(ids, family), expected)
    assert len(expected) > 100


def test_families_of_any_kind_are_kept_apart(
    table: pd.DataFrame, model: cdi.SequenceModel, report: cdi.TruthReport, tmp_path: Path, make_model: Callable
) -> None:
    mixed = [name if number % 2 else int(name[1:]) for number, name in enumerate(table["family"])]
    apart = cdi.truth_report(table.assign(family=mixed), model, measured="activity", draws=0)
    own = report.table.merge(apart.table, on=["reference", "mutant"], how="left")
    same = (own["reference"] - own["mutant"]) % 2 == 0
    assert own.loc[same, "measured_y"].notna().all()
    assert own.loc[~same, "measured_y"].isna().all()
    # A table whose families look like numbers.
    folder = save_crossdna(make_model(targets=("activity",)), tmp_path / "model", card="# Toy\n")
    names = [("0" if number % 2 else "") + name[1:] for number, name in enumerate(table["family"])]
    table.assign(family=names).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    words = ["truth", str(folder), str(tmp_path / "t.tsv"), "--measured", "activity", "-o"]
    assert cli.main([*words, str(tmp_path / "t.html")]) == 2  # its table would replace the one that is read
    assert cli.main([*words, str(tmp_path / "page.html")]) == 0
    written = pd.read_csv(tmp_path / "page.tsv", sep="\t")
    assert len(written) == same.sum()
    assert ((written["reference"] - written["mutant"]) % 2 == 0).all()


def test_two_threads_get_the_numbers_of_one(table: pd.DataFrame, report: cdi.TruthReport) -> None:
    model = cdi.wrap(Weighted(LENGTH), targets=["activity"])
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: cdi.truth_report(table, model, measured="activity"), range(4)))
    for result in results:
        np.testing.assert_allclose(result.table["low"], report.table["low"], rtol=1e-6)
