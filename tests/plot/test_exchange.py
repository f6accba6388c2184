"""Plots of exchange and of orientation, checked on the artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.results import (
    Certificate,
    ExchangeEffects,
    ExchangeMutagenesis,
    Mutagenesis,
    Orientation,
    StrandExchange,
)

CERTIFICATE = Certificate("test", "toy", "0", "cpu", "float64", {})
ORANGE, BLUE = (213 / 255, 94 / 255, 0), (0, 114 / 255, 178 / 255)


@pytest.fixture
def ax() -> Axes:
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def exchange(partner: tuple[int, ...] = (0, 1, 2, 3, 4)) -> StrandExchange:
    by_source = np.zeros((2, 2, 5, 5))
    by_source[0, 0, 1, 1] = 3.0  # the forward strand's 1 receives from the reverse strand's 1
    by_source[1, 0, 4, 0] = -2.0  # its 4 receives from the other's 0
    by_source[1, 1, 2, 3] = 1.0  # the reverse strand's 2 receives from the forward strand's 3
    bias = np.zeros((2, 5))
    bias[0, 2] = 0.5
    gates = np.linspace(0, 1, 30).reshape(2, 5, 3)
    return StrandExchange(
        "ACGTN", "activity", ("same position", "global mean"), by_source, bias, gates, np.linspace(0.2, 0.8, 5),
        np.array(partner), ExchangeEffects(4.5, 3.0, 2.0, 2.0), CERTIFICATE,
    )  # fmt: skip


def arcs(ax: Axes) -> list[tuple[tuple[float, float], tuple[float, float], tuple[float, ...], float]]:
    """(start, end, colour, width) of each arc, widest first."""
    result = []
    for collection in ax.collections:
        if isinstance(collection, PathCollection) and collection.get_paths() and len(collection.get_paths()[0]) == 4:
            rows = zip(collection.get_paths(), collection.get_edgecolors(), collection.get_linewidths(), strict=True)
            for path, color, width in rows:
                result.append((tuple(path.vertices[0]), tuple(path.vertices[-1]), tuple(color[:3]), float(width)))
    return sorted(result, key=lambda arc: -arc[3])


def test_arcs_go_from_the_sender_to_the_receiver(ax: Axes) -> None:
    assert plot.exchange_arcs(exchange(), ax, share=1.0) is ax
    upper = {"forward": 2.6, "reverse": 1.6}
    lower = {"forward": 1.0, "reverse": 0.0}
    expected = [
        ((1, upper["reverse"]), (1, upper["forward"]), ORANGE),
        ((0, upper["reverse"]), (4, upper["forward"]), BLUE),
        ((3, lower["forward"]), (2, lower["reverse"]), ORANGE),
    ]
    for (start, end, color, _), (from_, to, wanted) in zip(arcs(ax), expected, strict=True):
        assert start == pytest.approx(from_)
        assert end == pytest.approx(to)
        assert color == pytest.approx(wanted)
    assert ax.get_title().startswith("the 3 largest terms, 100% of all by size, in activity")


def test_arcs_can_be_chosen(ax: Axes) -> None:
    plot.exchange_arcs(exchange(), ax, share=0.5)
    assert len(arcs(ax)) == 1
    ax.clear()
    plot.exchange_arcs(exchange(), ax, direction="forward_to_reverse")
    assert [arc[0][0] for arc in arcs(ax)] == [3]
    ax.clear()
    plot.exchange_arcs(exchange(), ax, source="global mean", share=1.0)
    assert len(arcs(ax)) == 2
    ax.clear()
    plot.exchange_arcs(exchange(), ax, start=1, end=4, share=1.0)
    assert len(arcs(ax)) == 2
    assert "mirror" not in ax.get_title()
    ax.clear()
    plot.exchange_arcs(exchange(partner=(4, 3, 2, 1, 0)), ax)
    assert "mirror locus" in ax.get_title()


def test_a_ladder_has_both_strands_and_their_ends(ax: Axes) -> None:
    plot.exchange_arcs(exchange(), ax, direction="reverse_to_forward")
    texts = [(text.get_text(), round(text.get_position()[1], 2)) for text in ax.texts]
    assert [text for text, height in texts if height == 1.09] == list("ACGTN")
    assert [text for text, height in texts if height == -0.09] == list("TGCAN")
    assert [text for text, height in texts if height == 1.0] == ["5′", "3′"]
    assert [text for text, height in texts if height == 0.0] == ["3′", "5′"]


def test_letters_too_many_to_read_are_a_strip_of_colours(ax: Axes) -> None:
    length = 1000
    x = StrandExchange(
        "ACGT" * 250, "activity", ("same position",), np.zeros((1, 2, length, length)), np.zeros((2, length)),
        np.zeros((2, length, 1)), np.zeros(length), np.arange(length), ExchangeEffects(0, 0, 0, 0), CERTIFICATE,
    )  # fmt: skip
    plot.exchange_arcs(x, ax)
    assert len(ax.texts) == 10  # the ends of four rails, and what each ladder is
    assert "0 largest terms" in ax.get_title()


def test_a_map_has_senders_along_x(ax: Axes) -> None:
    plot.exchange_map(exchange(), ax, direction="reverse_to_forward")
    shown = np.asarray(ax.images[0].get_array())
    assert (shown[1, 1], shown[4, 0]) == (3.0, -2.0)
    assert "sent by the reverse strand" in ax.get_xlabel()
    assert "received by the forward strand" in ax.get_ylabel()
    ax.clear()
    plot.exchange_map(exchange(), ax, source="same position", limit=1.5, colorbar=False)
    assert ax.images[0].get_clim() == (-1.5, 1.5)
    assert np.asarray(ax.images[0].get_array())[4, 0] == 0


@pytest.mark.parametrize(
    ("what", "upper", "lower"),
    [("received", {1: 3.0, 2: 0.5, 4: -2.0}, {2: 1.0}), ("sent", {3: 1.0}, {0: -2.0, 1: 3.0})],
)
def test_letters_are_as_tall_as_what_a_strand_receives_or_sends(
    what: str, upper: dict[int, float], lower: dict[int, float], ax: Axes
) -> None:
    plot.exchange_logo(exchange(), ax, what=what)
    heights = []
    for patch in ax.patches:
        box = patch.get_path().get_extents()
        heights.append((round((box.x0 + box.x1) / 2), round(float(box.height), 4)))
    assert sorted(heights) == sorted((at, abs(height)) for track in (upper, lower) for at, height in track.items())
    assert ax.get_ylabel().startswith(f"{what} by exchange")


def test_gates_and_effects(ax: Axes) -> None:
    x = exchange()
    plot.gate_track(x, ax)
    for line, values in zip(ax.lines, (*x.gates, x.fusion_gate), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "gate, reverse → forward", "gate, forward → reverse", "fusion: forward strand"]  # fmt: skip
    ax.clear()
    plot.exchange_effects(x, ax)
    assert [bar.get_height() for bar in ax.patches] == [2.0, 3.0, 2.0, 4.5]
    assert ax.get_title() == "exchange adds +2.50, of which interaction of directions +1.50"


def test_mutagenesis_of_exchange_says_so(ax: Axes) -> None:
    of = [
        Mutagenesis("AACGTN", 1, ("activity",), "activity", np.array([1.0]), predictions, CERTIFICATE)
        for predictions in (np.full((3, 4, 1), 2.0), np.full((3, 4, 1), 1.5))
    ]
    r = ExchangeMutagenesis(*of, received=None, certificate=CERTIFICATE)
    plot.mutagenesis_map(r, ax)
    assert "through exchange" in ax.figure.axes[1].get_ylabel()
    other = Figure().add_subplot()
    plot.logo(r, other)
    assert "of exchange" in other.get_ylabel()


def test_both_orientations_are_the_ends_of_bars(ax: Axes) -> None:
    def of(value: float, orientations: tuple[Mutagenesis, Mutagenesis] | None = None) -> Mutagenesis:
        predictions = np.zeros((2, 4, 1))
        predictions[0, 1:, 0] = value
        return Mutagenesis("AC", 0, ("y",), "y", np.zeros(1), predictions, CERTIFICATE, orientations)

    plot.logo(of(-2.0, (of(-1.0), of(-3.0))), ax)
    (bars,) = ax.collections
    np.testing.assert_allclose(bars.get_segments()[0], [[0, 1.0], [0, 3.0]])
    assert ax.get_ylim()[1] > 3


def test_orientations_are_drawn_against_each_other(ax: Axes) -> None:
    table = pd.DataFrame({"value": [0.9], "low": [0.5], "high": [0.99]})
    result = Orientation(
        ("A", "C"), "y", np.array([0.0, 2.0]), np.array([1.0, 4.0]), np.ones(2), np.zeros(2), None, (),
        np.empty((2, 0)), table, CERTIFICATE,
    )  # fmt: skip
    plot.orientation_scatter(result, ax)
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[0, 1], [2, 4]])
    assert ax.get_title() == "r = 0.900 (0.500 to 0.990), n = 2"


@pytest.mark.parametrize(
    ("draw", "options", "message"),
    [
        (plot.exchange_arcs, {"direction": "up"}, "`direction` must be one of"),
        (plot.exchange_arcs, {"source": "bias"}, "`source` must be one of"),
        (plot.exchange_arcs, {"share": 0}, "`share` must be above 0"),
        (plot.exchange_arcs, {"palette": "grey"}, "`palette` must be one of"),
        (plot.exchange_arcs, {"start": 4, "end": 2}, "`start` and `end`"),
        (plot.exchange_map, {"direction": "both"}, "`direction` must be one of"),
        (plot.exchange_map, {"limit": -1}, "`limit` must be above 0"),
        (plot.exchange_logo, {"what": "lost"}, "`what` must be 'received' or 'sent'"),
    ],
)
def test_bad_options(draw: object, options: dict, message: str, ax: Axes) -> None:
    with pytest.raises(ValueError, match=message):
        draw(exchange(), ax, **options)
