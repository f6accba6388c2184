"""Names for stretches of high attribution, and places where motifs match a sequence.

n  stretches    M  motifs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crossdna_interpret import alphabet
from crossdna_interpret.libraries import leaving_no_trace
from crossdna_interpret.motifs.collection import Motif, MotifsLike, read_motifs
from crossdna_interpret.motifs.seqlets import Explained, checked_results, whole_importance
from crossdna_interpret.results import Certificate, MotifSites, Seqlets

__all__ = ["annotate", "benjamini_hochberg", "scan"]

_FEW_MOTIFS = 50  # fewer columns than those of so many motifs are no background to compare a match with
_STRETCHES = 256  # compared at once
_WIDEST = 25  # bases of a site that may have been found in two parts
_BIN, _EPS = 0.1, 1e-4  # bits to which fimo rounds scores, and what it adds to probabilities
# The power of a base's importance with which it counts in the comparison. Where a model is saturated, one base of a
# site can outweigh the others a hundredfold, which would leave too little to compare; 0 would count all bases alike.
_EVENNESS = 1 / 3


def annotate(seqlets: Seqlets, motifs: MotifsLike = "jaspar-vertebrates", *, q: float = 0.05) -> MotifSites:
    """Name stretches of high attribution by the motifs that look most like them.

    Each is compared with every motif, in both orientations, by memelite's tomtom. A base counts the
    less, the further its attribution is below the stretch's largest, so that bases the model does not mind do not
    stand in the way. Two stretches next to each other are also
    compared as one, and are one site if that matches better than either. q values are those
    of Benjamini and Hochberg over the motifs. Many factors of a family bind the same bases: `also` lists those that
    match as well as asked for, and no sequence can tell them apart.

    Args:
        seqlets: from `find_seqlets`.
        motifs: "jaspar-vertebrates", "jaspar-insects", "jaspar-plants", a MEME file, motifs, or a mapping of names to
            matrices (4, W). With fewer than 50, JASPAR's vertebrate motifs serve as background for the p values.
        q: largest q value of a name.

    Returns:
        MotifSites, a row for each stretch that could be named; where two are the same site, one of them. Their number
        of stretches without a name is among the certificate's checks.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad motifs or `q`.

    Example:
        >>> import crossdna_interpret as cdi
        >>> seqlets = cdi.find_seqlets(cdi.ism(cdi.example().sequence))
        >>> sites = annotate(seqlets, {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T})
        >>> set(sites.table["name"]) <= {"CRX"}
        True
    """
    if not isinstance(seqlets, Seqlets):
        raise TypeError(f"`seqlets` must be the result of find_seqlets, but got {type(seqlets).__name__}.")
    if not 0 < q <= 1:
        raise ValueError(f"`q` must be above 0 and at most 1, but got {q!r}.")
    known = read_motifs(motifs)
    spans = [(row.example, row.start, row.end) for row in seqlets]
    pairs = _neighbours(seqlets)
    joined = [(spans[one][0], spans[one][1], spans[other][2]) for one, other in pairs]
    found = _best(seqlets, spans + joined, known, q)
    named = {at: match for at, match in enumerate(found[: len(spans)]) if match is not None}
    for (one, other), match in zip(pairs, found[len(spans) :], strict=True):
        apart = [named[part]["p_value"] for part in (one, other) if part in named]
        if match is not None and all(match["p_value"] < p_value for p_value in apart):
            named |= {one: match, other: match}
    table = _without_repeats(_table(list(named.values()), seqlets.importances))
    settings = {"motifs": _described(motifs, known), "q": q, "seqlets": dict(seqlets.certificate.settings)}
    certificate = replace(
        seqlets.certificate, method="names by tomtom", settings=settings,
        checks={"seqlets": len(seqlets), "seqlets_without_name": len(seqlets) - len(named)},
    )  # fmt: skip
    return MotifSites(seqlets.sequences, seqlets.target, table, certificate, importances=seqlets.importances)


def scan(
    seqs: str | Sequence[str] | Explained | Sequence[Explained],
    motifs: MotifsLike = "jaspar-vertebrates",
    *,
    p: float = 1e-4,
    q: float | None = None,
) -> MotifSites:
    """Find where motifs match sequences, on either strand, whether or not a model minds.

    By memelite's fimo: a p value is the share of all words of the motif's length, of even bases, that score as high or
    higher, with each base's score rounded to a tenth of a bit. An N counts as the base that fits worst. q values are
    those of Benjamini and Hochberg over all places where a motif could be. A motif that is longer than a sequence
    matches it nowhere.

    Args:
        seqs: one sequence, or N; or results of `ism` and its like, whose attribution the sites then have.
        motifs: as in `annotate`.
        p: largest p value of a site.
        q: largest q value, if given.

    Returns:
        MotifSites, by sequence and start.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad sequences, motifs, `p` or `q`.

    Example:
        >>> found = scan("GGGGCTAATCCGGG", {"CRX": np.eye(4)[[1, 3, 0, 0, 3, 1, 1]].T}, p=1e-3)
        >>> found.table[["start", "end", "strand", "name"]].values.tolist()
        [[4, 11, '+', 'CRX']]
    """
    for name, value in (("p", p), ("q", q)):
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"`{name}` must be above 0 and at most 1, but got {value!r}.")
    known = read_motifs(motifs)
    sequences, importances, target, certificate = _to_scan(seqs)
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(index)
    parts = [_fimo([sequences[index] for index in rows], rows, known, p) for rows in by_length.values()]
    found = pd.concat(parts, ignore_index=True)
    tried = np.array([sum(2 * max(0, len(each) - motif.width + 1) for each in sequences) for motif in known])
    number, p_values = found["number"].to_numpy(), found["p_value"].to_numpy()
    q_values = np.ones(len(found))
    for each in np.unique(number):
        of_it = number == each
        q_values[of_it] = benjamini_hochberg(p_values[of_it][None], int(tried[each]))[0]
    found["q_value"] = q_values
    if q is not None:
        found = found[found["q_value"] <= q]
    hits: Any = found
    rows = [
        {"example": hit.example, "also": ""}
        | _placed(sequences[hit.example], known[hit.number], hit.start, hit.strand)
        | {"p_value": hit.p_value, "q_value": hit.q_value}
        for hit in hits.itertuples()
    ]
    settings = {"motifs": _described(motifs, known), "p": p, "q": q}
    certificate = replace(certificate, method="scan by fimo", settings=settings, checks={})
    return MotifSites(tuple(sequences), target, _table(rows, importances), certificate, importances=importances)


def _neighbours(seqlets: Seqlets) -> list[tuple[int, int]]:
    """Pairs of rows that may be parts of one site: a base between them that the model minds less has cut it in two."""
    return [
        (at, at + 1)
        for at, (one, other) in enumerate(pairwise(seqlets))
        if one.example == other.example and other.end - one.start <= _WIDEST and one.attribution * other.attribution > 0
    ]


def _best(
    seqlets: Seqlets, spans: list[tuple[int, int, int]], motifs: list[Motif], q: float
) -> list[dict[str, Any] | None]:
    """What each stretch (example, start, end) is called, as a row of a table; None where nothing is good enough."""
    found: list[dict[str, Any] | None] = []
    for first in range(0, len(spans), _STRETCHES):
        part = spans[first : first + _STRETCHES]
        p_values, offsets, strands = _tomtom([_query(seqlets, *span) for span in part], motifs)
        q_values = benjamini_hochberg(p_values)
        for at, (example, start, _) in enumerate(part):
            order = np.argsort(p_values[at], kind="stable")
            order = order[q_values[at, order] <= q]
            if not len(order):
                found.append(None)
                continue
            best = int(order[0])
            names = dict.fromkeys(motifs[other].label for other in order)
            del names[motifs[best].label]
            found.append(
                {"example": example, "also": ", ".join(names)}
                | _placed(seqlets.sequences[example], motifs[best], start - offsets[at, best], strands[at, best])
                | {"p_value": p_values[at, best], "q_value": q_values[at, best]}
            )
    return found


def _query(seqlets: Seqlets, example: int, start: int, end: int) -> np.ndarray:
    """(4, length): each base as sure as it matters."""
    values = seqlets.importances[example][start:end]
    values = values * np.sign(values.sum())
    share = np.clip(values / max(values.max(), np.finfo(values.dtype).tiny), 0, 1) ** _EVENNESS
    bases = alphabet.one_hot(alphabet.encode(seqlets.sequences[example][start:end]), np.float64)[:4]
    return 0.25 + (bases - 0.25 * bases.sum(axis=0)) * share


def _tomtom(queries: list[np.ndarray], motifs: list[Motif]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, M) p values, at which base of the oriented motif the stretch begins, and 1 where that is turned."""
    from memelite.tomtom import tomtom

    targets = [motif.probabilities for motif in motifs]
    if len(motifs) < _FEW_MOTIFS:
        targets += [motif.probabilities for motif in read_motifs("jaspar-vertebrates")]
    with leaving_no_trace():
        p_values, _, offsets, _, strands = tomtom(queries, targets)
    count = len(motifs)
    return np.minimum(p_values[:, :count], 1), offsets[:, :count].astype(int), strands[:, :count].astype(int)


