"""Comparison of a model with measurements: scanning mutagenesis and mutated CRX sites."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crossdna_interpret.statistics import correlation

__all__ = ["SCANNING", "NoPairsError", "Predict", "crx_pairs", "paired_with_mutant", "scanning"]

Predict = Callable[[Sequence[str]], np.ndarray]  # sequences to scores (N,)

SCANNING = ("parent", "base_sequence", "sequence", "log2_activity", "group_median_log2")
_TEXT = frozenset(["id", "parent", "base_sequence", "sequence", "chrom", "library"])  # "01" and "1" are two parents
_MUTANT, _WILD = "_MUT-allCrxSites", "_WT"


class NoPairsError(ValueError):
    """A table has no pair of an enhancer and its version with mutated CRX sites."""


def _table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a table, but there is no file {path}.")
    # Treat quotation marks as normal characters. Otherwise an unmatched one would join the rows up to the next.
    try:
        table = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, encoding="utf-8-sig", dtype=str)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a table in UTF-8, but {error}.") from None
    table.columns = [_unquoted(name) for name in table.columns]
    for name in table.columns:
        table[name] = table[name].map(_unquoted, na_action="ignore")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {list(table.columns)}.")
    if table.empty:
        raise ValueError(f"{path} has no rows.")
    for column in columns:
        if table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax()) + 1
            raise ValueError(f"{path}, row {row}: {column} is missing.")
        if column not in _TEXT:
            numbers = pd.to_numeric(table[column], errors="coerce")
            bad = ~np.isfinite(numbers.to_numpy(dtype=np.float64))
            if bad.any():
                row = int(bad.argmax())
                raise ValueError(f"{path}, row {row + 1}: {column} must be a number, but is {table[column][row]!r}.")
            table[column] = numbers
    return table


def _unquoted(field: str) -> str:
    """Remove the quotation marks that R writes around a text."""
    return field[1:-1].replace('""', '"') if len(field) > 1 and field[0] == field[-1] == '"' else field


def scanning(path: str | Path, predict: Predict) -> pd.DataFrame:
    """Correlate measured and predicted effects of scanning mutagenesis, for each enhancer.

    The measured effect is log2 activity minus the median of the enhancer's group. The median replaces the unmutated
    base, which is a single noisy measurement. The predicted effect is f(mutant) - f(base).

    Args:
        path: `scanning_valid.tsv.gz` or a similar table, with the columns parent, base_sequence, sequence,
            log2_activity and group_median_log2.
        predict: from N sequences to (N,) scores in log2.

    Returns:
        A row for each enhancer, in the order of the table: parent, n mutants, r, low and high ends of its 95 %
        interval.

    Raises:
        FileNotFoundError, ValueError: the file, a column or a value is missing.
    """
    table = _table(path, SCANNING)
    rows = []
    for parent, group in table.groupby("parent", sort=False):
        measured = (group["log2_activity"] - group["group_median_log2"]).to_numpy()
        bases = group["base_sequence"].unique().tolist()
        of_base = dict(zip(bases, predict(bases), strict=True))
        predicted = predict(group["sequence"].tolist()) - group["base_sequence"].map(of_base).to_numpy()
        r, low, high = correlation(predicted, measured)
        rows.append({"parent": parent, "n": len(group), "r": r, "low": low, "high": high})
    return pd.DataFrame(rows)


def paired_with_mutant(path: str | Path, more: Sequence[str] = ()) -> pd.DataFrame:
    """Pairs of an enhancer and its version without CRX sites, from the same library.

    Args:
        path: as in `crx_pairs`.
        more: additional columns to keep.

    Returns:
        A row for each pair: enhancer, library, and the columns of both, with the suffixes `_wild` and `_mutant`.

    Raises:
        As `crx_pairs`.
    """
    columns = ["id", "sequence", "log2_activity", "library", *more]
    table = _table(path, columns)[columns]
    keys = ["enhancer", "library"]
    sides = []
    for suffix in (_WILD, _MUTANT):
        side = table[table["id"].str.endswith(suffix)].copy()
        side["enhancer"] = side["id"].str.removesuffix(suffix)
        sides.append(side.drop_duplicates(keys))
    pairs = sides[0].merge(sides[1], on=keys, suffixes=("_wild", "_mutant"))
    if pairs.empty:
        raise NoPairsError(f"{path} has no pairs of ids that end in {_WILD} and {_MUTANT}.")
    return pairs


def crx_pairs(path: str | Path, predict: Predict) -> pd.DataFrame:
    """Measured and predicted change of activity if all CRX sites of an enhancer are mutated.

    Args:
        path: `valid.tsv.gz` or a similar table, with the columns id, sequence, log2_activity and library. Ids end in
            `_WT` and `_MUT-allCrxSites`. Both sequences of a pair are from the same library.
        predict: from N sequences to (N,) scores in log2.

    Returns:
        A row for each pair: enhancer, library, activity (measured, without mutations), and the measured and predicted
        change.

    Raises:
        FileNotFoundError, ValueError: the file or a column is missing.
        NoPairsError: there are no pairs.
    """
    pairs = paired_with_mutant(path)
    change = predict(pairs["sequence_mutant"].tolist()) - predict(pairs["sequence_wild"].tolist())
    return pd.DataFrame(
        {
            "enhancer": pairs["enhancer"],
            "library": pairs["library"],
            "activity": pairs["log2_activity_wild"],
            "measured": pairs["log2_activity_mutant"] - pairs["log2_activity_wild"],
            "predicted": change,
        }
    )
