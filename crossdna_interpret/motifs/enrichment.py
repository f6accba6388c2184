"""Enrichment of motifs in a set of sequences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.motifs.annotation import benjamini_hochberg, scan
from crossdna_interpret.motifs.collection import MotifsLike, read_motifs

__all__ = ["motif_enrichment"]


def motif_enrichment(
    seqs: Sequence[str],
    background: Sequence[str] | None = None,
    motifs: MotifsLike = "jaspar-vertebrates",
    *,
    p: float = 1e-4,
    seed: int = 0,
) -> pd.DataFrame:
    """Test which motifs are enriched: compare the numbers of sequences with a site by Fisher's exact test.

    Args:
        seqs: N sequences, such as those that a model predicts to be active.
        background: M other sequences, such as those predicted to be inactive. The default is a dinucleotide shuffle of
            each sequence. Use similar lengths, because longer sequences have more sites by chance.
        motifs: as in `annotate`.
        p: largest p value of a site, as in `scan`.
        seed: seed of the shuffles.

    Returns:
        A row for each motif with at least one site, most enriched first: motif, name, count and share in the sequences,
        background_count and background_share, odds (odds ratio, with half a sequence added to each count), p_value
        (two-sided), and q_value by Benjamini and Hochberg.

    Raises:
        ValueError, TypeError, FileNotFoundError: invalid sequences, motifs or `p`.

    Example:
        >>> import numpy as np
        >>> crx = {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T}
        >>> result = motif_enrichment(["GGCTAATCCGG"] * 6, ["GGCTGCTGCGG"] * 6, crx, p=1e-3)
        >>> result[["name", "count", "background_count"]].values.tolist()
        [['CRX', 6, 0]]
    """
    from scipy.stats import fisher_exact  # takes longer to import than the rest of the package

    integer("seed", seed)
    own = alphabet.normalize_many(seqs, name="seqs")
    if background is None:
        other = [alphabet.decode(dinucleotide_shuffles(each, 1, seed + at)[0]) for at, each in enumerate(own)]
    else:
        other = alphabet.normalize_many(background, name="background")
    known = read_motifs(motifs)
    sites = scan([*own, *other], known, p=p).table.drop_duplicates(["example", "motif"])
    in_own = sites["example"] < len(own)
    counts = pd.DataFrame(
        {"count": sites[in_own].groupby("motif").size(), "background_count": sites[~in_own].groupby("motif").size()}
    )
    counts = counts.fillna(0).astype(int).reset_index()
    rows = []
    for motif, a, b in counts.itertuples(index=False):
        test = fisher_exact([[a, len(own) - a], [b, len(other) - b]])
        odds = ((a + 0.5) / (len(own) - a + 0.5)) / ((b + 0.5) / (len(other) - b + 0.5))
        rows.append((motif, a, a / len(own), b, b / len(other), odds, float(test.pvalue)))
    columns = ["motif", "count", "share", "background_count", "background_share", "odds", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(1, "name", table["motif"].map({motif.id: motif.label for motif in known}))
    tests = max(1, len(known))
    table["q_value"] = benjamini_hochberg(table["p_value"].to_numpy(dtype=float)[None], tests)[0]
    return table.sort_values(["p_value", "odds"], ascending=[True, False], ignore_index=True)
