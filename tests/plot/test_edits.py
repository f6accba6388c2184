"""Plots: drawings are checked on the artists, and in pixels if necessary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from crossdna_interpret import plot
from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.results import Attribution, Certificate, EditScan, EditScores, Mutagenesis, PairwiseMutagenesis

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


@pytest.fixture
def edits() -> EditScores:
    made = (Edit(1, 2, "G"), Edit(2, 5, ""), Edit(4, 4, "GAT"))
    predictions, lengths = np.array([[3.0], [-1.5], [1.25]]), np.array([6, 3, 9])
    return EditScores(
        "AACGTN", made, ("activity",), "activity", np.array([1.0]), predictions, lengths, None, CERTIFICATE
    )


@pytest.fixture
def pairs() -> PairwiseMutagenesis:
    predictions = np.zeros((3, 4, 4, 1))
    predictions[0, 2, 0], predictions[1, 3, 3], predictions[2, 0, 1] = 2.0, -4.0, 1.0
    return PairwiseMutagenesis(
        "AACGTN", np.array([1, 3, 4, 5]), np.array([[0, 2], [0, 3], [1, 2]]), ("activity",), "activity", np.zeros(1),
        np.zeros((4, 4, 1)), predictions, CERTIFICATE,
    )  # fmt: skip


def letters(ax: Axes) -> list[tuple[str, float, float, float]]:
    """(colour, left, bottom, top) of every compound letter patch."""
    result = []
    for patch in ax.patches:
        assert isinstance(patch, PathPatch)
        box = patch.get_path().get_extents()
        color = to_hex(patch.get_facecolor()).upper()
        result.append((color, *(round(float(value), 6) for value in (box.x0, box.y0, box.y1))))
    return sorted(result)


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


@pytest.mark.parametrize("part", [{"start": None}, {"start": 2.5}, {"start": -3}, {"end": 3.5}, {"end": "4"}])
@pytest.mark.parametrize("by_strand", [True, False])
def test_the_part_of_a_strand_logo_is_checked(ax: Axes, attribution: Attribution, part: dict, by_strand: bool) -> None:
    if not by_strand:
        attribution = dataclasses.replace(attribution, reverse=0 * attribution.reverse, by_strand=False)
    with pytest.raises(ValueError, match=f"`{next(iter(part))}` must be an integer of at least 0"):
        plot.strand_logo(attribution, ax, **part)


@pytest.mark.parametrize("draw", [plot.strand_logo, lambda result, ax: result.plot(ax)])
def test_an_attribution_without_strand_paths_is_one_track(
    ax: Axes, attribution: Attribution, draw: Callable[..., Axes]
) -> None:
    whole = dataclasses.replace(attribution, reverse=np.zeros((5, 4)), by_strand=False)
    draw(whole, ax=ax)
    palette = plot.PALETTES["colorblind"]
    assert letters(ax) == sorted(
        [(palette["A"], -0.46, 0.0, 2.0), (palette["C"], 0.54, -1.0, 0.0), (palette["T"], 2.54, 0.0, 0.5)]
    )
    assert [text.get_text() for text in ax.texts] == []


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


def test_edits_are_drawn_in_the_middle_of_what_they_replace(ax: Axes, edits: EditScores) -> None:
    assert plot.edit_effects(edits, ax=ax) is ax
    (heads,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert heads.get_xydata().tolist() == [[1, 2], [3, -2.5], [3.5, 0.25]]  # an insertion lies between two bases
    (stems,) = ax.collections
    assert [segment.tolist() for segment in stems.get_segments()] == [  # type: ignore[attr-defined]
        [[1, 0], [1, 2]], [[3, 0], [3, -2.5]], [[3.5, 0], [3.5, 0.25]]
    ]  # fmt: skip
    assert ax.get_title() == "3 edits, length changes"
    ax.clear()
    one = dataclasses.replace(edits, edits=edits.edits[:1], predictions=edits.predictions[:1], lengths=np.array([6]))
    plot.edit_effects(one, ax=ax)
    assert ax.get_title() == "1 edit, length unchanged"
    ax.clear()
    plot.edit_effects(edits, ax=ax)
    assert ax.get_ylabel() == "change in\nactivity"
    assert ax.get_xlim() == (-0.6, 5.6)


@pytest.mark.parametrize(
    ("insert", "lengths", "title"),
    [("", 5, "1 bp deleted, length changes"), ("", 6, "1 bp deleted, window kept by flanks"),
     ("GATA", 10, "GATA inserted, length changes"),
     ("ACGT" * 4, 6, "ACGTACGTA… (16 bp) inserted, window kept by flanks")],
)  # fmt: skip
def test_a_scan_is_a_line_in_the_order_of_places(
    ax: Axes, edits: EditScores, insert: str, lengths: int, title: str
) -> None:
    made = tuple(Edit(place, place if insert else place + 1, insert) for place in (4, 0, 2))
    flanks = ("ACGT", "ACGT") if "flanks" in title else None
    scores = dataclasses.replace(edits, edits=made, lengths=np.full(3, lengths), flanks=flanks)
    scan = EditScan(scores, "insertion" if insert else "deletion", len(insert) or 1, insert)
    plot.edit_effects(scan, ax=ax, color="#123456")
    (line,) = [line for line in ax.lines if line.get_color() == "#123456"]
    shift = 0.5 if insert else 0
    assert line.get_xydata().tolist() == [[0 - shift, -2.5], [2 - shift, 0.25], [4 - shift, 2]]
    assert ax.get_title() == title


def test_an_interaction_map_has_the_first_position_across(ax: Axes, pairs: PairwiseMutagenesis) -> None:
    plot.interaction_map(pairs, ax=ax)
    (image,) = ax.images
    # First positions 1 and 3; second ones 4 and 5, upwards. The pair (3, 5) was not asked about.
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[2, 1], [-4, np.nan]])
    assert image.origin == "lower"
    assert (image.norm.vmin, image.norm.vmax) == (-4, 4)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A1", "G3"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["T4", "N5"]
    plot.interaction_map(pairs, ax=ax, limit=3, colorbar=False)
    assert ax.images[-1].norm.vmax == 3
    assert len(ax.figure.axes) == 2  # one colour bar


def test_an_interaction_map_of_many_positions_names_some() -> None:
    count = 70
    pairs = np.stack([np.zeros(count - 1, int), np.arange(1, count)], axis=1)
    result = PairwiseMutagenesis(
        "ACGTN" * 14, np.arange(count), pairs, ("t",), "t", np.zeros(1), np.zeros((count, 4, 1)),
        np.zeros((count - 1, 4, 4, 1)), CERTIFICATE,
    )  # fmt: skip
    ax = plot.interaction_map(result, ax=Figure().add_subplot())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A0"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[:3] == ["C1", "N4", "G7"]
    assert 20 <= len(names) <= 30


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


def test_a_bad_limit_is_refused(ax: Axes, mutagenesis: Mutagenesis, pairs: PairwiseMutagenesis) -> None:
    with pytest.raises(ValueError, match="`limit` must be above 0"):
        plot.mutagenesis_map(mutagenesis, ax=ax, limit=0)
    with pytest.raises(ValueError, match="`limit` must be above 0, but got -1"):
        plot.interaction_map(pairs, ax=ax, limit=-1)


def test_results_draw_themselves_and_all_zero_ones_too(
    attribution: Attribution, mutagenesis: Mutagenesis, edits: EditScores, pairs: PairwiseMutagenesis
) -> None:
    import matplotlib.pyplot as plt

    nothing = Attribution("ACGTN", "t", np.zeros((5, 4)), np.zeros((5, 4)), 0.0, 0.0, "zeros", CERTIFICATE)
    none = dataclasses.replace(edits, edits=(), predictions=np.zeros((0, 1)), lengths=np.zeros(0, int))
    scan = EditScan(dataclasses.replace(edits, predictions=np.ones((3, 1))), "deletion", 1)
    alike = dataclasses.replace(pairs, predictions=np.zeros((3, 4, 4, 1)))
    for result in (attribution, mutagenesis, nothing, edits, none, scan, pairs, alike):
        axes = result.plot()
        axes.figure.canvas.draw()
        plt.close(axes.figure)


NAMES = ["GM12878_H3K27ac_rep1_log2FC", "CHIP:HNF4A:liver tissue male adult (32 years)", "V$CREB_01", "$x{$", "n" * 70]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_targets_are_shown_whole_and_are_no_mathematics(
    name: str, attribution: Attribution, mutagenesis: Mutagenesis, edits: EditScores, pairs: PairwiseMutagenesis
) -> None:
    import matplotlib.pyplot as plt

    whole = dataclasses.replace(attribution, reverse=np.zeros((5, 4)), by_strand=False)
    several = [dataclasses.replace(each, targets=(name,), target=name) for each in (mutagenesis, edits, pairs)]
    of_one = [dataclasses.replace(each, target=name) for each in (attribution, whole)]
    for axes in [*(each.plot() for each in (*of_one, *several)), plot.logo(of_one[0]), plot.logo(several[0])]:
        figure = axes.figure
        figure.canvas.draw()
        labels = [each.yaxis.label for each in figure.axes]
        (label,) = [each for each in labels if "".join(name.split()) in "".join(each.get_text().split())]
        assert not label.get_parse_math()
        box = label.get_window_extent()
        assert -1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1
        assert -1 <= box.y0 <= box.y1 <= figure.bbox.y1 + 1
        plt.close(figure)


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
