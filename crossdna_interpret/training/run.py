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

__all__ = ["LAST", "RunOptions", "TrainingError", "fit", "git_revision", "must_be_finite"]

LAST = "last.ckpt"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # Lightning sets it for deterministic algorithms


class TrainingError(RuntimeError):
    """A run cannot continue. The message has the reason and the last good checkpoint."""


@dataclass(frozen=True)
class RunOptions:
    """How to train.

    Attributes:
        epochs: passes over the training rows.
        batch: largest number of rows in a batch of one process.
        seed: seed of the weights, the order of rows, dropout and augmentation, from 0 to 2**32 - 1.
        threads: number of CPU threads. None does not change it.
        checkpoint_every: steps between checkpoints. There is also one after each validation.
        patience: stop after this number of epochs without a better `monitor`. None never stops early. NaN does not
            count as better.
        monitor: measure for early stopping, larger is better, such as "valid_r_both_strands".
        average: decay of the exponential moving average of the weights, which are the final weights. 0 disables it.
        clip: norm to which gradients are clipped.
        accelerator, devices, precision: as for Lightning's Trainer.
        strategy: as for Lightning's Trainer. With several devices, "auto" and "ddp" support weights that a step does
            not use.
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
    """Batches of the rows. Training batches start at the current step of the run."""

    def __init__(self, train: Rows, valid: Rows | None, options: RunOptions) -> None:
        super().__init__()
        self.train, self.valid, self.options = train, valid, options

    def batches(self, trainer: lightning.Trainer) -> Batches:
        """The training batches of this process, from the current step of the trainer on."""
        share = trainer.global_rank, trainer.world_size
        return Batches(self.train, self.options.batch, seed=self.options.seed, first=trainer.global_step, share=share)

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return DataLoader(self.batches(self.trainer), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """All rows in each process. A correlation needs all rows, and processes with fewer rows would wait."""
        if self.valid is None:
            return []
        return DataLoader(Batches(self.valid, 2 * self.options.batch, seed=None), batch_size=None)


class _StopAtNaN(Callback):
    """Stops all processes if the loss is NaN in any of them, before the weights change."""

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
    """Stores the last validation measures, also across restarts, and warns if one is NaN."""

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
                "do not vary. `patience` counts it as an epoch without a better measure.",
                category=UndefinedMeasureWarning,
            )

    def state_dict(self) -> dict[str, float]:
        return self.values

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.values = dict(state)


class _StepCheckpoint(ModelCheckpoint):
    """Checkpoint every few steps, but not between the last step of an epoch and its validation.

    A run that continues from there would skip the validation.

    Args:
        validated: whether each epoch has a validation, with a checkpoint after it.
        settings: settings of `ModelCheckpoint`.
    """

    def __init__(self, *, validated: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.validated = validated

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if not (self.validated and trainer.is_last_batch):
            super().on_train_batch_end(trainer, *args, **kwargs)


class _Patience(EarlyStopping):
    """Stops after some epochs without a better measure. A run that was stopped in this way does not continue."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _Clock(Callback):
    """Seconds of training, including those before a restart."""

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
    """Sets the first step of the run in the logbook."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        trainer.logger.go_on(trainer.global_step)


def git_revision(folder: Path) -> str | None:
    """The git commit of `folder`, with "+" if files have changed, or None outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def _global_state_restored(threads: int | None) -> Iterator[None]:
    """Context that restores seeds, threads, the setting for deterministic algorithms and cuBLAS's workspace."""
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
    """Lightning's name of the strategy. It must allow unused weights, such as a frozen gate or an unused head."""
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
    """Train a module. Continue from the last checkpoint in the folder, if there is one.

    Args:
        module: the module. At the end it has the final weights, averaged if `options.average` is set.
        train: training rows. Every epoch uses all of them.
        valid: validation rows, or None.
        folder: folder for settings (`run.json`), metrics (`metrics.csv`) and checkpoints. It is created if it does not
            exist.
        options: options of the run.
        facts: further JSON-ready information: the command, the config, the source of the data.

    Returns:
        `facts` with the options, hashes of the rows, the number of processes, the git revision, versions, minutes of
        training (of all restarts), and the last metrics.

    Raises:
        TrainingError: the loss is NaN, or a checkpoint cannot be read or written.
        ValueError: the module cannot learn from the rows or be measured on them, `patience` is set without validation
            rows, or the folder has a run with other settings or rows.

    Warns:
        UndefinedMeasureWarning: a validation measure is NaN.
    """
    folder = Path(folder)
    monitor = None if options.patience is None else options.monitor
    module.check(train, valid, batch=options.batch, monitor=monitor)
    clock, measures = _Clock(), _Measures(module.measures)
    module.train()  # `load_model` returns a model in evaluation mode
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


def must_be_finite(facts: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Validation measures of a part of the training.

    Raises:
        TrainingError: a measure is NaN.
    """
    reached = {key: value for key, value in facts.items() if key.startswith("valid_")}
    if not all(math.isfinite(value) for value in reached.values()):
        raise TrainingError(f"Training gave no usable model: {reached}. The last checkpoint is {folder / LAST}.")
    return reached


def _callbacks(folder: Path, options: RunOptions, validated: bool) -> list[Callback]:
    where: dict[str, Any] = {
        "dirpath": folder, "filename": LAST.removesuffix(".ckpt"), "enable_version_counter": False,
    }  # fmt: skip
    callbacks: list[Callback] = [
        _StepCheckpoint(validated=validated, every_n_train_steps=options.checkpoint_every, **where),
        # A run that continues needs the measures of the last validation and the state of early stopping.
        ModelCheckpoint(every_n_epochs=1, save_on_train_epoch_end=False, **where),
        _StopAtNaN(),
    ]
    if options.average:
        callbacks.append(EMAWeightAveraging(decay=options.average, use_buffers=False))
    if options.patience is not None:
        callbacks.append(
            _Patience(
                options.monitor, mode="max", patience=options.patience, check_finite=False,
                check_on_train_epoch_end=False,  # check after validation, before the checkpoint
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
