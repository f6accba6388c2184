"""What a result looks like at a prompt, and what its plot is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.model import CrossDNA

RESULTS: dict[str, Callable[[str, CrossDNA], object]] = {
    "Mutagenesis": lambda seq, model: cdi.ism(seq, model),
    "Attribution": lambda seq, model: cdi.integrated_gradients(seq, model, steps=8, tolerance=1e6, rc_average=True),
    "StrandExchange": lambda seq, model: cdi.strand_exchange(seq, model),
    "ExchangeAblation": lambda seq, model: cdi.ablate_exchange(seq, model, positions=range(40)),
    "ExchangePatch": lambda seq, model: cdi.patch_exchange(seq, seq[::-1], model),
    "EditScores": lambda seq, model: cdi.score_edits(seq, [(at, at + 1, "N") for at in range(60)], model),
    "EditScan": lambda seq, model: cdi.deletion_scan(seq, model),
    "Orientation": lambda seq, model: cdi.orientation([seq[:12]] * 30, model),
    "PairwiseMutagenesis": lambda seq, model: cdi.pairwise_ism(seq, model, positions=range(8)),
    "Seqlets": lambda seq, model: cdi.find_seqlets([cdi.ism(seq, model)] * 9),
    "Motif": lambda seq, model: cdi.Motif("M", "M", np.ones((4, 30))),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_shown_in_a_few_lines(name: str, make_model: Callable, make_sequence: Callable) -> None:
    text = repr(RESULTS[name](make_sequence(120), make_model()))
    assert text.startswith(f"{name}(")
    assert len(text) < 900
    assert "None" not in text


def test_small_values_are_shown_and_large_ones_have_their_shape(make_model: Callable) -> None:
    model = make_model(targets=("y",))
    text = repr(cdi.ism("ACGTACGT", model, end=2))
    assert text.startswith("Mutagenesis(sequence='ACGTACGT', start=0, targets=('y',), target='y', reference=[")
    assert "predictions=array (2, 4, 1), certificate=Certificate('ism" in text
    assert "sequence='AAAAAAAAAAAA'… (80 characters)" in repr(cdi.ism("A" * 80, model, end=1))


def test_interventions_have_pictures_and_arrays(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence, other = make_model(), make_sequence(40), make_sequence(40)
    ablation = cdi.ablate_exchange(sequence, model, positions=range(8))
    ax = ablation.plot(Figure().subplots())
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(
        [ablation.reference, ablation.prediction, ablation.only, ablation.none]
    )
    assert float(ablation.to_xarray()["necessity"]) == ablation.necessity
    patch = cdi.patch_exchange(sequence, other, model)
    ax = patch.plot(Figure().subplots())
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(
        [patch.reference, patch.prediction, patch.source_prediction]
    )
    assert patch.to_xarray().attrs["certificate"] == patch.certificate.to_json()


def test_an_unknown_option_of_a_plot_is_named(make_model: Callable) -> None:
    result = cdi.ism("ACGTACGT", make_model(), end=2)
    with pytest.raises(TypeError, match="`figsize` is not an option of the plot of a Mutagenesis; it has ax, cmap"):
        result.plot(figsize=(3, 3))
