import json
import warnings

import numpy as np
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.checkpoint import load_crossdna, save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.training_range import TrainingRange, outside_training, shown_elsewhere

ENHANCER = cdi.example().sequence


@pytest.mark.parametrize(
    ("sequence", "words"),
    [
        ("ACG", ["164 bases", "has 3"]),
        ("A", ["164 bases", "has 1"]),
        (ENHANCER + "A", ["164 bases", "has 165"]),
        ("G" * 164, ["G and C", "100.0%"]),
        ("A" * 164, ["G and C", "this one has 0.0%"]),
        ("N" * 164, ["without N", "164"]),
        (ENHANCER[:80] + "N" + ENHANCER[81:], ["without N", "has 1"]),
        ("AC" * 82, ["repetitive", "1.0"]),
        ("ACGT" * 41, ["repetitive", "2.0"]),
    ],
)
def test_predict_warns_of_what_the_bundled_model_never_saw(sequence, words):
    with pytest.warns(cdi.OutsideTrainingWarning) as caught:
        cdi.predict(sequence)
    assert len(caught) == 1
    assert all(word in str(caught[0].message) for word in ["retina-enhancer", *words])
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", cdi.example_names())
def test_examples_are_inside_the_range(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cdi.predict(cdi.example(name).sequence)


@pytest.mark.parametrize(
    "analysis",
    [
        lambda s: cdi.ism(s, end=2),
        lambda s: cdi.ism([ENHANCER, s], end=2),
        lambda s: cdi.deletion_scan(s, end=2),
        lambda s: cdi.insertion_scan(s, insert="GA", end=2),
        lambda s: cdi.pairwise_ism(s, positions=[0, 1]),
        lambda s: cdi.score_edits(s, [(0, 1, "T")]),
        lambda s: cdi.integrated_gradients(s, baseline="uniform", steps=2, max_steps=2, tolerance=10),
        lambda s: cdi.input_gradient(s),
        lambda s: cdi.strand_exchange(s),
        lambda s: cdi.exchange_ism(s, end=2),
        lambda s: cdi.ablate_exchange(s),
        lambda s: cdi.orientation(s),
    ],
)
def test_every_analysis_warns(analysis):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        analysis("ACGTTGCAAC")
    outside = [each for each in caught if each.category is cdi.OutsideTrainingWarning]
    assert outside
    assert {each.filename for each in outside} == {__file__}


def test_of_several_sequences_one_warning_counts_them():
    with pytest.warns(cdi.OutsideTrainingWarning, match=r"2 of 3 sequences, the first number 1\): .*has 3") as caught:
        cdi.predict([ENHANCER, "ACG", "ACGT"])
    assert len(caught) == 1


def test_a_surface_that_says_it_itself_gets_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with shown_elsewhere():
            cdi.predict("ACG")
    with pytest.warns(cdi.OutsideTrainingWarning):
        cdi.predict("ACG")


def test_every_sequence_of_a_range_lies_inside_of_it():
    rng = np.random.default_rng(0)
    sequences = [
        "".join(rng.choice(list("ACGTN"), int(n), p=[0.4, 0.2, 0.1, 0.29, 0.01])) for n in rng.integers(9, 90, 50)
    ]
    known = TrainingRange.of(sequences)
    assert (known.shortest, known.longest) == (min(map(len, sequences)), max(map(len, sequences)))
    assert [known.problem(sequence) for sequence in sequences] == [None] * 50
    assert known.problem("C" * 40) is not None


def test_sequences_of_nothing_but_n_have_a_range() -> None:
    assert TrainingRange.of(["NNNN", "NNN"]) == TrainingRange(3, 4, "ACGTN", (0.0, 1.0), 0.0)
    with pytest.raises(ValueError, match="`sequences` must hold at least one"):
        TrainingRange.of([])
    known = TrainingRange.of(["ACGTTGCA", "GGATCCAA"])
    assert TrainingRange.of(["ACGTTGCA", "GGATCCAA", "N" * 8]).dinucleotide_bits == known.dinucleotide_bits > 0


def test_ids_and_strings_give_the_same_range():
    sequences = ["ACGTTGCA", "GGATCCAANT"]
    ids = [np.array(["ACGTN".index(base) for base in each], dtype=np.uint8) for each in sequences]
    assert TrainingRange.of(ids) == TrainingRange.of(sequences)


def test_it_is_stored_with_the_weights(tmp_path):
    model = CrossDNA(CrossDNAConfig(d_model=8, depth=1, comba_heads=2, comba_head_dim=4, attention_heads=2), ["y"])
    model.training_range = TrainingRange(20, 30, "ACGTN", (0.25, 0.75), 2.5)
    loaded = load_crossdna(save_crossdna(model, tmp_path / "m", card="x"))
    assert loaded.training_range == model.training_range
    stored = json.loads((tmp_path / "m" / "config.json").read_text())
    del stored["training_range"]
    (tmp_path / "m" / "config.json").write_text(json.dumps(stored))
    assert load_crossdna(tmp_path / "m").training_range is None
    stored["training_range"] = {"shortest": 9}
    (tmp_path / "m" / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="training_range"):
        load_crossdna(tmp_path / "m")


def test_wrapped_models_may_have_one():
    class Count(torch.nn.Module):
        def forward(self, x):
            return x[:, 0].sum(1)

    assert outside_training(cdi.wrap(Count()), "ACG") is None
    limited = cdi.wrap(Count(), training_range=TrainingRange(5, 9))
    assert outside_training(limited, "ACG") == "trained on sequences of 5 to 9 bases; this one has 3"
    for analysis in (
        cdi.predict,
        cdi.ism,
        lambda seq, model, **options: cdi.score_edits(seq, [(0, 1, "T")], model, **options),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            analysis("ACG", model=limited, rc_average=True)
        assert [each.category for each in caught] == [cdi.OutsideTrainingWarning]  # once for both orientations
        assert "Count" in str(caught[0].message)
    with pytest.raises(TypeError, match="`training_range`"):
        cdi.wrap(Count(), training_range=(5, 9))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"shortest": 0, "longest": 3}, "shortest"),
        ({"shortest": 4, "longest": 3}, "longest"),
        ({"shortest": 1, "longest": 3, "alphabet": "ACGU"}, "alphabet"),
        ({"shortest": 1, "longest": 3, "gc": (0.5, 0.4)}, "gc"),
        ({"shortest": 1.5, "longest": 3}, "shortest"),
        ({"shortest": 1, "longest": "3"}, "longest"),
        ({"shortest": 1, "longest": 3, "gc": ("low", 1)}, "gc"),
        ({"shortest": 1, "longest": 3, "gc": None}, "gc"),
        ({"shortest": 1, "longest": 3, "dinucleotide_bits": "abc"}, "dinucleotide_bits"),
        ({"shortest": 1, "longest": 3, "dinucleotide_bits": 9.0}, "dinucleotide_bits"),
    ],
)
def test_bad_ranges_are_refused(values, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        TrainingRange(**values)


def test_edits_that_change_the_length_are_warned_of():
    sequence = cdi.example().sequence
    with pytest.warns(
        cdi.OutsideTrainingWarning, match=r"1 of 2 edited sequences have 44 bases, .* trained on 164\. With"
    ):
        cdi.score_edits(sequence, [(0, 120, ""), (3, 4, "N")])
    with pytest.warns(cdi.OutsideTrainingWarning, match=r"4 of 4 edited sequences have 159 bases") as caught:
        cdi.deletion_scan(sequence, width=5, end=8)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cdi.score_edits(sequence, [(0, 120, "")], flanks=("ACGT" * 40, "ACGT" * 40))
        cdi.score_edits(sequence, [(3, 6, "TTT")])
