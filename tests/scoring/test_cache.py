"""Scores cached in a folder: an interruption loses nothing, and no score of another job is returned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import crossdna_interpret as cdi
from crossdna_interpret import Edit, EditScores, score_edits
from crossdna_interpret.models.crossdna.incremental import Incremental
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.scoring import runner
from crossdna_interpret.stores.scores import ScoreCache
from tests.nets import Net, first, wrapped

FLANKS = ("GATTACAGATTACA", "CCTGAAACCTGA")


EDITS = [Edit(place, place + 1, "") for place in range(0, 40, 2)] + [Edit(place, place, "T") for place in range(16)]


class Toy(nn.Module):
    """No CrossDNA."""

    name = "toy"
    targets: tuple[str, ...] = ("one", "two")
    device = torch.device("cpu")
    dtype = torch.float64

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[-1], dtype=torch.float64)
        return torch.stack([(x[:, 0] * place.cos()).sum(-1), (x[:, 1] * place.sin()).sum(-1)], dim=-1)


class Watched:
    """Counts the edits that are scored, and interrupts after a number of batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.edits = 0
        self.left: int | None = None
        by_reuse, by_pass = Incremental.score, runner.score_ids
        monkeypatch.setattr(Incremental, "score", lambda this, ids: (self._batch(len(ids)), by_reuse(this, ids))[1])
        # Of the plain path, the first pass is for the sequence itself.
        monkeypatch.setattr(
            runner, "score_ids", lambda model, ids: (self._pass(model, len(ids)), by_pass(model, ids))[1]
        )

    def _pass(self, model: nn.Module, size: int) -> None:
        if isinstance(model, Toy):
            self._batch(size)

    def _batch(self, size: int) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        if self.left is not None:
            self.left -= 1
        self.edits += size


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Batches come one after the other, so that they can be counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.fixture
def sequence(make_sequence: Callable) -> str:
    return make_sequence(60, n_at=(9, 48))


def ask(sequence: str, model: nn.Module, folder: Path | None, batch_size: int = 4) -> EditScores:
    return score_edits(sequence, EDITS, model, target=0, batch_size=batch_size, cache=folder)


def state(model: nn.Module) -> list[tuple]:
    """What a call must leave as it was."""
    return [
        (name, module.training, sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("batches", [0, 1, 4])
@pytest.mark.parametrize("kind", ["reuse", "plain"])
def test_after_an_interruption_only_what_is_missing_is_scored(
    kind: str, batches: int, make_model: Callable, sequence: str, watched: Watched, tmp_path: Path
) -> None:
    model = make_model(targets=("one", "two"), depth=1).double() if kind == "reuse" else Toy()
    for i, module in enumerate(model.modules()):
        module.training = i % 3 == 0
    itself = 0 if kind == "reuse" else 1
    expected = ask(sequence, model, None)
    before = state(model)
    watched.left, watched.edits = batches + itself, 0
    with pytest.raises(KeyboardInterrupt):
        ask(sequence, model, tmp_path / "new" / "folder")
    assert watched.edits == 4 * batches + itself
    assert state(model) == before
    watched.left, watched.edits = None, 0
    result = ask(sequence, model, tmp_path / "new" / "folder")
    assert watched.edits == len(EDITS) - 4 * batches + itself
    # What reuse finds in memory when it goes on is less, which may show in the last digit.
    np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-14 if kind == "reuse" else 0)
    np.testing.assert_array_equal(result.reference, expected.reference)
    assert result.certificate.method == expected.certificate.method
    assert result.certificate.settings == expected.certificate.settings
    watched.edits = 0
    # The whole of it; with reuse, in batches of whatever size.
    for batch_size in (4, 7 if kind == "reuse" else 4):
        again = ask(sequence, model, tmp_path / "new" / "folder", batch_size)
        np.testing.assert_array_equal(again.predictions, result.predictions)
    assert watched.edits == 2 * itself


@pytest.mark.slow
def test_a_record_that_was_cut_short_is_dropped(
    make_model: Callable, sequence: str, watched: Watched, tmp_path: Path
) -> None:
    model = make_model(targets=("one", "two"), depth=1).double()
    expected = ask(sequence, model, tmp_path)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    header, record = whole.index(b"\n") + 1, 4 + 8 + 2 * 8
    assert len(whole) == header + len(EDITS) * record
    for cut, missing in ((1, 1), (record - 1, 1), (record, 1), (record + 1, 2), (len(whole) - 3, len(EDITS))):
        file.write_bytes(whole[:-cut])
        watched.edits = 0
        result = ask(sequence, model, tmp_path)
        assert watched.edits == missing
        np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-12)
        assert file.read_bytes() == whole[:-cut]  # another process may be writing to it
        watched.edits = 0
        ask(sequence, model, tmp_path)
        assert watched.edits == 0
        for other in files(tmp_path):
            other.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 10, -1, -20, -12])
