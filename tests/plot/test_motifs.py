"""Plots of motifs, their logic, and measurements, checked on the artists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle

import crossdna_interpret as cdi
from crossdna_interpret import plot
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.plot.motifs import _lanes
from crossdna_interpret.results import Certificate, Design, MotifInteractions, MotifSites, Spacing
from crossdna_interpret.results.logic import ORDERS, STRANDS

CERTIFICATE = Certificate("test", "toy", "0", "cpu", "float64", {})
ROW = {"motif": "M", "score": 1.0, "p_value": 0.1, "q_value": 0.1, "attribution": 0.0, "also": ""}


@pytest.fixture
def ax() -> Axes:
    figure = Figure(figsize=(8, 3))
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def made(*rows: tuple[int, int, str, str], length: int = 40, effects: bool = False) -> MotifSites:
    """Sites (start, end, strand, name) of one sequence."""
    measured = {"necessity": 0.5, "necessity_error": 0.1, "sufficiency": 0.2, "sufficiency_error": 0.1}
    if not effects:
        measured = dict.fromkeys(measured, np.nan)
    names = ("start", "end", "strand", "name")
    table = pd.DataFrame([{"example": 0, **dict(zip(names, row, strict=True)), **ROW, **measured} for row in rows])
    importances = (np.linspace(-1, 1, length),)
    return MotifSites(("A" * length,), "activity", table, CERTIFICATE, importances=importances)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_sites_have_brackets_and_names(ax: Axes) -> None:
    plot.annotated_logo(made((2, 8, "+", "CRX"), (20, 30, "-", "NRL")), ax)
    assert texts(ax) == ["CRX →", "← NRL"]
    spans = [line.get_xdata()[[0, -1]] for line in ax.lines if len(line.get_xdata()) == 4]
    np.testing.assert_allclose(spans, [[1.6, 7.4], [19.6, 29.4]])
    assert max(text.get_position()[1] for text in ax.texts) < ax.get_ylim()[1]


def test_a_part_shows_the_sites_in_it(ax: Axes) -> None:
    plot.annotated_logo(made((2, 8, "+", "CRX"), (20, 30, "-", "NRL")), ax, start=25, end=40)
    assert texts(ax) == ["← NRL"]
    assert ax.get_xlim() == (24.4, 39.6)


def test_names_do_not_meet() -> None:
    brackets = [(2, 8, "CRX →"), (6, 12, "A long name →"), (30, 36, "NRL →"), (7, 9, "x")]
    lanes = _lanes(brackets)
    assert lanes[0] == lanes[2] == 0
    assert len({lanes[0], lanes[1], lanes[3]}) == 3


def test_sequences_without_attributions_are_drawn_level(ax: Axes) -> None:
    sites = cdi.scan("GGGGCTAATCCGGG", {"CRX": np.eye(4)[[1, 3, 0, 0, 3, 1, 1]].T}, p=1e-3)
    plot.annotated_logo(sites, ax)
    assert texts(ax) == ["CRX →"]
    assert ax.get_ylabel() == ""


def test_seqlets_have_no_names(ax: Axes, model: CrossDNA, make_sequence: Callable) -> None:
    result = cdi.find_seqlets(cdi.ism(make_sequence(60), model), threshold=0.2)
    assert len(result)
    result.plot(ax)
    assert texts(ax) == [""] * len(result)


def interactions() -> MotifInteractions:
    """Three sites: the first two synergistic, the first and third redundant, the others additive."""
    sites = made((2, 8, "+", "A"), (14, 20, "-", "B"), (30, 36, "+", "C"))
    without = np.array([[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]])
    both = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]])
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    silent = (3.0, without, both + 0.5)
    return MotifInteractions(sites, pairs, 3.0, without, both, silent, 0.1, CERTIFICATE)


def test_interactions_are_arcs(ax: Axes) -> None:
    result = interactions()
    assert result.kinds == ["synergistic", "redundant", "additive"]
    assert result.through_exchange == pytest.approx([-0.5] * 3)
    result.plot(ax)
    arcs = [patch for patch in ax.patches if isinstance(patch, PathPatch)]
    ends = [(arc.get_path().vertices[0, 0], arc.get_path().vertices[-1, 0]) for arc in arcs]
    assert ends == [(4.5, 16.5), (4.5, 32.5)]
    assert [arc.get_linestyle() == "-" for arc in arcs] == [True, False]
    boxes = [patch.get_height() for patch in ax.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose(boxes, [0.35, 0.175, 0.175])
    assert texts(ax) == ["A →", "B ←", "C →"]


def test_interactions_are_a_matrix(ax: Axes) -> None:
    result = interactions()
    result.plot(ax, kind="matrix")
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(shown, np.nan), result.matrix)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A 2", "B 14", "C 30"]


def test_the_part_through_exchange(ax: Axes) -> None:
    plot.interaction_matrix(interactions(), ax, through_exchange=True)
    assert ax.images[0].get_array()[0, 1] == pytest.approx(-0.5)


def test_curves_for_each_arrangement(ax: Axes) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 2, 3, 5)
    result = Spacing(
        ("A", "B"), ("AC", "GT"), np.array([0, 4, 9]), ("ACGT",) * 5, "activity", rng.normal(size=5),
        rng.normal(size=shape), rng.normal(size=(2, 3, 5)), rng.normal(size=shape), CERTIFICATE,
    )  # fmt: skip
    result.plot(ax, show="interaction")
    curves = [line for line in ax.lines if len(line.get_xdata()) == 3]
    for curve, (order, strand) in zip(curves, [(o, s) for o in range(2) for s in range(2)], strict=True):
        np.testing.assert_array_equal(curve.get_xdata(), [0, 4, 9])
        np.testing.assert_allclose(curve.get_ydata(), result.interaction[order, strand].mean(axis=1))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["A → B →", "A → B ←", "B → A →", "B ← A →"]
    assert (ORDERS, STRANDS) == (("a-b", "b-a"), ("+", "-"))
    with pytest.raises(ValueError, match="`show` must be 'effect' or 'interaction', but got 'both'"):
        result.plot(ax, show="both")


def test_marginal_effects_have_a_mean(ax: Axes, model: CrossDNA, make_sequence: Callable) -> None:
    result = cdi.marginalize("TAATCC", model, backgrounds=[make_sequence(40, seed=at) for at in range(4)])
    result.plot(ax)
    means = [line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) in ([-0.3, 0.3], [0.7, 1.3])]
    np.testing.assert_allclose(means, result.effect)


def test_necessity_against_sufficiency(ax: Axes) -> None:
    plot.necessity_sufficiency(made((2, 8, "+", "A"), (14, 20, "-", "B"), effects=True), ax, labels=1)
    assert len(texts(ax)) == 1
    with pytest.raises(ValueError, match="call site_effects first"):
        plot.necessity_sufficiency(made((2, 8, "+", "A")), ax)


def test_a_design_is_a_path(ax: Axes) -> None:
    result = Design(
        ("ACGT", "CCGT"), (cdi.Edit(0, 1, "C"),), ("A0C",), "activity", np.array([0.0, 1.5]), 2.0, "", CERTIFICATE
    )
    result.plot(ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.0, 1.5])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["start", "A0C"]
    assert texts(ax) == ["goal"]


def test_measured_against_predicted(ax: Axes, model: CrossDNA) -> None:
    table = pd.DataFrame({"position": [1, 2, 3], "alt": ["A", "A", "A"], "effect": [0.5, -2.0, 1.0]})
    result = cdi.compare_with_measured(cdi.ism("ACGTACGT", model), table)
    result.plot(ax, labels=1)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [0.5, -2.0, 1.0])
    assert texts(ax) == ["G2A"]