def _fimo(sequences: list[str], examples: list[int], motifs: list[Motif], p: float) -> pd.DataFrame:
    """Hits in sequences of one length: example, number of the motif, start, strand (1 if turned), p_value."""
    from memelite.fimo import fimo

    length = len(sequences[0])
    fitting = {str(number): _for_fimo(motif) for number, motif in enumerate(motifs) if motif.width <= length}
    channels = np.stack([alphabet.one_hot(alphabet.encode(each), np.float32)[:4] for each in sequences])
    # A little more than p, because fimo wants less than the threshold.
    with leaving_no_trace():
        found = fimo(fitting, channels, threshold=p * (1 + 1e-9), bin_size=_BIN, eps=_EPS) if fitting else []
    parts = [
        pd.DataFrame(
            {
                "example": np.array(examples)[hits["sequence_name"].to_numpy(dtype=int)],
                "number": int(number),
                "start": hits["start"].to_numpy(dtype=int),
                "strand": (hits["strand"] == "-").to_numpy(dtype=int),
                "p_value": hits["p-value"].to_numpy(dtype=float),
            }
        )
        for number, hits in zip(fitting, found, strict=True)
    ]
    columns = {"example": int, "number": int, "start": int, "strand": int, "p_value": float}
    empty = pd.DataFrame({name: np.empty(0, dtype=kind) for name, kind in columns.items()})
    return pd.concat([part for part in parts if len(part)] or [empty], ignore_index=True)


