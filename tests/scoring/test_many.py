"""A few edits of each of many sequences, and models of many targets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.protocols import declare
from crossdna_interpret.models.selected import TargetGroups
from crossdna_interpret.scoring import many, targets
from tests.scoring.test_runner import Toy


def alleles(make_sequence: Callable, count: int = 12) -> tuple[list[str], list[list[tuple[int, int, str]]]]:
    sequences = [make_sequence(30 + at % 3, seed=at) for at in range(count)]
    edits = [[(at, at + 1, "ACGT"[at % 4])] if at % 2 else [(3, 5, ""), (4, 4, "GAT")] for at in range(count)]
    edits[5] = []
    edits[7] = [(at, at + 1, "T") for at in range(8)]  # enough to be scored by reuse
    return sequences, edits


@pytest.mark.parametrize("flanks", [None, ("ACGTACGT", "TTGGCCAA")])
def test_scores_are_those_of_each_sequence_alone(model: CrossDNA, make_sequence: Callable, flanks: object) -> None:
    sequences, edits = alleles(make_sequence)
    results = cdi.score_edits(sequences, edits, model, flanks=flanks)
    assert len(results) == len(sequences)
    for sequence, own, result in zip(sequences, edits, results, strict=True):
        alone = cdi.score_edits(sequence, own, model, flanks=flanks)
        assert (result.sequence, result.edits, result.flanks) == (sequence, alone.edits, alone.flanks)
        np.testing.assert_allclose(result.reference, alone.reference, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.predictions, alone.predictions, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(result.lengths, alone.lengths)


def test_one_certificate_says_how_all_were_made(model: CrossDNA, make_sequence: Callable) -> None:
    sequences, edits = alleles(make_sequence)
    results = cdi.score_edits(sequences, edits, model)
    certificate = results[0].certificate
    assert all(result.certificate is certificate for result in results)
    assert certificate.model_hash == cdi.ism(sequences[0], model, end=2).certificate.model_hash
    assert (
        certificate.method
        == "score_edits, one forward pass for each edit and score_edits, exact reuse of the reference"
    )
    assert certificate.checks["reuse_checked"] > 0
    assert certificate.settings["sequences"] == len(sequences) - 1


def test_passes_are_shared_by_sequences(make_sequence: Callable) -> None:
    class Counted(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.sizes.append(len(x))
            return super().forward(x)

    model = Counted().eval()
    sequences = [make_sequence(20, seed=at) for at in range(50)]
    cdi.score_edits(sequences, [[(0, 1, "A")]] * 50, model, target=0, batch_size=25)
    assert sum(model.sizes) < 100 + 50  # what is beyond looks at whether the model is stable
    assert model.sizes.count(25) >= 4


def test_both_orientations_are_averaged(model: CrossDNA, make_sequence: Callable) -> None:
    sequences, edits = alleles(make_sequence, 8)
    for sequence, own, result in zip(
        sequences, edits, cdi.score_edits(sequences, edits, model, rc_average=True), strict=True
    ):
        alone = cdi.score_edits(sequence, own, model, rc_average=True)
        np.testing.assert_allclose(result.predictions, alone.predictions, rtol=0, atol=1e-6)
        assert result.orientations is not None


def test_an_interrupted_run_goes_on(
    model: CrossDNA, make_sequence: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences, edits = alleles(make_sequence)
    expected = cdi.score_edits(sequences, edits, model, batch_size=4)
    score, passes = many.score_ids, []

    def interrupted(*args: object) -> np.ndarray:
        passes.append(1)
        if len(passes) == 5:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(many, "score_ids", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cdi.score_edits(sequences, edits, model, batch_size=4, cache=tmp_path)
    monkeypatch.setattr(many, "score_ids", lambda *args: (passes.append(1), score(*args))[1])
    before = len(passes)
    again = cdi.score_edits(sequences, edits, model, batch_size=4, cache=tmp_path)
    rows = sum(len(own) + 1 for own in edits) - 9
    assert len(passes) - before < rows / 4 + 3
    for one, other in zip(expected, again, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)
    other_edits = [*edits[:-1], [(2, 3, "A")]]
    changed = cdi.score_edits(sequences, other_edits, model, batch_size=4, cache=tmp_path)
    np.testing.assert_allclose(
        changed[-1].predictions, cdi.score_edits(sequences[-1], other_edits[-1], model).predictions, atol=1e-6
    )


@pytest.mark.parametrize(
    ("seqs", "edits", "options", "error", "message"),
    [
        (
            ["ACGT"] * 2,
            [[(0, 1, "A")]],
            {},
            ValueError,
            "`edits` must have an entry for each of the 2 sequences, but has 1",
        ),
        (["ACGT"] * 2, [[(0, 1, "A")], [(0, 9, "A")]], {}, ValueError, r"`edits\[1\]`: `edits\[0\]` ends at 9"),
        (["ACGT"] * 2, cdi.Edit(0, 1, "A"), {}, TypeError, "`edits` must be a list with an entry for each sequence"),
        (["ACGT", "AXG"], [[], []], {}, ValueError, r"`seq\[1\]` has 'X' at position 1"),
        (
            ["ACGT"] * 2,
            [[], []],
            {"compile": "yes"},
            ValueError,
            "`compile` must be 'auto', True or False",
        ),
        (["ACGT"] * 2, [[], []], {"batch_size": 0}, ValueError, "`batch_size` must be an integer of at least 1"),
        (["ACGT"] * 2, [[], []], {"flanks": [("A", "C")]}, ValueError, "`flanks` must have an entry for each of the 2"),
    ],
)
def test_bad_input_is_named(seqs: list, edits: list, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cdi.score_edits(seqs, edits, Toy(), target=0, **options)


# Many targets


class Tracks(nn.Module):
    """20,000 targets of one-hot DNA."""

    name, device, dtype = "tracks", torch.device("cpu"), torch.float32

    def __init__(self, count: int = 20_000) -> None:
        super().__init__()
        self.targets = tuple(f"{'CTCF' if at % 4 == 0 else 'DNase'} {at}" for at in range(count))
        self.factors = nn.Parameter(torch.linspace(-1, 1, 5 * count).reshape(5, count), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x * torch.linspace(1, 2, x.shape[2])).sum(2) @ self.factors


class Groups:
    def __init__(self, model: Tracks) -> None:
        self.model = model

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"insulators": tuple(name for name in self.model.targets if name.startswith("CTCF"))}


declare(Tracks, {TargetGroups: Groups})


def test_targets_are_chosen_by_name_number_pattern_and_group() -> None:
    model = Tracks(40)
    names = model.targets
    for choice, expected in (
        ("DNase 3", ["DNase 3"]),
        (7, [names[7]]),
        ("ctcf *", [name for name in names if name.startswith("CTCF")]),
        ("insulators", [name for name in names if name.startswith("CTCF")]),
        (["DNase 3", 3, "CTCF 4", "*3"], ["DNase 3", "CTCF 4", "DNase 13", "DNase 23", "DNase 33"]),
        ("*", list(names)),
    ):
        chosen = cdi.select_targets(model, choice)
        assert list(chosen.targets) == expected
        np.testing.assert_array_equal(
            cdi.predict("ACGTN", chosen), cdi.predict("ACGTN", model)[:, [names.index(each) for each in expected]]
        )
    with pytest.raises(ValueError, match=r"`targets` 'CTFC' matches none of tracks\. Near: CTCF"):
        cdi.select_targets(model, "CTFC")
    with pytest.raises(ValueError, match="`targets` must name at least one"):
        cdi.select_targets(model, [])
    with pytest.raises(TypeError, match="`targets` must be a name, a number"):
        cdi.select_targets(model, [1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="`targets` must be from 0 to"):
        cdi.select_targets(model, [-1])
    for nothing in (None, 1.5, {"CTCF": 1}, b"CTCF"):
        with pytest.raises(TypeError, match="`targets` must be names and numbers of targets, but got"):
            cdi.select_targets(model, nothing)  # type: ignore[arg-type]
    assert cdi.select_targets(model, np.array([2, 0])).targets == (names[2], names[0])


def test_brackets_of_names_are_brackets() -> None:
    model = Tracks(4)
    model.targets = ("DNase[K562]1", "DNase[HepG2]1", "DNaseK", "DNase5")
    assert cdi.select_targets(model, "dnase[k562]*").targets == ("DNase[K562]1",)
    assert cdi.select_targets(model, "DNase?").targets == ("DNaseK", "DNase5")


def test_groups_stay_after_a_selection() -> None:
    model = Tracks(40)
    some = cdi.select_targets(model, [0, 1, 4])
    assert cdi.select_targets(some, "insulators").targets == (model.targets[0], model.targets[4])
    with pytest.raises(ValueError, match="`targets` 'insulators' matches none of tracks"):
        cdi.select_targets(cdi.select_targets(model, [1]), "insulators")


def test_a_group_with_an_unknown_target_is_named() -> None:
    class Wrong(Tracks):
        pass

    class Typo:
        def __init__(self, model: Wrong) -> None:
            pass

        def groups(self) -> dict[str, tuple[str, ...]]:
            return {"insulators": ("CTCF 0", "CTFC 4")}

    declare(Wrong, {TargetGroups: Typo})
    with pytest.raises(ValueError, match="names targets that the model does not have: CTFC 4"):
        cdi.select_targets(Wrong(8), "insulators")


def test_a_selection_offers_what_its_model_does(make_model: Callable, make_sequence: Callable, tmp_path: Path) -> None:
    model, sequence = make_model(targets=("one", "two", "three")), make_sequence(40)
    chosen = cdi.select_targets(model, ["three", "one"])
    whole, part = cdi.ism(sequence, model, target="three"), cdi.ism(sequence, chosen, target="three", cache=tmp_path)
    np.testing.assert_array_equal(part.predictions, whole.predictions[..., [2, 0]])
    assert part.certificate.model_hash == whole.certificate.model_hash
    assert "exact reuse" in part.certificate.method
    other = cdi.ism(sequence, cdi.select_targets(model, ["one", "three"]), target="three", cache=tmp_path)
    np.testing.assert_array_equal(other.predictions, part.predictions[..., ::-1])
    by_chosen, by_model = (cdi.strand_exchange(sequence, each, target="one") for each in (chosen, model))
    np.testing.assert_array_equal(by_chosen.contributions, by_model.contributions)
    rough: dict[str, Any] = {"target": "one", "steps": 8, "tolerance": 1e6}
    np.testing.assert_array_equal(
        cdi.integrated_gradients(sequence, chosen, **rough).values,
        cdi.integrated_gradients(sequence, model, **rough).values,
    )
    np.testing.assert_array_equal(
        cdi.exchange_ism(sequence, chosen, target="one", end=3).delta,
        cdi.exchange_ism(sequence, model, target="one", end=3).delta,
    )
    longer = [make_sequence(60), make_sequence(30)]
    table = cdi.orientation(longer, chosen, target="one").table
    pd.testing.assert_frame_equal(table, cdi.orientation(longer, model, target="one").table)


def test_what_nobody_chose_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Tracks(1000)
    monkeypatch.setattr(targets, "_HELD", 4 * 1000 * 60)
    assert cdi.ism("ACGT" * 5, model, target=0).predictions.shape == (20, 4, 1000)
    with pytest.raises(MemoryError, match=r"of 63 sequences for the 1,000 targets of tracks .* about 952 would fit"):
        cdi.ism("ACGT" * 5 + "A", model, target=0)
    with pytest.raises(MemoryError, match="Choose targets first, for example `select_targets"):
        cdi.predict(["ACGT"] * 61, model)
    with pytest.raises(MemoryError, match="Choose targets first"):
        cdi.score_edits(["ACGT"] * 31, [[(0, 1, "C")]] * 31, model, target=0)
    assert cdi.ism("ACGT" * 5 + "A", cdi.select_targets(model, "*"), target=0).predictions.shape == (21, 4, 1000)
    assert cdi.ism("ACGT" * 5 + "A", cdi.select_targets(model, "CTCF *"), target=0).predictions.shape == (21, 4, 250)
    assert cdi.predict(["ACGT"] * 61, cdi.select_targets(model, "*"), rc_average=True).shape == (61, 1000)


@pytest.mark.slow
def test_twenty_thousand_targets_stay_below_a_gigabyte(tmp_path: Path) -> None:
    """A family of them, through mutagenesis, gradients, a table of 30 positions, a report and a session."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import numpy as np, crossdna_interpret as cdi
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from tests.scoring.test_many import Tracks
model = Tracks()
result = cdi.ism("ACGTTGCAACGTTGCA" * 4, model, target=5, start=10, end=40)
table = result.to_dataframe()
assert len(table) == 90 * 20_000
assert table["prediction"].iloc[-1] == result.predictions[-1, 3, -1], table.iloc[-1]
cdi.integrated_gradients("ACGTTGCAACGTTGCA", model, target=5, baseline="zeros")
cdi.predict(["ACGT" * 8] * 20, model)
cdi.orientation(["ACGT" * 8], model, target=0)
from crossdna_interpret.report import write_report
from crossdna_interpret.session import Session
write_report({{"one": "ACGTTGCAACGTTGCA" * 4}}, sys.argv[1], model, target="DNase 7")
session = Session("ACGTTGCAACGTTGCA" * 4, model, target=2, background=False)
assert session.results.mutagenesis.predictions.shape == (64, 4, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r.html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1_000_000  # kB
