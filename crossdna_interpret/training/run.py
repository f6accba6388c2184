"""A training run: its folder, checkpoints and end."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from crossdna_interpret.training.batches import Batches, Rows
from crossdna_interpret.training.logbook import Logbook
from crossdna_interpret.training.module import SeededModule, UndefinedMeasureWarning, require_seed
from crossdna_interpret.training.settings import keep_settings

__all__ = ["LAST", "RunOptions", "TrainingError", "fit", "git_revision"]

LAST = "last.ckpt"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # Lightning sets it for deterministic algorithms


class TrainingError(RuntimeError):
    """A run cannot go on; the message says why, and where the last good checkpoint is."""


@dataclass(frozen=True)
class RunOptions:
    """How to train.

    Attributes:
        epochs: passes over the training rows.
        batch: rows of a batch at most, for each process.
        seed: of the weights, the order of rows, dropout and augmentation; from 0 to 2**32 - 1.
        threads: CPU threads; as they are if None.
        checkpoint_every: steps between checkpoints; there is one after each validation as well.
        patience: epochs without a better `monitor` after which to stop; never if None. A measure that is not a number
            is no better.
        monitor: what is to grow, such as "valid_r_both_strands".
        average: decay of the exponential moving average of the weights that is kept in the end; 0 for none.
        clip: norm to which gradients are clipped.
        accelerator, devices, precision: as Lightning's Trainer takes them.
        strategy: the same. With several devices, "auto" and "ddp" allow for weights that a step does not use.
    """

    epochs: int
    batch: int
    seed: int = 0
    threads: int | None = None
    checkpoint_every: int = 200
    patience: int | None = None
    monitor: str = "valid_r_both_strands"
    average: float = 0.999
    clip: float = 1.0
    accelerator: str = "auto"
    devices: str = "1"
    strategy: str = "auto"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "checkpoint_every", "threads", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")
        if not 0 <= self.average < 1:
            raise ValueError(f"`average` must be from 0 to less than 1, but is {self.average}.")
        require_seed(self.seed)


class _Data(lightning.LightningDataModule):
    """Batches of the rows; the training ones start where the run is."""

    def __init__(self, train: Rows, valid: Rows | None, options: RunOptions) -> None:
        super().__init__()
        self.train, self.valid, self.options = train, valid, options

    def batches(self, trainer: lightning.Trainer) -> Batches:
        """The training batches of this process, from the trainer's step on."""
        share = trainer.global_rank, trainer.world_size
        return Batches(self.train, self.options.batch, seed=self.options.seed, first=trainer.global_step, share=share)

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return DataLoader(self.batches(self.trainer), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """All rows in each of several processes: a correlation is of all, and none waits for one that has fewer."""
        if self.valid is None:
            return []
        return DataLoader(Batches(self.valid, 2 * self.options.batch, seed=None), batch_size=None)


class _StopAtNaN(Callback):
    """A loss that is not a number, in any of the processes, stops all of them before it reaches the weights."""

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        result = trainer.callback_metrics.get("train_loss")
        if result is None:
            return
        loss = float(trainer.strategy.reduce(result.detach().clone()))
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} at step {trainer.global_step + 1}; a lower learning rate may help. "
                f"The last good checkpoint is {Path(trainer.default_root_dir) / LAST}."
            )


class _Measures(Callback):
    """What validation measured last, also before a stop; and a warning where that is not a number."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.values: dict[str, float] = {}

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        metrics = trainer.callback_metrics
        self.values = {name: float(value) for name, value in metrics.items() if name.startswith("valid")}
        undefined = [name for name in self.names if not math.isfinite(self.values.get(name, 0.0))]
        if undefined:
            rank_zero_warn(
                f"{', '.join(undefined)} cannot be measured after this epoch, for the predictions or the measurements "
                "do not vary. For `patience` it is an epoch without a better validation.",
                category=UndefinedMeasureWarning,
            )

    def state_dict(self) -> dict[str, float]:
        return self.values

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.values = dict(state)


class _StepCheckpoint(ModelCheckpoint):
    """Every so many steps, but not between the last step of a pass and its validation, which would then be skipped.

    Args:
        validated: whether there is a validation after each pass, and a checkpoint after that.
        settings: those of `ModelCheckpoint`.
    """

    def __init__(self, *, validated: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.validated = validated

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if not (self.validated and trainer.is_last_batch):
            super().on_train_batch_end(trainer, *args, **kwargs)


class _Patience(EarlyStopping):
    """Stops after some epochs without a better measure. A run that had stopped so does not continue."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _Clock(Callback):
    """Seconds of training, those before a stop included."""

    def __init__(self) -> None:
        self.before, self.started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.before = state["seconds"]


