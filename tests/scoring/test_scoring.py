"""`predict`, and what every analysis shares: models, targets, batches, memory, evaluation mode, certificates."""

from __future__ import annotations

import copy
import functools
import re
import threading
from collections.abc import Callable
from importlib import metadata

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret
import crossdna_interpret as cdi
from crossdna_interpret import capture, integrated_gradients, ism, load_model, predict
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.evaluation import in_evaluation_mode
from crossdna_interpret.scoring import batches
from crossdna_interpret.scoring.batches import resolve_batch_size
from crossdna_interpret.scoring.forward import evaluation_mode, score_ids
from crossdna_interpret.scoring.provenance import model_hash
from crossdna_interpret.scoring.targets import resolve_target
from tests.nets import with_memory

TARGETS = ("rods", "cones", "amacrine")
MIXED_LENGTHS = (17, 9, 17, 40, 9, 1, 17)


class Composition(nn.Module):
    """Targets are counts of A, C and G: the right row for each sequence is known."""

    name = "composition"
    targets: tuple[str, ...] = ("A", "C", "G")
    device = torch.device("cpu")
    dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3].sum(-1)


class Answering(Composition):
    """A model that gives what `answer` makes of the counts."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        return self.answer(super().forward(x))


@with_memory
class Hungry(Composition):
    """A model that asks for 1 MB for each position of a batch, and three times that for gradients."""

    targets = ("A",)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1].square().sum(-1)

    def memory_estimate(self, n: int, length: int, *, gradients: bool = False) -> int:
        return n * length * 1_000_000 * (3 if gradients else 1)


ANALYSES = {
    "predict": (lambda seq, model, **options: predict([seq] * 3, model, **options), False),
    "ism": (lambda seq, model, **options: ism(seq, model, end=1, **options), False),
    "integrated_gradients": (
        lambda seq, model, **options: integrated_gradients(seq, model, baseline="zeros", steps=2, **options),
        True,
    ),
}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the bytes that are said to be available."""
    return lambda amount: monkeypatch.setattr(batches, "available_memory", lambda device: amount)


def test_predict_keeps_the_order_of_mixed_lengths(make_sequence: Callable) -> None:
    sequences = [make_sequence(length, seed=i) for i, length in enumerate(MIXED_LENGTHS)]
    scores = predict(sequences, Composition(), batch_size=2)
    assert scores.tolist() == [[seq.count(base) for base in "ACG"] for seq in sequences]


@pytest.mark.parametrize("batch_size", [None, 1, 2, 100])
def test_predict_gives_each_sequence_its_own_score(
    batch_size: int | None, make_model: Callable, make_sequence: Callable
) -> None:
    model = make_model(targets=TARGETS).double()  # float32 rounds differently in batches of different size
    sequences = [make_sequence(length, seed=i, n_at=(0,)) for i, length in enumerate(MIXED_LENGTHS)]
    with torch.no_grad():
        expected = [model(model.one_hot(seq))[0].numpy() for seq in sequences]
    scores = predict(sequences, model, batch_size=batch_size)
    assert scores.shape == (len(sequences), len(TARGETS))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    assert np.ptp(scores, axis=0).min() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_predict_never_exceeds_the_batch_size(batch_size: int, model: nn.Module, make_sequence: Callable) -> None:
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    predict([make_sequence(length) for length in MIXED_LENGTHS], model, batch_size=batch_size)
    assert max(sizes) <= batch_size
    assert sum(sizes) == len(MIXED_LENGTHS)


def test_predict_takes_a_string_or_several(model: nn.Module) -> None:
    alone = predict("ACGTNACGT", model)
    assert alone.shape == (1, 1)
    for seqs in (["ACGTNACGT"], ("ACGTNACGT",), iter(["ACGTNACGT"]), "acguNACGU"):
        np.testing.assert_array_equal(predict(seqs, model), alone)


