"""The commands `crossdna-interpret train finetune` and `crossdna-interpret train evaluate`.

Every flag may also stand in a TOML file, under its name without the dashes; a flag on the command line wins.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import torch

from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.store import load_model
from crossdna_interpret.training.card import finetuning_card
from crossdna_interpret.training.evaluation import evaluate
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.run import RunOptions, fit
from crossdna_interpret.training.tables import Table, read_table

__all__ = ["level_offsets", "main", "new_model"]


def _table_flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path, help="TOML file with flags")
    parser.add_argument("--table", type=Path, help="tab-separated values with a header, plain or gzipped")
    parser.add_argument("--targets", nargs="+", metavar="COLUMN", help="columns to predict")
    parser.add_argument("--sequence", default="sequence", metavar="COLUMN", help="column with DNA (%(default)s)")
    parser.add_argument("--split", metavar="COLUMN", help="column that tells the split of a row")
    parser.add_argument("--task", choices=["regression", "classification"], default="regression")
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crossdna-interpret train", description="Train and evaluate a CrossDNA.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = _table_flags()

    tune = commands.add_parser(
        "finetune", parents=[table], help="fit a model to a table of sequences and measurements",
        epilog="The same command goes on with a run that was stopped.",
    )  # fmt: skip
    tune.add_argument("--run-folder", type=Path, metavar="DIR", help="for checkpoints, metrics and the model")
    tune.add_argument("--name", help="of the model (default: that of the run's folder)")
    tune.add_argument("--model", help="start from this one: bundled name, folder, file or hub id on disk")
    tune.add_argument("--train-split", default="train", help="name in the split column (%(default)s)")
    tune.add_argument("--valid-split", default="valid", help="name in the split column (%(default)s)")
    tune.add_argument("--covariate", metavar="COLUMN", help="column whose levels get an offset, dropped at inference")
    tune.add_argument("--weight", metavar="COLUMN", help="column with how much a row counts")
    new = tune.add_argument_group("a new model")
    new.add_argument("--width", type=int, default=64, help="channels (%(default)s)")
    new.add_argument("--depth", type=int, default=2, help="layers of a branch (%(default)s)")
    new.add_argument("--block-size", type=int, default=256, help="positions of a block (%(default)s)")
    new.add_argument("--dropout", type=float, default=0.1, help="after the stem (%(default)s)")
    fitting = tune.add_argument_group("training")
    fitting.add_argument("--epochs", type=int, default=10)
    fitting.add_argument("--batch", type=int, default=32)
    fitting.add_argument("--learning-rate", type=float, default=2e-3, help="peak (%(default)s)")
    fitting.add_argument("--weight-decay", type=float, default=0.05)
    fitting.add_argument("--symmetric", action=argparse.BooleanOptionalAction, default=True,
                         help="score both orientations of a block alike")  # fmt: skip
    fitting.add_argument("--shift", type=int, default=0, help="move sequences by up to so many bases")
    fitting.add_argument("--average", type=float, default=0.999, help="decay of the averaged weights, 0 for none")
    fitting.add_argument("--patience", type=int, help="stop after so many epochs without a better validation")
    fitting.add_argument("--seed", type=int, default=0)
    fitting.add_argument("--checkpoint-every", type=int, default=200, metavar="STEPS")
    fitting.add_argument("--threads", type=int, help="CPU threads")
    fitting.add_argument("--accelerator", default="auto")
    fitting.add_argument("--devices", default="1")
    fitting.add_argument("--strategy", default="auto", help="of Lightning, for several devices")
    fitting.add_argument("--precision", default="32-true", help="such as bf16-mixed on a GPU (%(default)s)")
    tune.set_defaults(run=_finetune, needed=["table", "targets", "run_folder"])

    measure = commands.add_parser("evaluate", parents=[table], help="measure how well a model predicts a table")
    measure.add_argument("--model", help="bundled name, folder, file or hub id on disk")
    measure.add_argument("--rows", metavar="SPLIT", help="name in the split column (default: all rows)")
    measure.add_argument("--out", type=Path, help="write the measures to this file, tab-separated")
    measure.set_defaults(run=_evaluate, needed=["table", "targets", "model"])
    return parser


def main(argv: Sequence[str]) -> int:
    """Run `train` with the words after it; returns the exit status.

    Raises:
        ValueError, FileNotFoundError, TrainingError: what the user gave cannot be, or the run could not go on.
    """
    words = list(argv)
    parser = _parser()
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("--config", type=Path)
    config = known.parse_known_args(words)[0].config
    if config is not None and words:
        words = [words[0], *_from_toml(config, parser, words[0]), *words[1:]]
    options = parser.parse_args(words)
    missing = [name for name in options.needed if not getattr(options, name)]
    if missing:
        raise ValueError("Needed, as a flag or in the TOML file: " + ", ".join(_flag(name) for name in missing) + ".")
    options.words = words
    status: int = options.run(options)
    return status


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _from_toml(path: Path, parser: argparse.ArgumentParser, command: str) -> list[str]:
    """A TOML file's values as words of the command line."""
    if not path.is_file():
        raise FileNotFoundError(f"`--config` must be a TOML file, but there is no file {path}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    chosen = subparsers.choices.get(command)
    if chosen is None:
        return []  # the parser will say so
    flags = {flag for action in chosen._actions for flag in action.option_strings} - {"--config", "--help"}
    words: list[str] = []
    for key, value in values.items():
        flag = _flag(key)
        if flag not in flags:
            near = difflib.get_close_matches(flag, flags) or sorted(flags)
            raise ValueError(f"{path}: there is no flag for {key!r}. Near matches: {', '.join(near)}.")
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag.removeprefix("--"))
        else:
            words += [flag, *(str(each) for each in (value if isinstance(value, list) else [value]))]
    return words


