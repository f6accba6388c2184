"""Plots: what is drawn is checked on the artists, and in pixels where only pixels tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from crossdna_interpret import plot
from crossdna_interpret.results import Attribution, Certificate, Mutagenesis

CERTIFICATE = Certificate("test", "toy", "0", "cpu", "float64", {})


@pytest.fixture
def ax() -> Axes:
    figure = Figure(figsize=(6, 3))
    FigureCanvasAgg(figure)
    return figure.add_subplot()


@pytest.fixture
def attribution() -> Attribution:
    forward, reverse = np.zeros((5, 4)), np.zeros((5, 4))
    forward[0, 0], forward[1, 1], forward[3, 3] = 2.0, -1.0, 0.5
    reverse[0, 0], reverse[2, 2] = 1.0, 3.0
    return Attribution("ACGTN", "activity", forward, reverse, 1.0, 0.0, "zeros", CERTIFICATE)


@pytest.fixture
def mutagenesis() -> Mutagenesis:
    predictions = np.full((3, 4, 1), 1.0)
    predictions[0, 3, 0], predictions[2, 1, 0] = -2.0, 1.5
    return Mutagenesis("AACGTN", 1, ("activity",), "activity", np.array([1.0]), predictions, CERTIFICATE)


def letters(ax: Axes) -> list[tuple[str, float, float, float]]:
    """(colour, left, bottom, top) of every compound letter patch."""
    found = []
    for patch in ax.patches:
        assert isinstance(patch, PathPatch)
        box = patch.get_path().get_extents()
        color = to_hex(patch.get_facecolor()).upper()
        found.append((color, *(round(float(value), 6) for value in (box.x0, box.y0, box.y1))))
    return sorted(found)


def test_a_logo_draws_each_base_as_tall_as_its_importance(ax: Axes, attribution: Attribution) -> None:
    plot.logo(attribution, ax=ax)
    by_color = {color: (left, bottom, top) for color, left, bottom, top in letters(ax)}
    palette = plot.PALETTES["colorblind"]
    assert by_color[palette["A"]] == (-0.46, 0.0, 3.0)
    assert by_color[palette["C"]] == (0.54, -1.0, 0.0)
    assert by_color[palette["G"]] == (1.54, 0.0, 3.0)
    assert by_color[palette["T"]] == (2.54, 0.0, 0.5)
    assert palette["N"] not in by_color  # of height 0


def test_a_strand_logo_puts_complements_on_the_lower_track(ax: Axes, attribution: Attribution) -> None:
    plot.strand_logo(attribution, ax=ax)
    palette = plot.PALETTES["colorblind"]
    drawn = letters(ax)
    upper = {(color, round(top - bottom, 6)) for color, _, bottom, top in drawn if bottom > 0}
    lower = {(color, left, round(top - bottom, 6)) for color, left, bottom, top in drawn if top < 0}
    assert upper == {(palette["A"], 2.0), (palette["C"], 1.0), (palette["T"], 0.5)}
    # A at position 0 and G at 2 act through their complements T and C on the reverse strand.
    assert lower == {(palette["T"], -0.46, 1.0), (palette["C"], 1.54, 3.0)}
    assert [text.get_text() for text in ax.texts] == ["5′", "3′", "forward strand", "3′", "5′", "reverse strand"]


def test_tick_labels_of_a_strand_logo_are_values_not_places(ax: Axes, attribution: Attribution) -> None:
    plot.strand_logo(attribution, ax=ax)
    patch = next(p for p in ax.patches if to_hex(p.get_facecolor()).upper() == plot.PALETTES["colorblind"]["A"])
    assert isinstance(patch, PathPatch)
    top = patch.get_path().get_extents().y1  # the A of value 2
    label = next(
        t.get_text() for y, t in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True) if abs(y - top) < 1e-9
    )
    assert float(label) == 2.0


def test_a_mutagenesis_map_is_centred_on_no_change_and_marks_own_bases(ax: Axes, mutagenesis: Mutagenesis) -> None:
    plot.mutagenesis_map(mutagenesis, ax=ax)
    (image,) = ax.images
    assert np.array_equal(image.get_array(), mutagenesis.delta.T)
    assert image.norm.vmin == -3.0
    assert image.norm.vmax == 3.0
    assert list(image.get_extent()) == [0.5, 3.5, 3.5, -0.5]
    (dots,) = ax.lines
    assert np.array_equal(dots.get_xydata(), [[1, 0], [2, 1], [3, 2]])


def test_a_part_can_be_drawn(ax: Axes, attribution: Attribution) -> None:
    plot.logo(attribution, ax=ax, start=1, end=3)
    assert {left for _, left, _, _ in letters(ax)} == {0.54, 1.54}


@pytest.mark.parametrize("draw", [plot.logo, plot.strand_logo])
def test_an_empty_part_is_refused(ax: Axes, attribution: Attribution, draw: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"0 <= start < end <= 5, but got 3 and 3"):
        draw(attribution, ax=ax, start=3, end=3)


def test_an_unknown_palette_is_refused(ax: Axes, attribution: Attribution) -> None:
    with pytest.raises(ValueError, match=r"`palette` must be one of \['colorblind', 'classic'\], but got 'neon'"):
        plot.logo(attribution, ax=ax, palette="neon")  # type: ignore[arg-type]


def test_a_bad_limit_is_refused(ax: Axes, mutagenesis: Mutagenesis) -> None:
    with pytest.raises(ValueError, match="`limit` must be above 0"):
        plot.mutagenesis_map(mutagenesis, ax=ax, limit=0)


def test_results_draw_themselves_and_all_zero_ones_too(attribution: Attribution, mutagenesis: Mutagenesis) -> None:
    import matplotlib.pyplot as plt

    nothing = Attribution("ACGTN", "t", np.zeros((5, 4)), np.zeros((5, 4)), 0.0, 0.0, "zeros", CERTIFICATE)
    for result in (attribution, mutagenesis, nothing):
        axes = result.plot()
        axes.figure.canvas.draw()
        plt.close(axes.figure)


def test_a_letter_fills_its_box_in_its_colour() -> None:
    figure = Figure(figsize=(2, 2), dpi=50)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-0.5, 0.5)
    axes.set_ylim(0, 1)
    plot.draw_letters(axes, "T", np.array([1.0]), x=np.array([0.0]), baseline=0.0, palette="colorblind")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    color = [int(plot.PALETTES["colorblind"]["T"][i : i + 2], 16) for i in (1, 3, 5)]
    filled = (np.abs(pixels.astype(int) - color) < 30).all(axis=-1)
    assert filled[5].mean() > 0.85  # the bar of the T spans the width, at the top
    assert 0.1 < filled[90].mean() < 0.5  # and its stem does not
