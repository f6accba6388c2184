"""Rows in families, their training, and the table of yeast promoters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.training.module import UndefinedMeasureWarning
from crossdna_interpret.training.recipes.families import Families, joined
from crossdna_interpret.training.recipes.family_training import FamilyPlain, family_measures
from crossdna_interpret.training.recipes.kmers import kmer_codes
from crossdna_interpret.training.recipes.motif_network import MotifNetwork, informative_motifs, motif_filters
from crossdna_interpret.training.recipes.pseudo_labels import pseudo_labelled
from crossdna_interpret.training.recipes.yeast import promoter
from crossdna_interpret.training.recipes.yeast.promoters import read_split
from crossdna_interpret.training.run import RunOptions, fit

WORD = "CGGGTAA"
MOTIF = Motif("M", "REB1", np.eye(4)[["ACGT".index(base) for base in WORD]].T * 0.97 + 0.0075)


def made(families: int, seed: int = 0) -> Families:
    """Families of three mutants. The first target is 2 with the word in either strand and 0 without, plus noise."""
    random = np.random.default_rng(seed)
    ids = random.integers(4, size=(families, 1, 40)).repeat(3, axis=1)
    word = alphabet.encode(WORD)
    ids[::2, 0, 10:17] = word
    ids[1::4, 0, 20:27] = 3 - word[::-1]
    ids[:, 2, 35] = (ids[:, 2, 35] + 1) % 4
    has = np.zeros((families, 3))
    has[::2, 0] = has[1::4, 0] = 1
    values = np.stack([2 * has, -has], axis=-1).reshape(-1, 2) + random.normal(scale=0.05, size=(3 * families, 2))
    values[::5, 1] = np.nan
    family = np.arange(families).repeat(3)
    flat = ids.reshape(-1, 40).astype(np.uint8)
    weight = np.ones(len(flat), dtype=np.float32)
    return Families.of(flat, values.astype(np.float32), weight, family, ["a", "b"], max_changes=7)


def test_partners_are_close_relatives_and_depend_on_the_rows_alone() -> None:
    table = made(20)
    index = np.array([0, 1, 2, 30, 31])
    ids, targets, weight, related = table.batch(index)
    assert ids.shape == (10, 40)
    assert targets.shape == (10, 2)
    assert weight.shape == (10,)
    np.testing.assert_array_equal(ids[:5], table.ids[index])
    apart = (ids[:5] != ids[5:]).sum(1)
    assert ((apart >= 1) & (apart <= 7))[related].all()
    again = table.batch(index)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip((ids, targets), again[:2], strict=True))
    assert related.any()


def test_rows_keep_the_pairs_among_them_and_hashes_know_all() -> None:
    table = made(6)
    part = table.rows(np.arange(6))
    assert len(part) == 6
    assert (part.pairs < 6).all()
    expected = [pair for pair in table.pairs.tolist() if max(pair) < 6]
    assert part.pairs.tolist() == expected
    both = joined(part, table)
    assert len(both) == 24
    np.testing.assert_array_equal(both.pairs[len(part.pairs) :] - 6, table.pairs)
    hashes = {each.content_hash() for each in (table, part, both, made(6, seed=1))}
    assert len(hashes) == 4
    with pytest.raises(ValueError, match="`second` must have the targets"):
        joined(table, Families(table.ids, table.targets, table.weight, table.pairs, ("x", "y")))
    with pytest.raises(ValueError, match="`weight` must have shape"):
        Families(table.ids, table.targets, table.weight[1:], table.pairs, ("a", "b"))


def test_missing_measurements_do_not_count() -> None:
    table = made(6)
    np.testing.assert_allclose(table.means(), np.nanmean(table.targets, axis=0), rtol=1e-5)
    scores = np.array([0.0, 1.0, 2.0, 9.0, 9.0])
    measured = np.array([0.1, 1.2, 2.3, np.nan, 5.0])  # 5 is a whole number
    pairs = np.array([[0, 1], [1, 2], [2, 3], [0, 4]])
    measures = family_measures(scores, measured, pairs)
    assert measures["changes"] == measures["large"] == 2
    assert measures["signs"] == 1
    assert measures["r"] == pytest.approx(1)


def test_filters_score_the_word_most() -> None:
    filters = motif_filters([MOTIF], 9)
    assert filters.shape == (2, 5, 9)
    word = np.zeros((5, 9), dtype=np.float32)
    word[:, 1:8] = alphabet.one_hot(alphabet.encode(WORD))
    forward, reverse = ((filter_ * torch.from_numpy(word)).sum() for filter_ in filters)
    assert forward > 4 > reverse
    random = np.random.default_rng(0).integers(4, size=(4000, 9))
    x = torch.from_numpy(np.stack([alphabet.one_hot(each) for each in random]))
    assert (x * filters[0]).sum((1, 2)).std() == pytest.approx(1, abs=0.05)
    narrow = motif_filters([MOTIF], 5)
    assert narrow.shape == (2, 5, 5)
    torch.testing.assert_close(narrow[1, :4], narrow[0, :4].flip(0, 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_learns_a_motif_and_its_changes(tmp_path: Path) -> None:
    train, valid = made(160), made(40, seed=1)
    network = MotifNetwork([MOTIF], 2, length=40, width=8, free=2, bins=4, dropout=0.0)
    module = FamilyPlain(network, offsets=torch.zeros(1, 2), learning_rate=3e-3, weight_decay=0.01)
    options = RunOptions(epochs=12, batch=16, average=0.9, threads=1)
    facts = fit(module, train, valid, tmp_path / "run", options, {})
    assert facts["valid_r"] > 0.95
    assert facts["valid_r_changes"] > 0.95
    assert facts["valid_signs"] > 0.98


def test_taught_rows_are_starts_and_mutants() -> None:
    def counts(ids: np.ndarray) -> np.ndarray:
        return np.stack([(ids == 2).sum(1), (ids == 0).sum(1)], axis=1).astype(np.float32)

    table = made(20)
    rows = pseudo_labelled(table, counts, 30, mutants=3, max_changes=4, seed=1)
    assert len(rows) == 120
    np.testing.assert_array_equal(rows.targets, counts(rows.ids))
    assert rows.pairs.tolist() == [[4 * at, 4 * at + mutant] for at in range(30) for mutant in (1, 2, 3)]
    apart = (rows.ids[rows.pairs[:, 0]] != rows.ids[rows.pairs[:, 1]]).sum(1)
    assert set(apart) == {1, 2, 3, 4}
    assert rows.ids.max() == 3
    own = {each.tobytes() for each in table.ids}
    assert [each.tobytes() in own for each in rows.ids[::12]] == [True] * 10
    halves = {each[at:].tobytes() for each in table.ids for at in (0, 20)} | {each[:20].tobytes() for each in table.ids}
    assert all(each[20:].tobytes() in halves or each[:20].tobytes() in halves for each in rows.ids[4::12])
    again = pseudo_labelled(table, counts, 30, seed=1)
    assert again.content_hash() == rows.content_hash() != pseudo_labelled(table, counts, 30, seed=2).content_hash()
    with pytest.raises(ValueError, match=r"`teacher` must return \(120, 2\), but returned \(120,\)"):
        pseudo_labelled(table, lambda ids: counts(ids)[:, 0], 30)


def test_the_motif_that_explains_the_values_is_chosen_first() -> None:
    table = made(60)
    random = np.random.default_rng(0)
    others = [Motif(f"R{at}", f"R{at}", random.dirichlet([0.3] * 4, 7).T) for at in range(5)]
    motifs = [*others[:3], MOTIF, *others[3:]]
    chosen = informative_motifs(torch.from_numpy(table.ids), table.targets[:, 0], motifs, 3)
    assert chosen[0] is MOTIF
    assert len(chosen) == len({each.id for each in chosen}) == 3
    assert len(informative_motifs(torch.from_numpy(table.ids), table.targets[:, 0], motifs, 99)) == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data
def test_the_recipe_of_yeast_promoters_ends_with_a_model(shared: Path, tmp_path: Path) -> None:
    words = ["--data", str(shared / "data" / "yeast_promoters"), "--run", str(tmp_path), "--rows", "400"]
    words += ["--epochs", "1", "--teachers", "2", "--teacher-epochs", "1", "--families", "30", "--threads", "1"]
    with pytest.raises(SystemExit) as ended:
        promoter.main(words)
    assert ended.value.code == 0
    model = cdi.load_model(tmp_path / "model")
    assert model.name == "yeast-promoter"
    assert model.targets == ("complex", "defined")
    assert sum(p.numel() for p in model.parameters()) < 1e6
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "400 training and 400 validation sequences" in card
    assert "{" not in card
    intervals = cdi.mutation_intervals("ACGTTGCA" * 10, model, target="defined", end=2)
    assert (intervals.low < intervals.high).any()
    # A new start finds everything done, and the same model.
    before = cdi.predict("ACGT" * 20, model)
    with pytest.raises(SystemExit):
        promoter.main(words)
    np.testing.assert_allclose(cdi.predict("ACGT" * 20, cdi.load_model(tmp_path / "model")), before, rtol=1e-5)


def test_other_rows_are_refused(tmp_path: Path) -> None:
    module = FamilyPlain(
        MotifNetwork([MOTIF], 2, length=40), offsets=torch.zeros(1, 2), learning_rate=1, weight_decay=0
    )
    with pytest.raises(ValueError, match="`train` must be Families, but is list"):
        module.check([1, 2], None, batch=2, monitor=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`valid` must be Families, but is list"):
        module.check(made(4), [1, 2], batch=2, monitor=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"weight": 0}, {}, "`train` must have two different values of a with a weight above 0"),
        ({"targets": np.nan}, {}, "`train` must have two different values of a"),
        ({"targets": 1}, {}, "`train` must have two different values of a"),
        ({}, {"shift": 40}, "`shift` must be less than the 40 bases, but is 40"),
        ({}, {"task": "classification"}, "`task` must be 'regression' for families"),
    ],
)
def test_rows_from_which_nothing_is_learned_are_refused(change: dict, settings: dict, message: str) -> None:
    table = made(6)
    odd = replace(table, **{name: np.full_like(getattr(table, name), value) for name, value in change.items()})
    with pytest.raises(ValueError, match=message):
        family_module(**settings).check(odd, None, batch=2, monitor=None)


def family_module(**settings: object) -> FamilyPlain:
    return FamilyPlain(
        torch.nn.Identity(), **{"offsets": torch.zeros(1, 2), "learning_rate": 1, "weight_decay": 0, **settings}
    )


def test_rows_that_cannot_be_validated_on() -> None:
    table = made(6)
    nothing = replace(table, targets=np.full_like(table.targets, np.nan))
    with pytest.raises(ValueError, match=r"do not define valid_r, .* `patience` cannot tell when to stop"):
        family_module().check(table, nothing, batch=2, monitor="valid_r")
    with pytest.warns(UndefinedMeasureWarning, match="The 18 rows for validation do not define valid_r"):
        family_module().check(table, nothing, batch=2, monitor=None)
    other = Families(table.ids, table.targets[:, :1], table.weight, table.pairs, ("a",))
    with pytest.raises(ValueError, match="`valid` must have the targets"):
        family_module().check(table, other, batch=2, monitor=None)


def test_odd_motifs_and_lengths_are_refused() -> None:
    flat = Motif("F", "flat", np.full((4, 6), 0.25))
    with pytest.raises(ValueError, match="`motifs`: F is equally likely for all bases"):
        motif_filters([MOTIF, flat], 9)
    with pytest.raises(ValueError, match="`bins` must divide the 40 bases, but is 7"):
        MotifNetwork([MOTIF], 2, length=40, bins=7)
    with pytest.raises(ValueError, match="`x` must have 40 bases, but has 48"):
        MotifNetwork([MOTIF], 2, length=40)(torch.zeros(2, 5, 48))
    with pytest.raises(ValueError, match="`max_changes` must be from 1 to 40, but is 41"):
        pseudo_labelled(made(2), lambda ids: np.zeros((len(ids), 2)), 2, max_changes=41)


def test_an_n_becomes_any_base() -> None:
    table = made(4)
    unknown = replace(table, ids=np.full_like(table.ids, 4))
    rows = pseudo_labelled(unknown, lambda ids: np.zeros((len(ids), 2)), 60, seed=0)
    new = rows.ids.reshape(60, 4, -1)[::3, 1:]
    counts = np.bincount(new[new < 4], minlength=4)
    assert counts.min() > 0.6 * counts.mean()


def test_the_loss_counts_levels_and_changes_by_their_weights() -> None:
    """Against sums by hand, with missing measurements and a pair that is not related."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(6, 2)).astype(np.float32)
    targets = random.normal(size=(6, 2), scale=3).astype(np.float32)
    targets[1, 0] = targets[5, 1] = np.nan
    weight = np.array([1, 0.2, 1, 1, 1, 0.5], dtype=np.float32)
    related = np.array([True, False, True])

    def huber(error: float) -> float:
        return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5

    def mean(terms: list[tuple[float, float]]) -> float:
        known = [(each, own) for each, own in terms if not np.isnan(each)]
        return sum(own * huber(each) for each, own in known) / sum(own for _, own in known)

    level = mean([(scores[n, t] - targets[n, t], weight[n]) for n in range(6) for t in range(2)])
    change = mean(
        [
            (scores[n + 3, t] - scores[n, t] - targets[n + 3, t] + targets[n, t], weight[n] * weight[n + 3])
            for n in (0, 2)
            for t in range(2)
        ]
    )
    module = FamilyPlain(
        torch.nn.Identity(), of_changes=0.7, offsets=torch.zeros(1, 2), learning_rate=1, weight_decay=0
    )
    module.score = lambda x: torch.from_numpy(scores)  # type: ignore[method-assign]
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    ids = torch.zeros(6, 40, dtype=torch.uint8)
    batch = ids, torch.from_numpy(targets), torch.from_numpy(weight), torch.from_numpy(related)
    assert float(module.training_step(batch, 0)) == pytest.approx(level + 0.7 * change, rel=1e-5)