def new_model(targets: Sequence[str], options: argparse.Namespace) -> CrossDNA:
    """A model with random weights, from `--width` and so on."""
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
        rc_blocks="aligned",
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


def level_offsets(table: Table) -> torch.Tensor:
    """(levels, T) mean of each level of the covariate less the overall mean; zero for a level without rows."""
    overall = table.targets.mean(0)
    rows = [table.targets[table.level == level] for level in range(len(table.levels))]
    return torch.tensor([(part.mean(0) - overall if len(part) else 0 * overall).tolist() for part in rows])


def _finetune(options: argparse.Namespace) -> int:
    splits = read_table(
        options.table, targets=options.targets, sequence=options.sequence, covariate=options.covariate,
        weight=options.weight, split=options.split,
    )  # fmt: skip
    wanted = options.train_split if options.split else "train"
    if wanted not in splits:
        raise ValueError(f"`--train-split` {wanted!r} is not in {options.table}; it has {', '.join(splits)}.")
    train, valid = splits[wanted], splits.get(options.valid_split)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model = _started_from(options.model, options.targets) if options.model else new_model(options.targets, options)
    model.name = options.name or options.run_folder.name
    assert model.head is not None
    with torch.no_grad():
        mean = torch.from_numpy(train.targets.mean(0))
        model.head.linear.bias.copy_(mean if options.task == "regression" else mean.clamp(1e-3, 1 - 1e-3).logit())
    how = RunOptions(
        epochs=options.epochs, batch=options.batch, seed=options.seed, threads=options.threads,
        checkpoint_every=options.checkpoint_every, patience=options.patience, average=options.average,
        monitor="valid_r_both_strands" if options.task == "regression" else "valid_auroc",
        accelerator=options.accelerator, devices=options.devices, strategy=options.strategy,
        precision=options.precision,
    )  # fmt: skip
    settings = {
        "learning_rate": options.learning_rate, "weight_decay": options.weight_decay, "symmetric": options.symmetric,
        "shift": options.shift,
    }  # fmt: skip
    offsets = (
        level_offsets(train) if options.task == "regression" else torch.zeros(len(train.levels), len(model.targets))
    )
    module = Finetuning(
        model, task=options.task, offsets=offsets, total_steps=options.epochs * (len(train) // options.batch),
        seed=options.seed, **settings,
    )  # fmt: skip
    facts = {
        "command": "crossdna-interpret train " + shlex.join(options.words), "task": options.task,
        "targets": list(options.targets), "table": options.table.name, "train": len(train),
        "valid": 0 if valid is None else len(valid), "started_from": options.model,
        "parameters": sum(p.numel() for p in model.parameters()), "config": model.config.to_dict(),
        "settings": settings,
    }  # fmt: skip
    facts = fit(module, train, valid, options.run_folder, how, facts)
    module.cpu().recentre(train)
    module.fold()
    folder = options.run_folder / "model"
    save_crossdna(model.eval(), folder, card=finetuning_card(model.name, facts), provenance=facts)
    sys.stdout.write(f"{folder}\n")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
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
    return 0
