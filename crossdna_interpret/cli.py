"""The command ``crossdna-interpret``."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from crossdna_interpret import __version__
from crossdna_interpret.io import examples as loci
from crossdna_interpret.io.fasta import FastaRecord, read_fasta_records
from crossdna_interpret.io.files import refuse_foreign, replacing
from crossdna_interpret.measured.laboratory import SCANNING, scanning
from crossdna_interpret.models.protocols import Compile, SequenceModel
from crossdna_interpret.models.registry import DEFAULT, list_models, load_model, model_card
from crossdna_interpret.models.training_range import outside_training, shown_elsewhere
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.provenance import model_hash
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["main"]

_PACKAGE = Path(__file__).resolve().parent
_ISM_TABLES = tuple(  # header lines of this version and of older ones
    f"name\tposition\tref\talt\ttarget\tprediction\tdelta{more}" for more in ("\toutside_training", "")
)
_LONG = 1000  # bases from which a report takes a while
_COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}


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
    report.set_defaults(run=_report)

    mutate = commands.add_parser("ism", parents=[model], help="in-silico mutagenesis of each record of a FASTA file")
    mutate.add_argument("fasta", metavar="FASTA", help="a FASTA file, or - for standard input")
    mutate.add_argument("-o", "--out", type=Path, required=True, metavar="DIR",
                        help="folder: a table (.tsv) and a certificate (.json) for each record")  # fmt: skip
    mutate.add_argument("--cache", type=Path, metavar="DIR",
                        help="save scores here; the same command continues after an interruption")  # fmt: skip
    mutate.add_argument("--compile", choices=["auto", "yes", "no"], default="auto",
                        help="use compiled kernels (default: compiled already, or if it pays off)")  # fmt: skip
    mutate.set_defaults(run=_ism)

    scanning = commands.add_parser("scanning", parents=[model],
                                   help="compare predicted with measured effects of scanning mutagenesis")  # fmt: skip
    scanning.add_argument(
        "tables", nargs="+", type=Path, metavar="TABLE", help=f"with the columns {', '.join(SCANNING)}"
    )
    scanning.add_argument("-o", "--out", type=Path, metavar="TSV", help="write the table for each enhancer here, too")
    scanning.set_defaults(run=_scanning)

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
    lab.set_defaults(run=_lab)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Errors in the user's input are one line on stderr, with status 2. Ctrl-C gives status 130. Finished work stays on
    disk, and the line says how much is finished.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    done = _Done()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            if words[:1] == ["train"]:
                return _train(words, whole_process=argv is None)
            return _command(words, done)
    except (ValueError, TypeError, OSError, MemoryError, RuntimeError) as error:
        _complain(f"{error}{done}")
        return 2
    except KeyboardInterrupt:
        _complain(f"interrupted{done}")
        return 130


@dataclass
class _Done:
    """Progress of a command."""

    count: int = 0
    total: int = 0
    where: str = ""

    def __str__(self) -> str:
        return f" ({self.count} of {self.total} sequences are finished: {self.where})" if self.count else ""


def _complain(message: str) -> None:
    sys.stderr.write(f"crossdna-interpret: {' '.join(message.split())}\n")


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


def _command(words: list[str], done: _Done) -> int:
    split = words.index("--") if words[:1] == ["lab"] and "--" in words else len(words)
    options = _parser().parse_args(words[:split])
    options.passed_on, options.done = words[split + 1 :], done
    status: int = options.run(options)
    return status


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    _complain(f"{category.__name__}: {message}")


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # it may lack characters of a name
    sys.stdout.write(f"{text}\n".encode(encoding, errors="backslashreplace").decode(encoding))
    sys.stdout.flush()  # the next step, such as JupyterLab, may run for hours


def _records(text: str) -> list[FastaRecord]:
    """Sequences from a command-line argument: from a file if it exists, otherwise the argument itself."""
    if text == "-":
        data = sys.stdin.buffer.read()
        if not re.fullmatch(rb"[A-Za-z\s]+", data):
            return read_fasta_records(io.BytesIO(data), "standard input")
        text = "".join(data.decode("ascii").split())
    elif os.path.isfile(text) or Path(text).suffix or "/" in text or "\\" in text:
        return read_fasta_records(text)
    return [FastaRecord("sequence", "", text)]


def _outside(model: SequenceModel, records: Sequence[FastaRecord]) -> dict[str, str | None]:
    """Reason why each record is outside the model's training range, or None. Such records are named on stderr."""
    problems = {each.name: outside_training(model, each.sequence) for each in records if each.sequence}
    for name, problem in problems.items():
        if problem is not None:
            _complain(f"{name}: {problem}. {model.name} extrapolates.")
    return problems


