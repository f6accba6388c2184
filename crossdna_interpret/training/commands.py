"""The commands `crossdna-interpret train pretrain`, `finetune` and `evaluate`."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.registry import load_model
from crossdna_interpret.models.training_range import TrainingRange
from crossdna_interpret.training.card import finetuning_card, pretraining_card
from crossdna_interpret.training.evaluation import evaluate
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.flags import parse
from crossdna_interpret.training.pretraining import Objective, Pretraining
from crossdna_interpret.training.run import RunOptions, fit
from crossdna_interpret.training.tables import Table, read_table
from crossdna_interpret.training.windows import Windows, open_windows

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run `train` with the words after it, and return the exit status.

    Raises:
        ValueError, FileNotFoundError, TrainingError: the input is invalid, or the run failed.
    """
    options = parse(argv)
    {"pretrain": _pretrain, "finetune": _finetune, "evaluate": _evaluate}[options.command](options)
    return 0


def _model(targets: Sequence[str], options: argparse.Namespace, *, gate_freeze: int = 0) -> CrossDNA:
    """The model of `--model` with new targets, or a model with random weights from `--width` and other flags."""
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model = _started_from(options.model, targets) if options.model else _new_model(targets, options, gate_freeze)
    model.name = options.name or options.run_folder.name
    return model


