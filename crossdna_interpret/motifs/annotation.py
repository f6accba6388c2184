"""Motif names for seqlets (spans of high attribution), and motif matches in sequences.

n  seqlets    M  motifs
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd

from crossdna_interpret._compat import quiet_and_same_threads
from crossdna_interpret.dna import alphabet
from crossdna_interpret.motifs.collection import Motif, MotifsLike, read_motifs
from crossdna_interpret.motifs.matching import Matcher, Stretch
from crossdna_interpret.motifs.prevalence import Prevalence
from crossdna_interpret.motifs.seqlets import AttributionLike, checked_results, whole_importance
from crossdna_interpret.results import Certificate, MotifSites, Seqlets

__all__ = ["annotate", "benjamini_hochberg", "scan"]

_STRETCHES = 64  # seqlets that are compared at once
_BY_SIZE = 0.8  # fraction of the weights that is proportional to attribution. The rest is equal for all seqlets
_AROUND = 3  # bases on each side of a seqlet that a matching motif may cover
_CLOSE = 10  # a motif matches nearly as well if its p value is at most this many times the p value of the name
_BIN, _EPS = 0.1, 1e-4  # fimo's rounding of scores, in bits, and its pseudocount for probabilities


def annotate(seqlets: Seqlets, motifs: MotifsLike = "jaspar-vertebrates", *, q: float = 0.05) -> MotifSites:
    """Name seqlets (spans of high attribution) by the motifs that match the sequence there.

    A motif is tested in every placement that overlaps the seqlet, on both strands. The p value of a match is exact. It
    is the fraction of random words, with the dinucleotide composition of the sequence, that score at least as high.

    q values correct for all tests:

    - placements: Bonferroni. A placement has more weight if important bases lie on informative columns of the motif.
    - motifs: Simes. With many seqlets, motifs that match often have more weight, so short frequent motifs are found.
      The weights for a seqlet are learned from seqlets with other words. A frequent word, such as a primer, may match a
      motif by chance, and then it does so each time.
    - seqlets of the call: Benjamini and Hochberg, weighted by attribution.

    So one seqlet among many needs a better match than a single seqlet. With q = 0.05, one name in twenty is expected to
    be wrong. A name also needs a score above 0, and at most one in a thousand random words may score as high. Motifs of
    four bases or fewer cannot pass. A selection of motifs, such as those of factors that a tissue expresses, finds more
    sites than a whole collection.

    Factors of a family bind the same bases, and a sequence cannot distinguish them. `also` lists the other motifs that
    pass, or match nearly as well (a p value of up to ten times that of the name).

    Args:
        seqlets: from `find_seqlets`.
        motifs: "jaspar-vertebrates", "jaspar-insects", "jaspar-plants", a file in MEME or JASPAR format, motifs, or a
            mapping of names to matrices (4, W).
        q: largest q value of a name.

    Returns:
        MotifSites with a row for each seqlet that has a name. If two seqlets are the same site, only one row is kept.
        The certificate's checks have the number of seqlets without a name.

    Raises:
        ValueError, TypeError, FileNotFoundError: invalid motifs or `q`.

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
    stretches = [_stretch(seqlets, row) for row in seqlets]
    matcher = Matcher(known, seqlets.sequences)
    means = np.ones(len(stretches))
    p_values = np.ones((len(stretches), len(known)), dtype=np.float32)
    for first in range(0, len(stretches), _STRETCHES):
        part = slice(first, first + _STRETCHES)
        p_values[part], means[part] = matcher.p_values(stretches[part])
    words = [
        matcher.ids[stretch.sequence][max(0, stretch.start - _AROUND) : stretch.end + _AROUND] for stretch in stretches
    ]
    learned = False
    candidates: list[tuple[np.ndarray, np.ndarray]] = []  # for each seqlet: motifs, best first, and their q values
    alone = np.ones(len(stretches))  # q value of each seqlet before the correction for the number of seqlets
    for at, (values, weights) in enumerate(zip(p_values, Prevalence(p_values, words).weights(), strict=True)):
        learned = learned or bool((weights != 1).any())
        row = np.where(values < 1, np.minimum(values / weights, 1), 1)
        own = benjamini_hochberg(row)
        order = np.argsort(row, kind="stable")
        order = order[(own[order] <= q) & (values[order] < 1)]
        candidates.append((order, own[order]))
        alone[at] = own.min()
    q_values = _over_stretches(alone, np.array([stretch.size for stretch in stretches]))
    rows = []
    for at in np.flatnonzero(q_values <= q).tolist():
        stretch, (order, own) = stretches[at], candidates[at]
        if not len(order):
            continue
        # The limit for this seqlet after the correction for the number of seqlets.
        passes = own <= q * alone[at] / q_values[at]
        close = p_values[at, order] <= _CLOSE * p_values[at, order[0]]
        names = dict.fromkeys(known[motif].label for motif in order[passes | close])
        best = known[order[0]]
        names.pop(best.label, None)
        start, strand, p_value = matcher.placement(stretch, int(order[0]), means[at])
        rows.append(
            {"example": stretch.sequence, "also": ", ".join(names)}
            | _placed(seqlets.sequences[stretch.sequence], best, start, strand)
            | {"p_value": p_value, "q_value": q_values[at]}
        )
    table = _without_repeats(_table(rows, seqlets.importances))
    certificate = Certificate.merge(
        [seqlets.certificate],
        method="names by the motifs that match",
        settings={
            "motifs": _described(motifs, known),
            "q": q,
            "weights_of_motifs": "learned from other words" if learned else "equal",
        },
        checks={"seqlets": len(stretches), "seqlets_without_name": len(stretches) - len(rows)},
    )
    return MotifSites(seqlets.sequences, seqlets.target, table, certificate, importances=seqlets.importances)


