"""The edit engine: scores of any edits by both paths, the certificate, kernels, and the cache."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret import Edit, ReuseWarning, predict, score_edits
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Editor
from crossdna_interpret.models.crossdna.incremental import Incremental
from crossdna_interpret.models.crossdna.native import bindings as kernels
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.scoring import batches, runner
from crossdna_interpret.scoring.forward import score_ids
from tests.nets import with_memory

TARGETS = ("rods", "cones", "amacrine")
FLANKS = ("GATTACAGATTACA", "CCTGAAACCTGA")
LENGTH = 60

EXACT = "score_edits, exact reuse of the reference"
PLAIN = "score_edits, one forward pass for each edit"

compiler = pytest.mark.skipif(compiling.find_compiler() is None, reason="there is no C compiler")


class Toy(nn.Module):
    """No CrossDNA: what a base gives depends on how far it is from either end, and on the base after it."""

    name = "toy"
    targets: tuple[str, ...] = ("near", "far")
    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([[0.3, -1.2, 0.8, 2.1, 0.1], [1.0, 0.4, -0.7, 0.2, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[-1], dtype=torch.float64)
        weight = self.weight.double()
        value = torch.einsum("ncl,tc->ntl", x, weight) * torch.stack([place.cos(), (place.flip(0) + 1).rsqrt()])
        return (value[..., 1:] * value[..., :-1]).sum(-1) + value.sum(-1)


def a_mixture(length: int = LENGTH) -> list[Edit]:
    """Edits of every kind all over a sequence, in no order."""
    edits = [Edit(place, place + 1, base) for place in range(0, length, 7) for base in "AG"]
    edits += [Edit(place, place + 3, "") for place in range(0, length - 3, 11)]
    edits += [Edit(place, place, "TGCA") for place in range(0, length + 1, 12)]
    edits += [Edit(place, place + 5, "NT") for place in range(2, length - 5, 17)]
    edits += [Edit(3, 51, "ACG" * 16), Edit(20, 20, ""), Edit(0, length, "T" * length)]
    random.Random(0).shuffle(edits)
    return edits


def strings(sequence: str, edits: list[Edit], flanks: tuple[str, str] | None) -> list[str]:
    """The edited sequences; `Editor` has tests of its own."""
    if flanks is None:
        return [sequence[: edit.start] + edit.string + sequence[edit.end :] for edit in edits]
    return [Editor(sequence, flanks)(edit) for edit in edits]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A place for compiled kernels in which there are none."""
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shared_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Or one in which other tests may have left some."""
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path_factory.getbasetemp() / "kernels"))


@pytest.fixture
def sequence(make_sequence: Callable) -> str:
    return make_sequence(LENGTH, n_at=(0, 9, 48))


MODELS: dict[str, Callable[[Callable], nn.Module]] = {
    "float32": lambda make: make(targets=TARGETS),
    "float64": lambda make: make(targets=TARGETS).double(),
    "mirrored": lambda make: make(targets=TARGETS, rc_blocks="mirrored").double(),
    "log-likelihood": lambda make: make(targets=()).double(),
    "toy": lambda make: Toy(),
}


# The scores


@pytest.mark.slow
@pytest.mark.parametrize("flanks", [None, FLANKS], ids=["no flanks", "flanks"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_predictions_of_the_edited_strings_in_the_order_given(
    name: str, flanks: tuple[str, str] | None, make_model: Callable, sequence: str
) -> None:
    model = MODELS[name](make_model)
    edits = a_mixture()
    result = score_edits(sequence, edits, model, target=0, flanks=flanks)
    texts = strings(sequence, edits, flanks)
    expected = predict(texts, model)
    tolerance = 1e-5 if expected.dtype == np.float32 else 1e-12
    assert result.predictions.dtype == expected.dtype
    np.testing.assert_allclose(result.predictions, expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(result.reference, predict(sequence, model)[0])
    assert np.ptp(expected, axis=0).min() > 1000 * tolerance  # the order shows
    assert result.edits == tuple(edits)
    assert result.lengths.tolist() == [len(text) for text in texts]
    assert result.window == ("changed" if flanks is None else "kept")
    assert result.flanks == flanks
    assert result.certificate.method == (PLAIN if name == "toy" else EXACT)


def test_tuples_are_edits_and_text_is_normalised(make_model: Callable, sequence: str) -> None:
    model = make_model()
    edits = [(3, 4, "u"), (5, 9, ""), Edit(7, 7, "ga"), (0, 1, "C")]
    flanks = (FLANKS[0].lower(), FLANKS[1].replace("T", "u"))
    result = score_edits(sequence.lower(), edits, model, flanks=flanks)
    assert result.sequence == sequence
    assert result.flanks == FLANKS
    assert result.edits == (Edit(3, 4, "T"), Edit(5, 9, ""), Edit(7, 7, "GA"), Edit(0, 1, "C"))
    expected = score_edits(sequence, list(result.edits), model, flanks=FLANKS)
    np.testing.assert_array_equal(result.predictions, expected.predictions)


def test_the_same_edit_twice_and_no_edit_at_all(make_model: Callable, sequence: str) -> None:
    model = make_model(targets=TARGETS).double()
    own = Edit(5, 8, sequence[5:8])
    other = Edit(4, 5, "A")
    assert sequence[4] in "CGT"
    result = score_edits(sequence, [own, Edit(3, 3, ""), other, own, other], model, target="cones")
    np.testing.assert_allclose(result.delta[[0, 1, 3]], 0, rtol=0, atol=1e-14)
    assert result.delta[2] == result.delta[4]
    assert abs(result.delta[2]) > 1e-6


@pytest.mark.parametrize("name", ["float32", "toy"])
def test_an_empty_list_of_edits_gives_an_empty_result(name: str, make_model: Callable, sequence: str) -> None:
    model = MODELS[name](make_model)
    result = score_edits(sequence, [], model, target=0)
    assert result.predictions.shape == (0, len(model.targets))
    assert result.delta.shape == result.lengths.shape == (0,)
    np.testing.assert_array_equal(result.reference, predict(sequence, model)[0])
    assert result.window == "kept"
    assert len(result.to_dataframe()) == 0
    assert result.to_xarray()["predictions"].shape == (0, len(model.targets))


def test_bad_arguments_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Toy()
    monkeypatch.setattr(model, "forward", lambda x: pytest.fail("the model was asked"))
    for edits, options, message in (
        ([Edit(0, 1, "A"), (3, 9, "")], {"target": 0}, r"`edits\[1\]` ends at 9"),
        ([Edit(0, 1, "A")], {}, "`target` must be given"),
        ([Edit(0, 1, "A")], {"target": "middle"}, "`target` 'middle' is unknown"),
        ([Edit(0, 1, "A")], {"target": 0, "flanks": ("A",)}, "`flanks` must be two strings"),
        ([Edit(0, 1, "A")], {"target": 0, "batch_size": 0}, "`batch_size` must be an integer of at least 1, .* 0"),
        ([Edit(0, 1, "A")], {"target": 0, "compile": "yes"}, "`compile` must be 'auto', True or False, .* 'yes'"),
        ([Edit(0, 1, "A")], {"target": 0, "compile": 1}, "`compile` must be 'auto', True or False, but got 1"),
        ([Edit(0, 1, "A")], {"target": 0, "compile": None}, "`compile` must be .* but got None"),
    ):
        with pytest.raises(ValueError, match=message):
            score_edits("ACGTACGT", edits, model, **options)
    with pytest.raises(ValueError, match="`seq` has 'X' at position 3"):
        score_edits("ACGX", [], model, target=0)


def test_memory_is_asked_for_the_longest_edited_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    @with_memory
    class Hungry(Toy):
        def memory_estimate(self, n: int, length: int, *, gradients: bool = False) -> int:
            return n * length * 1_000_000

    for module in (runner, batches):
        monkeypatch.setattr(module, "available_memory", lambda device: 45_000_000)
    for edit, flanks in ((Edit(4, 4, "A" * 37), FLANKS), (Edit(4, 4, "A" * 5), None), (Edit(4, 24, ""), None)):
        assert len(score_edits("ACGT" * 10, [edit], Hungry(), target=0, flanks=flanks, batch_size=1).predictions) == 1
    with pytest.raises(MemoryError, match=r"A sequence of 46 bases in batches of 1 needs about 0\.0 GB"):
        score_edits("ACGT" * 10, [Edit(0, 1, "C"), Edit(4, 4, "A" * 6)], Hungry(), target=0, batch_size=1)


# The path that is taken, and what the certificate says of it


def test_the_certificate_tells_what_was_checked(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[str] = []
    monkeypatch.setattr(runner, "score_ids", lambda model, ids: (
        models.extend(alphabet.decode(row) for row in ids), score_ids(model, ids))[1]
    )  # fmt: skip
    edits = a_mixture()
    result = score_edits(sequence, edits, make_model(targets=TARGETS), target=0, batch_size=5)
    certificate = result.certificate
    assert certificate.method == EXACT
    assert certificate.settings == {"compile": "no: the job is too short to repay compilation", "batch_size": 5}
    assert certificate.checks.keys() == {"reuse_worst_difference", "reuse_largest_effect", "reuse_checked"}
    assert certificate.checks["reuse_worst_difference"] < 1e-5
    assert certificate.checks["reuse_largest_effect"] == np.abs(result.predictions - result.reference).max()
    first, *checked = models
    assert first == sequence
    assert checked.count(sequence) == 1
    sample = [text for text in checked if text != sequence]
    assert certificate.checks["reuse_checked"] == len(sample) == len(set(sample))
    by_place = sorted(edits, key=lambda edit: (edit.start, edit.end))
    texts = strings(sequence, by_place, None)
    assert {texts[0], texts[-1]} < set(sample) < set(texts)


@pytest.mark.parametrize(
    ("name", "edits", "why"),
    [
        ("toy", 5, "no: toy does not offer it"),
        ("float32", 3, "no: too few edits to be faster"),
        (
            "hooked",
            5,
            "no: hooks are active on branch_a.hook_out, and what they see or change must be computed in full",
        ),
    ],
)
def test_the_certificate_tells_why_there_was_no_reuse(
    name: str, edits: int, why: str, make_model: Callable, sequence: str
) -> None:
    model = MODELS["float32" if name == "hooked" else name](make_model)
    some = a_mixture()[:edits]
    with cdi.intervene(model, {"branch_a.out": lambda value, where: 0 * value} if name == "hooked" else {}):
        result = score_edits(sequence, some, model, target=0, batch_size=2)
        expected = predict(strings(sequence, some, None), model)
    np.testing.assert_allclose(result.predictions, expected, rtol=0, atol=1e-6)
    assert result.certificate.method == PLAIN
    assert result.certificate.settings["reuse"] == why
    stability = {"difference_between_calls", "difference_in_a_batch"}
    assert set(result.certificate.checks) == (stability if name == "toy" else set())
    assert max(result.certificate.checks.values(), default=0) < 1e-12


def broken(monkeypatch: pytest.MonkeyPatch, error: Callable[[np.ndarray, Tensor], Tensor]) -> None:
    """From now on reuse is wrong by what `error` makes of ids and scores."""
    score = Incremental.score
    monkeypatch.setattr(Incremental, "score", lambda self, ids: (lambda x: x + error(ids, x))(score(self, ids)))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["everywhere", "first", "last"])
def test_scores_that_reuse_gets_wrong_are_replaced(
    where: str, make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = make_model(targets=TARGETS)
    edits = [Edit(place, place + 1, base) for place in range(1, LENGTH) for base in "AC" if sequence[place] != base]
    ends = {"first": edits[0], "last": edits[-1]}

    def error(ids: np.ndarray, scores: Tensor) -> Tensor:
        wrong = np.ones(len(ids), dtype=bool)
        if where != "everywhere":
            wrong = (ids == Editor(sequence).encoded(ends[where])).all(axis=1)
        return torch.from_numpy(0.25 * wrong)[:, None].to(scores)

    broken(monkeypatch, error)
    with pytest.warns(ReuseWarning, match="scores with reuse differ from those of whole forward passes by up to 0.25"):
        result = score_edits(sequence, edits, model, target=0, batch_size=11, cache=tmp_path)
    expected = predict(strings(sequence, edits, None), model, batch_size=11)
    np.testing.assert_array_equal(result.predictions, expected)
    assert result.certificate.method == PLAIN
    assert result.certificate.settings["reuse"] == "no: scores differed from full forward passes"
    assert result.certificate.checks["reuse_worst_difference"] == pytest.approx(0.25, abs=1e-5)


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("shared_cache")
def test_scores_that_kernels_get_wrong_are_replaced(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, edits = make_model(targets=TARGETS), a_mixture()
    receive = kernels.Kernels.receive
    monkeypatch.setattr(kernels.Kernels, "receive", lambda self, x, *more: receive(self, 1.01 * x, *more))
    with pytest.warns(ReuseWarning):
        result = score_edits(sequence, edits, model, target=0, compile=True)
    expected = score_edits(sequence, edits, model, target=0, compile=False)
    np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-6)
    assert result.certificate.settings["compile"] == "no: full forward passes are used instead"


def test_scores_that_are_not_finite_are_refused(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, lambda ids, scores: scores * float("nan"))
    with pytest.raises(ValueError, match="`model` crossdna returned scores that are NaN or infinite"):
        score_edits(sequence, a_mixture(), make_model())


@pytest.mark.parametrize(
    "ask",
    [
        lambda seq, model: score_edits(seq, a_mixture(), model),
        lambda seq, model: cdi.deletion_scan(seq, model),
        lambda seq, model: cdi.insertion_scan(seq, model, insert="A"),
        lambda seq, model: cdi.ism(seq, model),
        lambda seq, model: cdi.pairwise_ism(seq, model, positions=[2, 5]),
    ],
    ids=["score_edits", "deletion_scan", "insertion_scan", "ism", "pairwise_ism"],
)
def test_the_warning_points_at_the_caller(
    ask: Callable, make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, lambda ids, scores: torch.ones_like(scores))
    with pytest.warns(ReuseWarning) as caught:
        ask(sequence, make_model())
    assert [warning.filename for warning in caught] == [__file__]


# Compiling


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize("name", ["float32", "float64", "mirrored"])
def test_compiled_kernels_do_not_change_the_scores(name: str, make_model: Callable, sequence: str) -> None:
    model = MODELS[name](make_model)
    edits = a_mixture()
    for some in (edits, edits[:3]):  # with reuse, and without
        result = score_edits(sequence, some, model, target=0, compile=True)
        expected = score_edits(sequence, some, model, target=0, compile=False)
        assert result.certificate.settings["compile"] == "CPU kernels"
        assert expected.certificate.settings["compile"] == "no: disabled"
        tolerance = 1e-5 if name == "float32" else 1e-12
        np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=tolerance)
        assert (result.predictions != expected.predictions).any()  # they were computed otherwise


def test_nothing_is_compiled_for_a_short_job_or_against_the_users_will(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    model = make_model()
    settings = score_edits(sequence, a_mixture(), model).certificate.settings
    assert settings["compile"] == "no: the job is too short to repay compilation"
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 0)
    settings = score_edits(sequence, a_mixture(), model, compile=False).certificate.settings
    assert settings["compile"] == "no: disabled"
    assert not cache.exists()


@pytest.mark.slow
@compiler
def test_kernels_that_are_at_hand_are_used_for_a_short_job(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    model, edits = make_model(), a_mixture()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "WORTH_COMPILING", model.operations(LENGTH) * len(edits))
        assert score_edits(sequence, edits, model).certificate.settings["compile"] == "CPU kernels"
    (library,) = cache.iterdir()
    assert score_edits(sequence, edits, model).certificate.settings["compile"] == "CPU kernels"
    assert list(cache.iterdir()) == [library]


def test_compile_where_it_cannot_be_done(make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = a_mixture()
    with pytest.raises(RuntimeError, match="`compile`=True: toy has no compiled kernels"):
        score_edits(sequence, edits, Toy(), target=0, compile=True)
    assert score_edits(sequence, edits, Toy(), target=0).certificate.settings["compile"].startswith("no: ")
    model = make_model()
    with (
        cdi.capture(model, "fusion.out"),
        pytest.raises(RuntimeError, match="`compile`=True cannot be done: hooks are active"),
    ):
        score_edits(sequence, edits, model, compile=True)
    monkeypatch.setattr(compiling, "find_compiler", lambda: None)
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 0)
    with pytest.raises(RuntimeError, match="`compile`=True cannot be done: there is no C compiler"):
        score_edits(sequence, edits, model, compile=True)
    result = score_edits(sequence, edits, model)
    assert result.certificate.settings["compile"].startswith("no: there is no C compiler")
    np.testing.assert_allclose(result.predictions, predict(strings(sequence, edits, None), model), rtol=0, atol=1e-5)


# Batches


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("name", ["float64", "toy"])
def test_batch_size_is_kept_to_and_does_not_matter(
    name: str, batch_size: int, make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, edits = MODELS[name](make_model), a_mixture()
    expected = score_edits(sequence, edits, model, target=0)
    sizes: list[int] = []
    by_reuse = Incremental.score
    monkeypatch.setattr(Incremental, "score", lambda self, ids: (sizes.append(len(ids)), by_reuse(self, ids))[1])
    monkeypatch.setattr(runner, "score_ids", lambda model, ids: (sizes.append(len(ids)), score_ids(model, ids))[1])
    result = score_edits(sequence, edits, model, target=0, batch_size=batch_size)
    np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-12)
    assert result.certificate.method == expected.certificate.method
    assert result.certificate.settings["batch_size"] == batch_size
    changes = [edit.change for edit in edits]
    assert max(sizes) == min(batch_size, max(changes.count(change) for change in changes))
    sizes.clear()
    score_edits(sequence, edits, model, target=0, batch_size=batch_size, flanks=FLANKS)
    assert max(sizes) == min(batch_size, len(edits))  # all of one length


@compiler
@pytest.mark.usefixtures("shared_cache")
def test_an_analysis_never_changes_the_model(
    make_model: Callable, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    for i, module in enumerate(model.modules()):
        module.training = i % 3 == 0
    before = [(vars(module).copy(), module.training) for module in model.modules()]
    during: list[bool] = []

    def fail(self: Incremental, ids: np.ndarray) -> Tensor:
        during.append([(vars(module), module.training) for module in model.modules()] == before)
        with torch.no_grad():
            during.append(kernels.active_kernels(torch.zeros(1)) is not None)
        during.append(not any(module.training for module in self.model.modules()))
        raise RuntimeError("the machine is out of order")

    monkeypatch.setattr(Incremental, "score", fail)
    with pytest.raises(RuntimeError, match="the machine is out of order"):
        score_edits(sequence, a_mixture(), model, compile=True)
    assert during
    assert all(during)
    assert [(vars(module), module.training) for module in model.modules()] == before


def test_a_length_that_the_model_does_not_take_is_refused() -> None:
    model = cdi.wrap(FixedLength(), channels="ACGT", targets=["y"], length=20)
    sequence = "ACGTT" * 4
    for compute in (
        lambda: cdi.deletion_scan(sequence, model, width=2),
        lambda: cdi.score_edits(sequence, [(3, 4, "A"), (0, 1, "")], model),
        lambda: cdi.score_edits(sequence, [(0, 1, "")], model, rc_average=True),
    ):
        with pytest.raises(ValueError, match=r"`seq` must have 20 bases, which .* takes, but has 1[89]"):
            compute()
    assert len(cdi.score_edits(sequence, [(0, 1, "")], model, flanks=("ACGT", "ACGT")).delta) == 1


class FixedLength(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(2).sum((1, 2))[:, None]
