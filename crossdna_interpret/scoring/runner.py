"""Scores of many edits of one sequence, by exact reuse or by full forward passes, with a check.

n  edits    L  positions of the sequence    T  targets
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna.edits import Edit, Editor
from crossdna_interpret.models.protocols import (
    Acceleration,
    Compile,
    Memory,
    Reuse,
    Scorer,
    SequenceModel,
    capability,
)
from crossdna_interpret.parallel import for_each
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate
from crossdna_interpret.scoring.batch_size import BatchSizeTuner
from crossdna_interpret.scoring.batches import (
    available_memory,
    require_length,
    require_memory,
    resolve_batch_size,
    runs_in_threads,
    threads_for,
)
from crossdna_interpret.scoring.cache import cache_key, cache_problem
from crossdna_interpret.scoring.forward import checked_scores, evaluation_mode, score_ids, stability
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import require_room
from crossdna_interpret.stores.scores import ScoreCache

__all__ = [
    "CHECKED",
    "FEW",
    "EditRun",
    "ReuseWarning",
    "accelerated",
    "allowed_difference",
    "check_compile",
    "run_edits",
]

Way = Literal["reuse", "plain", "trusted"]

# Positions times channels of a block in a batch with reuse. Larger batches do not fit the processor's caches.
_REUSE_NUMBERS = 6144 * 128
_BATCH_MEMORY = 1 << 30
CHECKED = 8  # at most this many edits are also scored by full passes, as a check
FEW = 3  # with this many edits or fewer, reuse is not faster


class ReuseWarning(UserWarning):
    """Scores with reuse differed too much from full forward passes, and were replaced by the latter.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.ReuseWarning)  # stop instead of scoring everything again
        ...     r = cdi.ism("ACGTACGTACGT")
    """


@dataclass(frozen=True)
class EditRun:
    """Result for one sequence: reference (T,), predictions (n, T), lengths (n,) and the certificate."""

    reference: np.ndarray
    predictions: np.ndarray
    lengths: np.ndarray
    certificate: Certificate


def run_edits(
    model: SequenceModel,
    editor: Editor,
    edits: list[Edit],
    method: str,
    *,
    batch_size: int | None,
    compile: Compile,
    cache: str | Path | None,
    reuse: bool = True,
    all_targets: bool = False,
) -> EditRun:
    """Score edits of one sequence. The edits must already be checked.

    Args:
        model, batch_size, compile, cache: as in `score_edits`.
        editor: holds the sequence.
        edits: edits of the sequence.
        method: name of the method for the certificate.
        reuse: whether to reuse the states of the reference sequence if possible.
        all_targets: whether to skip the limit on the number of targets.
    """
    check_compile(compile)
    length = len(editor.ids)
    longest = length + max((edit.change for edit in edits if editor.flanks is None), default=0)
    size = min(resolve_batch_size(model, max(length, longest), batch_size), max(1, len(edits)))
    require_memory(model, size, max(length, longest))
    if editor.flanks is None:
        for change in {edit.change for edit in edits}:
            require_length(model, length + change)
    if not all_targets:
        require_room(model, len(edits))
    with evaluation_mode(model) as evaluated:
        return _Run(evaluated, editor, edits, method, batch_size, cache, reuse).result(compile)


@dataclass
class _Run:
    """One scoring run: its inputs, and the settings and checks that it collects for the certificate."""

    model: SequenceModel
    editor: Editor
    edits: list[Edit]
    method: str
    batch_size: int | None
    cache: str | Path | None
    reuse: bool
    settings: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, float] = field(default_factory=dict)

    def result(self, compile: Compile) -> EditRun:
        size = resolve_batch_size(self.model, len(self.editor.ids), self.batch_size)
        self.checks |= stability(self.model, self.editor.ids, min(size, len(self.edits)))
        reference = score_ids(self.model, self.editor.ids[None])[0]
        predictions = np.empty((len(self.edits), len(reference)), dtype=reference.dtype)
        problem = self._reuse_problem()
        with accelerated(self.model, compile, len(self.editor.ids), len(self.edits)) as note:
            self.settings["compile"] = note
            self._fill(predictions, "reuse" if problem is None else "plain")
            exact = problem is not None or self._agrees(reference, predictions)
        if not exact:
            problem = "scores differed from full forward passes"
            self.settings["compile"] = "no: full forward passes are used instead"
            self._fill(predictions, "trusted")
        path = "exact reuse of the reference" if problem is None else "one forward pass for each edit"
        if problem is not None:
            self.settings["reuse"] = f"no: {problem}"
        lengths = np.full(len(self.edits), len(self.editor.ids))
        if self.editor.flanks is None:
            lengths += np.array([edit.change for edit in self.edits], dtype=lengths.dtype)
        certificate = certify(self.model, f"{self.method}, {path}", settings=self.settings, checks=self.checks)
        return EditRun(reference, predictions, lengths, certificate)

    def _reuse_problem(self) -> str | None:
        if not self.reuse:
            return "disabled"
        offered = capability(self.model, Reuse)
        if offered is None:
            return f"{self.model.name} does not offer it"
        if len(self.edits) <= FEW:
            return "too few edits to be faster"
        return offered.problem()

    def _fill(self, predictions: np.ndarray, path: Way) -> None:
        """Write the score of every edit into its row.

        `path` is "reuse", or "plain" for full passes, or "trusted" for full passes without kernels.
        """
        folder, key = self._store(path)
        with ScoreCache.open(folder, key, predictions) as kept:
            todo = [index for index in range(len(self.edits)) if index not in kept.done]
            todo.sort(key=lambda i: (self.edits[i].change, self.edits[i].start, self.edits[i].end))
            reuse = path == "reuse"
            score = _scorer(self.model, self.editor.ids) if reuse and todo else self._score_whole
            tuner = self._tuner(reuse, len(todo))
            with progress(len(self.edits), self.method, "edit") as bar:
                bar.update(len(self.edits) - len(todo))

                def timed(batch: list[int]) -> tuple[np.ndarray, float]:
                    started = time.perf_counter()
                    scores = score(np.stack([self.editor.encoded(self.edits[index]) for index in batch]))
                    return scores, time.perf_counter() - started

                def receive(batch: list[int], result: tuple[np.ndarray, float]) -> None:
                    scores, seconds = result
                    tuner.record(len(batch), seconds)
                    predictions[batch] = scores
                    kept.add(batch, scores)
                    bar.update(len(batch))

                batches = tuner.batches(todo, lambda index: self._shape(self.edits[index]))
                for_each(batches, timed, receive, threads=threads_for(self.model, tuner.size, len(self.editor.ids)))
            self.settings["batch_size"] = tuner.size

    def _store(self, path: Way) -> tuple[str | Path | None, tuple[object, ...] | None]:
        """The cache folder and the key of the scores, or (None, None) if they cannot be cached."""
        if self.cache is not None and (problem := cache_problem(self.model)) is not None:
            self.settings["cache"] = f"no: {problem}"
            self.cache = None
        if self.cache is None:
            return None, None
        kernels = self.settings["compile"] == "CPU kernels"
        key = cache_key(self.model, self.editor, self.edits, path, kernels=kernels, batch_size=self.batch_size)
        return self.cache, key

    def _shape(self, edit: Edit) -> int:
        """Shape of an edit. Edits of the same shape can be scored in one batch."""
        return 0 if self.editor.flanks is not None else edit.change

    def _score_whole(self, ids: np.ndarray) -> np.ndarray:
        return score_ids(self.model, ids)

    def _tuner(self, reuse: bool, count: int) -> BatchSizeTuner:
        length = len(self.editor.ids)
        if self.batch_size is not None:
            return BatchSizeTuner(self.batch_size)
        if not reuse:
            return BatchSizeTuner(resolve_batch_size(self.model, length, None))
        offered, memory = capability(self.model, Reuse), capability(self.model, Memory)
        assert offered is not None
        block = offered.recomputed(length)
        most = count
        if memory is not None:
            threads = torch.get_num_threads() if runs_in_threads(self.model) else 1
            fitting = min(_BATCH_MEMORY, available_memory(self.model.device) // 2) // threads
            most = max(1, fitting // max(1, memory.needed(1, block)))
        usual = max(3, _REUSE_NUMBERS // (block * offered.width) // 3 * 3)
        trials = [min(size, most) for size in (usual, 2 * usual, max(3, usual // 2))]
        return BatchSizeTuner(trials[0], trials * 2 if count >= 20 * usual else [])

    def _agrees(self, reference: np.ndarray, predictions: np.ndarray) -> bool:
        """Whether full passes give the same scores as reuse, for a sample of edits and the reference.

        With kernels, the full passes use them too. But `reference` was scored without kernels, so comparing it also
        checks the kernels.
        """
        count = len(self.edits)
        by_place = sorted(range(count), key=lambda i: (self.edits[i].start, self.edits[i].end))
        inner = np.random.default_rng(0).permutation(by_place[1:-1])[: min(CHECKED - 2, max(2, count // 250))]
        sample = sorted({by_place[0], by_place[-1], *inner.tolist()})
        edits = [Edit(0, 0, ""), *(self.edits[index] for index in sample)]
        scores = np.concatenate([reference[None], predictions[sample]])
        worst = 0.0
        size = resolve_batch_size(self.model, len(self.editor.ids), self.batch_size)

        def shape(at: int) -> int:
            return self._shape(edits[at])

        for batch in BatchSizeTuner(size).batches(sorted(range(len(edits)), key=shape), shape):
            plain = score_ids(self.model, np.stack([self.editor.encoded(edits[at]) for at in batch]))
            worst = max(worst, float(np.abs(plain - scores[batch]).max()))
        largest = float(np.abs(predictions - reference).max())
        self.checks |= {"reuse_worst_difference": worst, "reuse_largest_effect": largest, "reuse_checked": len(sample)}
        allowed = allowed_difference(reference.dtype, largest, float(np.abs(predictions).max()))
        if worst <= allowed:
            return True
        warnings.warn(
            f"{self.method}: scores with reuse differ from those of whole forward passes by up to {worst:.2g}, more "
            f"than the {allowed:.2g} allowed. All edits are scored again by whole forward passes.",
            ReuseWarning,
            stacklevel=level_of_caller(),
        )
        return False


def check_compile(compile: object) -> None:
    """Check the value of `compile`.

    Raises:
        ValueError: `compile` is not "auto", True or False.
    """
    if compile != "auto" and not isinstance(compile, bool):
        raise ValueError(f"`compile` must be 'auto', True or False, but got {compile!r}.")


def allowed_difference(dtype: np.dtype, largest_effect: float, largest_score: float) -> float:
    """Largest difference that rounding in `dtype` may cause between two exact computations of the same scores."""
    relative, machine = (1e-3, 64 * 2.0**-23) if dtype == np.float32 else (1e-10, 64 * 2.0**-52)
    return relative * largest_effect + machine * max(1.0, largest_score)


def accelerated(model: SequenceModel, compile: Compile, length: int, count: int) -> AbstractContextManager[str]:
    """Context that accelerates a job of `count` sequences, if the model supports it. It yields a note."""
    offered = capability(model, Acceleration)
    if offered is not None:
        return offered.accelerated(compile, offered.operations(length) * count)
    if compile is True:
        raise RuntimeError(f"`compile`=True: {model.name} has no compiled kernels.")
    return nullcontext("no: the model does not offer it")


def _scorer(model: SequenceModel, reference: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Scores (n, T) of ids (n, L') by reuse of a reference."""
    offered = capability(model, Reuse)
    assert offered is not None
    scorer: Scorer = offered.scorer(reference)

    def score(ids: np.ndarray) -> np.ndarray:
        result: np.ndarray = checked_scores(model, scorer.score(ids), len(ids)).cpu().numpy()
        return result

    return score