def _for_fimo(motif: Motif) -> np.ndarray:
    """The matrix (4, W) for which fimo's p values are exact.

    It sums log odds as they are, but looks the sum up among sums of rounded ones, cut towards zero: a short motif's
    perfect match may then have p = 0, and a match with a mismatch the p of a perfect one. So every entry is a whole
    number of bins above the worst of its column, and the sum a quarter of a bin above one. An N, which adds nothing,
    counts as the worst base.
    """
    bins = np.round(motif.log_odds / _BIN)
    odds = _BIN * (bins - bins.min(axis=0) + 0.25 / motif.width)
    matrix: np.ndarray = 0.25 * 2**odds - _EPS
    return matrix


def benjamini_hochberg(p_values: np.ndarray, tests: int | None = None) -> np.ndarray:
    """q values along the last axis, of so many tests; those that are not given had larger p values."""
    count = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1)
    ordered = np.take_along_axis(p_values, order, -1) * (tests or count) / np.arange(1, count + 1)
    ordered = np.minimum(np.minimum.accumulate(ordered[..., ::-1], axis=-1)[..., ::-1], 1)
    result = np.empty_like(ordered)
    np.put_along_axis(result, order, ordered, -1)
    return result


def _placed(sequence: str, motif: Motif, start: int, turned: int) -> dict[str, Any]:
    """A site's place, clipped to the sequence, its name, and its score there."""
    odds = motif.log_odds[::-1, ::-1] if turned else motif.log_odds
    first, last = max(0, int(start)), min(len(sequence), int(start) + motif.width)
    ids = alphabet.encode(sequence[first:last])
    at = np.flatnonzero(ids != alphabet.N_ID)
    return {
        "start": first,
        "end": last,
        "strand": "-" if turned else "+",
        "motif": motif.id,
        "name": motif.label,
        "score": float(odds[ids[at], at + first - int(start)].sum()),
    }


def _table(rows: list[dict[str, Any]], importances: tuple[np.ndarray, ...] | None) -> pd.DataFrame:
    kinds = {
        "example": int, "start": int, "end": int, "strand": str, "motif": str, "name": str, "score": float,
        "p_value": float, "q_value": float, "attribution": float, "necessity": float, "necessity_error": float,
        "sufficiency": float, "sufficiency_error": float, "also": str,
    }  # fmt: skip
    table = pd.DataFrame(rows, columns=list(kinds)).astype(
        {name: kind for name, kind in kinds.items() if kind is not str}
    )
    if importances is not None:
        stretches = zip(table["example"], table["start"], table["end"], strict=True)
        table["attribution"] = [float(importances[at][start:end].sum(dtype=np.float64)) for at, start, end in stretches]
    return table.sort_values(["example", "start", "end", "motif"], ignore_index=True)


def _without_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Without stretches that are the same site as another one, with a better p value."""
    kept: list[int] = []
    seen: set[tuple[object, ...]] = set()
    for index in table["p_value"].sort_values(kind="stable").index:
        key = tuple(table.loc[index, ["example", "start", "end", "strand", "motif"]])
        if key not in seen:
            seen.add(key)
            kept.append(index)
    return table.loc[sorted(kept)].reset_index(drop=True)


def _described(motifs: MotifsLike, known: list[Motif]) -> str:
    return f"{motifs}, {len(known)} motifs" if isinstance(motifs, str) else f"{len(known)} motifs"


def _to_scan(
    seqs: str | Sequence[str] | Explained | Sequence[Explained],
) -> tuple[list[str], tuple[np.ndarray, ...] | None, str, Certificate]:
    """Sequences, their attributions if they have any, of what target, and the certificate to go on from."""
    of_results = isinstance(seqs, Explained) or (
        isinstance(seqs, (list, tuple)) and len(seqs) > 0 and isinstance(seqs[0], Explained)
    )
    if of_results:
        results = checked_results(seqs)  # type: ignore[arg-type]
        importances = tuple(whole_importance(each) for each in results)
        return [each.sequence for each in results], importances, results[0].target, results[0].certificate
    versions = {"crossdna_interpret": metadata.version("crossdna_interpret"), "numpy": np.__version__}
    none = Certificate(method="", model="none", model_hash="", device="cpu", dtype="float64", versions=versions)
    return alphabet.normalize_many(seqs), None, "", none
