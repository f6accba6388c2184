"""Fine-tuning: the loss, symmetric branches, the covariate, and the centring that is folded into the head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.module import UndefinedMeasureWarning
from crossdna_interpret.training.supervised import shifted
from crossdna_interpret.training.tables import Table


def finetuning(model: CrossDNA, **changes: object) -> Finetuning:
    settings = {"offsets": torch.zeros(7, len(model.targets)), "learning_rate": 1e-3, "weight_decay": 0.0}
    module = Finetuning(model, **{**settings, **changes})  # type: ignore[arg-type]
    module.log = lambda *_, **__: None  # there is no trainer to log to,
    module.total_steps = 10  # nor a run that says how long it is
    return module


def test_the_loss_is_the_weighted_square_and_shows_either_strand(model: CrossDNA, make_sequence: Callable) -> None:
    offsets = torch.arange(7.0).unsqueeze(1)
    module = finetuning(model, offsets=offsets).double().eval()
    module.centred = torch.nn.Identity()  # type: ignore[assignment]
    x = model.one_hot([make_sequence(30, seed) for seed in range(3)])
    ids, activity = x.argmax(1).to(torch.uint8), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    weight, library = torch.tensor([0.2, 0.5, 0.6], dtype=torch.float64), torch.tensor([0, 6, 3])
    scores = torch.stack([model(x)[:, 0], model(strand.reverse_complement(x))[:, 0]])
    squares = weight * (scores + offsets.double()[library, 0] - activity).square() / weight.sum()
    either = {
        round(float(sum(squares[choice >> i & 1, i] for i in range(3))), 9) for choice in range(8)
    }  # every way to turn each of the three sequences or not
    batch = ids, activity.unsqueeze(1), weight, library
    seen = {round(module.training_step(batch, 0).item(), 9) for _ in range(60)}
    assert seen <= either
    assert len(seen) > 2


def test_the_loss_over_several_targets_is_their_mean(make_model: Callable) -> None:
    module = finetuning(make_model(targets=("a", "b")))
    scores, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    expected = (np.average([1, 9], weights=[1, 3]) + np.average([4, 1], weights=[1, 3])) / 2
    assert module.loss(scores, targets, torch.tensor([1.0, 3.0])).item() == pytest.approx(expected)


def test_classification_is_cross_entropy_of_log_odds(model: CrossDNA) -> None:
    module = finetuning(model, task="classification")
    chance = torch.tensor([[0.2], [0.9]])
    loss = module.loss(chance.logit(), torch.tensor([[0.0], [1.0]]), torch.ones(2))
    assert loss.item() == pytest.approx(-(np.log(0.8) + np.log(0.9)) / 2)


def test_a_symmetric_model_stays_so_while_it_trains(make_model: Callable, make_sequence: Callable) -> None:
    model = make_model(rc_blocks="aligned", dropout=0.0)
    x = model.double().one_hot([make_sequence(24, seed) for seed in range(4)])  # one block
    assert (model(x) - model(strand.reverse_complement(x))).abs().max() > 1e-3
    model.requires_grad_(True)
    module = finetuning(model, learning_rate=0.05, weight_decay=0.1, symmetric=True).double()
    optimizer = module.configure_optimizers()["optimizer"]
    batch = (
        x.argmax(1),
        torch.tensor([[1.0], [-1.0], [2.0], [0.0]]).double(),
        torch.ones(4).double(),
        torch.zeros(4).long(),
    )
    before = model(x).detach()
    for _ in range(3):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
    after = model(x)
    torch.testing.assert_close(after, model(strand.reverse_complement(x)), rtol=0, atol=1e-9)
    assert (after - before).abs().max() > 0.01


def test_the_centring_of_the_pooled_representation_goes_into_the_head(model: CrossDNA, make_sequence: Callable) -> None:
    module = finetuning(model).double()
    x = model.one_hot([make_sequence(30, seed) for seed in range(5)])
    with torch.no_grad():
        module.train()
        for _ in range(5):
            module.score(x)  # which teaches it the mean
        module.eval()
        centred, as_it_was = module.score(x), model(x)
        module.fold()
        folded = model(x)
    assert (centred - as_it_was).abs().max() > 0.1
    torch.testing.assert_close(folded, centred, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(module.score(x), centred, rtol=1e-9, atol=1e-9)


def test_the_mean_is_that_of_both_orientations_of_the_rows(model: CrossDNA, make_sequence: Callable) -> None:
    module = finetuning(model).double().train()
    seqs = [make_sequence(30, seed) for seed in range(5)]
    ids = [alphabet.encode(seq).astype(np.uint8) for seq in seqs]
    ones = np.ones(5, np.float32)
    module.recentre(Table(ids, ones[:, None], ones, np.zeros(5, np.int64), ("activity",)))
    assert module.training
    with torch.no_grad():
        scores = [module.eval().score(model.one_hot(x)) for x in (seqs, [strand.reverse_complement(s) for s in seqs])]
    torch.testing.assert_close(torch.cat(scores).mean(0), module.head.linear.bias, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_batch_may_hold_sequences_of_several_lengths(
    make_model: Callable, make_sequence: Callable, mode: str
) -> None:
    module = finetuning(make_model(dropout=0.0), symmetric=True).double()
    module.train(mode == "train")
    module.centred.mean.uniform_(-1, 1)
    seqs = [make_sequence(length, seed) for seed, length in enumerate([9, 20, 20, 31, 20])]
    table = Table(
        [alphabet.encode(seq).astype(np.uint8) for seq in seqs], np.array([[1.0], [2], [0], [-1], [3]], np.float32),
        np.array([1, 2, 0.5, 1, 3], np.float32), np.zeros(5, np.int64), ("activity",),
    )  # fmt: skip
    with torch.no_grad():
        # Each sequence by itself; then what they have in common is removed.
        pooled = torch.cat([
            module.model.represent(x, strand.reverse_complement(x)).mean(1)
            for x in (module.model.one_hot(seq) for seq in seqs)
        ])  # fmt: skip
        centre = pooled.mean(0) if mode == "train" else module.centred.mean
        scores = module.head.linear((pooled - centre) * module.centred.gain)[:, 0]
        expected = np.average((scores.numpy() - table.targets[:, 0]) ** 2, weights=table.weight)
        loss = module.training_step(table.batch(range(5)), 0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_rows_without_weight_have_no_loss(make_model: Callable) -> None:
    module = finetuning(make_model())
    scores, targets = torch.tensor([[1.0], [5.0]], requires_grad=True), torch.zeros(2, 1)
    assert module.loss(scores, targets, torch.tensor([1.0, 0.0])).item() == 1
    nothing = module.loss(scores, targets, torch.zeros(2))
    assert nothing.item() == 0
    nothing.backward()
    assert scores.grad.abs().max() == 0


def rows(targets: list[list[float]], weight: list[float] | None = None, length: int = 8) -> Table:
    count = len(targets)
    ids = [np.full(length, i % 4, dtype=np.uint8) for i in range(count)]
    weights = np.ones(count, np.float32) if weight is None else np.array(weight, np.float32)
    names = ("a", "b")[: len(targets[0])]
    return Table(ids, np.array(targets, np.float32), weights, np.zeros(count, np.int64), names)


VARIED = rows([[0.0, 1.0], [1.0, 0.0], [0.25, 0.5]])


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize(
    ("train", "valid", "settings", "message"),
    [
        (rows([[1.0, 2.0]]), VARIED, {}, "`train` must be at least 2 rows, but got 1"),
        (VARIED, VARIED, {"batch": 1}, "`batch` must be at least 2 rows, but got 1"),
        (rows([[1, 0.5]] * 5), VARIED, {}, "`train` must have targets that vary, but a, b has one value in all 5 rows"),
        (rows([[1.0], [0.5]], [1, 0]), None, {}, "targets that vary, but a has one value in all 1 rows"),
        (rows([[1.0], [0.5]], [0, 0]), None, {}, "`train` must have rows with a weight above 0"),
        (VARIED, None, {"patience": True}, "`patience` needs rows for validation"),
        (VARIED, rows([[0, 1]]), {"patience": True}, "The 1 rows for validation do not have .* of a, b"),
        (VARIED, rows([[0, 1]] * 9), {"patience": True}, "The 9 rows for validation do not have .* of a, b"),
        (VARIED, VARIED, {"patience": True, "monitor": "valid_accuracy"}, "`monitor` must be one of valid_.*, but is"),
        (VARIED, VARIED, {"shift": 8}, "`shift` must be less than the shortest sequence, which has 8 bases, but is 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_or_measured_is_an_error_before_training(
    make_model: Callable, task: str, train: Table, valid: Table | None, settings: dict, message: str
) -> None:
    model = make_model(targets=train.target_names)
    offsets = torch.zeros(1, len(train.target_names))
    module = finetuning(model, offsets=offsets, task=task, shift=settings.get("shift", 0))
    monitor = settings.get("monitor", module.measures[-1]) if "patience" in settings else None
    module.check(VARIED, VARIED, batch=2, monitor=module.measures[0]) if "shift" not in settings else None
    with pytest.raises(ValueError, match=message):
        module.check(train, valid, batch=settings.get("batch", 2), monitor=monitor)


@pytest.mark.parametrize(("label", "row"), [(2.0, 3), (-0.5, 1), (1.0001, 2)])
def test_labels_must_be_from_0_to_1(make_model: Callable, label: float, row: int) -> None:
    targets = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    targets[row - 1][1] = label
    module = finetuning(make_model(targets=("a", "b")), offsets=torch.zeros(1, 2), task="classification")
    for train, valid, name in ((rows(targets), None, "train"), (VARIED, rows(targets), "valid")):
        with pytest.raises(ValueError, match=rf"`{name}` must have labels from 0 to 1 .* b is {label:g} in row {row}"):
            module.check(train, valid, batch=2, monitor=None)
    finetuning(make_model(targets=("a", "b")), offsets=torch.zeros(1, 2)).check(
        rows(targets), None, batch=2, monitor=None
    )


def test_a_target_that_cannot_be_measured_is_warned_of_and_left_out_of_the_mean(
    make_model: Callable, make_sequence: Callable
) -> None:
    module = finetuning(make_model(targets=("a", "b")), offsets=torch.zeros(1, 2), task="classification").eval()
    valid = rows([[0, 0.1], [1, 0.2], [1, 0.3], [0, 0.4]])  # no positive of b
    with pytest.warns(UndefinedMeasureWarning, match="labels on both sides of 0.5 of b, so valid_auroc .* the other"):
        module.check(VARIED, valid, batch=2, monitor="valid_auroc")
    with pytest.warns(UserWarning, match="^b has one value in all training rows"):
        module.check(rows([[0, 1], [1, 1], [1, 1]]), None, batch=2, monitor=None)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        module.validation_step(valid.batch(range(4)), 0)
        module.on_validation_epoch_end()
        scores = module.model(module.model.one_hot([alphabet.decode(ids) for ids in valid.ids]))[:, 0].numpy()
        scores += module.model(
            module.model.one_hot([strand.reverse_complement(alphabet.decode(ids)) for ids in valid.ids])
        )[:, 0].numpy()
    wins = [a > b for a in scores[[1, 2]] for b in scores[[0, 3]]]
    assert logged["valid_auroc"] == pytest.approx(np.mean(wins))


def test_what_does_not_vary_is_not_a_number_without_a_warning_of_numpy(make_model: Callable) -> None:
    for valid in (rows([[1.0]]), rows([[1.0]] * 4)):
        module = finetuning(make_model(), offsets=torch.zeros(1, 1)).eval()
        logged: dict[str, float] = {}
        module.log = lambda name, value, logged=logged, **_: logged.update({name: float(value)})
        with torch.no_grad():
            module.validation_step(valid.batch(range(len(valid))), 0)
            module.on_validation_epoch_end()
        assert np.isfinite(logged["valid_loss"])
        assert all(np.isnan(logged[name]) for name in module.measures)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_would_be_taken_for_another_is_an_error(make_model: Callable, seed: int) -> None:
    with pytest.raises(ValueError, match=rf"`seed` must be from 0 to 4,294,967,295, but is {seed}"):
        finetuning(make_model(), seed=seed)


def test_a_shifted_batch_is_filled_with_n() -> None:
    ids = torch.tensor([[0, 1, 2, 3, 0]], dtype=torch.uint8)
    seen = {tuple(shifted(ids, 2)[0].tolist()) for _ in range(100)}
    assert seen == {(0, 1, 2, 3, 0), (4, 0, 1, 2, 3), (4, 4, 0, 1, 2), (1, 2, 3, 0, 4), (2, 3, 0, 4, 4)}
    assert ids.tolist() == [[0, 1, 2, 3, 0]]


def test_one_level_has_no_offset_to_learn(model: CrossDNA) -> None:
    model.requires_grad_(True)
    module = finetuning(model, offsets=torch.zeros(1, 1))
    groups = module.configure_optimizers()["optimizer"].param_groups
    trained = {id(p) for group in groups for p in group["params"]}
    assert id(module.offset.weight) not in trained
    assert trained == {id(p) for p in model.parameters()}


def test_validation_measures_both_orientations(model: CrossDNA, make_sequence: Callable) -> None:
    module = finetuning(model, offsets=torch.arange(7.0).unsqueeze(1)).eval()
    module.centred = torch.nn.Identity()  # type: ignore[assignment]
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    seqs = [make_sequence(30, seed) for seed in range(6)]
    x = model.one_hot(seqs)
    y, level = torch.tensor([[1.0], [0.0], [2.0], [-1.0], [0.5], [3.0]]), torch.arange(6)
    with torch.no_grad():
        for part in (slice(0, 4), slice(4, 6)):
            module.validation_step((x[part].argmax(1), y[part], torch.ones(len(y[part])), level[part]), 0)
        module.on_validation_epoch_end()
    scores = [np.asarray(model(each)[:, 0]) for each in (x, strand.reverse_complement(x))]
    r = lambda a, b: np.corrcoef(a, b)[0, 1]  # noqa: E731
    mean = sum(scores) / 2
    assert logged["valid_r"] == pytest.approx(r(scores[0], y[:, 0]), abs=1e-4)
    assert logged["valid_r_both_strands"] == pytest.approx(r(mean, y[:, 0]), abs=1e-4)
    assert logged["valid_r_both_strands_with_covariate"] == pytest.approx(r(mean + np.arange(6), y[:, 0]), abs=1e-4)
    assert logged["valid_r_between_strands"] == pytest.approx(r(*scores), abs=1e-4)
    assert logged["valid_loss"] == pytest.approx(F.mse_loss(torch.tensor(mean) + level, y[:, 0]).item(), abs=1e-3)


def test_validation_of_a_classification_is_the_area_under_the_curve(model: CrossDNA, make_sequence: Callable) -> None:
    module = finetuning(model, task="classification").eval()
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign, assignment]
    x = model.one_hot([make_sequence(30, seed) for seed in range(6)])
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0], [0.0]])
    with torch.no_grad():
        module.validation_step((x.argmax(1).to(torch.uint8), y, torch.ones(6), torch.zeros(6, dtype=torch.int64)), 0)
        module.on_validation_epoch_end()
        scores = (model(x) + model(strand.reverse_complement(x)))[:, 0].numpy()
    wins = [a > b for a in scores[y[:, 0] == 1] for b in scores[y[:, 0] == 0]]
    assert logged["valid_auroc"] == pytest.approx(np.mean(wins))
    assert not any(name.startswith("valid_r") for name in logged)


def test_a_model_without_a_head_and_offsets_that_do_not_fit_are_errors(make_model: Callable) -> None:
    with pytest.raises(ValueError, match="`model` must have a head"):
        finetuning(make_model(targets=()))
    with pytest.raises(ValueError, match=r"`offsets` must be \(levels, 1\), but are \(3,\)"):
        finetuning(make_model(), offsets=torch.zeros(3))