def test_predict_in_float64(make_model: Callable, make_sequence: Callable) -> None:
    sequences = [make_sequence(30, seed=seed) for seed in range(3)]
    model = make_model(targets=TARGETS)
    coarse = predict(sequences, model)
    fine = predict(sequences, copy.deepcopy(model).double())
    assert (coarse.dtype, fine.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=1e-5)
    assert (fine != fine.astype(np.float32)).any()  # computed, not only stored, in float64


def test_predict_is_in_evaluation_mode(model: nn.Module, make_sequence: Callable) -> None:
    sequence = make_sequence(30)
    expected = predict(sequence, model)
    model.train()
    with torch.no_grad():
        dropped = model(model.one_hot(sequence)).numpy()
    assert not np.allclose(dropped, expected, rtol=0, atol=1e-4)  # dropout is on
    np.testing.assert_array_equal(predict(sequence, model), expected)


def test_default_model_is_the_bundled_one() -> None:
    sequence = crossdna_interpret.example().sequence
    expected = predict(sequence, load_model())
    np.testing.assert_array_equal(predict(sequence), expected)
    np.testing.assert_array_equal(predict(sequence, crossdna_interpret.list_models()[0]), expected)


@pytest.mark.parametrize("model", [3, len, nn.Linear(4, 1), Composition], ids=["number", "function", "module", "class"])
def test_not_a_model(model: object) -> None:
    for analysis in (predict, ism, integrated_gradients):
        with pytest.raises(TypeError, match="`model` must be None, a name or path") as error:
            analysis("ACGT", model)
        assert f"got {type(model).__name__}" in str(error.value)


@pytest.mark.parametrize(
    ("answer", "returned"),
    [
        (lambda scores: scores[:, 0], r"\(1,\)"),
        (lambda scores: scores[:, :2], r"\(1, 2\)"),
        (lambda scores: scores[:1], r"\(1, 3\)"),
        (lambda scores: scores[..., None], r"\(1, 3, 1\)"),
        (lambda scores: {"logits": scores}, "dict"),
    ],
    ids=["one axis", "targets", "sequences", "three axes", "no tensor"],
)
def test_scores_of_another_shape(answer: Callable, returned: str) -> None:
    with pytest.raises(ValueError, match=rf"`model` must return scores of shape \(\d, 3\), .* returned {returned}"):
        predict(["ACGT", "ACGA"], Answering(answer))


