"""Scores of a few edits of each of many sequences, batched across sequences.

N  sequences    M  rows: the edits of all sequences, and the sequences themselves    T  targets
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna.edits import Edit, Editor
from crossdna_interpret.models.protocols import Compile, Reuse, SequenceModel, capability
from crossdna_interpret.parallel import for_each
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate
from crossdna_interpret.scoring.batches import require_memory, resolve_batch_size, threads_for
from crossdna_interpret.scoring.cache import cache_problem, key_of_rows
from crossdna_interpret.scoring.forward import evaluation_mode, score_ids, stability
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.runner import (
    CHECKED,
    FEW,
    EditRun,
    ReuseWarning,
    accelerated,
    allowed_difference,
    check_compile,
    run_edits,
)
from crossdna_interpret.scoring.targets import require_room
from crossdna_interpret.stores.scores import ScoreCache

__all__ = ["run_edits_of_many"]

_SEQUENCE = Edit(0, 0, "")  # an edit that changes nothing


def run_edits_of_many(
    model: SequenceModel,
    editors: Sequence[Editor],
    edits: Sequence[list[Edit]],
    method: str,
    *,
    batch_size: int | None,
    compile: Compile,
    cache: str | Path | None,
) -> list[EditRun]:
    """Score edits of N sequences. The edits must already be checked.

    If the model supports reuse, sequences with many edits are scored one by one with reuse.

    Args:
        model: the model to score with.
        editors: one for each of the N sequences.
        edits: a list of edits for each sequence.
        method: name of the method for the certificate, which all N results share.
        batch_size, compile, cache: as in `score_edits`.
    """
    check_compile(compile)
    offered = capability(model, Reuse)
    alone = [at for at, each in enumerate(edits) if offered is not None and len(each) > FEW]
    together = sorted(set(range(len(editors))) - set(alone))
    require_room(model, sum(len(each) + 1 for each in edits))
    runs: dict[int, EditRun] = {}
    if together:
        few = _Rows([editors[at] for at in together], [edits[at] for at in together])
        runs |= zip(together, few.scored(model, method, batch_size, compile, cache), strict=True)
    for at in alone:
        runs[at] = run_edits(model, editors[at], edits[at], method, batch_size=batch_size, compile=compile, cache=cache)
    distinct = {id(run.certificate): run.certificate for run in runs.values()}
    certificate = Certificate.merge(list(distinct.values()), method=" and ".join(_methods(distinct.values())))
    ordered = [runs[at] for at in range(len(editors))]
    return [EditRun(run.reference, run.predictions, run.lengths, certificate) for run in ordered]


def _methods(certificates: object) -> list[str]:
    return list(dict.fromkeys(each.method for each in certificates))  # type: ignore[attr-defined]


class _Rows:
    """One row for each sequence itself, followed by one row for each of its edits."""

    def __init__(self, editors: list[Editor], edits: list[list[Edit]]) -> None:
        self.editors, self.edits = editors, edits
        counts = np.array([len(each) + 1 for each in edits])
        self.first = np.concatenate([[0], np.cumsum(counts)])  # row of each sequence itself
        self.owner = np.repeat(np.arange(len(editors)), counts)
        changes = [
            [0, *(edit.change if editor.flanks is None else 0 for edit in own)]
            for editor, own in zip(editors, edits, strict=True)
        ]
        own_lengths = np.array([len(editor.ids) for editor in editors])
        self.lengths = own_lengths[self.owner] + np.concatenate([np.array(each) for each in changes])

    def __len__(self) -> int:
        return len(self.owner)

    def edit(self, row: int) -> Edit:
        own = row - int(self.first[self.owner[row]])
        return self.edits[self.owner[row]][own - 1] if own else _SEQUENCE

    def encoded(self, rows: Sequence[int]) -> np.ndarray:
        """Ids (n, L) of rows of one length."""
        return np.stack([self.editors[self.owner[row]].encoded(self.edit(row)) for row in rows])

    def batches(self, rows: np.ndarray, sizes: dict[int, int]) -> Iterator[list[int]]:
        """Rows in batches of one length."""
        for length in np.unique(self.lengths[rows]).tolist():
            of_length = rows[self.lengths[rows] == length].tolist()
            for at in range(0, len(of_length), sizes[length]):
                yield of_length[at : at + sizes[length]]

    def scored(
        self, model: SequenceModel, method: str, batch_size: int | None, compile: Compile, cache: str | Path | None
    ) -> list[EditRun]:
        lengths, counts = np.unique(self.lengths, return_counts=True)
        sizes = {length: resolve_batch_size(model, length, batch_size) for length in lengths.tolist()}
        for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
            require_memory(model, min(sizes[length], count), length)
        settings: dict[str, object] = {"batch_size": max(sizes.values()), "sequences": len(self.editors)}
        with evaluation_mode(model) as evaluated:
            longest = max(range(len(self.editors)), key=lambda at: len(self.editors[at].ids))
            checks = stability(evaluated, self.editors[longest].ids, sizes[len(self.editors[longest].ids)])
            probe = score_ids(evaluated, self.editors[longest].ids[None])
            scores = np.empty((len(self), probe.shape[1]), dtype=probe.dtype)
            if cache is not None and (problem := cache_problem(evaluated)) is not None:
                settings["cache"], cache = f"no: {problem}", None
            with accelerated(evaluated, compile, int(self.lengths.mean()), len(self)) as note:
                kernels = note == "CPU kernels"
                self._fill(evaluated, scores, method, sizes, cache, kernels=kernels, batch_size=batch_size)
            if kernels and not self._agrees(evaluated, scores, sizes, method, checks):
                note = "no: full forward passes are used instead"
                self._fill(evaluated, scores, method, sizes, cache, kernels=False, batch_size=batch_size)
            settings["compile"] = note
            certificate = certify(
                evaluated, f"{method}, one forward pass for each edit", settings=settings, checks=checks
            )
        runs = []
        for at in range(len(self.editors)):
            own = slice(int(self.first[at]) + 1, int(self.first[at + 1]))
            runs.append(EditRun(scores[self.first[at]], scores[own], self.lengths[own], certificate))
        return runs

    def _fill(
        self,
        model: SequenceModel,
        scores: np.ndarray,
        method: str,
        sizes: dict[int, int],
        cache: str | Path | None,
        *,
        kernels: bool,
        batch_size: int | None,
    ) -> None:
        key = None
        if cache is not None:
            assert isinstance(model, nn.Module)
            key = key_of_rows(model, self.editors, self.edits, kernels=kernels, batch_size=batch_size)
        with ScoreCache.open(cache, key, scores) as kept, progress(len(self), method, "sequence") as bar:
            rows = np.array([row for row in range(len(self)) if row not in kept.done], dtype=np.int64)
            bar.update(len(self) - len(rows))

            def receive(batch: list[int], of_batch: np.ndarray) -> None:
                scores[batch] = of_batch
                kept.add(batch, of_batch)
                bar.update(len(batch))

            threads = min(threads_for(model, size, length) for length, size in sizes.items())
            for_each(
                self.batches(rows, sizes),
                lambda batch: score_ids(model, self.encoded(batch)),
                receive,
                threads=threads,
            )

    def _agrees(
        self, model: SequenceModel, scores: np.ndarray, sizes: dict[int, int], method: str, checks: dict[str, float]
    ) -> bool:
        """Whether compiled kernels give the same scores as PyTorch, on a sample of the rows."""
        sample = np.unique(np.random.default_rng(0).permutation(len(self))[:CHECKED])
        worst = 0.0
        for batch in self.batches(sample, sizes):
            worst = max(worst, float(np.abs(score_ids(model, self.encoded(batch)) - scores[batch]).max()))
        largest = float(np.abs(scores - scores[self.first[self.owner]]).max())
        checks |= {"kernels_worst_difference": worst, "kernels_largest_effect": largest, "kernels_checked": len(sample)}
        allowed = allowed_difference(scores.dtype, largest, float(np.abs(scores).max()))
        if worst <= allowed:
            return True
        warnings.warn(
            f"{method}: scores on compiled kernels differ from those of PyTorch by up to {worst:.2g}, more than the "
            f"{allowed:.2g} allowed. All edits are scored again without kernels.",
            ReuseWarning,
            stacklevel=level_of_caller(),
        )
        return False