def test_a_damaged_byte_costs_what_it_is_in(
    at: int, make_model: Callable, sequence: str, watched: Watched, tmp_path: Path
) -> None:
    model = make_model(targets=("one", "two"), depth=1).double()
    expected = ask(sequence, model, tmp_path)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    watched.edits = 0
    result = ask(sequence, model, tmp_path)
    assert watched.edits == (len(EDITS) if at >= 0 else 1)
    np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-12)


def test_two_runs_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    scores = np.zeros((6, 1))
    with (
        ScoreCache.open(tmp_path, ("job",), scores.copy()) as one,
        ScoreCache.open(tmp_path, ("job",), scores.copy()) as other,
    ):
        one.add([0, 1], np.array([[1.0], [2.0]]))
        other.add([2], np.array([[3.0]]))
        with ScoreCache.open(tmp_path, ("job",), scores.copy()) as third:  # while both are still writing
            assert third.done == {0, 1, 2}
        one.add([3], np.array([[4.0]]))
        other.add([4], np.array([[5.0]]))
    with ScoreCache.open(tmp_path, ("job",), scores) as kept:
        assert kept.done == {0, 1, 2, 3, 4}
    assert scores[:, 0].tolist() == [1, 2, 3, 4, 5, 0]


def changed_attribute() -> nn.Module:
    net = Net()
    net.scale = 2.0
    return net


def changed_within() -> nn.Module:
    net = Net()
    net.options["power"][0] = 2
    return net


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "itself": wrapped,
    "another output": lambda: wrapped(output=first(1)),
    "another output by number": lambda: wrapped(nn.Sequential(Net(), nn.Softmax(1)), output=first(1)),
    "another order of channels": lambda: wrapped(channels="TGCA"),
    "N as a quarter of each": lambda: wrapped(unknown=0.25),
    "another activation": lambda: wrapped(Net(nn.Tanh())),
    "another option of a submodule": lambda: wrapped(Net(nn.LeakyReLU(0.5))),
    "another attribute": lambda: wrapped(changed_attribute()),
    "a value within an attribute": lambda: wrapped(changed_within()),
    "other weights": lambda: wrapped(Net(seed=1)),
    "more targets": lambda: wrapped(output=None, targets=["x", "y"]),
    "another dtype": lambda: wrapped(Net().double()),
    "another layout": lambda: wrapped(nn.Sequential(Transposed(), Net()), layout="channels_last"),
}


