"""The commands that compare a model with measurements: `scanning`, `satmut` and `truth`."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.cli.common import complain, say
from crossdna_interpret.io.examples import FAMILY_TABLES, example_families
from crossdna_interpret.measured.laboratory import scanning
from crossdna_interpret.measured.satmut import CAGI5, PUBLISHED, read_elements, read_variants, satmut
from crossdna_interpret.measured.truth import truth_report
from crossdna_interpret.models.registry import load_model
from crossdna_interpret.models.training_range import outside_training, shown_elsewhere
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.targets import resolve_target

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["satmut_command", "scanning_command", "truth_command"]


_ASSIGNED = re.compile(r"(?<![=!<>])=(?!=)")  # = where == is meant
_MANY = 500  # sequences from which a truth report takes a while

_TITLES = {
    "size": "by size of the measured change",
    "predicted": "by size of the predicted change",
    "kind": "by kind of mutation",
    "motif": "by motif at a changed base",
}


def _require_new(out: Path | None, inputs: Sequence[Path], what: str = "file") -> None:
    """Check, before the work, that a result can be written, and not over a file that is read."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise FileNotFoundError(f"`out` must be in a folder that exists, but {out.parent} does not.")
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise ValueError(f"`out` {out} is a {what} that is read; choose another.")


def scanning_command(options: argparse.Namespace) -> int:
    """Compare predicted with measured effects of scanning mutagenesis."""
    import pandas as pd

    _require_new(options.out, options.tables, "table")
    model = load_model(options.model, device=options.device)
    index = resolve_target(model, options.target)
    parts = [scanning(path, lambda seqs: predict(seqs, model)[:, index]) for path in options.tables]
    for path, part in zip(options.tables, parts, strict=True):
        say(f"{path.name}\n{part.to_string(index=False, float_format=lambda value: f'{value:.3f}')}")
        say(f"mean r {part['r'].mean():.3f}, median r {part['r'].median():.3f}, {len(part)} enhancers\n")
    if options.out is not None:
        named = [part.assign(table=path.name) for path, part in zip(options.tables, parts, strict=True)]
        pd.concat(named).to_csv(options.out, sep="\t", index=False, float_format="%.6g")
    return 0


