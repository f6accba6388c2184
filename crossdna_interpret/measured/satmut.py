"""Saturation mutagenesis of human promoters and enhancers in the laboratory, beside predictions.

Source of the measurements: Kircher et al. 2019 (Nat Commun 10:3583).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.statistics import correlation

__all__ = ["CAGI5", "CEILINGS", "PUBLISHED", "Effects", "read_elements", "read_variants", "satmut"]

# (end - start, 4) predicted effects of all substitutions in a stretch of a sequence: sequence, start, end.
Effects = Callable[[str, int, int], np.ndarray]

_COLUMNS = ("Pos", "Ref", "Alt", "Barcodes", "Coefficient", "Element", "Release")

# r between two measurements of one element: from the table itself.
CEILINGS = {"LDLR": 0.97, "SORT1": 0.96, "PKLR-24h": 0.88, "TERT-GBM": 0.76, "TERT-HEK": 0.76}
# The elements of the CAGI5 challenge (Shigaki et al. 2019, Hum Mutat 40:1280).
CAGI5 = (
    "F9", "GP1BA", "HBB", "HBG1", "HNF4A", "IRF4", "IRF6", "LDLR", "MSMB", "MYCrs6983267", "PKLR-24h", "SORT1",
    "TERT-GBM", "TERT-HEK", "ZFAND3",
)  # fmt: skip
# Mean r over the 15 elements of CAGI5, of models that were not trained on them.
PUBLISHED = {"AlphaGenome": 0.57, "Borzoi": 0.55, "ChromBPNet": 0.55, "Enformer": 0.51}


def read_variants(path: str | Path, *, release: str = "GRCh38", barcodes: int = 10) -> pd.DataFrame:
    """Measured single-base substitutions.

    Args:
        path: a table as kircherlab/MPRA_SaturationMutagenesis has it, plain or gzipped.
        release: genome whose positions count.
        barcodes: smallest number of barcodes of a variant.

    Returns:
        The rows with a position and an effect. Columns element, position (1-based, in the genome), ref, alt, effect
        (log2), barcodes.

    Raises:
        FileNotFoundError, ValueError: no such file, it lacks a column or the release, a position is not a whole number,
            an element is missing, or numbers are text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a table of variants, but there is no file {path}.")
    table = pd.read_csv(path, sep="\t", dtype={"Chrom": str, "Ref": str, "Alt": str, "Element": str})
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {list(table.columns)}.")
    releases = sorted(map(str, table["Release"].dropna().unique()))
    if release not in releases:
        raise ValueError(f"`release` must be one of {releases}, but is {release!r}.")
    for name in ("Pos", "Barcodes", "Coefficient"):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"{path}: {name} must be numbers, but it holds text.")
    if table["Element"].isna().any():
        row = int(table["Element"].isna().to_numpy().argmax())
        raise ValueError(f"{path}, row {row + 1}: Element is missing, or is a word for a missing value.")
    integer("barcodes", barcodes)
    if (positions := table["Pos"].dropna().to_numpy(dtype=np.float64)).size and (positions % 1 != 0).any():
        raise ValueError(f"{path}: Pos must be whole numbers, but has {positions[positions % 1 != 0][0]}.")
    table = table.assign(Ref=table["Ref"].str.upper(), Alt=table["Alt"].str.upper())
    single = table["Ref"].str.fullmatch("[ACGT]", na=False) & table["Alt"].str.fullmatch("[ACGT]", na=False)
    known = table[["Pos", "Coefficient"]].notna().all(axis=1)
    chosen = table[single & known & (table["Release"] == release) & (table["Barcodes"] >= barcodes)]
    return pd.DataFrame(
        {
            "element": chosen["Element"].to_numpy(),
            "position": chosen["Pos"].to_numpy().astype(np.int64),
            "ref": chosen["Ref"].to_numpy(),
            "alt": chosen["Alt"].to_numpy(),
            "effect": chosen["Coefficient"].to_numpy(dtype=np.float64),
            "barcodes": chosen["Barcodes"].to_numpy(),
        }
    )


