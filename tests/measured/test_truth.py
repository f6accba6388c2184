"""Truth reports: pairs, groups, intervals that hold what they say, and the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.attribution.uncertainty import variants_of
from crossdna_interpret.measured import pairs, truth
from crossdna_interpret.measured.errors import fit_errors, held_out_intervals
from crossdna_interpret.measured.pairs import close_pairs, unrelated_groups
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.report import write_truth_page
from crossdna_interpret.results.truth import _interval_of_r, _jackknife, _t_quantile


class Weighted(nn.Module):
    """Adds up a weight for each base and position."""

    def __init__(self, length: int, seed: int = 0) -> None:
        super().__init__()
        weights = np.random.default_rng(seed).normal(size=(4, length)).astype(np.float32)
        self.register_buffer("weights", Tensor(weights))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weights).sum((1, 2))


LENGTH, WORD = 24, "TGATAAGC"


@pytest.fixture(scope="module")
def model() -> cdi.SequenceModel:
    return cdi.wrap(Weighted(LENGTH), targets=["activity"])


@pytest.fixture(scope="module")
def table(model: cdi.SequenceModel) -> pd.DataFrame:
    """Fifty families of nine sequences. The noise of the measurements is known."""
    random = np.random.default_rng(1)
    rows = []
    for family in range(50):
        start = random.choice(list("ACGT"), LENGTH)
        if family % 2:
            start[5 : 5 + len(WORD)] = list(WORD)
        for _ in range(9):
            own = start.copy()
            at = random.choice(LENGTH, int(random.integers(0, 3)), replace=False)
            own[at] = random.choice(list("ACGT"), len(at))
            rows.append((f"f{family}", "".join(own)))
    result = pd.DataFrame(rows, columns=["family", "sequence"])
    scores = cdi.predict(result["sequence"].tolist(), model)[:, 0]
    result["activity"] = scores + random.normal(scale=0.5, size=len(result))
    return result


MOTIF = np.eye(4)[["ACGT".index(base) for base in WORD]].T + 0.001


@pytest.fixture(scope="module")
def report(table: pd.DataFrame, model: cdi.SequenceModel) -> cdi.TruthReport:
    return cdi.truth_report(table, model, measured="activity", motifs={"GATA": MOTIF})


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
    assert report.by("size", fewest=1)["n"].sum() == len(report)
    assert np.isnan(report.by("size", fewest=1)["same_sign"]).all()


def test_rows_that_were_not_measured_need_nothing_else(table: pd.DataFrame, model: cdi.SequenceModel) -> None:
    more = pd.concat([table, pd.DataFrame({"sequence": [None], "family": [None], "activity": [np.nan]})])
    report = cdi.truth_report(more, model, measured="activity", draws=0)
    assert len(report.sequences) == len(table)
    worse = pd.concat([more, more[:1].assign(sequence="X")])  # row 451, after one that was not measured
    with pytest.raises(ValueError, match=r"`sequence\[451\]` has 'X'"):
        cdi.truth_report(worse, model, measured="activity", draws=0)


def test_pale_effects_are_those_of_the_map_that_is_drawn(report: cdi.TruthReport, model: cdi.SequenceModel) -> None:
    intervals = cdi.mutation_intervals(report.sequences[0], model, errors=ChangeErrors.from_dict(report.errors))
    ax = Figure().subplots()
    earlier = ax.imshow(np.zeros((4, LENGTH)))
    intervals.plot(ax)
    assert earlier.get_alpha() is None
    assert np.asarray(ax.images[1].get_alpha()).shape == (4, LENGTH)


@pytest.mark.parametrize("where", ["activity + 1", "keep", "activity"])
def test_a_condition_that_is_not_true_or_false_is_refused(
    where: str, table: pd.DataFrame, tmp_path: Path, make_model: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_crossdna(make_model(targets=("activity",)), tmp_path / "model", card="# Toy\n")
    table.assign(keep=[row % 2 for row in range(len(table))]).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    words = ["truth", str(folder), str(tmp_path / "t.tsv"), "--measured", "activity", "--where", where]
    assert cli.main(words) == 2
    assert f"`where` {where!r} must be true or false for each row" in capsys.readouterr().err


def test_a_family_may_be_named_null(
    table: pd.DataFrame, tmp_path: Path, make_model: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_crossdna(make_model(targets=("activity",)), tmp_path / "model", card="# Toy\n")
    table.replace({"family": {"f0": "NA", "f1": "null"}}).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    assert cli.main(["truth", str(folder), str(tmp_path / "t.tsv"), "--measured", "activity"]) == 0


def test_intervals_hold_what_they_say(report: cdi.TruthReport) -> None:
    assert 0.85 <= report.coverage <= 0.95
    widths = (report.table["high"] - report.table["low"]) / 2
    # The noise of a difference of two measurements has a standard deviation of 0.5 * 2 ** 0.5.
    assert widths.mean() == pytest.approx(1.645 * 0.5 * 2**0.5, rel=0.15)


def test_intervals_follow_where_errors_are_large() -> None:
    random = np.random.default_rng(0)
    n = 4000
    spread, predicted = random.exponential(size=n), random.normal(size=n)
    measured = predicted + random.normal(size=n) * np.hypot(0.2, spread)
    family = np.arange(n) // 8
    low, high = held_out_intervals(predicted, measured, spread, family, 0.9)
    inside = (measured >= low) & (measured <= high)
    for part in (spread < 0.3, (spread >= 0.3) & (spread < 1), spread >= 1):
        assert 0.85 <= inside[part].mean() <= 0.95
    errors = fit_errors(predicted, measured, spread)
    assert errors.of_change < 0.1 < errors.of_spread
    widths = [errors.half_width(np.zeros(1), np.zeros(1), level)[0] for level in errors.levels]
    assert widths == sorted(widths)


def test_intervals_of_other_families_know_nothing_of_their_own() -> None:
    random = np.random.default_rng(0)
    predicted = np.zeros(400)
    measured = random.normal(size=400) * np.repeat([1.0, 100.0], 200)
    low, high = held_out_intervals(predicted, measured, np.zeros(400), np.repeat([0, 1], 200), 0.9)
    inside = (measured >= low) & (measured <= high)
    assert inside[:200].all()  # their intervals are from the noisy family
    assert inside[200:].mean() < 0.1


def test_groups_add_up(report: cdi.TruthReport) -> None:
    assert report.by("kind", fewest=1)["n"].sum() == len(report)
    assert report.by("size", fewest=1)["n"].sum() == len(report)
    motifs = report.by("motif", fewest=1)
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


def test_the_page_shows_all_of_it(report: cdi.TruthReport, model: cdi.SequenceModel, tmp_path: Path) -> None:
    page, table = write_truth_page(report, tmp_path / "truth.html", model, worst=2)
    text = page.read_text(encoding="utf-8")
    assert text.count("<img ") == 1 + 2
    assert f"{100 * report.coverage:.1f} %" in text
    assert "motif at the changed base" in text
    assert len(pd.read_csv(table, sep="\t")) == len(report)
    write_truth_page(report, page, model, worst=1)  # an earlier one is replaced
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine.html exists and is not an earlier truth report"):
        write_truth_page(report, tmp_path / "mine.html", model)


def test_mutagenesis_has_intervals_from_a_report(report: cdi.TruthReport, model: cdi.SequenceModel) -> None:
    sequence = report.sequences[0]
    result = cdi.mutation_intervals(sequence.lower(), model, errors=report.errors, level=0.5)
    errors = ChangeErrors.from_dict(json.loads(json.dumps(report.errors)))
    own = np.array(list(sequence))[:, None] == np.array(list("ACGT"))
    assert (result.low[own] == 0).all()
    assert (result.high[own] == 0).all()
    np.testing.assert_allclose(
        (result.high - result.low)[~own] / 2, errors.half_width(result.mutagenesis.delta, 0 * result.spread, 0.5)[~own]
    )
    frame = result.to_dataframe()
    assert len(frame) == 3 * LENGTH
    assert (frame["certain"] == ((frame["low"] > 0) | (frame["high"] < 0))).all()
    with pytest.raises(ValueError, match="`errors` must be given: Weighted has no errors of changes in activity"):
        cdi.mutation_intervals(sequence, model)
    with pytest.raises(ValueError, match=r"`level` must be one of \[0.5, 0.8, 0.9, 0.95\], but got 0.7"):
        cdi.mutation_intervals(sequence, model, errors=report.errors, level=0.7)


def test_sub_networks_and_members_give_the_spread(make_model: Callable, make_sequence: Callable) -> None:
    model, other = make_model(targets=("y",)), make_model(targets=("y",))
    errors = ChangeErrors(0.1, 1.0, 0.0, {0.9: 2.0}, pairs=100)
    sequence = make_sequence(30)
    drawn = cdi.mutation_intervals(sequence, model, draws=3, errors=errors, end=5)
    again = cdi.mutation_intervals(sequence, model, draws=3, errors=errors, end=5)
    assert drawn.spread.max() > 0
    np.testing.assert_array_equal(drawn.spread, again.spread)
    both = cdi.mutation_intervals(sequence, model, members=[model, other], errors=errors, end=5)
    deltas = [cdi.ism(sequence, each, end=5).delta for each in (model, other)]
    np.testing.assert_allclose(both.spread, np.std(deltas, axis=0), atol=1e-6)
    none = cdi.mutation_intervals(sequence, model, draws=0, errors=errors, end=5)
    assert not none.spread.any()


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
        ({}, {"most_changes": 0}, "`most_changes` must be an integer of at least 1"),
        ({"family": "one"}, {}, "at least two families"),
        ({"family": range(450)}, {}, "no two sequences of a family that differ"),
    ],
)
def test_bad_input(change: dict, options: dict, message: str, table: pd.DataFrame, model: cdi.SequenceModel) -> None:
    with pytest.raises(ValueError, match=message):
        cdi.truth_report(table.assign(**change), model, **{"measured": "activity", **options})


def test_the_command_prints_and_writes(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_model: Callable
) -> None:
    trained = make_model(targets=("activity",))
    folder = save_crossdna(trained, tmp_path / "model", card="# Toy\n")
    path = tmp_path / "table.tsv"
    table.to_csv(path, sep="\t", index=False)
    words = ["truth", str(folder), str(path), "--measured", "activity", "--where", "activity < 100"]
    assert cli.main([*words, "-o", str(tmp_path / "t.html")]) == 0
    out = capsys.readouterr().out
    assert "r_changes" in out
    assert "transversion" in out
    assert (tmp_path / "t.html").is_file()
    assert cli.main([*words[:-1], "nothing > 1"]) == 2
    assert "`where` 'nothing > 1' is not a condition on" in capsys.readouterr().err
    assert cli.main([*words[:-1], "activity = 1"]) == 2
    assert "equality is ==" in capsys.readouterr().err
    numbered = table.assign(family=pd.factorize(table["family"])[0])
    numbered.to_csv(path, sep="\t", index=False)
    assert cli.main([*words[:-1], "family != 0"]) == 0
    own = cdi.truth_report(numbered[numbered["family"] != 0], trained, measured="activity")
    assert f"{len(own):,}  changes" in capsys.readouterr().out
    assert cli.main([*words[:-1], "family == 99999"]) == 2
    assert f"is true for none of {len(table):,} rows" in capsys.readouterr().err
    numbered.assign(activity=[*numbered["activity"][:-1], "abc"]).to_csv(path, sep="\t", index=False)
    assert cli.main([*words[:-1], "family > 1"]) == 2
    assert f"`table` row {len(table) - 1}: activity must be a finite number" in capsys.readouterr().err
    table.to_csv(path, index=False)
    assert cli.main(words) == 2
    assert "must be separated by tabs" in capsys.readouterr().err


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


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 10, 100, 1000])
def test_quantiles_of_t_are_scipys(freedom: int) -> None:
    assert _t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-5)


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


def test_errors_of_changes_travel_with_a_model(make_model: Callable, tmp_path: Path) -> None:
    model = make_model(targets=("y",))
    model.change_errors = {"y": ChangeErrors(0.1, 0.5, 0.2, {0.9: 2.0, 0.5: 0.7}, pairs=100)}
    loaded = cdi.load_model(save_crossdna(model, tmp_path / "model", card="# Toy\n"))
    assert loaded.change_errors == model.change_errors  # type: ignore[attr-defined]
    assert cdi.mutation_intervals("ACGTACGT", loaded, draws=1, end=2).level == 0.9


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


def test_errors_of_something_else_are_refused(report: cdi.TruthReport, make_model: Callable) -> None:
    sequence, other = report.sequences[0], cdi.wrap(Weighted(LENGTH, seed=1), targets=["activity"])
    with pytest.raises(ValueError, match="`errors` are of another model"):
        cdi.mutation_intervals(sequence, other, errors=report.errors)
    errors = ChangeErrors(0.1, 1.0, 0.0, {0.9: 2.0}, pairs=100, target="y", variants="8 sub-networks")
    trained = make_model(targets=("x", "y"))
    assert cdi.mutation_intervals(sequence, trained, target="y", errors=errors, end=2).level == 0.9
    with pytest.raises(ValueError, match="`errors` are of another target: target was 'y', and is 'x' here"):
        cdi.mutation_intervals(sequence, trained, target="x", errors=errors)
    with pytest.raises(ValueError, match="other variants: variants was '8 sub-networks', and is '0 sub-networks'"):
        cdi.mutation_intervals(sequence, trained, target="y", errors=errors, draws=0)
    with pytest.raises(ValueError, match="other variants: variants was '8 sub-networks', and is 'members "):
        cdi.mutation_intervals(sequence, trained, target="y", errors=errors, members=[trained])
    with pytest.raises(TypeError, match="`seq` must be a string of bases"):
        cdi.mutation_intervals([sequence], trained, target="y", errors=errors)  # type: ignore[arg-type]


def test_a_page_of_another_model_is_refused(report: cdi.TruthReport, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`model` retina-enhancer is not the model of the report, Weighted"):
        write_truth_page(report, tmp_path / "t.html")
    assert not list(tmp_path.iterdir())


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


def test_sub_networks_of_a_symmetric_model_are_symmetric() -> None:
    (network, *_), described = variants_of(cdi.load_model(), 1, ())
    assert described == "1 sub-networks"
    sequence = cdi.example().sequence
    one, other = cdi.predict([sequence, cdi.reverse_complement(sequence)], network).ravel().tolist()
    assert one == pytest.approx(other, abs=1e-4)
    assert abs(one - cdi.predict(sequence).item()) > 1e-3


def test_two_threads_get_the_numbers_of_one(table: pd.DataFrame, report: cdi.TruthReport) -> None:
    model = cdi.wrap(Weighted(LENGTH), targets=["activity"])
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: cdi.truth_report(table, model, measured="activity"), range(4)))
    for result in results:
        np.testing.assert_allclose(result.table["low"], report.table["low"], rtol=1e-6)