def satmut_command(options: argparse.Namespace) -> int:
    """Compare predicted with measured effects of saturation mutagenesis, for each element."""
    _require_new(options.out, [options.variants, options.elements])
    variants, elements = read_variants(options.variants), read_elements(options.elements)
    names = list(dict.fromkeys(variants["element"]))
    chosen = options.element or names
    if unknown := [name for name in chosen if name not in names]:
        near = difflib.get_close_matches(unknown[0], names, cutoff=0.4) or names
        raise ValueError(f"`element` {unknown[0]} has no variants. Near matches: {', '.join(near)}.")
    model = load_model(options.model, device=options.device)
    target = None if options.target is None else resolve_target(model, options.target)
    known = getattr(model, "training_range", None)
    window = options.window
    if window is None and known is not None:
        window = known.longest
    if window is None:
        raise ValueError(f"`window` must be given, as {model.name} does not say which lengths it was trained on.")

    outside: dict[str, str | None] = {}

    def effects(sequence: str, start: int, end: int) -> np.ndarray:
        outside[sequence] = outside_training(model, sequence)
        with shown_elsewhere():
            result = ism(sequence, model, target=target or 0, start=start, end=end)
        scores = result.predictions - result.reference
        mean: np.ndarray = scores.mean(-1) if target is None else scores[..., target]
        return mean

    table = satmut(variants[variants["element"].isin(chosen)], elements, effects, window=window)
    say(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    say("ceiling: r of two measurements of the element, where it is known")
    problems = [problem for problem in outside.values() if problem is not None]
    if problems:
        complain(
            f"{len(problems)} of {len(outside)} windows are unlike the training data, for example: {problems[0]}. "
            f"{model.name} extrapolates there."
        )
    several = target is None and len(model.targets) > 1
    of_targets = "the mean of its targets" if several else model.targets[target or 0]
    say(f"\n{model.name}, {of_targets}; windows of {window} bases.")
    of_cagi5 = table[table["element"].isin(CAGI5)]
    if len(of_cagi5) == len(CAGI5):
        published = ", ".join(f"{name} {r:.2f}" for name, r in PUBLISHED.items())
        say(f"mean r over the {len(CAGI5)} elements of CAGI5: {of_cagi5['r'].mean():.3f} (published: {published})")
    if options.out is not None:
        table.to_csv(options.out, sep="\t", index=False, float_format="%.6g")
    return 0


def _families(path: Path, family: str) -> pd.DataFrame:
    """A table of families, from a file or bundled."""
    import pandas as pd

    if not path.is_file():
        if str(path) in FAMILY_TABLES:
            return example_families(str(path))
        raise FileNotFoundError(f"`table` {path} is not a file. Bundled tables: {', '.join(FAMILY_TABLES)}.")
    try:
        table = pd.read_csv(path, sep="\t", dtype={"sequence": str}, index_col=False)
    except (pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"`table` {path} is not a table of text: {error}.") from error
    if len(table.columns) == 1 and any(mark in table.columns[0] for mark in ",;"):
        raise ValueError(f"`table` {path} must be separated by tabs, but has one column, {table.columns[0]!r}.")
    return table


def _with_names(table: pd.DataFrame, path: Path, family: str) -> pd.DataFrame:
    """The table with its families as text, so that "01" and "1" are two, and "NA" is one."""
    import pandas as pd

    if family not in table.columns or not path.is_file():
        return table
    names = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, usecols=[family], index_col=False)[family]
    return table.assign(**{family: names.mask(names == "")[table.index]})


def truth_command(options: argparse.Namespace) -> int:
    """Compare predicted with measured changes inside families."""
    import pandas as pd

    from crossdna_interpret.report.truth import truth_table_path, write_truth_page

    if options.out is not None:
        truth_table_path(options.out)  # before the work
    table = _families(options.table, options.family)
    if options.where is not None:
        if _ASSIGNED.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", options.where)):
            raise ValueError(f"`where` {options.where!r} is not a condition: equality is ==.")
        try:
            chosen = table.eval(options.where)
        except Exception as error:  # pandas raises many kinds of errors
            raise ValueError(
                f"`where` {options.where!r} is not a condition on {list(table.columns)}: {error}"
            ) from error
        if not isinstance(chosen, pd.Series) or chosen.dtype != bool:
            raise ValueError(f"`where` {options.where!r} must be true or false for each row, such as 'column > 0'.")
        table = table[chosen]
        if table.empty:
            raise ValueError(f"`where` {options.where!r} is true for none of {len(chosen):,} rows.")
    table = _with_names(table, options.table, options.family)
    model = load_model(options.model, device=options.device)
    if len(table) > _MANY and not sys.stderr.isatty():  # a terminal shows a bar
        complain(f"scoring {len(table):,} sequences by {model.name} and variants of it, which may take minutes")
    report = truth_report(
        table, model, measured=options.measured, family=options.family, target=options.target,
        max_changes=options.changes, motifs=options.motifs,
    )  # fmt: skip
    say(str(report))
    for what in ("size", "predicted", "kind", *(["motif"] if options.motifs else [])):
        groups = report.by(what)  # type: ignore[arg-type]
        say(f"\n{_TITLES[what]}\n{groups.head(20).to_string(index=False, float_format=lambda value: f'{value:.3f}')}")
        if what != "motif" and (rest := len(report) - int(groups["n"].sum())):
            say(f"({rest:,} changes are in groups that are too small to show)")
    if math.isnan(report.summary()["r_changes"]):
        complain("r is not defined, as all predicted or all measured changes are 0")
    if options.out is not None:
        for path in write_truth_page(report, options.out, model):
            say(str(path))
    return 0
