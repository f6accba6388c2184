"""What the scripts of the recipes share: their options, the facts of a run, and the export of the model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.card import described, filled
from crossdna_interpret.training.run import RunOptions

__all__ = ["exported", "facts_of", "options_of", "recipe_parser", "run_options"]

_UNNAMED = ("data", "run", "rows")  # options that are not part of the command of a card


def recipe_parser(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with --data, --run, --threads and --rows, and an option for each default, such as ``epochs=20``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data, see the module")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints, metrics and the model")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (%(default)s)")
    parser.add_argument("--rows", type=int, default=None, help="use only the first rows, to try the script out")
    return parser


def options_of(parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, min_rows: int) -> argparse.Namespace:
    """The options. It exits with a message if there are fewer than `min_rows` rows."""
    options = parser.parse_args(argv)
    if options.rows is not None and options.rows < min_rows:
        parser.error(f"--rows must be at least {min_rows}, but is {options.rows}")
    return options


def run_options(options: argparse.Namespace) -> RunOptions:
    """Options of the training run."""
    return RunOptions(epochs=options.epochs, batch=options.batch, seed=options.seed, threads=options.threads)


def facts_of(module: str, options: argparse.Namespace, model: CrossDNA) -> dict[str, Any]:
    """Facts for the card: the command, its options, the number of parameters, and the version of torch."""
    chosen = {name: value for name, value in vars(options).items() if name not in _UNNAMED}
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items())
    return {
        "command": f"python -m {module} --data DIR --run DIR {words}",
        **chosen,
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__.split("+")[0],
    }


def exported(model: CrossDNA, facts: Mapping[str, Any], card: Path, folder: Path, reached: Mapping[str, float]) -> str:
    """Write the model with its card to a folder.

    Args:
        model: the trained model, with its training range.
        facts: facts of the run. They fill the card.
        card: Markdown with names of facts in braces.
        folder: where to write.
        reached: measures to print.

    Returns:
        A message with the folder and the measures, as JSON.
    """
    assert model.training_range is not None
    text = filled(card.read_text(encoding="utf-8"), {**facts, "trained_on": described(model.training_range)})
    written = save_crossdna(model, folder, card=text, provenance=dict(facts))
    return json.dumps({"model": str(written), **reached}, indent=1) + "\n"
