"""Command-line flags of training, and their TOML file."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NEEDED", "parse"]

NEEDED = {
    "pretrain": ("fasta", "length", "run_folder"),
    "finetune": ("table", "targets", "run_folder"),
    "evaluate": ("table", "targets", "model"),
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Options of one command, with its words in `words`. Command-line flags override the TOML file.

    Raises:
        ValueError, FileNotFoundError: a required flag is missing, or the TOML file is missing or invalid.
    """
    words = list(argv)
    parser = _parser()
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("--config", type=Path)
    config = known.parse_known_args(words)[0].config
    if config is not None and words:
        words = [words[0], *_from_toml(config, parser, words[0]), *words[1:]]
    options = parser.parse_args(words)
    missing = [name for name in NEEDED[options.command] if not getattr(options, name)]
    if missing:
        raise ValueError("Needed, as a flag or in the TOML file: " + ", ".join(_flag(name) for name in missing) + ".")
    options.words = words
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crossdna-interpret train", description="Train and evaluate a CrossDNA.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    resumes = "The same command continues a stopped run."

    read = commands.add_parser(
        "pretrain", parents=[_config_flag(), _model_flags(block_size=1024), _fitting_flags(1e-4, 0.1, 0.0)],
        help="train a language model on a genome, or on intervals of it", epilog=resumes,
    )  # fmt: skip
    read.add_argument("--fasta", type=Path, help="sequences, plain or compressed by bgzip")
    read.add_argument("--bed", type=Path, help="intervals to train on (default: all of the FASTA)")
    read.add_argument("--length", type=int, help="bases of a window")
    read.add_argument("--valid-contigs", nargs="+", default=[], metavar="NAME", help="hold these out for validation")
    read.add_argument("--valid-share", type=float, default=0.0, help="or hold out this share of the windows")
    terms = read.add_argument_group("objective")
    terms.add_argument("--semantic", type=float, default=0.12, help="weight of the teacher's term (%(default)s)")
    terms.add_argument("--warm-up", type=int, default=10_000, help="warm-up steps of this weight (%(default)s)")
    terms.add_argument("--gate", type=float, default=0.02, help="weight of the fusion gate's term (%(default)s)")
    terms.add_argument("--gate-freeze", type=int, default=0, help="steps for which the gate is one half (%(default)s)")
    terms.add_argument("--reverse-complement", type=float, default=0.0, help="weight of consistency (%(default)s)")

    table = _table_flags()
    tune = commands.add_parser(
        "finetune", parents=[_config_flag(), table, _model_flags(block_size=256), _fitting_flags(2e-3, 0.05, 0.999)],
        help="fit a model to a table of sequences and measurements", epilog=resumes,
    )  # fmt: skip
    tune.add_argument("--train-split", metavar="NAME", help="name in the split column (train)")
    tune.add_argument("--valid-split", metavar="NAME", help="name in the split column (valid)")
    tune.add_argument("--validation", action=argparse.BooleanOptionalAction, default=True,
                      help="measure the rows of the validation split after each pass")  # fmt: skip
    tune.add_argument("--covariate", metavar="COLUMN", help="column whose levels get an offset, dropped at inference")
    tune.add_argument("--weight", metavar="COLUMN", help="column with row weights")
    tune.add_argument("--symmetric", action=argparse.BooleanOptionalAction, default=True,
                      help="score both orientations of a block equally")  # fmt: skip
    tune.add_argument("--shift", type=int, default=0, help="largest random shift in bases")

    measure = commands.add_parser(
        "evaluate", parents=[_config_flag(), table], help="measure how well a model predicts a table"
    )
    measure.add_argument("--model", help="bundled name, folder, file or hub id on disk")
    measure.add_argument("--rows", metavar="SPLIT", help="name in the split column (default: all rows)")
    measure.add_argument("--out", type=Path, help="write the measures to this file, tab-separated")
    return parser


def _config_flag() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path, help="TOML file with flags")
    return parser


def _table_flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--table", type=Path, help="tab-separated values with a header, plain or gzipped")
    parser.add_argument("--targets", nargs="+", metavar="COLUMN", help="columns to predict")
    parser.add_argument("--sequence", default="sequence", metavar="COLUMN", help="column with DNA (%(default)s)")
    parser.add_argument("--split", metavar="COLUMN", help="column with the split of each row")
    parser.add_argument("--task", choices=["regression", "classification"], default="regression")
    return parser


def _model_flags(block_size: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--run-folder", type=Path, metavar="DIR", help="for checkpoints, metrics and the model")
    parser.add_argument("--name", help="of the model (default: that of the run's folder)")
    parser.add_argument("--model", help="start from this one: bundled name, folder, file or hub id on disk")
    new = parser.add_argument_group("a new model")
    new.add_argument("--width", type=int, default=64, help="channels (%(default)s)")
    new.add_argument("--depth", type=int, default=2, help="layers of a branch (%(default)s)")
    new.add_argument("--block-size", type=int, default=block_size, help="positions of a block (%(default)s)")
    new.add_argument("--pairing", choices=["aligned", "mirrored"], default="aligned", help="of blocks (%(default)s)")
    new.add_argument("--dropout", type=float, default=0.1, help="after the stem (%(default)s)")
    return parser


def _fitting_flags(learning_rate: float, weight_decay: float, average: float) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    fitting = parser.add_argument_group("training")
    fitting.add_argument("--epochs", type=int, default=10, help="passes at most (%(default)s)")
    fitting.add_argument("--batch", type=int, default=32, help="rows of a step and process at most (%(default)s)")
    fitting.add_argument("--learning-rate", type=float, default=learning_rate, help="peak (%(default)s)")
    fitting.add_argument("--weight-decay", type=float, default=weight_decay, help="(%(default)s)")
    fitting.add_argument("--average", type=float, default=average,
                         help="decay of the averaged weights, 0 for none (%(default)s)")  # fmt: skip
    fitting.add_argument("--patience", type=int, help="stop after this many epochs without a better validation measure")
    fitting.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    fitting.add_argument("--checkpoint-every", type=int, default=200, metavar="STEPS", help="(%(default)s)")
    fitting.add_argument("--threads", type=int, help="CPU threads")
    fitting.add_argument("--accelerator", default="auto", help="such as cpu or gpu (%(default)s)")
    fitting.add_argument("--devices", default="1", help="number of devices, or -1 for all (%(default)s)")
    fitting.add_argument("--strategy", default="auto", help="Lightning strategy for several devices (%(default)s)")
    fitting.add_argument("--precision", default="32-true", help="such as bf16-mixed on a GPU (%(default)s)")
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _from_toml(path: Path, parser: argparse.ArgumentParser, command: str) -> list[str]:
    """The values of a TOML file as command-line words."""
    if not path.is_file():
        raise FileNotFoundError(f"`--config` must be a TOML file, but there is no file {path}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    chosen = subparsers.choices.get(command)
    if chosen is None:
        return []  # the parser reports the error
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