def _stretch(seqlets: Seqlets, row: Any) -> Stretch:
    importance = seqlets.importances[row.example][row.start : row.end]
    return Stretch(row.example, row.start, row.end, importance * np.sign(importance.sum(dtype=np.float64)))


def _over_stretches(p_values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """q values (n,) from p values, by weighted Benjamini and Hochberg (Genovese, Roeder and Wasserman 2006)."""
    share = sizes / sizes.mean() if sizes.any() else np.ones(len(sizes))
    weights = _BY_SIZE * share + (1 - _BY_SIZE)
    return benjamini_hochberg(np.minimum(p_values / weights, 1))


def scan(
    seqs: str | Sequence[str] | AttributionLike | Sequence[AttributionLike],
    motifs: MotifsLike = "jaspar-vertebrates",
    *,
    p: float = 1e-4,
    q: float | None = None,
) -> MotifSites:
    """Find motif matches in sequences, on both strands. This uses no model.

    The matches are from memelite's fimo. The p value is the fraction of all words of the motif's length that score at
    least as high, with equal base frequencies. The score of each base is rounded to a tenth of a bit. An N counts as
    the base that fits worst. q values are from Benjamini and Hochberg, for each motif over all its possible positions.
    They are not corrected for the number of motifs. A motif longer than a sequence has no match there.

    Args:
        seqs: one sequence or N sequences, or attribution results such as those of `ism`. With results, the sites have
            their attribution.
        motifs: as in `annotate`.
        p: largest p value of a site.
        q: largest q value of a site. By default there is no limit.

    Returns:
        MotifSites, sorted by sequence and start.

    Raises:
        ValueError, TypeError, FileNotFoundError: invalid sequences, motifs, `p` or `q`.

    Example:
        >>> result = scan("GGGGCTAATCCGGG", {"CRX": np.eye(4)[[1, 3, 0, 0, 3, 1, 1]].T}, p=1e-3)
        >>> result.table[["start", "end", "strand", "name"]].values.tolist()
        [[4, 11, '+', 'CRX']]
    """
    for name, value in (("p", p), ("q", q)):
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"`{name}` must be above 0 and at most 1, but got {value!r}.")
    known = read_motifs(motifs)
    sequences, importances, target, certificates = _to_scan(seqs)
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(index)
    parts = [_fimo([sequences[index] for index in rows], rows, known, p) for rows in by_length.values()]
    result = pd.concat(parts, ignore_index=True)
    tried = np.array([sum(2 * max(0, len(each) - motif.width + 1) for each in sequences) for motif in known])
    number, p_values = result["number"].to_numpy(), result["p_value"].to_numpy()
    q_values = np.ones(len(result))
    for each in np.unique(number):
        of_it = number == each
        q_values[of_it] = benjamini_hochberg(p_values[of_it][None], int(tried[each]))[0]
    result["q_value"] = q_values
    if q is not None:
        result = result[result["q_value"] <= q]
    hits: Any = result
    rows = [
        {"example": hit.example, "also": ""}
        | _placed(sequences[hit.example], known[hit.number], hit.start, hit.strand)
        | {"p_value": hit.p_value, "q_value": hit.q_value}
        for hit in hits.itertuples()
    ]
    settings = {"motifs": _described(motifs, known), "p": p, "q": q}
    certificate = Certificate.merge(certificates, method="scan by fimo", settings=settings)
    return MotifSites(tuple(sequences), target, _table(rows, importances), certificate, importances=importances)


