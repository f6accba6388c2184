"""A run: it continues bit for bit after a stop, and gives a clear error if it cannot."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training import run
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.module import UndefinedMeasureWarning
from crossdna_interpret.training.run import LAST, RunOptions, TrainingError, fit
from crossdna_interpret.training.tables import Table

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data


def table(rows: int = 20, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 4, 24).astype(np.uint8) for _ in range(rows)]
    activity = np.array([(x == 2).mean() for x in ids], dtype=np.float32)
    ones = np.ones(rows, dtype=np.float32)
    return Table(ids, activity[:, None], ones, np.arange(rows) % 2, ("activity",), ("a", "b"))


@pytest.fixture
def module(make_model: Callable[..., CrossDNA]) -> Callable[..., Finetuning]:
    def make(**changes: object) -> Finetuning:
        settings = {
            "offsets": torch.zeros(2, 1),
            "learning_rate": 0.01,
            "weight_decay": 0.1,
            "shift": 2,
        }
        model = make_model(rc_blocks="aligned", dropout=0.3).requires_grad_(True)
        return Finetuning(model, **{**settings, **changes})  # type: ignore[arg-type]

    return make


def options(**changes: object) -> RunOptions:
    return RunOptions(**{"epochs": 4, "batch": 4, "checkpoint_every": 1, **changes})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 5, 7, 19])
def test_a_run_that_is_stopped_goes_on_to_the_bit(
    module: Callable, stop_after: Callable, tmp_path: Path, steps: int
) -> None:
    whole = module()
    report = fit(whole, table(), table(8, 1), tmp_path / "whole", options(), {})
    assert report["steps"] == 20  # five batches in each of four passes
    first = module()
    stopped = stop_after(first, steps)
    with pytest.raises(stopped):
        fit(first, table(), table(8, 1), tmp_path / "parts", options(), {})
    second = module()
    again = fit(second, table(), table(8, 1), tmp_path / "parts", options(), {})
    assert again["steps"] == 20
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert again["valid_r_both_strands"] == report["valid_r_both_strands"]
    assert (tmp_path / "parts" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


@pytest.mark.parametrize("every", [1, 5, 50])
def test_a_run_that_is_done_gives_the_same_again(module: Callable, tmp_path: Path, every: int) -> None:
    first, second = module(), module()
    settings = options(epochs=1, average=0.5, checkpoint_every=every)
    done, again = (fit(each, table(), table(8, 1), tmp_path, settings, {}) for each in (first, second))
    assert {key: again[key] for key in done if key != "minutes"} == {
        key: value for key, value in done.items() if key != "minutes"
    }
    assert "valid_r_both_strands" in again
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_minutes_are_those_of_all_calls_without_what_lies_between(
    module: Callable, stop_after: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def a_minute_each(slow: Finetuning) -> Finetuning:
        step = slow.training_step

        def training_step(*args: object) -> object:
            now[0] += 60
            return step(*args)

        slow.training_step = training_step
        return slow

    first = a_minute_each(module())
    stopped = stop_after(first, 7)
    with pytest.raises(stopped):
        fit(first, table(), None, tmp_path, options(), {})
    now[0] += 1e6
    assert fit(a_minute_each(module()), table(), None, tmp_path, options(), {})["minutes"] == pytest.approx(20)


@pytest.mark.slow
def test_the_seed_alone_decides(module: Callable, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one, two, other = module(), module(), module(seed=5)
    fit(one, table(), None, tmp_path / "one", options(), {})
    torch.manual_seed(2)
    fit(two, table(), None, tmp_path / "two", options(), {})
    fit(other, table(), None, tmp_path / "other", options(seed=5), {})
    weights = [x.model.head.linear.weight for x in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_schedule_ends_with_the_run_where_lengths_differ(module: Callable, tmp_path: Path) -> None:
    mixed = table(22)
    mixed.ids[:7] = [ids[:20] for ids in mixed.ids[:7]]  # six batches of three or four rows
    trained = module()
    rates = []
    trained.on_train_batch_end = lambda *_: rates.append(trained.trainer.optimizers[0].param_groups[0]["lr"])
    assert fit(trained, mixed, None, tmp_path, options(), {})["steps"] == 24
    assert max(rates) > 0.009
    assert rates[-2] < 1e-6  # of the last step; after it the scheduler has gone on once more


def global_state() -> dict[str, object]:
    """What a run might leave changed behind it."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (kind, keys.tolist(), *rest),
        "random": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "gradients": torch.is_grad_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)],
        "numpy errors": np.geterr(),
        "excepthook": sys.excepthook,
        "folder": os.getcwd(),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_global_is_changed(
    module: Callable, stop_after: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    torch.manual_seed(3)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8") if fails else None
    trained = module()
    stopped = stop_after(trained, 2 if fails else 99)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        before = global_state()
        with pytest.raises(stopped) if fails else nullcontext():
            fit(trained, table(), table(8, 1), tmp_path, options(threads=1, epochs=1, patience=1), {})
        after = global_state()
    finally:
        torch.use_deterministic_algorithms(False)
    assert [name for name in before if before[name] != after[name]] == []


def test_dropout_and_augmentation_depend_on_the_seed(module: Callable, tmp_path: Path) -> None:
    trained = [module(seed=seed) for seed in (0, 1, 2**32 - 1, 0)]
    for number, each in enumerate(trained):  # the same weights and rows, in the same order
        fit(each, table(8), None, tmp_path / str(number), options(epochs=1, average=0), {})
    weights = [each.model.head.linear.weight for each in trained]
    assert torch.equal(weights[0], weights[3])
    assert not any(torch.equal(weights[a], weights[b]) for a, b in itertools.combinations(range(3), 2))


def test_each_step_and_process_has_random_numbers_of_its_own(module: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = set()
    with torch.random.fork_rng():
        for seed, step, rank in itertools.product((0, 1, 7), range(4), range(3)):
            trained = module(seed=seed)
            trained.trainer = SimpleNamespace(global_step=step, global_rank=rank, world_size=3)
            monkeypatch.setattr(type(trained), "global_step", step)
            monkeypatch.setattr(type(trained), "global_rank", rank)
            trained.on_train_batch_start(None, 0)
            drawn.add(tuple(torch.rand(4).tolist()))
    assert len(drawn) == 3 * 4 * 3


def measured(module: Finetuning, values: list[float]) -> Finetuning:
    """The module, with what its validation measures after each epoch replaced by these values."""

    def log() -> None:
        module._validated.clear()
        module.log("valid_r_both_strands", values[module.current_epoch])

    module.on_validation_epoch_end = log  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("values", "epochs"),
    [
        ([math.nan] * 9, 2),
        ([math.nan, 0.1, 0.2, math.nan, 0.3, math.nan, 0.2, 0.9], 7),
        ([0.1, math.nan, math.nan, 0.9], 3),
        ([-0.5, -0.4, -0.6, -0.3, -0.3, -0.3, 0.9], 6),
    ],
)
def test_a_measure_that_is_not_a_number_is_an_epoch_without_a_better_one(
    module: Callable, tmp_path: Path, values: list[float], epochs: int
) -> None:
    patient = options(epochs=8, batch=8, patience=2, average=0, checkpoint_every=99)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = fit(measured(module(), values), table(8), table(4, 1), tmp_path, patient, {})
    assert done["steps"] == epochs
    warned = [each for each in caught if each.category is UndefinedMeasureWarning]
    assert len(warned) == sum(math.isnan(value) for value in values[:epochs])
    assert all("valid_r_both_strands cannot be measured" in str(each.message) for each in warned)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stop", ["step 3", "step 7", "validation 3", "end"])
def test_a_run_with_patience_that_is_stopped_ends_where_it_would_have(
    module: Callable, stop_after: Callable, tmp_path: Path, every: int, stop: str
) -> None:
    values = [0.1, 0.3, 0.2, 0.25, 0.9]  # two steps in each epoch, and none better in epochs 3 and 4
    patient = options(epochs=5, patience=2, average=0.5, checkpoint_every=every)

    def train(folder: str, trained: Finetuning) -> dict:
        return fit(measured(trained, values), table(8), table(4, 1), tmp_path / folder, patient, {})

    whole, first, second = module(), module(), module()
    done = train("whole", whole)
    assert done["steps"] == 8
    where, _, number = stop.partition(" ")
    stopped: type[Exception] = KeyboardInterrupt
    if where == "step":
        stopped = stop_after(first, int(number))
    elif where == "validation":

        def fails(batch: object, batch_idx: int) -> None:
            if first.current_epoch + 1 == int(number):
                raise ZeroDivisionError

        stopped, first.validation_step = ZeroDivisionError, fails  # type: ignore[method-assign, assignment]
    with nullcontext() if where == "end" else pytest.raises(stopped):
        train("parts", first)
    again = train("parts", second)
    assert (again["steps"], again["valid_r_both_strands"]) == (8, 0.25)
    assert (tmp_path / "parts" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_predictions_that_do_not_vary_do_not_end_a_run(module: Callable, tmp_path: Path) -> None:
    still = module(learning_rate=1e-9)
    with torch.no_grad():
        still.model.head.linear.weight.zero_()
    for parameter in still.model.parameters():
        parameter.requires_grad_(False)
    still.model.head.linear.bias.requires_grad_(True)
    with pytest.warns(UndefinedMeasureWarning, match="the predictions or the measurements do not vary"):
        done = fit(still, table(8), table(4, 1), tmp_path, options(epochs=5, batch=8, patience=3, average=0), {})
    assert done["steps"] == 3
    assert math.isnan(done["valid_r_both_strands"])


@pytest.mark.parametrize(
    ("valid", "change", "message"),
    [
        (None, {}, "`patience` needs rows for validation"),
        (table(1, 1), {}, "The 1 rows for validation do not have two different values of activity"),
        (table(8, 1), {"monitor": "valid_auroc"}, "`monitor` must be one of valid_r"),
    ],
)
def test_what_patience_needs_is_checked_before_a_run_begins(
    module: Callable, tmp_path: Path, valid: Table | None, change: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(module(), table(), valid, tmp_path / "run", options(patience=1, **change), {})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("train", "valid", "changed"),
    [
        (lambda t: replace(t, targets=t.targets + 1), lambda t: t, "content_train"),
        (lambda t: replace(t, weight=2 * t.weight), lambda t: t, "content_train"),
        (lambda t: replace(t, level=1 - t.level), lambda t: t, "content_train"),
        (lambda t: replace(t, ids=[*t.ids[:-1], 3 - t.ids[-1]]), lambda t: t, "content_train"),
        (lambda t: t.rows(range(19)), lambda t: t, "content_train"),
        (lambda t: t, lambda t: replace(t, targets=-t.targets), "content_valid"),
        (lambda t: t, lambda t: None, "content_valid"),
        (lambda t: t.rows(range(19)), lambda t: None, "content_train, content_valid"),
    ],
)
def test_a_run_does_not_continue_with_other_rows(
    module: Callable, tmp_path: Path, train: Callable, valid: Callable, changed: str
) -> None:
    settings = options(epochs=1, batch=20)
    fit(module(), table(), table(8, 1), tmp_path, settings, {})
    with pytest.raises(ValueError, match=rf"other settings: {changed}\. .*To continue that run, restore what it began"):
        fit(module(), train(table()), valid(table(8, 1)), tmp_path, settings, {})
    assert fit(module(), table(), table(8, 1), tmp_path, settings, {})["steps"] == 1  # the rows that it began with


def test_a_run_whose_settings_are_lost_does_not_continue(module: Callable, tmp_path: Path) -> None:
    settings = options(epochs=1, batch=20)
    fit(module(), table(), None, tmp_path, settings, {})
    for content, problem in (("{", "cannot be read"), ("[]", "holds no settings"), (None, "is missing")):
        (tmp_path / "run.json").unlink() if content is None else (tmp_path / "run.json").write_text(content)
        with pytest.raises(ValueError, match=rf"there is {LAST}, but run\.json, which holds its settings, {problem}"):
            fit(module(), table(), None, tmp_path, settings, {})
    (tmp_path / LAST).unlink()  # so that there is nothing to continue
    assert fit(module(), table(), None, tmp_path, settings, {})["steps"] == 1


def test_the_folder_tells_how_it_was_made(module: Callable, tmp_path: Path) -> None:
    report = fit(module(), table(), table(8, 1), tmp_path, options(epochs=2), {"command": "try it"})
    kept = json.loads((tmp_path / "run.json").read_text())
    assert kept["options"]["batch"] == 4
    assert kept["command"] == report["command"] == "try it"
    assert kept["versions"]["torch"] == torch.__version__
    assert kept["revision"] is None or len(kept["revision"].rstrip("+")) == 40
    assert "valid_r_both_strands" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert (tmp_path / LAST).is_file()


def test_a_run_with_other_settings_is_not_gone_on_with(module: Callable, tmp_path: Path) -> None:
    fit(module(), table(), None, tmp_path, options(epochs=1), {"table": "x"})
    with pytest.raises(
        ValueError, match=r"other settings: options, table\. options: epochs was 1 and is 2\. table: was"
    ):
        fit(module(), table(), None, tmp_path, options(epochs=2), {"table": "y"})
    with pytest.raises(ValueError, match=r"other settings: width\. width: was not recorded\."):
        fit(module(), table(), None, tmp_path, options(epochs=1), {"table": "x", "width": None})


def test_a_loss_that_is_not_a_number_stops_before_it_reaches_the_weights(module: Callable, tmp_path: Path) -> None:
    broken = module()
    loss = broken.loss
    broken.loss = lambda *parts: loss(*parts) * (float("nan") if broken.global_step == 6 else 1)
    with pytest.raises(TrainingError, match=rf"The loss is nan at step 7.*{LAST}"):
        fit(broken, table(), None, tmp_path, options(average=0), {})
    kept = torch.load(tmp_path / LAST, weights_only=False)
    assert kept["global_step"] == 6
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_a_checkpoint_that_cannot_be_read_is_an_error_and_stays(module: Callable, tmp_path: Path) -> None:
    fit(module(), table(), None, tmp_path, options(epochs=1), {})
    (tmp_path / LAST).write_bytes(b"half a file")
    metrics = (tmp_path / "metrics.csv").read_text()
    with pytest.raises(TrainingError, match="The run stopped"):
        fit(module(), table(), None, tmp_path, options(epochs=1), {})
    assert (tmp_path / LAST).read_bytes() == b"half a file"
    assert (tmp_path / "metrics.csv").read_text() == metrics


def test_a_full_disk_stops_with_the_last_good_checkpoint(
    module: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning.fabric.plugins.io.torch_io as torch_io

    save, count = torch_io._atomic_save, []

    def full(checkpoint, path):  # type: ignore[no-untyped-def]
        count.append(path)
        if len(count) > 3:
            raise OSError(28, "No space left on device")
        save(checkpoint, path)

    monkeypatch.setattr(torch_io, "_atomic_save", full)
    with pytest.raises(TrainingError, match=rf"No space left on device.*last good checkpoint is .*{LAST}"):
        fit(module(), table(), None, tmp_path, options(), {})
    assert torch.load(tmp_path / LAST, weights_only=False)["global_step"] == 3


def test_a_folder_that_cannot_be_made_is_an_error(module: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        fit(module(), table(), None, tmp_path / "file" / "run", options(), {})


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0}, {"batch": 0}, {"average": 1.0}, {"patience": 0}, {"threads": 0}, {"seed": -1}, {"seed": 2**32},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_errors(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` must be"):
        options(**change)