def _report(options: argparse.Namespace) -> int:
    from crossdna_interpret.report import write_report

    known = {}
    if options.sequence is None:
        locus = loci.example()
        known = {locus.name: locus}
        records = [FastaRecord(locus.name, "", locus.sequence)]
    else:
        records = _records(options.sequence)
    model = load_model(options.model, device=options.device)
    done: _Done = options.done
    done.total, done.where = len(records), f"they are in {options.out}"

    bases = sum(len(each.sequence) for each in records)
    if bases > _LONG and not sys.stderr.isatty():
        _complain(f"explaining {bases:,} bases, which may take minutes")

    def finished(name: str) -> None:
        done.count += 1
        if done.total > 1 and not sys.stderr.isatty():  # a terminal shows a bar
            _complain(f"{name} is finished, {done.count} of {done.total}")

    page, table = write_report(
        {each.name: each.sequence for each in records}, options.out, model, target=options.target, loci=known,
        descriptions={each.name: each.description for each in records}, finished=finished,
    )  # fmt: skip
    _outside(model, records)
    _say(f"{page}\n{table}")
    return 0


def _ism(options: argparse.Namespace) -> int:
    from crossdna_interpret.attribution.mutagenesis import ism

    records = read_fasta_records(
        *((io.BytesIO(sys.stdin.buffer.read()), "standard input") if options.fasta == "-" else (options.fasta,))
    )
    files = _file_names([each.name for each in records])
    model = load_model(options.model, device=options.device)
    resolve_target(model, options.target)
    paths = {each.name: options.out / f"{files[each.name]}.tsv" for each in records}
    for path in paths.values():  # check all before any work
        refuse_foreign(path, lambda start: start.partition("\n")[0] in _ISM_TABLES, "an earlier table of this command")
        refuse_foreign(_certificate(path), lambda start: '"model_hash"' in start, "an earlier certificate")
    own = model_hash(model)
    for record in records:
        _require_same(paths[record.name], record.sequence, own)
    options.out.mkdir(parents=True, exist_ok=True)
    outside = _outside(model, records)
    done: _Done = options.done
    done.total, done.where = len(records), f"their tables are in {options.out}"
    for record in records:
        with _errors_name(record.name), shown_elsewhere():
            result = ism(
                record.sequence, model, target=options.target, compile=_COMPILE[options.compile], cache=options.cache
            )
        path = paths[record.name]
        table = result.to_dataframe()
        table.insert(0, "name", record.name)
        table["outside_training"] = outside[record.name]
        with replacing(path) as new:
            table.to_csv(new, sep="\t", index=False, float_format="%.7g")
        with replacing(_certificate(path)) as new:
            new.write_text(json.dumps(result.certificate.to_dict(), indent=1), encoding="utf-8")
        done.count += 1
        _say(str(path))
    return 0


