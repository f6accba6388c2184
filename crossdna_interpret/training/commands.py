"""The commands `crossdna-interpret train pretrain`, `finetune` and `evaluate`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.store import load_model
from crossdna_interpret.training.card import finetuning_card, pretraining_card
from crossdna_interpret.training.evaluation import evaluate
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.flags import parse
from crossdna_interpret.training.pretraining import Objective, Pretraining
from crossdna_interpret.training.run import RunOptions, fit
from crossdna_interpret.training.tables import read_table
from crossdna_interpret.training.windows import open_windows

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run `train` with the words after it; returns the exit status.

    Raises:
        ValueError, FileNotFoundError, TrainingError: what the user gave cannot be, or the run could not go on.
    """
    options = parse(argv)
    {"pretrain": _pretrain, "finetune": _finetune, "evaluate": _evaluate}[options.command](options)
    return 0


def _model(targets: Sequence[str], options: argparse.Namespace, *, gate_freeze: int = 0) -> CrossDNA:
    """That of `--model` with new targets, or one with random weights, from `--width` and so on."""
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


def _started_from(name: str, targets: Sequence[str]) -> CrossDNA:
    """A model with the weights of another, all but the head's, which it may not have."""
    source = load_model(name)
    model = CrossDNA(source.config, targets)
    kept = {key: value for key, value in source.state_dict().items() if not key.startswith("head.")}
    model.load_state_dict({**model.state_dict(), **kept})
    return model


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
        "parameters": sum(p.numel() for p in model.parameters()), "config": model.config.to_dict(),
    }  # fmt: skip


@rank_zero_only
def _export(model: CrossDNA, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Keep the model in the package's own layout and say where: in one of several processes."""
    save_crossdna(model.eval(), folder, card=card, provenance=facts)
    sys.stdout.write(f"{folder}\n")


def _pretrain(options: argparse.Namespace) -> None:
    options.run_folder.mkdir(parents=True, exist_ok=True)
    windows = open_windows(options.fasta, options.length, bed=options.bed, index=options.run_folder / "index.fai")
    train, valid = windows.split(contigs=options.valid_contigs, share=options.valid_share, seed=options.seed)
    model = _model((), options, gate_freeze=options.gate_freeze)
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
    _export(model.cpu(), options.run_folder / "model", pretraining_card(model.name, facts), facts)


def _finetune(options: argparse.Namespace) -> None:
    splits = read_table(
        options.table, targets=options.targets, sequence=options.sequence, covariate=options.covariate,
        weight=options.weight, split=options.split,
    )  # fmt: skip
    wanted = options.train_split if options.split else "train"
    if wanted not in splits:
        raise ValueError(f"`--train-split` {wanted!r} is not in {options.table}; it has {', '.join(splits)}.")
    train, valid = splits[wanted], splits.get(options.valid_split)
    model = _model(options.targets, options)
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
        "train": len(train), "valid": 0 if valid is None else len(valid), "settings": settings,
    }  # fmt: skip
    facts = fit(module, train, valid, options.run_folder, how, facts)
    module.cpu().recentre(train)
    module.fold()
    _export(model, options.run_folder / "model", finetuning_card(model.name, facts), facts)


def _evaluate(options: argparse.Namespace) -> None:
    splits = read_table(options.table, targets=options.targets, sequence=options.sequence, split=options.split)
    name = options.rows or next(iter(splits))
    if options.rows is None and len(splits) > 1:
        raise ValueError(f"`--rows` must say which rows: {', '.join(splits)}.")
    if name not in splits:
        raise ValueError(f"`--rows` {name!r} is not in {options.table}; it has {', '.join(splits)}.")
    measures = evaluate(load_model(options.model), splits[name], task=options.task)
    if options.out is not None:
        measures.to_csv(options.out, sep="\t", index=False, float_format="%.6g")
    sys.stdout.write(measures.to_string(index=False, float_format=lambda value: f"{value:.3f}") + "\n")
