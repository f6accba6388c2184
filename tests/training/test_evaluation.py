"""Measures of how well a model predicts a table, against scipy and by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.training.evaluation import evaluate, score_table
from crossdna_interpret.training.module import UndefinedMeasureWarning
from crossdna_interpret.training.tables import Table


@pytest.fixture
def table(make_sequence: Callable[..., str]) -> Table:
    ids = [alphabet.encode(make_sequence(20 + 9 * (i % 2), i)).astype(np.uint8) for i in range(14)]
    targets = np.random.default_rng(0).normal(size=(14, 2)).astype(np.float32)
    return Table(ids, targets, np.ones(14, np.float32), np.zeros(14, np.int64), ("b", "a"))


def test_scores_are_those_of_predict_in_the_order_of_the_table(make_model: Callable, table: Table) -> None:
    model = make_model(targets=("a", "b", "c")).train()
    forward, reverse = score_table(model, table, batch=4)
    assert model.training
    seqs = [alphabet.decode(ids) for ids in table.ids]
    np.testing.assert_allclose(forward, cdi.predict(seqs, model), atol=1e-5)
    reversed_ = [strand.reverse_complement(seq) for seq in seqs]
    np.testing.assert_allclose(reverse, cdi.predict(reversed_, model), atol=1e-5)


def test_regression_is_measured_by_target(make_model: Callable, table: Table) -> None:
    model = make_model(targets=("a", "b", "c"))
    result = evaluate(model, table)
    assert result["target"].tolist() == ["b", "a"]
    forward, reverse = score_table(model, table)
    for row, (column, at) in enumerate(((0, 1), (1, 0))):
        y, both = table.targets[:, column], (forward[:, at] + reverse[:, at]) / 2
        assert result["r"][row] == pytest.approx(stats.pearsonr(forward[:, at], y).statistic, abs=1e-5)
        assert result["r_both_strands"][row] == pytest.approx(stats.pearsonr(both, y).statistic, abs=1e-5)
        assert result["spearman"][row] == pytest.approx(stats.spearmanr(both, y).statistic, abs=1e-5)
        assert result["rmse"][row] == pytest.approx(np.sqrt(((both - y) ** 2).mean()), abs=1e-5)
        between = stats.pearsonr(forward[:, at], reverse[:, at]).statistic
        assert result["r_between_strands"][row] == pytest.approx(between, abs=1e-5)
        assert result["low"][row] < result["r_both_strands"][row] < result["high"][row]


def test_classification_is_measured_by_the_area_under_the_curve(make_model: Callable, table: Table) -> None:
    labels = Table(table.ids, (table.targets > 0).astype(np.float32), table.weight, table.level, ("b", "a"))
    model = make_model(targets=("a", "b"))
    result = evaluate(model, labels, task="classification")
    forward, _ = score_table(model, labels)
    positive = labels.targets[:, 0] > 0.5
    wins = [(x > y) + 0.5 * (x == y) for x in forward[positive, 1] for y in forward[~positive, 1]]
    assert result["auroc"][0] == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("label", [2.0, -1.0, 1.5])
def test_labels_must_be_from_0_to_1(make_model: Callable, table: Table, label: float) -> None:
    targets = (table.targets > 0).astype(np.float32)
    targets[3, 1] = label
    labels = replace(table, targets=targets)
    with pytest.raises(ValueError, match=f"`table` must have labels from 0 to 1 .* a is {label:g} in row 4"):
        evaluate(make_model(targets=("a", "b")), labels, task="classification")


@pytest.mark.parametrize(("task", "column"), [("regression", "r_both_strands"), ("classification", "auroc")])
def test_a_target_that_does_not_vary_is_warned_of(make_model: Callable, table: Table, task: str, column: str) -> None:
    targets = (table.targets > 0).astype(np.float32)
    targets[:, 1] = 0.25
    with pytest.warns(UndefinedMeasureWarning, match="The 14 rows do not have .* of a, so how well it is predicted"):
        result = evaluate(make_model(targets=("a", "b")), replace(table, targets=targets), task=task)
    assert np.isfinite(result[column][0])
    assert np.isnan(result[column][1])


def test_the_model_stays_as_it_is(make_model: Callable, table: Table) -> None:
    model = make_model(targets=("a",), dropout=0.5).train()
    model.branch_a.eval()  # as one that is frozen
    before = [module.training for module in model.modules()]
    during: list[bool] = []
    model.head.register_forward_hook(lambda *_: during.extend(module.training for module in model.modules()))
    first, second = (score_table(model, table)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)  # without dropout
    assert during == before * (len(during) // len(before))
    assert [module.training for module in model.modules()] == before


def test_a_target_that_the_model_lacks_is_an_error(make_model: Callable, table: Table) -> None:
    with pytest.raises(ValueError, match=r"has the targets \['a'\], but not \['b'\]"):
        evaluate(make_model(targets=("a",)), table)
