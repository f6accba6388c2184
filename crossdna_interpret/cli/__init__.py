"""The command ``crossdna-interpret``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from crossdna_interpret import __version__
from crossdna_interpret.cli.common import Done, complain, say
from crossdna_interpret.cli.lab import lab_command
from crossdna_interpret.cli.measured import satmut_command, scanning_command, truth_command
from crossdna_interpret.cli.sequences import ism_command, report_command
from crossdna_interpret.measured.laboratory import SCANNING
from crossdna_interpret.models.registry import DEFAULT, list_models, load_model, model_card, model_summary

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crossdna-interpret", description="Explain what models of DNA sequences predict."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "--model", help="bundled name, folder, file, or hub id on disk (default: %(default)s)", default=DEFAULT
    )
    model.add_argument("--target", help="name of the target, where the model has several")
    model.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")

    report = commands.add_parser("report", parents=[model], help="explain sequences in one HTML page and a table")
    report.add_argument("sequence", nargs="?", metavar="SEQ|FASTA",
                        help="bases, a FASTA file, or - for standard input (default: an example)")  # fmt: skip
    report.add_argument("-o", "--out", type=Path, default=Path("crossdna_report.html"),
                        help="page, with a table beside it (default: %(default)s)")  # fmt: skip
    report.set_defaults(run=report_command)

    mutate = commands.add_parser("ism", parents=[model], help="in-silico mutagenesis of sequences")
    mutate.add_argument("sequence", metavar="SEQ|FASTA", help="bases, a FASTA file, or - for standard input")
    mutate.add_argument("-o", "--out", type=Path, required=True, metavar="DIR",
                        help="folder: a table (.tsv) and a certificate (.json) for each record")  # fmt: skip
    mutate.add_argument("--cache", type=Path, metavar="DIR",
                        help="save scores here; the same command continues after an interruption")  # fmt: skip
    mutate.add_argument("--compile", choices=["auto", "yes", "no"], default="auto",
                        help="use compiled kernels (default: if compiled already, or for long runs)")  # fmt: skip
    mutate.set_defaults(run=ism_command)

    scanning = commands.add_parser("scanning", parents=[model],
                                   help="compare predicted with measured effects of scanning mutagenesis")  # fmt: skip
    scanning.add_argument(
        "tables", nargs="+", type=Path, metavar="TABLE", help=f"with the columns {', '.join(SCANNING)}"
    )
    scanning.add_argument(
        "-o", "--out", type=Path, metavar="TSV", help="also write the table for each enhancer to this file"
    )
    scanning.set_defaults(run=scanning_command)

    satmut = commands.add_parser("satmut", parents=[model],
                                 help="compare predicted with measured effects of saturation mutagenesis")  # fmt: skip
    satmut.add_argument("variants", type=Path, metavar="VARIANTS",
                        help="table of measured variants, as kircherlab/MPRA_SaturationMutagenesis has it")  # fmt: skip
    satmut.add_argument("elements", type=Path, metavar="FASTA",
                        help="the elements, with headers `>NAME chrN:START-END`")  # fmt: skip
    satmut.add_argument("--window", type=int, metavar="BASES",
                        help="bases that the model reads (default: the longest of its training sequences)")  # fmt: skip
    satmut.add_argument("--element", action="append", metavar="NAME",
                        help="only this element; may be given several times")  # fmt: skip
    satmut.add_argument("-o", "--out", type=Path, metavar="TSV", help="also write the table to this file")
    satmut.set_defaults(run=satmut_command)

    truth = commands.add_parser("truth", help="compare predicted changes with measured ones, inside families")
    truth.add_argument("model", help="bundled name, folder, file, or hub id on disk")
    truth.add_argument("table", type=Path, metavar="TABLE",
                       help="tab-separated, with the columns sequence, family and measurements; or the bundled "
                            "yeast-promoters")  # fmt: skip
    truth.add_argument("--measured", required=True, metavar="COLUMN", help="column with the measurements")
    truth.add_argument("--family", default="family", metavar="COLUMN",
                       help="column with the families (default: %(default)s)")  # fmt: skip
    truth.add_argument("--where", metavar="CONDITION",
                       help="use only these rows, such as 'complex %% 1 != 0' (as pandas.DataFrame.query)")  # fmt: skip
    truth.add_argument("--target", help="name of the target (default: the one named like the column)")
    truth.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    truth.add_argument("--motifs", help="group changes by these motifs: a collection such as jaspar-insects, or a file")
    truth.add_argument("--changes", type=int, default=4, metavar="N",
                       help="largest number of bases by which two sequences differ (default: %(default)s)")  # fmt: skip
    truth.add_argument("-o", "--out", type=Path, metavar="HTML", help="write a page, with a table beside it")
    truth.set_defaults(run=truth_command)

    models = commands.add_parser("models", help="list the bundled models, or show the card of one")
    models.add_argument("name", nargs="?", help="show this model's card")
    models.set_defaults(run=_models)

    commands.add_parser("train", help="pre-train or fine-tune a model, or measure how well one predicts a table",
                        add_help=False)  # fmt: skip

    lab = commands.add_parser("lab", help="open JupyterLab in a copy of the explorer and the tutorials",
                              epilog="What follows -- is passed on to JupyterLab.")  # fmt: skip
    lab.add_argument("folder", nargs="?", type=Path, default=Path("crossdna_tutorials"),
                     help="where to copy them; files already there are kept (default: %(default)s)")  # fmt: skip
    lab.add_argument("--no-browser", action="store_true", help="start the server only")
    lab.add_argument("--copy-only", action="store_true", help="copy the notebooks and stop")
    lab.set_defaults(run=lab_command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Errors in the user's input are one line on stderr, with status 2. Ctrl-C gives status 130. Finished work stays on
    disk, and the line says how much is finished.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    done = Done()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            if words[:1] == ["train"]:
                return _train(words, whole_process=argv is None)
            return _command(words, done)
    except (ValueError, TypeError, OSError, MemoryError, RuntimeError) as error:
        complain(f"{error}{done}")
        return 2
    except KeyboardInterrupt:
        complain(f"interrupted{done}")
        return 130


def _train(words: list[str], *, whole_process: bool) -> int:
    if importlib.util.find_spec("lightning") is None:
        from crossdna_interpret.training.flags import parse

        if {"-h", "--help"} & set(words):
            parse(words[1:])  # it prints the help and exits
        raise RuntimeError("Lightning is not installed; install it with: pip install 'crossdna_interpret[train]'")
    from crossdna_interpret.training.allocation import keep_freed_memory
    from crossdna_interpret.training.commands import main as train

    if whole_process:
        keep_freed_memory()
    return train(words[1:])


def _command(words: list[str], done: Done) -> int:
    split = words.index("--") if words[:1] == ["lab"] and "--" in words else len(words)
    options = _parser().parse_args(words[:split])
    options.passed_on, options.done = words[split + 1 :], done
    status: int = options.run(options)
    return status


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    complain(f"{category.__name__}: {message}")


def _models(options: argparse.Namespace) -> int:
    if options.name is not None:
        say(model_card(options.name))
        return 0
    for name in list_models():
        model = load_model(name)
        assert isinstance(model, nn.Module)
        count = sum(parameter.numel() for parameter in model.parameters())
        say(f"{name}\t{count:,} parameters\ttargets: {', '.join(model.targets)}")
        say(f"  {model_summary(name)}")
    return 0
