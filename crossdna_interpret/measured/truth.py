"""Truth reports: predicted beside measured changes between members of families."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossdna_interpret._validation import integer
from crossdna_interpret.attribution.uncertainty import variants_of
from crossdna_interpret.dna import alphabet
from crossdna_interpret.measured.errors import LEVELS, fit_errors, halves, held_out_intervals
from crossdna_interpret.measured.pairs import close_pairs, kind_of_change, unrelated_groups
from crossdna_interpret.models.protocols import ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.motifs.annotation import scan
from crossdna_interpret.motifs.collection import MotifsLike
from crossdna_interpret.progress import progress
from crossdna_interpret.results import TruthReport
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["truth_report"]


def truth_report(
    table: pd.DataFrame,
    model: ModelLike = None,
    *,
    measured: str,
    family: str = "family",
    target: str | int | None = None,
    max_changes: int = 4,
    draws: int = 8,
    members: Sequence[ModelLike] = (),
    motifs: MotifsLike | None = None,
    level: float = 0.9,
) -> TruthReport:
    """Compare predicted with measured changes between sequences of a family that differ by a few bases.

    The measured difference of two such sequences is what in-silico mutagenesis predicts. The report has the calibration
    of the changes, their agreement by size, kind of mutation and motif, the worst cases, and intervals.

    An interval is found from the errors in other families (conformal prediction), so its coverage is measured on
    changes that it was not made from. Its width depends on the size of the predicted change, and on its spread over
    variants of the model: `members`, or sub-networks of the model.

    Args:
        table: a row for each measured sequence, with the columns `sequence`, `family` and `measured`. Rows without a
            measurement are ignored. Repeated sequences are separate measurements. Only sequences of equal length are
            compared. Use sequences that the model was not trained on: on training rows the intervals are too narrow.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        measured: name of the column with the measurements. They should be in units of the target.
        family: name of the column with the families: mutants of one sequence, or sequences that share long stretches.
        target: name or number of the target. The default is the target named like `measured`, or the only one.
        max_changes: largest number of bases by which two sequences of a family differ.
        draws: number of copies of the model with some channels removed, for the spread, if there are no `members`. 0
            for none.
        members: an ensemble for the spread: models trained with other seeds.
        motifs: as in `annotate`, to group changes by the motifs at the changed bases. None for no groups.
        level: level of the intervals: 0.5, 0.8, 0.9 or 0.95.

    Returns:
        TruthReport.

    Raises:
        ValueError: missing columns, measurements that are not finite numbers, too few changes for intervals, or an
            unknown target or level.

    Example:
        >>> import crossdna_interpret as cdi
        >>> random = np.random.default_rng(0)
        >>> rows = []
        >>> for number in range(30):
        ...     start = "".join(random.choice(list("ACGT"), 20))
        ...     rows += [(number, start[:at] + "A" + start[at + 1 :], random.normal()) for at in range(6)]
        >>> measured = pd.DataFrame(rows, columns=["family", "sequence", "activity"])
        >>> report = cdi.truth_report(measured, measured="activity", draws=0)
        >>> report.level
        0.9
    """
    resolved = resolve_model(model)
    integer("max_changes", max_changes, 1)
    integer("draws", draws, 0)
    if level not in LEVELS:
        raise ValueError(f"`level` must be one of {list(LEVELS)}, but got {level!r}.")
    if target is None and measured in resolved.targets:
        target = measured
    index = resolve_target(resolved, target)
    sequences, families, values = _rows(table, measured, family)
    pairs = _pairs(sequences, families, max_changes)
    groups = unrelated_groups(families, sequences, pairs)
    halves(groups)  # before the work
    predicted = predict(sequences, resolved)[:, index].astype(np.float64)
    others, described = variants_of(resolved, draws, members)
    spread = np.zeros(len(pairs))
    if others:
        name = resolved.targets[index]
        all_predicted = []
        with progress(len(others), "variants of the model", "variant") as bar:
            for each in others:
                all_predicted.append(predict(sequences, each)[:, resolve_target(each, name)].astype(float))
                bar.update(1)
        spread = np.std([each[pairs[:, 1]] - each[pairs[:, 0]] for each in all_predicted], axis=0)
    one, other = pairs.T
    measured_change, predicted_change = values[other] - values[one], predicted[other] - predicted[one]
    names = families[one]
    low, high = held_out_intervals(predicted_change, measured_change, spread, groups, level)
    positions = [np.flatnonzero(a != b) for a, b in _encoded_pairs(sequences, pairs)]
    changes = pd.DataFrame(
        {
            "family": names,
            "reference": one,
            "mutant": other,
            "changes": [len(each) for each in positions],
            "positions": [",".join(map(str, each)) for each in positions],
            "kind": [
                kind_of_change(sequences[a], sequences[b], each.tolist())
                for a, b, each in zip(one, other, positions, strict=True)
            ],
            "measured": measured_change,
            "predicted": predicted_change,
            "spread": spread,
            "low": low,
            "high": high,
            "motifs": _motifs(sequences, pairs, positions, motifs),
            "group": groups,
        }
    )
    settings = {"measured": measured, "max_changes": max_changes, "level": level, "spread": described}
    certificate = certify(resolved, "truth report", settings=settings, checks={})
    errors = dataclasses.replace(
        fit_errors(predicted_change, measured_change, spread),
        target=resolved.targets[index], model_hash=certificate.model_hash, variants=described,
    )  # fmt: skip
    return TruthReport(
        target=resolved.targets[index],
        measured=measured,
        sequences=tuple(sequences),
        scores=pd.DataFrame({"family": families, "measured": values, "predicted": predicted}),
        table=changes,
        level=level,
        errors=errors.to_dict(),
        certificate=certificate,
    )


def _rows(table: pd.DataFrame, measured: str, family: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Sequences, their families and measurements, without rows that were not measured."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"`table` must be a pandas DataFrame, but got {type(table).__name__}.")
    missing = [name for name in ("sequence", family, measured) if name not in table.columns]
    if missing:
        raise ValueError(f"`table` must have the columns {missing}, but has {list(table.columns)}.")
    # The names of the rows, such as those of the file of a table that was filtered.
    labels = table.index if table.index.is_unique else pd.RangeIndex(len(table))
    for name in ("sequence", family, measured):
        if (count := list(table.columns).count(name)) > 1:
            raise ValueError(f"`table` must have the column {name} once, but has it {count} times.")
    if pd.api.types.is_datetime64_any_dtype(table[measured]) or pd.api.types.is_complex_dtype(table[measured]):
        raise ValueError(f"`table`: {measured} must be numbers, but is {table[measured].dtype}.")
    values = pd.to_numeric(table[measured], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.isnan(values) & table[measured].notna().to_numpy() | np.isinf(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"`table` row {labels[row]}: {measured} must be a finite number, but is {table[measured].iloc[row]!r}."
        )
    known = ~np.isnan(values)
    unnamed = table[family].isna().to_numpy() & known
    if unnamed.any():
        raise ValueError(f"`table` row {labels[int(unnamed.argmax())]}: {family} is missing.")
    if not known.any():
        raise ValueError(f"`table` has no measurement in the column {measured}.")
    without = table["sequence"].isna().to_numpy() & known
    if without.any():
        raise ValueError(f"`table` row {labels[int(without.argmax())]}: sequence is missing.")
    families = table[family].to_numpy()[known]
    sequences = [
        alphabet.normalize(each, name=f"sequence[{row}]")
        for row, each in zip(labels[known], table["sequence"].to_numpy()[known], strict=True)
    ]
    return sequences, families, values[known]


def _pairs(sequences: list[str], families: np.ndarray, max_changes: int) -> np.ndarray:
    """(P, 2) rows of pairs, of sequences of any lengths. Only sequences of one length make a pair."""
    codes = pd.factorize(families)[0]
    lengths = np.array([len(each) for each in sequences])
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        ids = np.stack([alphabet.encode(sequences[row]).astype(np.uint8) for row in rows])
        pairs.append(rows[close_pairs(ids, codes[rows], max_changes)])
    result = np.concatenate(pairs)
    if not len(result):
        raise ValueError(f"`table` has no two sequences of a family that differ in 1 to {max_changes} bases.")
    order = np.lexsort((result[:, 1], result[:, 0]))
    return result[order]


def _encoded_pairs(sequences: list[str], pairs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    encoded = {row: alphabet.encode(sequences[row]) for row in np.unique(pairs)}
    return [(encoded[one], encoded[other]) for one, other in pairs.tolist()]


def _motifs(
    sequences: list[str], pairs: np.ndarray, positions: list[np.ndarray], motifs: MotifsLike | None
) -> list[str]:
    """Names of motifs with a match in either sequence that covers a changed base."""
    if motifs is None:
        return [""] * len(pairs)
    rows = np.unique(pairs)
    sites = scan([sequences[row] for row in rows], motifs).table
    by_row: dict[int, list[tuple[int, int, str]]] = {}
    for example, start, end, name in zip(sites["example"], sites["start"], sites["end"], sites["name"], strict=True):
        by_row.setdefault(int(rows[example]), []).append((start, end, name))
    result = []
    for pair, places in zip(pairs.tolist(), positions, strict=True):
        names = {
            name
            for row in pair
            for start, end, name in by_row.get(row, ())
            if ((places >= start) & (places < end)).any()
        }
        result.append(", ".join(sorted(names)))
    return result
