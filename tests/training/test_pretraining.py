"""Pre-training: the terms together, the teacher, the gate's freeze, runs that go on, and the command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.commands import main
from crossdna_interpret.training.objective import fusion_gate_loss, masked_bases, masked_language_loss, semantic_loss
from crossdna_interpret.training.pretraining import Objective, Pretraining
from crossdna_interpret.training.run import RunOptions, fit
from crossdna_interpret.training.windows import Windows, open_windows

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data


@pytest.fixture
def language(make_model: Callable[..., CrossDNA]) -> Callable[..., CrossDNA]:
    return lambda **more: make_model(targets=(), **{"dropout": 0.0, **more}).requires_grad_(True)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 60)).astype(np.uint8))


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    """Repeats of one word, which a model can learn to complete."""
    random = np.random.default_rng(0)
    seq = "".join("ACGTTGCA"[int(random.integers(0, 8)) :] + "ACGTTGCA" * 4 for _ in range(40))
    (tmp_path / "x.fa").write_text(f">one\n{seq}\n>two\n{seq[::-1]}\n")
    return open_windows(tmp_path / "x.fa", 32)


def terms(module: Pretraining, ids: torch.Tensor) -> dict[str, float]:
    result = module.terms(ids, torch.Generator().manual_seed(0))
    return {name: float(value) for name, value in result.items()}


@pytest.mark.parametrize("changes", [{}, {"use_bridge": False}, {"rc_blocks": "mirrored"}])
def test_each_term_is_that_of_the_objective(language: Callable, ids: torch.Tensor, changes: dict[str, object]) -> None:
    module = Pretraining(language(**changes), objective=Objective(warm_up=1, gate=0.02))
    module.model.fusion.steps.fill_(5)
    module.teacher.lm_head.weight.data.zero_()  # which features do not pass
    with torch.no_grad():
        for parameter in module.teacher.parameters():
            parameter.mul_(0.9)
    module.eval()
    result = terms(module, ids)
    shown, chosen = masked_bases(ids, generator=torch.Generator().manual_seed(0))
    model, x = module.model, torch.nn.functional.one_hot(shown.long(), 5).mT.float()
    side = "bridge.out_{}" if model.bridge is not None else "branch_{}.out"
    with torch.no_grad():
        with cdi.capture(model, "fusion.gate_logits", side.format("a"), side.format("b")) as mine:
            logits = model.lm_head(model.represent(x, strand.reverse_complement(x)))
        whole = torch.nn.functional.one_hot(ids.long(), 5).mT.float()
        with cdi.capture(module.teacher, side.format("a"), side.format("b")) as theirs:
            module.teacher.represent(whole, strand.reverse_complement(whole))
    join = lambda seen, name: torch.cat([each.value for each in seen[name]], dim=1)  # noqa: E731
    assert result["masked"] == pytest.approx(masked_language_loss(logits, ids, chosen).item(), rel=1e-5)
    expected = sum(semantic_loss(join(mine, side.format(b)), join(theirs, side.format(b))).item() for b in "ab")
    assert result["semantic"] == pytest.approx(expected, rel=1e-4)
    pairs = blocks.block_pairs(60, model.config.block_size, model.config.rc_blocks)
    gate = join(mine, "fusion.gate_logits") / model.config.gate_temp
    assert result["gate"] == pytest.approx(fusion_gate_loss(gate, pairs).item(), rel=1e-5)


def test_the_semantic_term_is_zero_while_the_teacher_is_the_student_and_sees_the_same(
    language: Callable, ids: torch.Tensor
) -> None:
    module = Pretraining(language(), objective=Objective(warm_up=0)).eval()
    unknown = torch.full_like(ids, 4)  # of which nothing is masked
    assert terms(module, unknown)["semantic"] == pytest.approx(0, abs=1e-9)
    assert terms(module, ids)["semantic"] > 1e-4


def test_terms_that_count_for_nothing_are_not_computed(language: Callable, ids: torch.Tensor) -> None:
    module = Pretraining(language(gate_freeze_steps=4), objective=Objective(warm_up=10)).eval()
    assert set(terms(module, ids)) == {"masked"}  # the warm-up begins at zero, and the gate is frozen
    module.model.fusion.steps.fill_(3)
    assert set(terms(module, ids)) == {"masked", "semantic"}
    module.model.fusion.steps.fill_(4)
    assert set(terms(module, ids)) == {"masked", "semantic", "gate"}
    consistent = Pretraining(language(), objective=Objective(gate=0, reverse_complement=1)).eval()
    assert set(terms(consistent, ids)) == {"masked", "reverse_complement"}


def test_the_teacher_is_the_moving_average_of_the_student(language: Callable, windows: Windows, tmp_path: Path) -> None:
    module = Pretraining(language(), objective=Objective(decay=0.5), learning_rate=1e-2)
    first = module.model.stem.conv_forward.weight.detach().clone()
    seen = []
    module.on_train_batch_end = lambda *_: seen.append(module.model.stem.conv_forward.weight.detach().clone())  # type: ignore[method-assign]
    fit(module, windows, None, tmp_path / "run", RunOptions(epochs=1, batch=len(windows) // 2, average=0), {})
    assert len(seen) == 2
    expected = 0.5 * (0.5 * first + 0.5 * seen[0]) + 0.5 * seen[1]
    torch.testing.assert_close(module.teacher.stem.conv_forward.weight, expected)
    assert int(module.model.fusion.steps) == 2


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_to_the_bit(
    language: Callable, windows: Windows, stop_after: Callable, tmp_path: Path
) -> None:
    options = RunOptions(epochs=2, batch=16, average=0, checkpoint_every=1)
    make = lambda: Pretraining(language(), objective=Objective(warm_up=4), learning_rate=1e-3)  # noqa: E731
    whole, first, second = make(), make(), make()
    fit(whole, windows, None, tmp_path / "whole", options, {})
    stopped = stop_after(first, 3)
    with pytest.raises(stopped):
        fit(first, windows, None, tmp_path / "parts", options, {})
    fit(second, windows, None, tmp_path / "parts", options, {})
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow
def test_the_command_leaves_a_language_model_that_has_learned(tmp_path: Path, windows: Windows) -> None:
    fasta = tmp_path / "x.fa"
    words = [
        "pretrain", "--fasta", str(fasta), "--length", "32", "--valid-contigs", "two", "--run-folder",
        str(tmp_path / "run"), "--width", "16", "--depth", "1", "--block-size", "32", "--batch", "8", "--epochs", "25",
        "--learning-rate", "0.01", "--warm-up", "20", "--gate-freeze", "5", "--name", "words",
    ]  # fmt: skip
    assert main(words) == 0
    folder = tmp_path / "run" / "model"
    model = cdi.load_model(folder)
    assert (model.name, model.targets) == ("words", ("log_likelihood",))
    facts = json.loads((folder / "config.json").read_text())["provenance"]
    assert facts["settings"]["warm_up"] == 20
    assert facts["valid_accuracy"] > 0.35  # one in four by chance
    assert facts["valid_masked"] < np.log(4)
    card = (folder / "README.md").read_text()
    assert f"| accuracy | {facts['valid_accuracy']:.3f} |" in card
    assert "windows of 32 bases from `x.fa`" in card
    tune = [
        "finetune", "--model", str(folder), "--table", str(tmp_path / "t.tsv"), "--targets", "y", "--run-folder",
        str(tmp_path / "tuned"), "--epochs", "1", "--batch", "2",
    ]  # fmt: skip
    (tmp_path / "t.tsv").write_text("sequence\ty\n" + "".join(f"{'ACGT' * 8}\t{i}\n" for i in range(4)))
    assert main(tune) == 0
    assert cdi.load_model(tmp_path / "tuned" / "model").targets == ("y",)


def pretrain(folder: Path, fasta: Path, *more: str) -> list[str]:
    return [
        "pretrain", "--fasta", str(fasta), "--length", "16", "--run-folder", str(folder / "run"), "--width", "16",
        "--depth", "1", "--block-size", "16", "--epochs", "1", "--warm-up", "1", *more,
    ]  # fmt: skip


def fasta_of(path: Path, seed: int, bases: int = 16 * 9, between: str = "") -> Path:
    """Two contigs of random bases, the second of twice as many Gs and Cs, with lines between them."""
    random = np.random.default_rng(seed)
    one, two = ("".join(random.choice(list("ACGT"), bases, p=p)) for p in ([0.3, 0.2, 0.2, 0.3], [0.1, 0.4, 0.4, 0.1]))
    path.write_text(f">one\n{one}\n{between}>two\n{two}\n")
    return path


def test_every_window_is_shown_and_the_model_knows_their_range(tmp_path: Path) -> None:
    fasta = fasta_of(tmp_path / "x.fa", 0)
    assert main(pretrain(tmp_path, fasta, "--batch", "8", "--valid-contigs", "two")) == 0
    folder = tmp_path / "run" / "model"
    facts = json.loads((folder / "config.json").read_text())["provenance"]
    assert (facts["train"], facts["valid"], facts["steps"]) == (9, 9, 2)  # nine windows, eight at once
    one = fasta.read_text().split("\n")[1]
    known = cdi.load_model(folder).training_range
    assert known == cdi.TrainingRange.of([one[at : at + 16] for at in range(0, len(one), 16)])
    assert "trained on: 16 bases, " in (folder / "README.md").read_text()
    assert "2 steps of at most 8 rows" in (folder / "README.md").read_text()


def test_two_empty_lines_between_records_are_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = fasta_of(tmp_path / "x.fa", 0, between="\n\n")
    assert cli.main(["train", *pretrain(tmp_path, fasta)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "without empty lines" in error
    assert "pyfaidx" not in error


def test_a_run_does_not_continue_with_a_genome_that_has_changed(tmp_path: Path) -> None:
    fasta = fasta_of(tmp_path / "x.fa", 0)
    words = pretrain(tmp_path, fasta, "--checkpoint-every", "1")
    assert main(words) == 0
    before = fasta.read_text()
    fasta_of(fasta, 1)
    with pytest.raises(ValueError, match=r"other settings: content_train\. content_train: what was read is not"):
        main(words)
    fasta.write_text(before)
    assert main(words) == 0


def test_an_index_is_not_used_for_another_file(tmp_path: Path) -> None:
    """The second file is older than the index of the first, as after `cp -p`."""
    first, second = fasta_of(tmp_path / "a.fa", 0, 16 * 40), fasta_of(tmp_path / "b.fa", 1, 16 * 9)
    old = first.stat().st_mtime - 1000
    os.utime(second, (old, old))
    assert main(pretrain(tmp_path, first)) == 0
    (tmp_path / "run" / "last.ckpt").unlink(missing_ok=True)
    moved = second.rename(first)  # of the same name
    assert main(pretrain(tmp_path, moved)) == 0
    facts = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["provenance"]
    assert facts["train"] == 18


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--patience", "1"], "`patience` needs rows for validation"),
        (["--valid-share", "0.01"], r"`share` 0\.01 would hold none of the 18 windows"),
        (["--valid-share", "0.2", "--valid-contigs", "two"], "`contigs` and `share` both say what to hold out"),
        (["--seed", str(2**32)], "`seed` must be from 0 to 4,294,967,295"),
    ],
)
def test_a_validation_that_cannot_be_is_an_error(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(pretrain(tmp_path, fasta_of(tmp_path / "x.fa", 0), *more))


def test_masks_depend_on_the_seed(language: Callable, windows: Windows, tmp_path: Path) -> None:
    trained = [Pretraining(language(), seed=seed) for seed in (0, 1)]
    for number, module in enumerate(trained):  # the same weights and windows, in the same order
        fit(module, windows, None, tmp_path / str(number), RunOptions(epochs=1, batch=99, average=0), {})
    assert not torch.equal(*(module.model.lm_head.weight for module in trained))


def test_validation_in_which_nothing_is_masked_is_not_a_number(language: Callable) -> None:
    module = Pretraining(language()).eval()
    logged: dict[str, float] = {}
    module.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    module.on_validation_epoch_start()
    module.validation_step(torch.full((2, 9), 4, dtype=torch.uint8), 0)
    module.on_validation_epoch_end()
    assert np.isnan(list(logged.values())).all()
    assert set(module.measures) <= set(logged)


@pytest.mark.parametrize("change", [{"semantic": -1.0}, {"warm_up": -1}, {"decay": 1.0}])
def test_weights_out_of_range_are_errors(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` must be"):
        Objective(**change)  # type: ignore[arg-type]


def test_a_model_with_a_head_is_an_error(model: CrossDNA) -> None:
    with pytest.raises(ValueError, match="`model` must have no head, but it has one for activity"):
        Pretraining(model)