class _GoOn(Callback):
    """Where the run begins, in the logbook."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        trainer.logger.go_on(trainer.global_step)


def git_revision(folder: Path) -> str | None:
    """The commit that `folder` is at, with "+" if files differ from it, or None outside of a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def _global_state_restored(threads: int | None) -> Iterator[None]:
    """Afterwards seeds, threads, the choice of deterministic algorithms and cuBLAS's workspace are as before."""
    before, workspace = torch.get_num_threads(), os.environ.get(_WORKSPACE)
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            if workspace is None:
                os.environ.pop(_WORKSPACE, None)
            else:
                os.environ[_WORKSPACE] = workspace


def _strategy(options: RunOptions) -> str:
    """Lightning's name for it. A fusion gate that is frozen or a head for letters takes no part in a step's loss."""
    several = options.devices != "1" and options.strategy == "auto"
    return "ddp_find_unused_parameters_true" if several or options.strategy == "ddp" else options.strategy


def fit(
    module: SeededModule,
    train: Rows,
    valid: Rows | None,
    folder: str | Path,
    options: RunOptions,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Train a module, from the folder's last checkpoint if there is one.

    Args:
        module: its weights are afterwards those of the end, averaged if asked for.
        train: rows to learn from. Every pass shows all of them.
        valid: rows to measure on, if there are any.
        folder: for the run's settings (`run.json`), metrics (`metrics.csv`) and checkpoints; made if need be.
        options: how.
        facts: what else there is to know, JSON-ready: the command, the config, where the data came from.

    Returns:
        The facts with the options, hashes of the rows, the number of processes, the git revision, versions, minutes (up
        to the checkpoint that the run continues from, and since), and the last metrics.

    Raises:
        TrainingError: the loss is not a number, or the checkpoint cannot be read or written.
        ValueError: rows that the module cannot learn from, or not be measured on; `patience` without rows for
            validation; the folder holds a run with other settings or other rows.

    Warns:
        UndefinedMeasureWarning: a measure of validation is not a number.
    """
    folder = Path(folder)
    monitor = None if options.patience is None else options.monitor
    module.check(train, valid, batch=options.batch, monitor=monitor)
    clock, measures = _Clock(), _Measures(module.measures)
    module.train()  # a loaded model comes in evaluation mode
    with _global_state_restored(options.threads):
        trainer = _trainer(folder, options, [_GoOn(), clock, measures, *_callbacks(folder, options, valid is not None)])
        settings = {
            "options": asdict(options),
            **facts,
            "processes": trainer.world_size,
            "content_train": train.content_hash(),
            "content_valid": None if valid is None else valid.content_hash(),
        }
        try:
            known = keep_settings(folder, settings, progress=LAST, notes=_versions())
        except OSError as error:
            raise TrainingError(f"The run's folder {folder} cannot be written: {error}.") from error
        data = _Data(train, valid, options)
        module.total_steps = options.epochs * len(data.batches(trainer))
        checkpoint = folder / LAST
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint if checkpoint.is_file() else None)
        except TrainingError:
            raise
        except (OSError, RuntimeError, EOFError, KeyError) as error:
            kept = (
                f"The last good checkpoint is {checkpoint}." if checkpoint.is_file() else "There is no checkpoint yet."
            )
            raise TrainingError(f"The run stopped: {error}. {kept}") from error
    return {**known, "steps": trainer.global_step, "minutes": clock.seconds / 60, **measures.values}


def _callbacks(folder: Path, options: RunOptions, validated: bool) -> list[Callback]:
    where: dict[str, Any] = {
        "dirpath": folder, "filename": LAST.removesuffix(".ckpt"), "enable_version_counter": False,
    }  # fmt: skip
    callbacks: list[Callback] = [
        _StepCheckpoint(validated=validated, every_n_train_steps=options.checkpoint_every, **where),
        # A run that continues needs what the last validation measured, and whether it was to stop then.
        ModelCheckpoint(every_n_epochs=1, save_on_train_epoch_end=False, **where),
        _StopAtNaN(),
    ]
    if options.average:
        callbacks.append(EMAWeightAveraging(decay=options.average, use_buffers=False))
    if options.patience is not None:
        callbacks.append(
            _Patience(
                options.monitor, mode="max", patience=options.patience, check_finite=False,
                check_on_train_epoch_end=False,  # but after validation, before the checkpoint
            )
        )  # fmt: skip
    return callbacks


def _trainer(folder: Path, options: RunOptions, callbacks: list[Callback]) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder,
        max_epochs=options.epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=_strategy(options),
        precision=options.precision,  # type: ignore[arg-type]
        gradient_clip_val=options.clip,
        callbacks=callbacks,
        logger=Logbook(folder / "metrics.csv"),
        log_every_n_steps=10,
        reload_dataloaders_every_n_epochs=1,
        deterministic=True,
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
    )


def _versions() -> dict[str, Any]:
    names = "crossdna_interpret", "torch", "lightning"
    return {
        "revision": git_revision(Path(__file__).parent),
        "versions": {name: metadata.version(name) for name in names} | {"torch": torch.__version__},  # with the build
        "python": platform.python_version(),
    }
