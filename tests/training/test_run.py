"""A run: it goes on to the bit where it was stopped, and ends clearly where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training import run
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.run import LAST, RunOptions, TrainingError, fit
from crossdna_interpret.training.tables import Table

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data


def table(rows: int = 20, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 4, 24).astype(np.uint8) for _ in range(rows)]
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


@pytest.mark.parametrize("steps", [1, 3, 5, 7, 19])
def test_a_run_that_is_stopped_goes_on_to_the_bit(
    module: Callable, stop_after: Callable, tmp_path: Path, steps: int
) -> None:
    whole = module()
    told = fit(whole, table(), table(8, 1), tmp_path / "whole", options(), {})
    assert told["steps"] == 20  # five batches in each of four passes
    first = module()
    stopped = stop_after(first, steps)
    with pytest.raises(stopped):
        fit(first, table(), table(8, 1), tmp_path / "parts", options(), {})
    second = module()
    again = fit(second, table(), table(8, 1), tmp_path / "parts", options(), {})
    assert again["steps"] == 20
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert again["valid_r_both_strands"] == told["valid_r_both_strands"]
    assert (tmp_path / "parts" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


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
    mixed.ids[:7] = [ids[:20] for ids in mixed.ids[:7]]  # 7 and 15 rows: one and three batches of four
    trained = module()
    rates = []
    trained.on_train_batch_end = lambda *_: rates.append(trained.trainer.optimizers[0].param_groups[0]["lr"])
    assert fit(trained, mixed, None, tmp_path, options(), {})["steps"] == 16
    assert max(rates) > 0.009
    assert rates[-2] < 1e-6  # of the last step; after it the scheduler has gone on once more


def test_nothing_global_is_changed(module: Callable, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fit(module(), table(), None, tmp_path, options(threads=1, epochs=1), {})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


def test_the_folder_tells_how_it_was_made(module: Callable, tmp_path: Path) -> None:
    told = fit(module(), table(), table(8, 1), tmp_path, options(epochs=2), {"command": "try it"})
    kept = json.loads((tmp_path / "run.json").read_text())
    assert kept["options"]["batch"] == 4
    assert kept["command"] == told["command"] == "try it"
    assert kept["versions"]["torch"] == torch.__version__
    assert kept["revision"] is None or len(kept["revision"].rstrip("+")) == 40
    assert "valid_r_both_strands" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert (tmp_path / LAST).is_file()


def test_a_run_with_other_settings_is_not_gone_on_with(module: Callable, tmp_path: Path) -> None:
    fit(module(), table(), None, tmp_path, options(epochs=1), {"table": "x"})
    with pytest.raises(ValueError, match="other settings: options, table"):
        fit(module(), table(), None, tmp_path, options(epochs=2), {"table": "y"})


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


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch": 0}, {"average": 1.0}])
def test_settings_out_of_range_are_errors(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` must be"):
        options(**change)