def _require_same(path: Path, sequence: str, model: str) -> None:
    """Check that an earlier table is of the same sequence and the same model, so that nothing else is lost.

    Raises:
        FileExistsError: it is of another sequence or model.
    """
    if path.exists() and path.stat().st_size:
        bases: dict[str, str] = {}
        with path.open(encoding="utf-8") as file:
            columns = next(file).rstrip("\n").split("\t")
            at, ref = columns.index("position"), columns.index("ref")
            for line in file:
                values = line.split("\t")
                bases[values[at]] = values[ref]
        if "".join(bases.values()) != sequence:
            raise FileExistsError(f"`out` {path} holds the table of another sequence. Choose another `out`.")
    certificate = _certificate(path)
    if certificate.exists() and certificate.stat().st_size:
        earlier = json.loads(certificate.read_text(encoding="utf-8")).get("model_hash")
        if earlier != model:
            raise FileExistsError(f"`out` {path} holds the table of another model. Choose another `out`.")


def _certificate(table: Path) -> Path:
    return table.with_suffix(".json")


@contextmanager
def _errors_name(record: str) -> Iterator[None]:
    """Context that adds the name of the record to errors."""
    try:
        yield
    except (ValueError, TypeError, OSError, MemoryError, RuntimeError) as error:
        raise RuntimeError(f"{record}: {error}") from error


def _scanning(options: argparse.Namespace) -> int:
    import pandas as pd

    for path in options.tables:
        if options.out is not None and options.out.exists() and path.exists() and options.out.samefile(path):
            raise ValueError(f"`out` {options.out} is a table that is read; choose another.")
    model = load_model(options.model, device=options.device)
    index = resolve_target(model, options.target)
    parts = [scanning(path, lambda seqs: predict(seqs, model)[:, index]) for path in options.tables]
    for path, part in zip(options.tables, parts, strict=True):
        _say(f"{path.name}\n{part.to_string(index=False, float_format=lambda value: f'{value:.3f}')}")
        _say(f"mean r {part['r'].mean():.3f}, median r {part['r'].median():.3f}, {len(part)} enhancers\n")
    if options.out is not None:
        named = [part.assign(table=path.name) for path, part in zip(options.tables, parts, strict=True)]
        pd.concat(named).to_csv(options.out, sep="\t", index=False, float_format="%.6g")
    return 0


def _file_names(names: list[str]) -> dict[str, str]:
    """A file name for each record: unsafe characters are replaced, and equal names get a number."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name)).lstrip(".") or "record"
        stem = stem.encode()[:200].decode(errors="ignore")  # with number and suffix, a file name has at most 255 bytes
        file, number = stem, 2
        while (key := unicodedata.normalize("NFKC", file).casefold()) in taken:  # some file systems ignore case
            file, number = f"{stem}_{number}", number + 1
        taken.add(key)
        files[name] = file
    return files


def _models(options: argparse.Namespace) -> int:
    if options.name is not None:
        _say(model_card(options.name))
        return 0
    for name in list_models():
        model = load_model(name)
        assert isinstance(model, nn.Module)
        count = sum(parameter.numel() for parameter in model.parameters())
        _say(f"{name}\t{count:,} parameters\ttargets: {', '.join(model.targets)}")
    return 0


def _notebooks() -> list[Path]:
    """Notebooks of the explorer and the tutorials, in an installed package or beside it in a clone."""
    result: list[Path] = []
    for name in ("notebooks", "tutorials"):
        installed, clone = _PACKAGE / "assets" / name, _PACKAGE.parent / name
        result += sorted((installed if installed.is_dir() else clone).glob("*.ipynb"))
    return result


def _lab(options: argparse.Namespace) -> int:
    if not options.copy_only and importlib.util.find_spec("jupyterlab") is None:
        raise RuntimeError("JupyterLab is not installed; install it with: pip install 'crossdna_interpret[lab]'")
    options.folder.mkdir(parents=True, exist_ok=True)
    for notebook in _notebooks():
        if not (options.folder / notebook.name).exists():  # never overwrite the user's changes
            shutil.copyfile(notebook, options.folder / notebook.name)
    _say(f"The explorer and the tutorials are in {options.folder.resolve()}")
    if options.copy_only:
        return 0
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *(["--no-browser"] if options.no_browser else []),
        *options.passed_on,
    ]
    return subprocess.run(command, cwd=options.folder, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
