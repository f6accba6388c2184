"""The commands `report` and `ism`."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crossdna_interpret.cli.common import Done, chosen_target, complain, say
from crossdna_interpret.dna import alphabet
from crossdna_interpret.io import examples as loci
from crossdna_interpret.io.fasta import FastaRecord, read_fasta_records
from crossdna_interpret.io.files import refuse_foreign, replacing
from crossdna_interpret.models.protocols import Compile, SequenceModel
from crossdna_interpret.models.registry import load_model
from crossdna_interpret.models.training_range import outside_training, shown_elsewhere
from crossdna_interpret.scoring.provenance import model_hash
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["ism_command", "report_command"]

_ISM_TABLES = tuple(  # header lines of this version and of older ones
    f"name\tposition\tref\talt\ttarget\tprediction\tdelta{more}" for more in ("\toutside_training", "")
)
_NAME = 100  # characters of a text that may be the name of a file
_LONG = 1000  # bases from which a report takes a while
_COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}


def _records(text: str) -> list[FastaRecord]:
    """Sequences from a command-line argument: from a file if it exists, otherwise the argument itself."""
    if text == "-":
        data = sys.stdin.buffer.read()
        if not re.fullmatch(rb"[A-Za-z\s]+", data):
            return read_fasta_records(io.BytesIO(data), "standard input")
        text = "".join(data.decode("ascii").split())
    elif os.path.isfile(text) or Path(text).suffix or "/" in text or "\\" in text:
        return read_fasta_records(text)
    try:
        sequence = alphabet.normalize(text)
    except ValueError as error:
        raise ValueError(f"{error} There is no file {text!r} either." if len(text) < _NAME else str(error)) from None
    return [FastaRecord("sequence", "", sequence)]


def _outside(model: SequenceModel, records: Sequence[FastaRecord]) -> dict[str, str | None]:
    """Reason why each record is outside the model's training range, or None. Such records are named on stderr."""
    problems = {each.name: outside_training(model, each.sequence) for each in records if each.sequence}
    for name, problem in problems.items():
        if problem is not None:
            complain(f"{name}: {problem}. {model.name} extrapolates.")
    return problems


def report_command(options: argparse.Namespace) -> int:
    """Explain sequences in one HTML page and a table."""
    from crossdna_interpret.report import write_report

    known = {}
    if options.sequence is None:
        model = load_model(options.model, device=options.device)
        name = loci.fitting_example(lambda each: outside_training(model, each) is None)
        known = {name: loci.example(name)} if name in loci.example_names() else {}
        records = [FastaRecord(name, "", loci.example_sequence(name))]
    else:
        records = _records(options.sequence)
        model = load_model(options.model, device=options.device)
    target = chosen_target(model.targets, options.target)
    done: Done = options.done
    done.total, done.where = len(records), f"they are in {options.out}"

    bases = sum(len(each.sequence) for each in records)
    if bases > _LONG and not sys.stderr.isatty():
        complain(f"explaining {bases:,} bases, which may take minutes")

    def finished(name: str) -> None:
        done.count += 1
        if done.total > 1 and not sys.stderr.isatty():  # a terminal shows a bar
            complain(f"{name} is finished, {done.count} of {done.total}")

    page, table = write_report(
        {each.name: each.sequence for each in records}, options.out, model, target=target, loci=known,
        descriptions={each.name: each.description for each in records}, finished=finished,
    )  # fmt: skip
    _outside(model, records)
    say(f"{page}\n{table}")
    return 0


def ism_command(options: argparse.Namespace) -> int:
    """Mutate sequences in silico."""
    from crossdna_interpret.attribution.mutagenesis import ism

    records = _records(options.sequence)
    files = _file_names([each.name for each in records])
    model = load_model(options.model, device=options.device)
    target = model.targets[0] if options.target is None else options.target  # the table has all targets
    resolve_target(model, target)
    paths = {each.name: options.out / f"{files[each.name]}.tsv" for each in records}
    for path in paths.values():  # check all before any work
        refuse_foreign(path, lambda start: start.partition("\n")[0] in _ISM_TABLES, "an earlier table of this command")
        refuse_foreign(_certificate(path), lambda start: '"model_hash"' in start, "an earlier certificate")
    own = model_hash(model)
    for record in records:
        _require_same(paths[record.name], record.sequence, own)
    options.out.mkdir(parents=True, exist_ok=True)
    outside = _outside(model, records)
    done: Done = options.done
    done.total, done.where = len(records), f"their tables are in {options.out}"
    for record in records:
        with _errors_name(record.name), shown_elsewhere():
            result = ism(record.sequence, model, target=target, compile=_COMPILE[options.compile], cache=options.cache)
        path = paths[record.name]
        table = result.to_dataframe()
        table.insert(0, "name", record.name)
        table["outside_training"] = outside[record.name]
        with replacing(path) as new:
            table.to_csv(new, sep="\t", index=False, float_format="%.7g")
        with replacing(_certificate(path)) as new:
            new.write_text(json.dumps(result.certificate.to_dict(), indent=1), encoding="utf-8")
        done.count += 1
        say(str(path))
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