def _new_model(targets: Sequence[str], options: argparse.Namespace, gate_freeze: int) -> CrossDNA:
    if options.width % 16:
        raise ValueError(f"`--width` must be a multiple of 16, the size of an attention head, but is {options.width}.")
    config = CrossDNAConfig(
        d_model=options.width,
        depth=options.depth,
        block_size=options.block_size,
        comba_heads=max(1, options.width // 32),
        comba_head_dim=32,
        attention_heads=options.width // 16,
        window_size=options.block_size,
        rc_blocks=options.pairing,
        gate_freeze_steps=gate_freeze,
        dropout=options.dropout,
    )
    return CrossDNA(config, targets)


def _crossdna(name: str) -> CrossDNA:
    model = load_model(name)
    if not isinstance(model, CrossDNA):
        raise ValueError(f"`--model` {name} must be a CrossDNA, but is a {type(model).__name__}.")
    return model


def _started_from(name: str, targets: Sequence[str]) -> CrossDNA:
    """A model with the weights of another model, except for the head."""
    source = _crossdna(name)
    model = CrossDNA(source.config, targets)
    model.load_state_dict({**model.state_dict(), **_body(source)})
    return model


def _body(model: CrossDNA) -> dict[str, Tensor]:
    """All weights except those of the head."""
    return {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}


def _body_hash(model: CrossDNA) -> str:
    content = hashlib.sha256()
    for key, value in sorted(_body(model).items()):
        content.update(key.encode() + value.detach().cpu().numpy().tobytes())
    return content.hexdigest()


def _how(options: argparse.Namespace, monitor: str) -> RunOptions:
    return RunOptions(
        epochs=options.epochs, batch=options.batch, seed=options.seed, threads=options.threads,
        checkpoint_every=options.checkpoint_every, patience=options.patience, average=options.average,
        monitor=monitor, accelerator=options.accelerator, devices=options.devices, strategy=options.strategy,
        precision=options.precision,
    )  # fmt: skip


def _facts(options: argparse.Namespace, model: CrossDNA) -> dict[str, Any]:
    return {
        "command": "crossdna-interpret train " + shlex.join(options.words), "started_from": options.model,
        "content_started_from": _body_hash(model) if options.model else None,
        "parameters": sum(p.numel() for p in model.parameters()), "config": model.config.to_dict(),
    }  # fmt: skip


@rank_zero_only
def _export(model: CrossDNA, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Save the model in the layout of this package and print its folder. Only one process does this."""
    save_crossdna(model.eval(), folder, card=card, provenance=facts)
    sys.stdout.write(f"{folder}\n")


def _pretrain(options: argparse.Namespace) -> None:
    train, valid = _windows(options)
    model = _model((), options, gate_freeze=options.gate_freeze)
    model.training_range = TrainingRange.of(train.sequences())
    objective = Objective(
        semantic=options.semantic, warm_up=options.warm_up, gate=options.gate,
        reverse_complement=options.reverse_complement,
    )  # fmt: skip
    settings = {"learning_rate": options.learning_rate, "weight_decay": options.weight_decay}
    module = Pretraining(model, objective=objective, seed=options.seed, **settings)
    facts = {
        **_facts(options, model), "fasta": options.fasta.name, "bed": options.bed and options.bed.name,
        "length": options.length, "train": len(train), "valid": len(valid),
        "settings": {**settings, **asdict(objective)},
    }  # fmt: skip
    facts = fit(
        module, train, valid if len(valid) else None, options.run_folder, _how(options, "valid_accuracy"), facts
    )
    _export(model.cpu(), options.run_folder / "model", pretraining_card(model, facts), facts)


def _windows(options: argparse.Namespace) -> tuple[Windows, Windows]:
    options.run_folder.mkdir(parents=True, exist_ok=True)
    index = None
    if options.fasta.is_file():
        # An index is only valid for one state of one file. A wrong index would give wrong bases.
        state = options.fasta.stat()
        index = options.run_folder / f"{options.fasta.name}.{state.st_size}.{state.st_mtime_ns}.fai"
    windows = open_windows(options.fasta, options.length, bed=options.bed, index=index)
    return windows.split(contigs=options.valid_contigs, share=options.valid_share, seed=options.seed)


def _finetune(options: argparse.Namespace) -> None:
    train, valid, left_out = _splits(options)
    model = _model(options.targets, options)
    model.training_range = TrainingRange.of(train.ids)
    assert model.head is not None
    with torch.no_grad():
        mean = torch.from_numpy(train.targets.mean(0))
        model.head.linear.bias.copy_(mean if options.task == "regression" else mean.clamp(1e-3, 1 - 1e-3).logit())
    how = _how(options, monitor="valid_r_both_strands" if options.task == "regression" else "valid_auroc")
    settings = {
        "learning_rate": options.learning_rate, "weight_decay": options.weight_decay, "symmetric": options.symmetric,
        "shift": options.shift,
    }  # fmt: skip
    offsets = torch.from_numpy(train.level_offsets()) * (options.task == "regression")
    module = Finetuning(model, task=options.task, offsets=offsets, seed=options.seed, **settings)
    facts = {
        **_facts(options, model), "task": options.task, "targets": list(options.targets), "table": options.table.name,
        "train": len(train), "left_out": left_out, "valid": 0 if valid is None else len(valid),
        "settings": settings,
    }  # fmt: skip
    facts = fit(module, train, valid, options.run_folder, how, facts)
    module.cpu().recentre(train)
    module.fold()
    _export(model, options.run_folder / "model", finetuning_card(model, facts), facts)


def _splits(options: argparse.Namespace) -> tuple[Table, Table | None, int]:
    """Training rows, validation rows if there are any, and the number of rows left out because of weight 0."""
    splits = _read(options, covariate=options.covariate, weight=options.weight)
    train_split, valid_split = options.train_split or "train", options.valid_split or "valid"
    for flag, name in (("--train-split", options.train_split), ("--valid-split", options.valid_split)):
        if name is not None and options.split is None:
            raise ValueError(f"`{flag}` {name!r} is a name in the split column: name that column with `--split`.")
    there = f"is not in {options.table}; it has {', '.join(splits)}"
    if train_split not in splits:
        raise ValueError(f"`--train-split` {train_split!r} {there}.")
    if options.validation and train_split == valid_split:
        raise ValueError(f"`--train-split` and `--valid-split` must be different, but both are {train_split!r}.")
    valid = splits.get(valid_split) if options.validation else None
    expected = options.valid_split is not None or options.patience is not None or len(splits) > 1
    if valid is None and options.split is not None and options.validation and expected:
        raise ValueError(f"`--valid-split` {valid_split!r} {there}. To train without validation, add --no-validation.")
    train = splits[train_split]
    counted = np.flatnonzero(train.weight)
    if not len(counted):
        raise ValueError(f"`--weight` {options.weight}: all {len(train)} rows to train on have the weight 0.")
    return train.rows(counted), valid, len(train) - len(counted)


def _read(options: argparse.Namespace, **columns: str | None) -> dict[str, Table]:
    return read_table(
        options.table, targets=options.targets, sequence=options.sequence, split=options.split, task=options.task,
        **columns,
    )  # fmt: skip


def _evaluate(options: argparse.Namespace) -> None:
    if options.rows is not None and options.split is None:
        raise ValueError(
            f"`--rows` {options.rows!r} is a name in the split column: name that column with `--split`, or leave out "
            "--rows to measure all rows."
        )
    splits = _read(options)
    name = options.rows or next(iter(splits))
    if options.rows is None and len(splits) > 1:
        raise ValueError(f"`--rows` must say which rows: {', '.join(splits)}.")
    if name not in splits:
        raise ValueError(f"`--rows` {name!r} is not in {options.table}; it has {', '.join(splits)}.")
    measures = evaluate(_crossdna(options.model), splits[name], task=options.task)
    if options.out is not None:
        measures.to_csv(options.out, sep="\t", index=False, float_format="%.6g")
    sys.stdout.write(measures.to_string(index=False, float_format=lambda value: f"{value:.3f}") + "\n")