def _fimo(sequences: list[str], examples: list[int], motifs: list[Motif], p: float) -> pd.DataFrame:
    """Hits in sequences of one length: example, index of the motif, start, strand (1 for "-"), p_value."""
    from memelite.fimo import fimo

    length = len(sequences[0])
    fitting = {str(number): _for_fimo(motif) for number, motif in enumerate(motifs) if motif.width <= length}
    channels = np.stack([alphabet.one_hot(alphabet.encode(each), np.float32)[:4] for each in sequences])
    # Slightly more than p, because fimo reports only p values below the threshold.
    with quiet_and_same_threads():
        result = fimo(fitting, channels, threshold=p * (1 + 1e-9), bin_size=_BIN, eps=_EPS) if fitting else []
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
        for number, hits in zip(fitting, result, strict=True)
    ]
    columns = {"example": int, "number": int, "start": int, "strand": int, "p_value": float}
    empty = pd.DataFrame({name: np.empty(0, dtype=kind) for name, kind in columns.items()})
    return pd.concat([part for part in parts if len(part)] or [empty], ignore_index=True)


def _for_fimo(motif: Motif) -> np.ndarray:
    """The matrix (4, W) for which fimo's p values are exact.

    fimo sums exact log odds, but finds the p value in a table of rounded sums, truncated towards zero. So a perfect
    match of a short motif may have p = 0, and a match with one mismatch the p of a perfect match. In this matrix every
    entry is a whole number of bins above the worst of its column, and the sum is a quarter of a bin above a bin edge.
    An N adds nothing, so it counts as the worst base.
    """
    bins = np.round(motif.log_odds / _BIN)
    odds = _BIN * (bins - bins.min(axis=0) + 0.25 / motif.width)
    matrix: np.ndarray = 0.25 * 2**odds - _EPS
    return matrix


def benjamini_hochberg(p_values: np.ndarray, tests: int | None = None) -> np.ndarray:
    """q values along the last axis. `tests` is the total number of tests: missing ones have larger p values."""
    count = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1)
    ordered = np.take_along_axis(p_values, order, -1) * (tests or count) / np.arange(1, count + 1)
    ordered = np.minimum(np.minimum.accumulate(ordered[..., ::-1], axis=-1)[..., ::-1], 1)
    result = np.empty_like(ordered)
    np.put_along_axis(result, order, ordered, -1)
    return result


def _placed(sequence: str, motif: Motif, start: int, reverse: int) -> dict[str, Any]:
    """Position of a site, clipped to the sequence, with its name and score.

    An N and positions outside the sequence score as the base that fits worst.
    """
    odds = motif.log_odds[::-1, ::-1] if reverse else motif.log_odds
    odds = np.concatenate([odds, odds.min(axis=0, keepdims=True)])  # the last row is N
    first, last = max(0, int(start)), min(len(sequence), int(start) + motif.width)
    ids = np.full(motif.width, alphabet.N_ID)
    ids[first - int(start) : last - int(start)] = alphabet.encode(sequence[first:last])
    return {
        "start": first,
        "end": last,
        "strand": "-" if reverse else "+",
        "motif": motif.id,
        "name": motif.label,
        "score": float(odds[ids, np.arange(motif.width)].sum()),
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
    """Remove seqlets that are the same site as another one with a better p value."""
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
    seqs: str | Sequence[str] | AttributionLike | Sequence[AttributionLike],
) -> tuple[list[str], tuple[np.ndarray, ...] | None, str, list[Certificate]]:
    """Sequences, and if `seqs` are results, their attributions, target and certificates."""
    of_results = isinstance(seqs, AttributionLike) or (
        isinstance(seqs, (list, tuple)) and len(seqs) > 0 and isinstance(seqs[0], AttributionLike)
    )
    if of_results:
        results = checked_results(seqs)  # type: ignore[arg-type]
        importances = tuple(whole_importance(each) for each in results)
        certificates = [each.certificate for each in results]
        return [each.sequence for each in results], importances, results[0].target, certificates
    versions = {"crossdna_interpret": metadata.version("crossdna_interpret"), "numpy": np.__version__}
    none = Certificate(method="", model="none", model_hash="", device="cpu", dtype="float64", versions=versions)
    return alphabet.normalize_many(seqs), None, "", [none]
