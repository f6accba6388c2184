"""Motif names for stretches of high attribution, and motif matches in sequences.

n  stretches    M  motifs
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

_STRETCHES = 64  # compared at once
_BY_SIZE = 0.8  # share of the weights of stretches that is divided by their attribution; the rest they have alike
_AROUND = 3  # bases on either side of a stretch that a motif which matches it may cover
_CLOSE = 10  # times the p value of a name that those have which match nearly as well
_BIN, _EPS = 0.1, 1e-4  # bits to which fimo rounds scores, and what it adds to probabilities


def annotate(seqlets: Seqlets, motifs: MotifsLike = "jaspar-vertebrates", *, q: float = 0.05) -> MotifSites:
    """Name stretches of high attribution by the motifs that match the sequence there.

    A motif is tried in every placement that overlaps the stretch, on both strands. The p value of a match is exact: the
    share of random words, of the dinucleotide composition of the sequence, that score as high. q values correct it for
    everything that was tried: placements (Bonferroni, with more weight for those where the important bases lie on the
    informative columns of the motif), motifs (Simes), and all stretches of the call (Benjamini and Hochberg, weighted
    by their attribution). So a stretch among many needs a better match than a stretch alone, and with q = 0.05 one name
    in twenty is expected to be chance. Among many stretches, motifs that match often have more weight, which is learned
    from stretches with other words. So short motifs that recur in several forms are found. A word that recurs, such as
    a primer's, may match a motif by chance; then it does so each time. A name also needs a score
    above 0, and a word that at most one in a thousand random words matches as well; motifs of four bases or fewer
    cannot give one. A choice of motifs, such as those of factors that a tissue expresses, finds more than a whole
    collection.

    Factors of a family bind the same bases: `also` lists the other motifs that pass, or match nearly as well (a p value
    of up to ten times that of the name). No sequence can tell them apart.

    Args:
        seqlets: from `find_seqlets`.
        motifs: "jaspar-vertebrates", "jaspar-insects", "jaspar-plants", a file in MEME's or JASPAR's format, motifs, or
            a mapping of names to matrices (4, W).
        q: largest q value of a name.

    Returns:
        MotifSites, a row for each stretch that could be named. If two stretches are the same site, only one row is
        kept. The certificate's checks say how many stretches have no name.

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
    candidates: list[tuple[np.ndarray, np.ndarray]] = []  # of each stretch: motifs, best first, and their q values
    alone = np.ones(len(stretches))  # q value of each stretch if there were no others
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
        # What is left of `q` for a single stretch after the correction for all.
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
    """(n,) q values of p values, by Benjamini and Hochberg with weights (Genovese, Roeder and Wasserman 2006)."""
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
    """Find where motifs match sequences, on either strand. No model is used.

    By memelite's fimo: a p value is the share of all words of the motif's length, of even bases, that score as high or
    higher, with each base's score rounded to a tenth of a bit. An N counts as the base that fits worst. q values are
    those of Benjamini and Hochberg, for each motif over all its possible places; they are not corrected for the number
    of motifs. A motif that is longer than a sequence
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
    """Hits in sequences of one length: example, number of the motif, start, strand (1 if turned), p_value."""
    from memelite.fimo import fimo

    length = len(sequences[0])
    fitting = {str(number): _for_fimo(motif) for number, motif in enumerate(motifs) if motif.width <= length}
    channels = np.stack([alphabet.one_hot(alphabet.encode(each), np.float32)[:4] for each in sequences])
    # A little more than p, because fimo wants less than the threshold.
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


def _placed(sequence: str, motif: Motif, start: int, reverse: int) -> dict[str, Any]:
    """A site's place, clipped to the sequence, its name, and its score there.

    What is no base of the sequence, an N or what lies beyond its ends, scores as the base that fits worst.
    """
    odds = motif.log_odds[::-1, ::-1] if reverse else motif.log_odds
    odds = np.concatenate([odds, odds.min(axis=0, keepdims=True)])  # the last row is N's
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
    seqs: str | Sequence[str] | AttributionLike | Sequence[AttributionLike],
) -> tuple[list[str], tuple[np.ndarray, ...] | None, str, list[Certificate]]:
    """Sequences, their attributions if they have any, of what target, and their certificates."""
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