def read_elements(path: str | Path) -> dict[str, tuple[int, str]]:
    """Start (1-based) and forward-strand sequence of each element of a FASTA file.

    Headers read `>NAME chrN:START-END ...`.

    Raises:
        FileNotFoundError, ValueError: no such file, or a header without a place, or a sequence of another length.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a FASTA file, but there is no file {path}.")
    result = {}
    for record in path.read_text(encoding="ascii").split(">")[1:]:
        header, _, body = record.partition("\n")
        words = header.split()
        sequence = alphabet.normalize("".join(body.split()), name=header)
        try:
            start, end = (int(each) for each in words[1].split(":")[1].split("-"))
        except (IndexError, ValueError):
            raise ValueError(f"{path}: a header must read `>NAME chrN:START-END`, but is {header!r}.") from None
        if end - start + 1 != len(sequence):
            raise ValueError(f"{path}: {words[0]} is {end - start + 1} bases by its header, but has {len(sequence)}.")
        if words[0] in result:
            raise ValueError(f"{path}: {words[0]} is there twice.")
        if " - strand" in f" {header} ":
            raise ValueError(f"{path}: {words[0]} must be the forward strand, but its header says '- strand'.")
        result[words[0]] = (start, sequence)
    if not result:
        raise ValueError(f"{path} must be a FASTA file with headers `>NAME chrN:START-END`, but has none.")
    return result


def satmut(
    variants: pd.DataFrame,
    elements: Mapping[str, tuple[int, str]],
    effects: Effects,
    *,
    window: int,
    step: int = 36,
    margin: int = 12,
) -> pd.DataFrame:
    """Compare predicted with measured effects of single substitutions, for each element.

    An element is longer than what most models read. So every window that holds a variant, at least `margin` bases from
    both ends, is mutated, and the effect of the variant is the mean over these windows. A variant that no window holds
    is left out.

    Args:
        variants: from `read_variants`.
        elements: from `read_elements`.
        effects: predicted effects of all substitutions in a stretch of a window.
        window: bases of a window. An element that is shorter is one window.
        step: distance between the starts of windows. It is reduced to `window` - 2 `margin` if it is larger, so that
            there is no gap. The last window ends at the end of the element.
        margin: bases at each end of a window that are not mutated.

    Returns:
        A row for each element that has variants: element, variants (compared), r, low and high ends of its 95 %
        interval, same_sign (fraction with the measured sign, of effects of at least 0.1), ceiling (r of two
        measurements; NaN where unknown).

    Raises:
        ValueError: a missing column, element or position, an effect that is not finite, an `alt` that is not one new
            base, a variant that is there twice or outside of its element, or whose reference base is not the
            element's, a window without an inner part, or effects of another shape.
    """
    for argument, value, least in (("window", window, 1), ("step", step, 1), ("margin", margin, 0)):
        integer(argument, value, least)
    if window <= 2 * margin:
        raise ValueError(f"`window` must be above {2 * margin}, twice the margin, but is {window}.")
    _require_variants(variants)
    rows = []
    for key, group in variants.groupby("element", sort=False):
        name = str(key)
        if name not in elements:
            raise ValueError(f"`elements` must hold {name}, but has {', '.join(elements)}.")
        first, sequence = elements[name]
        at = group["position"].to_numpy() - first
        _require_inside(name, group, at, sequence)
        predicted = _mean_effects(sequence, effects, window, step, margin)[at, alphabet.encode("".join(group["alt"]))]
        measured = group["effect"].to_numpy()
        known = np.isfinite(predicted)
        r, low, high = correlation(predicted[known], measured[known])
        large = known & (np.abs(measured) >= 0.1)
        same = np.sign(predicted[large]) == np.sign(measured[large])
        rows.append(
            {
                "element": name, "variants": int(known.sum()), "r": r, "low": low, "high": high,
                "same_sign": float(same.mean()) if large.any() else math.nan,
                "ceiling": CEILINGS.get(name, math.nan),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _require_variants(variants: pd.DataFrame) -> None:
    missing = [name for name in ("element", "position", "ref", "alt", "effect") if name not in variants.columns]
    if missing:
        raise ValueError(f"`variants` must have the columns {missing}, but has {list(variants.columns)}.")
    if variants["element"].isna().any():
        raise ValueError(f"`variants` row {int(variants['element'].isna().to_numpy().argmax())}: element is missing.")
    if not pd.api.types.is_integer_dtype(variants["position"]) or variants["position"].isna().any():
        raise ValueError(f"`variants` must have whole positions, but they are {variants['position'].dtype}.")
    for row, (ref, alt, effect) in enumerate(zip(variants["ref"], variants["alt"], variants["effect"], strict=True)):
        if alt not in set(alphabet.BASES) or alt == ref:
            raise ValueError(f"`variants` row {row}: alt must be A, C, G or T, and not ref, but is {alt!r}.")
        if not isinstance(effect, numbers.Real) or not math.isfinite(effect):
            raise ValueError(f"`variants` row {row}: effect must be a finite number, but is {effect!r}.")
    twice = variants.duplicated(["element", "position", "alt"]).to_numpy()
    if twice.any():
        raise ValueError(f"`variants` row {int(twice.argmax())} repeats an earlier variant.")


def _require_inside(name: str, group: pd.DataFrame, at: np.ndarray, sequence: str) -> None:
    outside = (at < 0) | (at >= len(sequence))
    if outside.any():
        raise ValueError(f"`variants`: position {group['position'].to_numpy()[outside][0]} is outside of {name}.")
    for place, ref in zip(at, group["ref"], strict=True):
        if sequence[place] != ref:
            raise ValueError(f"`variants`: {name} has {sequence[place]} where the reference base is said to be {ref}.")


def _mean_effects(sequence: str, effects: Effects, window: int, step: int, margin: int) -> np.ndarray:
    """(L, 4) mean predicted effect; NaN where no window holds the position."""
    last = max(0, len(sequence) - window)
    total, count = np.zeros((len(sequence), 4)), np.zeros((len(sequence), 1))
    step = min(step, window - 2 * margin)
    for start in sorted({*range(0, last + 1, step), last}):
        part = sequence[start : start + window]
        first, end = margin, len(part) - margin
        if first >= end:
            continue
        of_window = np.asarray(effects(part, first, end))
        if of_window.shape != (end - first, 4):
            raise ValueError(f"`effects` must return {(end - first, 4)}, but returned {of_window.shape}.")
        total[start + first : start + end] += of_window
        count[start + first : start + end] += 1
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = total / count
    return mean
