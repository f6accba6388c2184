"""The motif-based teacher, and a model that learns from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.training.recipes.motif_scan import MotifScan
from crossdna_interpret.training.recipes.retina.distillation import Distillation, recombined
from crossdna_interpret.training.recipes.retina.mutation_pairs import MutationPairs, PairDistillation
from crossdna_interpret.training.recipes.retina.teacher import MotifTeacher
from crossdna_interpret.training.tables import Table

LENGTH = 40


def motif(name: str, seq: str) -> Motif:
    return Motif(name, name, 20.0 * np.array([[base == each for each in seq] for base in "ACGT"]))


MOTIFS = [motif("a", "GATTACA"), motif("b", "CCGCGG"), motif("c", "TTTTTT"), motif("d", "ACACAC")]


@pytest.fixture(scope="module")
def table() -> Table:
    """Sequences that are active where they match the first motif, and another library that reads two more."""
    random = np.random.default_rng(0)
    ids = [random.integers(0, 4, LENGTH).astype(np.uint8) for _ in range(400)]
    site = np.array([2, 0, 3, 3, 0, 1, 0], dtype=np.uint8)
    for row in range(0, 400, 2):
        at = int(random.integers(0, LENGTH - 7))
        ids[row][at : at + 7] = site if row % 4 else (3 - site)[::-1]
    level = np.arange(400) // 2 % 2
    active = np.arange(400) % 2 == 0
    targets = (4.0 * active + 2.0 * level + 0.1 * random.normal(size=400)).astype(np.float32)
    return Table(ids, targets[:, None], np.ones(400, np.float32), level, ("activity",), ("x", "y"))


@pytest.fixture(scope="module")
def teacher(table: Table) -> MotifTeacher:
    return MotifTeacher.fit(table, MOTIFS, keep=2, members=2, rounds=200)


def test_the_teacher_keeps_the_motif_that_matters_and_leaves_the_library_out(
    teacher: MotifTeacher, table: Table
) -> None:
    assert len(teacher.scan) == 2
    assert teacher.scan.motifs[0].name == "a"
    said = teacher(torch.from_numpy(np.stack(table.ids))).numpy()
    active = np.arange(400) % 2 == 0
    assert said[active].mean() - said[~active].mean() > 3
    assert abs(said[table.level == 1].mean() - said[table.level == 0].mean()) < 0.3


def test_the_teacher_says_the_same_of_both_orientations(teacher: MotifTeacher, table: Table) -> None:
    ids = torch.from_numpy(np.stack(table.ids[:20]))
    torch.testing.assert_close(teacher(ids), teacher((3 - ids).flip(1)), rtol=0, atol=1e-5)


def test_the_same_seed_gives_the_same_teacher_and_it_is_kept(
    teacher: MotifTeacher, table: Table, tmp_path: Path
) -> None:
    ids = torch.from_numpy(np.stack(table.ids[:20]))
    again = MotifTeacher.fit(table, MOTIFS, keep=2, members=2, rounds=200)
    assert torch.equal(again(ids), teacher(ids))
    assert MotifTeacher.load(tmp_path, MOTIFS, {"rows": 400}) is None
    teacher.save(tmp_path, {"rows": 400})
    loaded = MotifTeacher.load(tmp_path, MOTIFS[::-1], {"rows": 400})
    assert loaded is not None
    assert MotifTeacher.load(tmp_path, MOTIFS, {"rows": 100}) is None  # from other rows
    assert torch.equal(loaded(ids), teacher(ids))


def test_a_teacher_needs_rows_of_one_length(table: Table) -> None:
    ragged = Table([table.ids[0], table.ids[1][:-1]], table.targets[:2], table.weight[:2], table.level[:2], ("y",))
    with pytest.raises(ValueError, match="`table` must have sequences of one length"):
        MotifTeacher.fit(ragged, MOTIFS)


@pytest.fixture
def distillation(
    make_initialised: Callable[..., CrossDNA], teacher: MotifTeacher, table: Table
) -> Callable[..., Distillation]:
    def make(**more: object) -> Distillation:
        model = make_initialised(
            ["activity"], d_model=16, block_size=64, comba_heads=1, comba_head_dim=16, attention_heads=1, window_size=64
        )
        settings = {
            "offsets": torch.zeros(2, 1),
            "learning_rate": 1e-2,
            "weight_decay": 0.0,
            "symmetric": True,
        }
        module = Distillation(model, teacher, table, **{**settings, **more})  # type: ignore[arg-type]
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
        return module

    return make


def test_each_term_has_its_weight(distillation: Callable[..., Distillation], table: Table) -> None:
    batch = table.batch(range(8))
    losses = {}
    for measured, of_motifs in ((0.0, 0.0), (0.5, 0.0), (0.0, 2.0), (0.5, 2.0)):
        module = distillation(of_measured=measured, of_motifs=of_motifs)
        module.train()
        torch.manual_seed(0)
        losses[measured, of_motifs] = module.training_step(batch, 0).item()
    whole = losses[0.5, 0.0] + losses[0.0, 2.0] - losses[0.0, 0.0]
    assert losses[0.5, 2.0] == pytest.approx(whole, rel=1e-5)
    assert losses[0.5, 0.0] > losses[0.0, 0.0]
    # Nothing of the motifs is known at first, so their term is the mean square of standardised features.
    assert (losses[0.0, 2.0] - losses[0.0, 0.0]) / 2 == pytest.approx(1, abs=0.6)


def test_only_the_first_half_of_a_batch_is_held_to_what_was_measured(
    distillation: Callable[..., Distillation], table: Table
) -> None:
    module = distillation().train()
    ids, targets, weight, level = table.batch(range(8))
    losses = []
    for changed in (slice(0, 0), slice(4, 8), slice(0, 4)):
        wrong = targets.clone()
        wrong[changed] += 50
        torch.manual_seed(0)
        losses.append(module.training_step((ids, wrong, weight, level), 0).item())
    assert losses[0] == losses[1]
    assert losses[2] > losses[0] + 10


@pytest.mark.slow
def test_a_student_comes_to_say_what_its_teacher_says(
    distillation: Callable[..., Distillation], teacher: MotifTeacher, table: Table
) -> None:
    module = distillation().train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    torch.manual_seed(0)
    for step in range(120):
        rows = [(step * 16 + i) % len(table) for i in range(16)]
        optimizer.zero_grad()
        module.training_step(table.batch(rows), step).backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
    module.eval()
    ids = torch.from_numpy(np.stack(table.ids))
    with torch.no_grad():
        scores = module.score(module.encode(ids))[:, 0]
        reverse = module.score(strand.reverse_complement(module.encode(ids)))[:, 0]
    assert np.corrcoef(scores, teacher(ids))[0, 1] > 0.8
    torch.testing.assert_close(scores, reverse, rtol=0, atol=1e-4)


def test_pairs_add_the_error_of_their_change(
    make_initialised: Callable[..., CrossDNA], teacher: MotifTeacher, table: Table
) -> None:
    ids = torch.from_numpy(np.stack(table.ids))
    settings = {"offsets": torch.zeros(2, 1), "learning_rate": 1e-2, "weight_decay": 0.0, "symmetric": True}
    small = {
        "d_model": 16, "block_size": 64, "comba_heads": 1, "comba_head_dim": 16, "attention_heads": 1,
        "window_size": 64,
    }  # fmt: skip
    weight = torch.tensor([1.0, 3.0, 0.5])

    def terms(change: torch.Tensor, of_contrasts: float = 2.0) -> dict[str, tuple[float, torch.Tensor]]:
        pairs = MutationPairs(ids[:3], ids[3:6], change, weight)
        module = PairDistillation(
            make_initialised(["activity"], **small), teacher, table, pairs, pairs=40, of_contrasts=of_contrasts,
            **settings,
        ).eval()  # fmt: skip
        torch.manual_seed(3)
        result = module.terms(table.batch(range(8)))
        with torch.no_grad():
            known = module.score(module.encode(ids[3:6]))[:, 0] - module.score(module.encode(ids[:3]))[:, 0]
        torch.manual_seed(3)
        chosen = torch.randint(3, (40,))
        expected = (weight[chosen] * (known - change)[chosen].square()).sum() / weight[chosen].sum()
        assert result["contrasts"][1].item() == pytest.approx((expected / module.measured_variance).item(), rel=1e-3)
        assert result["contrasts"][0] == of_contrasts
        assert result.keys() == {"teacher", "measured", "motifs", "contrasts"}
        return result

    assert terms(torch.full((3,), 5.0))["contrasts"][1] > terms(torch.zeros(3), 0.7)["contrasts"][1]


def test_several_targets_are_an_error(make_model: Callable, teacher: MotifTeacher, table: Table) -> None:
    with pytest.raises(ValueError, match="`model` must have one target, but has a, b"):
        Distillation(
            make_model(targets=("a", "b")), teacher, table, offsets=torch.zeros(1, 2), learning_rate=1e-3,
            weight_decay=0.0,
        )  # fmt: skip


def test_recombined_sequences_begin_as_others_and_are_mutated() -> None:
    torch.manual_seed(0)
    ids = torch.arange(4, dtype=torch.uint8).repeat(250).unsqueeze(1).expand(1000, 50).contiguous()
    new = recombined(ids, max_mutated=0.0)
    assert new.dtype == torch.uint8
    changed = (new != ids).any(1)
    assert 0.3 < changed.float().mean() < 0.45  # half are crossed, a quarter of those with their like
    assert all(len(set(row.tolist())) <= 2 and (row.diff() != 0).sum() <= 1 for row in new)
    assert torch.equal(new[:, -1], ids[:, -1])  # only the beginning is another's
    mutated = recombined(ids, max_mutated=1.0)
    assert 0.3 < (mutated[:, -1] != ids[:, -1]).float().mean() < 0.45  # half on average, a quarter of them to the same


def test_a_scan_of_nothing_but_n_is_finite() -> None:
    assert MotifScan(MOTIFS).features(torch.full((1, LENGTH), 4, dtype=torch.uint8)).isfinite().all()


def test_sequences_of_several_lengths_are_an_error(teacher: MotifTeacher, table: Table, make_model: Callable) -> None:
    mixed = replace(table, ids=[table.ids[0][:-1], *table.ids[1:]])
    with pytest.raises(ValueError, match="`table` must have sequences of one length"):
        Distillation(
            make_model(), teacher, mixed, offsets=torch.zeros(2, 1), learning_rate=1e-3, weight_decay=0.0, seed=0
        )


@pytest.mark.parametrize("seed", [-1, 2**31 - 2, 2**31])
def test_a_seed_that_lightgbm_would_take_for_another_is_an_error(table: Table, seed: int) -> None:
    with pytest.raises(ValueError, match=r"`seed` must be from 0 to 2,147,483,645"):
        MotifTeacher.fit(table, MOTIFS, members=2, seed=seed)