def test_scores_of_another_shape_in_ism() -> None:
    with pytest.raises(ValueError, match=r"`model` must return scores of shape \(1, 3\), .* returned \(1,\)"):
        ism("ACGT", Answering(lambda scores: scores[:, 0]), target=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite(value: float) -> None:
    model = Answering(lambda scores: scores.index_fill(1, torch.tensor([1]), value))
    with pytest.raises(ValueError, match="`model` composition returned scores that are NaN or infinite"):
        predict("ACGT", model)
    with pytest.raises(ValueError, match="`model` composition returned scores that are NaN or infinite"):
        ism("ACGT", model, target="A")


def test_bad_entry_of_a_list_is_named(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"`seqs\[2\]` has 'x' at position 3"):
        predict(["ACGT", "AC", "ACGx"], model)
    with pytest.raises(ValueError, match=r"`seqs\[1\]` must hold at least one base"):
        predict(["ACGT", ""], model)
    with pytest.raises(TypeError, match=r"`seqs\[1\]` must be a string .* got int"):
        predict(["ACGT", 5], model)
    with pytest.raises(TypeError, match="`seqs` must be a string or a list of strings, but got bytes"):
        predict(b"ACGT", model)
    with pytest.raises(ValueError, match="`seqs` must hold at least one sequence"):
        predict([], model)


@pytest.mark.parametrize("bad", [0, -1, 2.0, "4", True])
def test_bad_batch_size(bad: object, model: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"`batch_size` must be an integer of at least 1, but got {bad!r}"):
        predict("ACGT", model, batch_size=bad)


def test_chosen_batches_shrink_with_the_length() -> None:
    model = Composition()
    chosen = [resolve_batch_size(model, length, None) for length in (1, 100, 1000, 10**7)]
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[0] > chosen[1] > chosen[2] >= chosen[3] == 1
    assert resolve_batch_size(model, 10**7, 5) == 5


@pytest.mark.parametrize("analysis", ANALYSES)
def test_too_long_for_the_memory(analysis: str, memory: Callable) -> None:
    run, gradients = ANALYSES[analysis]
    model, length, batch_size = Hungry(), 9000, 2
    need = model.memory_estimate(batch_size, length, gradients=gradients)
    memory(5_000_000_000)
    with pytest.raises(MemoryError) as error:
        run("ACGTA" * (length // 5), model, batch_size=batch_size)
    message = str(error.value)
    assert "9,000 bases in batches of 2" in message
    assert f"{need / 1e9:.1f} GB" in message
    assert "5.0 GB" in message
    fits = int(re.search(r"About ([\d,]+) bases would fit", message)[1].replace(",", ""))
    run("A" * fits, model, batch_size=batch_size)
    with pytest.raises(MemoryError):  # and it is not far less than would fit
        run("A" * (2 * fits), model, batch_size=batch_size)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_memory_that_is_just_enough(analysis: str, memory: Callable) -> None:
    run, gradients = ANALYSES[analysis]
    model, sequence = Hungry(), "ACGTA" * 8
    need = model.memory_estimate(2, 40, gradients=gradients)
    memory(need)
    run(sequence, model, batch_size=2)
    memory(need - 1)
    with pytest.raises(MemoryError):
        run(sequence, model, batch_size=2)


def test_memory_of_the_longest_sequence_counts(memory: Callable) -> None:
    memory(1_000_000_000)
    assert predict(["A" * 500, "A"], Hungry(), batch_size=1).ravel().tolist() == [500, 1]
    for analysis in (predict, ism, integrated_gradients):
        with pytest.raises(MemoryError, match="1,100 bases"):
            analysis(["ACGATTGCA", "ACCGT" * 220], Hungry(), batch_size=1)


def test_predict_needs_memory_for_what_it_runs_at_once(memory: Callable) -> None:
    memory(1_000_000_000)
    # One sequence is no batch of several, however large batches might be.
    assert predict("A" * 900, Hungry(), batch_size=50).item() == 900
    with pytest.raises(MemoryError, match="in batches of 2"):
        predict(["A" * 900] * 2, Hungry(), batch_size=50)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_chosen_batches_fit_the_memory(analysis: str, memory: Callable) -> None:
    run, gradients = ANALYSES[analysis]
    model, sizes = Hungry(), []
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    have = 2 * model.memory_estimate(2, 100, gradients=gradients)
    memory(have)
    run("ACGTA" * 20, model)  # in the batches of 40 that are fastest it would not fit
    assert 1 < max(sizes) <= 4
    sizes.clear()
    memory(model.memory_estimate(1, 100, gradients=gradients))
    run("ACGTA" * 20, model)
    assert max(sizes) == 1


@pytest.mark.parametrize("analysis", ANALYSES)
def test_crossdna_estimates_its_memory(analysis: str, model: nn.Module, memory: Callable) -> None:
    run, gradients = ANALYSES[analysis]
    length, batch_size, have = 2_000_000, 2, 400_000_000
    need = model.memory_estimate(batch_size, length, gradients=gradients)
    assert isinstance(need, int)
    memory(have)
    with pytest.raises(MemoryError, match="2,000,000 bases in batches of 2") as error:
        run("ACGTA" * (length // 5), model, batch_size=batch_size)
    message = str(error.value)
    assert f"{need / 1e9:.1f} GB" in message
    assert "0.4 GB is available" in message
    fits = int(re.search(r"About ([\d,]+) bases would fit", message)[1].replace(",", ""))
    assert model.memory_estimate(batch_size, fits, gradients=gradients) <= have
    # Advice that asks for far less than fits would be no use.
    assert model.memory_estimate(batch_size, 2 * fits, gradients=gradients) > have


def test_crossdna_estimate_grows_with_the_question(model: nn.Module) -> None:
    estimate = model.memory_estimate
    assert 0 < estimate(1, 1000) < estimate(2, 1000) < estimate(2, 2000) < estimate(2, 2000, gradients=True)
    assert model.double().memory_estimate(2, 2000) > 0


def test_resolve_target() -> None:
    model = Composition()
    assert [resolve_target(model, target) for target in ("A", "G", 0, 2, np.int64(1))] == [0, 2, 0, 2, 1]
    assert resolve_target(Hungry(), None) == 0


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, ValueError, "`target` must be given: composition has 3: rods, cones, amacrine"),
        ("rod", ValueError, "`target` 'rod' is unknown to composition. Near matches: rods"),
        ("zebra", ValueError, "`target` 'zebra' is unknown .*: rods, cones, amacrine"),
        ("", ValueError, "`target` '' is unknown .*: rods, cones, amacrine"),
        (3, ValueError, "`target` must be from 0 to 2, but got 3: rods, cones, amacrine"),
        (-1, ValueError, "`target` must be from 0 to 2, but got -1"),
        (True, TypeError, "`target` must be a name, a number or None, but got bool"),
        (1.0, TypeError, "`target` must be a name, a number or None, but got float"),
        (["rods"], TypeError, "`target` must be a name, a number or None, but got list"),
    ],
)
def test_resolve_target_errors(target: object, error: type[Exception], message: str) -> None:
    model = Composition()
    model.targets = TARGETS
    with pytest.raises(error, match=message):
        resolve_target(model, target)


def test_evaluation_mode_is_a_view_that_shares_weights_and_hooks(model: nn.Module) -> None:
    for i, module in enumerate(model.modules()):
        module.training = i % 3 == 0
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2
    with evaluation_mode(model) as evaluated:
        assert type(evaluated) is type(model)
        assert not any(module.training for module in evaluated.modules())
        assert {name: module.training for name, module in model.named_modules()} == before
        own, seen = dict(model.named_parameters()), dict(evaluated.named_parameters())
        assert list(own) == list(seen)
        assert all(own[name] is seen[name] for name in own)
        with capture(model, "bridge.out_a") as acts:
            predict("ACGT", evaluated)
        assert len(acts["bridge.out_a"]) == 1
    model.eval()
    with evaluation_mode(model) as evaluated:
        assert evaluated is model


def test_a_module_that_occurs_twice_is_one_in_the_view() -> None:
    shared = nn.Dropout(0.5)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.apply_one = shared, nn.Sequential(shared), shared.forward

    view = in_evaluation_mode(Twice())
    assert view.one is view.other[0] is not shared
    assert view.apply_one.__self__ is view.one
    assert shared.training


def test_model_hash_knows_every_weight(model: nn.Module) -> None:
    seen = {model_hash(model)}
    for name, parameter in model.named_parameters():
        original = parameter.flatten()[-1].item()
        parameter.view(-1)[-1] = np.nextafter(np.float32(original), np.float32(np.inf)).item()
        changed = model_hash(model)
        assert changed not in seen, name
        seen.add(changed)
        parameter.view(-1)[-1] = original
    assert len(seen) == 1 + len(list(model.parameters()))


def test_model_hash_is_of_the_content(model: nn.Module, make_model: Callable) -> None:
    expected = model_hash(model)
    assert re.fullmatch("[0-9a-f]{64}", expected)
    assert model_hash(copy.deepcopy(model)) == expected
    assert model_hash(make_model()) == expected
    assert model_hash(make_model(seed=1)) != expected
    assert model_hash(copy.deepcopy(model).double()) != expected
    assert model_hash(copy.deepcopy(model).double().float()) == expected
    transposed = copy.deepcopy(model)  # the same numbers in another memory layout
    weight = transposed.lm_head.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    assert model_hash(transposed) == expected
    # The same weights do something else under another config.
    assert model_hash(make_model(rc_blocks="mirrored")) != expected


def test_model_hash_of_scalars() -> None:
    class Scaled(Composition):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)
            self.norm = nn.BatchNorm1d(5)  # counts its batches in a scalar too

    assert model_hash(Scaled(1.0)) == model_hash(Scaled(1.0)) != model_hash(Scaled(2.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_certificates_say_what_was_done(dtype: str, model: nn.Module) -> None:
    model = model.to(getattr(torch, dtype))
    sequence = "ACGTACGTACGTTTGACATACC"
    mutagenesis = ism(sequence, model, batch_size=7).certificate
    attribution = integrated_gradients(
        sequence, model, baseline="uniform", steps=3, max_steps=3, tolerance=1e6, seed=5, batch_size=4
    ).certificate
    for certificate in (mutagenesis, attribution):
        assert certificate.model == "crossdna"
        assert certificate.model_hash == model_hash(model)
        assert certificate.device == "cpu"
        assert certificate.dtype == dtype
        assert certificate.versions == {
            "crossdna_interpret": metadata.version("crossdna_interpret"),
            "torch": torch.__version__,
            "numpy": np.__version__,
        }
    assert mutagenesis.method != attribution.method
    assert mutagenesis.settings["batch_size"] == 7
    expected = {"baseline": "uniform", "seed": 5, "tolerance": 1e6, "batch_size": 4, "steps": 3}
    assert expected.items() <= attribution.settings.items()
    assert "worst_relative_completeness_error" in attribution.checks


def test_scores_equal_those_of_one_hot_channels(model: nn.Module, make_sequence: Callable) -> None:
    ids = np.stack([alphabet.encode(make_sequence(13, seed=seed, n_at=(seed,))) for seed in range(3)])
    with torch.no_grad():
        expected = model(torch.from_numpy(alphabet.one_hot(ids))).numpy()
    np.testing.assert_array_equal(score_ids(model, ids), expected)


class Reached(nn.Module):
    """Modules that are reached in other ways than by attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(5), nn.Dropout(0.5)
        self.layers = [self.norm, {"last": self.drop}]
        self.call = functools.partial(nn.Module.__call__, self.drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.layers[1]["last"](self.layers[0](x)))


def test_modules_in_lists_and_partials_are_in_evaluation_mode_too() -> None:
    model = Reached()
    x = torch.randn(3, 5, 4)
    view = in_evaluation_mode(model)
    assert torch.equal(view(x), view(x))
    assert model.norm.num_batches_tracked == 0
    assert view.norm.weight is model.norm.weight
    assert model.training
    assert model.drop.training


def test_modes_of_their_own_are_asked_for() -> None:
    class Merging(nn.Linear):
        def eval(self) -> nn.Linear:
            with torch.no_grad():
                self.weight.mul_(2)
            return super().eval()

    model = Merging(2, 2)
    before = model.weight.clone()
    torch.testing.assert_close(in_evaluation_mode(model).weight, 2 * before)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("kind", ["own forward", "lock"])
def test_what_cannot_be_copied_in_training_mode_is_refused(kind: str) -> None:
    model = nn.Linear(2, 2)
    if kind == "lock":
        model.lock = threading.Lock()
    else:
        model.forward = lambda x: x
    with pytest.raises(RuntimeError, match=r"`model` Linear is in training mode, and it .*Call its `eval\(\)` first"):
        in_evaluation_mode(model)
    assert in_evaluation_mode(model.eval()) is model


class OfTheBatch(nn.Module):
    """Scores less the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        counts = x[:, 0].sum(1, keepdim=True)
        return counts - 0.5 * counts.mean()


def test_dependence_on_a_batch_is_noticed_in_sequences_of_several_lengths() -> None:
    model = cdi.wrap(OfTheBatch(), channels="ACGT", targets=["y"])
    with pytest.warns(cdi.UnstableModelWarning, match="between alone and in a batch"):
        cdi.predict(["ACGTTGCAACG", "ACGTTGCAACGTTT", "ACGTTTTAACGTTA", "GGGGGGCAACGTTT"], model)
