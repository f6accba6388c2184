"""Long names and names with any characters in every picture: nothing is cut off, nothing is read as mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import crossdna_interpret as cdi
from crossdna_interpret import Motif, plot
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.plot.labels import fitted
from tests.conftest import random_model, random_sequence

LONG = "GM12878_H3K27ac_rep1_log2FC_over_input_hg38_GSE123456"
MATHS = r"V$CREB_01 $x{$ \frac"
SEQUENCE = random_sequence(60, seed=3)


def motif(name: str, start: int) -> Motif:
    return Motif(name, name, np.eye(4)[["ACGT".index(base) for base in SEQUENCE[start : start + 9]]].T * 20)


def sites(m: CrossDNA, name: str) -> cdi.MotifSites:
    return cdi.scan(cdi.ism(SEQUENCE, m), [motif(name, 2), motif(f"{name}2", 30), motif(f"{name}3", 45)], p=1e-4)


def measured(m: CrossDNA) -> cdi.MeasuredComparison:
    table = pd.DataFrame(
        {"position": range(5), "alt": ["AC"["A" in base] for base in SEQUENCE[:5]], "effect": range(5)}
    )
    return cdi.compare_with_measured(cdi.ism(SEQUENCE, m), table)


def exchange(m: CrossDNA) -> cdi.StrandExchange:
    return cdi.strand_exchange(SEQUENCE, m)


ERRORS = ChangeErrors(0.5, 1.0, 0.1, {0.9: 2.0}, pairs=100)


def truth(m: CrossDNA, n: str) -> cdi.TruthReport:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            (family, SEQUENCE[:family] + "ACGT"[at] + SEQUENCE[family + 1 :], random.normal())
            for family in range(len(SEQUENCE))
            for at in range(4)
        ],
        columns=["family", "sequence", n],
    )
    return cdi.truth_report(table, m, measured=n, draws=0)


Draw = Callable[[CrossDNA, str, Axes | None], Axes]
PICTURES: dict[str, Draw] = {
    "annotated_logo": lambda m, n, ax: plot.annotated_logo(sites(m, n), ax),
    "certain_effects": lambda m, n, ax: plot.certain_effects(cdi.mutation_intervals(SEQUENCE, m, errors=ERRORS), ax),
    "change_calibration": lambda m, n, ax: plot.change_calibration(truth(m, n), ax),
    "design_path": lambda m, n, ax: plot.design_path(
        replace(cdi.design(SEQUENCE, m, max_edits=2), labels=(f"{n} at 5, - strand", "A1C")), ax
    ),
    "edit_effects": lambda m, n, ax: plot.edit_effects(cdi.deletion_scan(SEQUENCE, m, width=3), ax),
    "exchange_arcs": lambda m, n, ax: plot.exchange_arcs(exchange(m), ax),
    "exchange_effects": lambda m, n, ax: plot.exchange_effects(exchange(m), ax),
    "exchange_logo": lambda m, n, ax: plot.exchange_logo(exchange(m), ax),
    "exchange_map": lambda m, n, ax: plot.exchange_map(exchange(m), ax),
    "interaction_graph": lambda m, n, ax: plot.interaction_graph(
        cdi.motif_interactions(sites(m, n), m, shuffles=3), ax
    ),
    "intervention_bars": lambda m, n, ax: plot.intervention_bars(cdi.ablate_exchange(SEQUENCE, m, positions=[3]), ax),
    "interaction_map": lambda m, n, ax: plot.interaction_map(cdi.pairwise_ism(SEQUENCE, m, positions=range(9)), ax),
    "interaction_matrix": lambda m, n, ax: plot.interaction_matrix(
        cdi.motif_interactions(sites(m, n), m, shuffles=3), ax
    ),
    "logo": lambda m, n, ax: plot.logo(cdi.ism(SEQUENCE, m), ax),
    "marginal_effects": lambda m, n, ax: plot.marginal_effects(
        replace(cdi.marginalize("TAATCC", m, backgrounds=[SEQUENCE]), motif=n), ax
    ),
    "measured_scatter": lambda m, n, ax: plot.measured_scatter(measured(m), ax),
    "mutagenesis_map": lambda m, n, ax: plot.mutagenesis_map(cdi.ism(SEQUENCE, m), ax),
    "necessity_sufficiency": lambda m, n, ax: plot.necessity_sufficiency(cdi.site_effects(sites(m, n), m), ax),
    "orientation_scatter": lambda m, n, ax: plot.orientation_scatter(cdi.orientation([SEQUENCE, SEQUENCE[:30]], m), ax),
    "spacing_curves": lambda m, n, ax: plot.spacing_curves(
        replace(cdi.spacing("TAATCC", "CAGATG", m, distances=[0, 2], backgrounds=[SEQUENCE] * 2), motifs=(n, f"{n}2")),
        ax,
    ),
    "strand_logo": lambda m, n, ax: plot.strand_logo(cdi.input_gradient(SEQUENCE, m), ax),
}
WITHOUT_TARGET: dict[str, Draw] = {"gate_track": lambda m, n, ax: plot.gate_track(exchange(m), ax)}
NO_PICTURES = {"PALETTES", "draw_letters"}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(ax: Axes) -> list[Text]:
    """All texts of a figure that are drawn; ticks beyond the limits of an axis are not."""
    seen: list[Text] = []
    draw = Text.draw

    def recorded(text: Text, *args: Any, **options: Any) -> None:
        seen.append(text)
        draw(text, *args, **options)

    figure: Any = ax.figure
    with pytest.MonkeyPatch.context() as patch:
        FigureCanvasAgg(figure).draw()  # the layout
        patch.setattr(Text, "draw", recorded)
        FigureCanvasAgg(figure).draw()
    return [each for each in seen if each.get_text().strip()]


def whole(texts: list[Text]) -> str:
    return " | ".join("".join(each.get_text().split()) for each in texts)


def test_every_picture_is_here() -> None:
    assert PICTURES.keys() | WITHOUT_TARGET.keys() | NO_PICTURES == set(plot.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_long_names_are_seen_whole(name: str) -> None:
    ax = PICTURES[name](random_model(targets=(LONG,)), "A_factor_with_a_long_name", None)
    texts = drawn(ax)
    assert LONG in whole(texts)
    inside = ax.figure.bbox.padded(1)
    for text in texts:
        box = text.get_window_extent()
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1, text
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1, text


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", PICTURES)
def test_names_are_no_mathematics(name: str, given: bool) -> None:
    ax = Figure(figsize=(8, 4)).add_subplot() if given else None
    texts = drawn(PICTURES[name](random_model(targets=(MATHS,)), MATHS, ax))
    assert "".join(MATHS.split()) in whole(texts)
    for text in texts:
        assert "$" not in text.get_text() or not text.get_parse_math()


def test_what_the_user_wrote_stays(model: CrossDNA) -> None:
    ax = Figure().add_subplot()
    ax.set_title(r"$\alpha$")
    plot.logo(cdi.ism(SEQUENCE, model), ax)
    assert ax.title.get_parse_math()
    assert plt.rcParams["text.parse_math"]


@pytest.mark.parametrize("text", ["short", "two words", LONG, "x" * 200, "a\nb", "", "attribution,\n" + LONG])
def test_lines_fit_and_say_the_same(text: str) -> None:
    broken, size = fitted(text, 100, 10)
    assert "".join(broken.split()) == "".join(text.split())
    assert 6 < size <= 10
    figure = Figure(dpi=72)
    for line in broken.split("\n"):
        box = figure.text(0, 0, line, fontsize=size).get_window_extent(FigureCanvasAgg(figure).get_renderer())
        assert box.width <= 102
    if len(text) < 10:
        assert (broken, size) == (text, 10)


def test_lines_break_where_names_have_joints() -> None:
    assert fitted("change in\nGM12878_H3K27ac_rep1", 80, 10)[0] == "change in\nGM12878_\nH3K27ac_rep1"
    assert fitted("lost without log2_activity", 100, 10)[0] == "lost without\nlog2_activity"
