"""Motif discovery with TF-MoDISco."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossdna_interpret._compat import quiet_and_same_threads
from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.motifs.seqlets import AttributionLike, checked_results
from crossdna_interpret.results import Attribution, Certificate
from crossdna_interpret.results.shown import Shown

__all__ = ["Patterns", "export_modisco", "run_modisco"]


@dataclass(frozen=True, eq=False, repr=False)
class Patterns(Shown):
    """Patterns from TF-MoDISco.

    Attributes:
        motifs: P patterns as motifs, most seqlets first, for `annotate`, `scan`, or a MEME file.
        contributions: for each pattern, (4, W) mean contribution of each base at each position.
        table: a row for each pattern: pattern, sign (1 if it increases the prediction), seqlets (their number), width,
            consensus, contribution (sum over the pattern).
        certificate: certificate of the attributions, with the settings of the run.
    """

    motifs: list[Motif]
    contributions: list[np.ndarray]
    table: pd.DataFrame
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.motifs)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each pattern."""
        return self.table.copy()


def export_modisco(results: Sequence[AttributionLike], folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the input files of `modisco motifs` (modisco-lite): sequences and hypothetical contributions of all bases.

    For mutagenesis, the hypothetical contribution of a base is its prediction minus the mean of the four bases at its
    position. An `Attribution` has values only for the bases of the sequence and its baselines. The others are 0.

    Args:
        results: N results of `ism` over whole sequences of one length, or of `integrated_gradients`.
        folder: folder for `sequences.npz` and `attributions.npz`. It is created if it does not exist.

    Returns:
        Both paths. The arrays are "arr_0" of shape (N, 4, L), float32. Then run
        ``modisco motifs -s sequences.npz -a attributions.npz -n 2000 -w L -o modisco.h5``. `-w` must be even: L, or
        L - 1 if L is odd.

    Raises:
        ValueError, TypeError: no results, several targets or lengths, or results of windows.

    Example:
        >>> import tempfile, crossdna_interpret as cdi
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = export_modisco([cdi.ism("ACGTACGTAC")], folder)
        ...     np.load(paths[1])["arr_0"].shape
        (1, 4, 10)
    """
    one_hot, hypothetical = _arrays(checked_results(results))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "sequences.npz", folder / "attributions.npz"
    for path, array in zip(paths, (one_hot, hypothetical), strict=True):
        np.savez_compressed(path, array)
    return paths


def run_modisco(results: Sequence[AttributionLike], *, max_seqlets: int = 2000, **options: Any) -> Patterns:
    """Find the sequence patterns that a model uses, with TF-MoDISco (modisco-lite) on attributions of many sequences.

    Args:
        results: as in `export_modisco`. Use at least a hundred, because patterns must recur to be found.
        max_seqlets: largest number of seqlets of each sign.
        options: options of ``modiscolite.tfmodisco.TFMoDISco``.

    Returns:
        Patterns, most seqlets first. There may be none.

    Raises:
        RuntimeError: modisco-lite is not installed.
        ValueError, TypeError: as in `export_modisco`.

    Example:
        >>> import crossdna_interpret as cdi
        >>> run_modisco([cdi.ism("ACGTACGTAC")], max_seqlets=0)
        Traceback (most recent call last):
        ValueError: `max_seqlets` must be an integer of at least 1, but got 0.
    """
    checked = checked_results(results)
    integer("max_seqlets", max_seqlets, 1)
    one_hot, hypothetical = _arrays(checked)
    if importlib.util.find_spec("modiscolite") is None:
        raise RuntimeError("modisco-lite is not installed; install it with: pip install 'crossdna_interpret[modisco]'")
    with quiet_and_same_threads():
        from modiscolite.tfmodisco import TFMoDISco

        both = TFMoDISco(
            one_hot=one_hot.transpose(0, 2, 1),
            hypothetical_contribs=hypothetical.transpose(0, 2, 1),
            max_seqlets_per_metacluster=max_seqlets,
            **options,
        )
    result = [(sign, pattern) for sign, patterns in zip((1, -1), both, strict=True) for pattern in patterns or []]
    result.sort(key=lambda each: -len(each[1].seqlets))
    motifs, contributions, rows = [], [], []
    for number, (sign, pattern) in enumerate(result):
        name = f"pattern_{number}"
        motifs.append(Motif(name, name, np.asarray(pattern.sequence).T * len(pattern.seqlets)))
        contributions.append(np.asarray(pattern.contrib_scores).T)
        rows.append((name, sign, len(pattern.seqlets), motifs[-1].width, motifs[-1].consensus, contributions[-1].sum()))
    columns = ["pattern", "sign", "seqlets", "width", "consensus", "contribution"]
    settings = {"max_seqlets": max_seqlets, "sequences": len(checked), **{k: str(v) for k, v in options.items()}}
    certificate = Certificate.merge([each.certificate for each in checked], method="TF-MoDISco", settings=settings)
    return Patterns(motifs, contributions, pd.DataFrame(rows, columns=columns), certificate)


def _arrays(results: list[AttributionLike]) -> tuple[np.ndarray, np.ndarray]:
    """One-hot sequences and hypothetical contributions (N, 4, L), float32."""
    lengths = sorted({len(each.sequence) for each in results})
    if len(lengths) > 1:
        raise ValueError(
            f"`results` must be of sequences of one length, but are of {lengths[0]} to {lengths[-1]} bases."
        )
    for index, each in enumerate(results):
        if not isinstance(each, Attribution) and (each.start, each.end) != (0, len(each.sequence)):
            raise ValueError(f"`results[{index}]` must be of the whole sequence, but is of {each.start} to {each.end}.")
    one_hot = np.stack([alphabet.one_hot(alphabet.encode(each.sequence), np.float32)[:4] for each in results])
    result = []
    for each in results:
        values = each.values if isinstance(each, Attribution) else each.delta - each.delta.mean(axis=1, keepdims=True)
        result.append(values.T.astype(np.float32))
    return one_hot, np.stack(result)
