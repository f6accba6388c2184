"""Predicted and measured effects of edits."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any, overload

import numpy as np
import pandas as pd

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor, edit_to, substitutions
from crossdna_interpret.measured.truth import truth_report
from crossdna_interpret.models.protocols import ModelLike
from crossdna_interpret.results import (
    Certificate,
    EditScan,
    EditScores,
    MeasuredComparison,
    Mutagenesis,
    TruthReport,
)
from crossdna_interpret.statistics import correlation, ranks

__all__ = ["compare_with_measured"]

_MEANT = """`table` must hold "{effect}" (measured effect of an edit) and one of
  sequence                   the edited sequence, whole
  position, alt [, ref]      0-based position in the sequence, new base ("-" for a deletion), old base
  start, end, alt [, ref]    0-based half-open span, and its replacement
but it has the columns {columns}."""


@overload
def compare_with_measured(
    result: Mutagenesis | EditScores | EditScan, table: pd.DataFrame, *, effect: str = "effect", family: None = None
) -> MeasuredComparison: ...
@overload
def compare_with_measured(
    result: ModelLike, table: pd.DataFrame, *, effect: str = "effect", family: str
) -> TruthReport: ...
def compare_with_measured(
    result: Mutagenesis | EditScores | EditScan | ModelLike,
    table: pd.DataFrame,
    *,
    effect: str = "effect",
    family: str | None = None,
) -> MeasuredComparison | TruthReport:
    """Compare predicted effects of edits with measured effects.

    With `family`, the edits are the differences between measured sequences of a family, as in `truth_report`.

    Args:
        result: predictions for edits of one sequence, from `ism`, `score_edits` or a scan. Their `delta` is compared.
            For a table of full sequences use ``score_edits(seq, [edit_to(seq, each) for each in table["sequence"]])``.
            With `family`: a model.
        table: a row for each measured edit, with its effect and one of:

            - sequence: the full edited sequence;
            - position, alt and optionally ref: 0-based position, new base ("-" for a deletion), old base;
            - start, end, alt and optionally ref: 0-based half-open span, its replacement, its old bases.
        effect: name of the column with measured effects. Larger values must mean larger values of the target. Rows
            without an effect are ignored.
        family: name of the column with the families of full sequences, such as mutants of one promoter. `effect` is
            then the column with the measurements.

    Returns:
        MeasuredComparison of the edits that are in both, with the correlation and its interval. TruthReport with
        `family`.

    Raises:
        ValueError: missing columns, a reference base that differs from the sequence, a position outside the sequence,
            an effect that is not a number (the message has the row), or no common edit.

    Warns:
        UserWarning: rows with an effect that do not change the sequence, as when positions are counted from 1.

    Example:
        >>> import crossdna_interpret as cdi
        >>> measured = pd.DataFrame({"position": [2, 3], "ref": ["G", "T"], "alt": ["A", "A"], "effect": [0.1, -1.0]})
        >>> len(cdi.compare_with_measured(cdi.ism("ACGTACGT"), measured))
        2
    """
    if family is not None:
        if isinstance(result, (Mutagenesis, EditScores, EditScan)):
            raise TypeError(f"`result` must be a model if `family` is given, but got {type(result).__name__}.")
        return truth_report(table, result, measured=effect, family=family)
    if not isinstance(result, (Mutagenesis, EditScores, EditScan)):
        raise TypeError(f"`result` must be a result of ism, score_edits or a scan, but got {type(result).__name__}.")
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"`table` must be a pandas DataFrame, but got {type(table).__name__}.")
    measured = _effects(table, effect)
    known = ~np.isnan(measured)
    edits = _edits(result.sequence, table, known, effect)
    measured = measured[known]
    predicted = _predicted(result)
    editor = _editor_of(result)
    _warn_of_no_change(result.sequence, edits, measured)
    rows = []
    left_out = int((~known).sum())
    for edit, value in zip(edits, measured, strict=True):
        ref = result.sequence[edit.start : edit.end]
        if ref == edit.string or editor(edit) not in predicted:
            left_out += 1
            continue
        rows.append((edit.start, edit.end, ref, edit.string, predicted[editor(edit)], value))
    if not rows:
        if not known.any():
            raise ValueError(f"`table` and `result` have no edit in common, as no row has a value of {effect}.")
        raise ValueError("`table` and `result` have no edit in common. Were the positions counted from 0?")
    computed = pd.DataFrame(rows, columns=["start", "end", "ref", "alt", "predicted", "measured"])
    x, y = computed["predicted"].to_numpy(), computed["measured"].to_numpy()
    r, low, high = correlation(x, y)
    signed = y != 0
    return MeasuredComparison(
        sequence=result.sequence,
        target=result.target,
        table=computed,
        r=r,
        low=low,
        high=high,
        rho=correlation(ranks(x), ranks(y))[0],
        same_sign=float((np.sign(x) == np.sign(y))[signed].mean()) if signed.any() else math.nan,
        left_out=left_out,
        certificate=Certificate.merge(
            [result.certificate],
            method=f"{result.certificate.method}, beside measurements",
            settings={"effect": effect},
        ),
    )


def _editor_of(result: Mutagenesis | EditScores | EditScan) -> Editor:
    """Creates the sequences that were scored. With flanks, two deletions that leave the same bases may differ."""
    scores = result.scores if isinstance(result, EditScan) else result
    return Editor(result.sequence, scores.flanks if isinstance(scores, EditScores) else None)


def _predicted(result: Mutagenesis | EditScores | EditScan) -> dict[str, float]:
    """Predicted effect by edited sequence. The sequence identifies an edit, as one edit can be written in many ways."""
    editor = _editor_of(result)
    if isinstance(result, Mutagenesis):
        rows, bases, edits = substitutions(result.sequence, result.start, result.end)
        delta = result.delta[rows, bases]
    else:
        scores = result.scores if isinstance(result, EditScan) else result
        edits, delta = list(scores.edits), scores.delta
    return {editor(edit): float(value) for edit, value in zip(edits, delta, strict=True)}


def _effects(table: pd.DataFrame, effect: str) -> np.ndarray:
    if effect not in table.columns:
        raise ValueError(_MEANT.format(effect=effect, columns=list(table.columns)))
    values = np.empty(len(table))
    for row, value in enumerate(table[effect].tolist()):
        if value is None or value is pd.NA:
            value = math.nan
        try:
            values[row] = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"`table` row {row}: {effect} must be a number, but is {value!r}.") from None
        if math.isinf(values[row]):
            raise ValueError(f"`table` row {row}: {effect} must be finite, but is {value!r}.")
    return values


def _warn_of_no_change(sequence: str, edits: list[Edit], measured: np.ndarray) -> None:
    """Warn of rows with an effect that leave the sequence as it is."""
    same = sum(
        effect != 0 and sequence[edit.start : edit.end] == edit.string
        for edit, effect in zip(edits, measured, strict=True)
    )
    if same:
        warnings.warn(
            f"`table`: {same} of {len(edits)} rows have an effect, but do not change the sequence. Are positions "
            "counted from 0, and is it the sequence of the experiment? These rows are left out.",
            UserWarning,
            stacklevel=level_of_caller(),
        )


def _edits(sequence: str, table: pd.DataFrame, known: np.ndarray, effect: str) -> list[Edit]:
    """The edits of the rows that are `known`. Messages count all rows."""
    columns = set(table.columns)
    at = np.flatnonzero(known).tolist()
    table = table[known]
    if "sequence" in columns:
        return [
            _named(row, lambda each=each: edit_to(sequence, each))
            for row, each in zip(at, table["sequence"], strict=True)
        ]
    if {"start", "end", "alt"} <= columns:
        starts, ends = table["start"].tolist(), table["end"].tolist()
    elif {"position", "alt"} <= columns:
        starts = table["position"].tolist()
        ends = [_whole(row, "position", each) + 1 for row, each in zip(at, starts, strict=True)]
    else:
        raise ValueError(_MEANT.format(effect=effect, columns=list(table.columns)))
    refs = table["ref"].tolist() if "ref" in columns else [None] * len(table)
    rows = zip(at, starts, ends, refs, table["alt"], strict=True)
    return [_edit(sequence, *row) for row in rows]


def _edit(sequence: str, row: int, start: Any, end: Any, ref: Any, alt: Any) -> Edit:
    first, last = _whole(row, "start", start), _whole(row, "end", end)
    if not 0 <= first <= last <= len(sequence):
        raise ValueError(f"`table` row {row}: {first} to {last} is not within the sequence of {len(sequence)} bases.")
    if not isinstance(alt, str):
        raise ValueError(f"`table` row {row}: alt must be bases, but is {alt!r}.")
    present = sequence[first:last]
    # An insertion has no reference bases.
    bases = "" if ref in ("", "-") else ref
    if isinstance(ref, str) and (bases and _named(row, lambda: alphabet.normalize(bases, name="ref"))) != present:
        raise ValueError(
            f"`table` row {row}: ref is {ref!r}, but the sequence has {present!r} at {first}. Positions are counted "
            "from 0."
        )
    return _named(row, lambda: Edit(first, last, "" if alt == "-" else alt))


def _whole(row: int, name: str, value: Any) -> int:
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)) else math.nan
    if not number.is_integer():
        raise ValueError(f"`table` row {row}: {name} must be a whole number, but is {value!r}.")
    return int(number)


def _named(row: int, make: Any) -> Any:
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"`table` row {row}: {error}") from None