def test_no_training_family_shares_a_word_with_what_is_held_out(shared: Path) -> None:
    train, valid = (read_split(shared / "data" / "yeast_promoters", split) for split in ("train", "valid"))
    assert not np.isin(kmer_codes(train.ids), np.unique(kmer_codes(valid.ids))).any()


def test_the_table_of_promoters(shared: Path) -> None:
    data = shared / "data" / "yeast_promoters"
    train, valid = (read_split(data, split) for split in ("train", "valid"))
    assert (len(train), len(valid)) == (19623, 2806)
    assert valid.target_names == ("complex", "defined")
    measures = family_measures(valid.targets[:, 0], valid.targets[:, 0], valid.pairs)
    assert measures["changes"] == 6781  # as many as the reference network was judged on
    assert (train.weight < 1).sum() == 195


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": "ACGT"}, "row 1: the sequence has 4 bases, expected 80"),
        ({"complex": np.nan, "defined": np.nan}, "row 1: no medium is measured"),
        ({"complex": np.inf}, "row 1: a measurement is infinite"),
        ({"complex": "high"}, "complex and defined must be numbers"),
        ({"family": None}, "row 1: family is missing"),
    ],
)
def test_bad_tables_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    row = {"sequence": "ACGT" * 20, "family": 1, "complex": 1.5, "defined": 2.5} | change
    pd.DataFrame([row]).to_csv(tmp_path / "train.tsv.gz", sep="\t", index=False)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"`folder` must hold valid\.tsv\.gz"):
        read_split(tmp_path, "valid")