class Transposed(nn.Module):
    """As another layout has it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mT


def test_another_model_never_gets_scores_that_were_kept(tmp_path: Path) -> None:
    sequence = "ACGTTGCANGGCTTAACCGGATAT"
    for repeat in range(2):
        for name, make in VARIANTS.items():
            model = make()
            kept = cdi.ism(sequence, model, target=0, cache=tmp_path)
            np.testing.assert_array_equal(kept.predictions, cdi.ism(sequence, model, target=0).predictions, name)
        assert len(files(tmp_path)) == len(VARIANTS), repeat


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.conv.weight.data.add_(0.1),
        lambda net: net.conv.weight.detach().numpy().__setitem__((0, 0, 0), 5.0),
        lambda net: torch.nn.init.zeros_(net.head.bias),
        lambda net: setattr(net.conv, "weight", nn.Parameter(net.conv.weight * 2)),
        lambda net: net.conv.weight.data.copy_(net.conv.weight.data.flip(0).clone()),
        lambda net: setattr(net, "scale", 3.0),
        lambda net: setattr(net, "act", nn.Sigmoid()),
        lambda net: net.register_forward_hook(lambda module, inputs, output: 2 * output),
    ],
    ids=[
        "through .data",
        "through numpy",
        "in place",
        "another parameter",
        "rows swapped",
        "attribute",
        "module",
        "hook",
    ],
)
def test_a_model_that_was_changed_is_another_model(change: Callable, tmp_path: Path) -> None:
    net = Net()
    model = wrapped(net)
    before = cdi.ism("ACGTTGCAAGGC", model, cache=tmp_path)
    change(net)
    after = cdi.ism("ACGTTGCAAGGC", model, cache=tmp_path)
    np.testing.assert_array_equal(after.predictions, cdi.ism("ACGTTGCAAGGC", model).predictions)
    assert np.abs(after.predictions - before.predictions).max() > 1e-4
    assert after.certificate.model_hash != before.certificate.model_hash


def test_what_cannot_be_looked_into_is_not_kept_and_that_is_said(tmp_path: Path) -> None:
    net = Net().eval()
    net.lock = threading.Lock()
    with pytest.warns(cdi.CacheWarning, match=r"keeps nothing: module.lock of Net may change its scores") as caught:
        result = cdi.ism("ACGTTGCAAGGC", wrapped(net), cache=tmp_path)
    assert caught[0].filename == __file__
    assert "module.lock" in result.certificate.settings["cache"]
    assert not files(tmp_path)


@pytest.mark.slow
def test_other_questions_do_not_collide(make_model: Callable, make_sequence: Callable, tmp_path: Path) -> None:
    sequence = make_sequence(60)
    reordered = [*EDITS[1:], EDITS[0]]
    model = make_model(depth=1)
    other, double = make_model(depth=1, seed=1), make_model(depth=1).double()
    mirrored = make_model(depth=1, rc_blocks="mirrored")  # the same weights, put together otherwise
    questions = [
        lambda keep: score_edits(sequence, EDITS, model, cache=keep),
        lambda keep: score_edits(make_sequence(60, seed=1), EDITS, model, cache=keep),
        lambda keep: score_edits(sequence, reordered, model, cache=keep),
        lambda keep: score_edits(sequence, EDITS[:-1], model, cache=keep),
        lambda keep: score_edits(sequence, EDITS, model, flanks=FLANKS, cache=keep),
        lambda keep: score_edits(sequence, EDITS, model, flanks=FLANKS[::-1], cache=keep),
        lambda keep: score_edits(sequence, EDITS, other, cache=keep),
        lambda keep: score_edits(sequence, EDITS, double, cache=keep),
        lambda keep: score_edits(sequence, EDITS, mirrored, cache=keep),
    ]
    expected = [question(None).predictions for question in questions]
    for number, (question, scores) in enumerate(zip(questions, expected, strict=True), start=1):
        np.testing.assert_array_equal(question(tmp_path).predictions, scores)
        assert len(files(tmp_path)) == number
    for question, scores in zip(reversed(questions), reversed(expected), strict=True):  # and all are still there
        np.testing.assert_array_equal(question(tmp_path).predictions, scores)
    assert len(files(tmp_path)) == len(questions)


def test_what_hooks_make_of_a_model_is_another_question(make_model: Callable, sequence: str, tmp_path: Path) -> None:
    model = make_model(depth=1)

    def ablated(branch: str, keep: Path | None) -> np.ndarray:
        with cdi.intervene(model, {f"branch_{branch}.out": lambda value, where: 0 * value}):
            return score_edits(sequence, EDITS, model, cache=keep).predictions

    expected = {branch: ablated(branch, None) for branch in "ab"}
    assert np.abs(expected["a"] - expected["b"]).min() > 1e-3
    for branch, scores in expected.items():
        np.testing.assert_array_equal(ablated(branch, tmp_path), scores)


def test_a_file_in_the_place_of_the_folder_is_an_error(make_model: Callable, sequence: str, tmp_path: Path) -> None:
    file = tmp_path / "scores"
    file.write_text("mine")
    with pytest.raises(ValueError, match=f"`cache` must be a folder, but {file} is a file"):
        ask(sequence, make_model(depth=1), file)
    assert file.read_text() == "mine"


def test_a_folder_with_the_name_of_a_file_of_scores_holds_none(
    make_model: Callable, sequence: str, tmp_path: Path
) -> None:
    model = make_model(depth=1)
    expected = ask(sequence, model, tmp_path).predictions
    (file,) = tmp_path.glob("*.scores")
    file.unlink()
    file.mkdir()
    np.testing.assert_array_equal(ask(sequence, model, tmp_path).predictions, expected)


def test_analyses_keep_their_scores_too(make_model: Callable, sequence: str, watched: Watched, tmp_path: Path) -> None:
    model = make_model(depth=1)
    models: list[Callable[[Path | None], np.ndarray]] = [
        lambda keep: cdi.ism(sequence, model, end=9, cache=keep).predictions,
        lambda keep: cdi.deletion_scan(sequence, model, width=2, cache=keep).predictions,
        lambda keep: cdi.insertion_scan(sequence, model, insert="GAT", flanks=FLANKS, cache=str(keep)).predictions,
        lambda keep: cdi.pairwise_ism(sequence, model, positions=[3, 20, 40], cache=keep).predictions,
    ]
    for ask_for in models:
        first = ask_for(tmp_path)
        watched.edits = 0
        np.testing.assert_array_equal(ask_for(tmp_path), first)
        assert watched.edits == 0
    assert len(files(tmp_path)) == len(models)


def test_nothing_is_kept_where_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scores = np.zeros((3, 2))
    with ScoreCache.open(None, None, scores) as kept:
        kept.add([0, 1], np.ones((2, 2)))
        assert kept.done == set()
    assert not files(tmp_path)
    assert not scores.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_was_added_comes_back_into_its_rows(dtype: type, tmp_path: Path) -> None:
    with ScoreCache.open(tmp_path, ("question", 1), np.zeros((5, 2), dtype)) as kept:
        assert kept.done == set()
        kept.add([4, 1], np.array([[0.1, 0.2], [0.3, 0.4]], dtype))
        assert len(files(tmp_path)[0].read_bytes()) > 0  # on disk, though the file is still open
        kept.add([0], np.array([[0.5, 0.6]], dtype))
    scores = np.full((5, 2), 9, dtype)
    with ScoreCache.open(tmp_path, ("question", 1), scores) as kept:
        assert kept.done == {0, 1, 4}
    np.testing.assert_array_equal(scores, np.array([[0.5, 0.6], [0.3, 0.4], [9, 9], [9, 9], [0.1, 0.2]], dtype))
    with ScoreCache.open(tmp_path, ("question", 2), scores) as kept:
        assert kept.done == set()


def test_opening_loses_nothing_to_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoreCache.open(tmp_path, ("question",), np.zeros((5, 2))) as kept:
        kept.add([4, 1], np.ones((2, 2)))
    open_file = Path.open

    def interrupted(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        file = open_file(self, mode, *args, **options)  # type: ignore[call-overload]
        if "b" in mode:
            file.close()
            raise KeyboardInterrupt
        return file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ScoreCache.open(tmp_path, ("question",), np.zeros((5, 2)))
    with ScoreCache.open(tmp_path, ("question",), np.zeros((5, 2))) as kept:
        assert kept.done == {1, 4}


def test_a_model_of_another_class_is_another_question(sequence: str, tmp_path: Path) -> None:
    class Opposite(Toy):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    first = ask(sequence, Toy(), tmp_path)
    np.testing.assert_array_equal(ask(sequence, Opposite(), tmp_path).predictions, -first.predictions)


@pytest.mark.slow
def test_kept_scores_of_reuse_that_went_wrong_are_not_trusted(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model: CrossDNA = make_model(depth=1)
    expected = ask(sequence, model, None)
    with monkeypatch.context() as patch:
        score = Incremental.score
        patch.setattr(Incremental, "score", lambda self, ids: score(self, ids) + 1)
        with pytest.warns(cdi.ReuseWarning):
            ask(sequence, model, tmp_path)
    with pytest.warns(cdi.ReuseWarning):  # what was kept is checked as if it had just been scored
        result = ask(sequence, model, tmp_path)
    np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-5)


def test_whole_passes_after_reuse_went_wrong_are_kept_too(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model: CrossDNA = make_model(depth=1)
    score = Incremental.score
    monkeypatch.setattr(Incremental, "score", lambda self, ids: score(self, ids) + 1)
    with pytest.warns(cdi.ReuseWarning):
        first = ask(sequence, model, tmp_path)
    passes: list[int] = []
    forward = type(model).forward_strands
    monkeypatch.setattr(
        type(model), "forward_strands", lambda self, x, y: (passes.append(len(x)), forward(self, x, y))[1]
    )
    with pytest.warns(cdi.ReuseWarning):
        again = ask(sequence, model, tmp_path)
    np.testing.assert_array_equal(again.predictions, first.predictions)
    assert sum(passes) < len(first.edits)  # the sequence itself and the sample, not every edit again


def test_scores_of_other_batches_and_of_hooks_for_all_modules_are_not_kept_as_one(tmp_path: Path) -> None:
    class OfTheBatch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scores = x[:, 0].sum(1)
            return scores - scores.mean()

    with pytest.warns(cdi.UnstableModelWarning):
        cdi.ism("AACCGGTTAACC", cdi.wrap(OfTheBatch()), cache=tmp_path)
    assert not cdi.ism("AACCGGTTAACC", cdi.wrap(OfTheBatch()), batch_size=1, cache=tmp_path).predictions.any()
    model = wrapped()
    hook = register_module_forward_hook(lambda module, inputs, output: 3 * output if module is model else None)
    try:
        cdi.ism("AACCGGTTAACC", model, cache=tmp_path)
    finally:
        hook.remove()
    after = cdi.ism("AACCGGTTAACC", model, cache=tmp_path)
    np.testing.assert_array_equal(after.predictions, cdi.ism("AACCGGTTAACC", model).predictions)
