"""One engine for every kind of edit: the plain path for any model, and exact reuse where a model offers it.

A model may offer, beside what `SequenceModel` asks for:

    reuse_problem() -> str | None               why `reuse` cannot serve it as it is now
    reuse(ids) -> scorer                        ``scorer.score(ids (n, L'))`` gives (n, T), for sequences near ids (L,)
    accelerated(compile, operations)            context in which it computes the same faster; gives a note on how
    operations(length) -> float                 floating-point operations of one forward pass, roughly
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from crossdna_interpret import alphabet
from crossdna_interpret.averaging import ReverseComplemented, averaged
from crossdna_interpret.edits import Edit, Editor
from crossdna_interpret.fingerprint import fingerprint
from crossdna_interpret.hooks import hooked
from crossdna_interpret.keep import Kept
from crossdna_interpret.parallel import for_each
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate, EditScores
from crossdna_interpret.scoring import (
    VERSION,
    ModelLike,
    SequenceModel,
    available_memory,
    certify,
    evaluation_mode,
    level_of_caller,
    real_scores,
    require_memory,
    resolve_batch_size,
    resolve_model,
    resolve_target,
    runs_in_threads,
    score_ids,
    stability,
    threads_for,
)
from crossdna_interpret.training_range import shown_elsewhere, warn_of_lengths, warn_outside_training

__all__ = ["Compile", "EditRun", "KeepWarning", "ReuseWarning", "run_edits", "score_edits"]

Compile = Literal["auto"] | bool

# Positions times channels of a block in a batch of the reusing path. Larger ones fall out of the caches.
_REUSE_NUMBERS = 6144 * 128
_BATCH_MEMORY = 1 << 30
_CHECKED = 8  # edits at most that are also scored by the plain path
_FEW = 3  # edits for which reuse does not pay


class ReuseWarning(UserWarning):
    """Scores with reuse were too far from those without, and have been replaced by them.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.ReuseWarning)  # stop, rather than score everything again
        ...     r = cdi.ism("ACGTACGTACGT")
    """


class KeepWarning(UserWarning):
    """No scores were saved in the folder, because a later run could mistake them for those of another model.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.KeepWarning)  # stop, rather than compute everything again next time
        ...     r = cdi.ism("ACGTACGTACGT", end=2)
    """


@dataclass(frozen=True)
class EditRun:
    """What the engine gives for one sequence: reference (T,), predictions (n, T), lengths (n,), and the certificate."""

    reference: np.ndarray
    predictions: np.ndarray
    lengths: np.ndarray
    certificate: Certificate


def score_edits(
    seq: str,
    edits: Sequence[Edit | tuple[int, int, str]],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    flanks: tuple[str, str] | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    keep: str | Path | None = None,
    rc_average: bool = False,
) -> EditScores:
    """Predict each of a list of edited sequences: substitutions, deletions, insertions, or any mixture.

    A CrossDNA scores them exactly without computing again what they share with the sequence; other models score each
    by a whole forward pass. On a random sample of edits, the first and the last among them, both are compared; the
    certificate holds the worst difference, and where it is too large, everything is scored by the plain path.

    Args:
        seq: one sequence of length L.
        edits: n `Edit`, or tuples (start, end, string).
        model: a model, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target that `delta` is about; may be left out when there is one.
        flanks: bases (left, right) of `seq`, 5' to 3'. Where they are given, an edit that changes the length keeps the
            window: bases are pulled in or pushed out at the nearer end (see `edits.Editor`). Otherwise the sequence is
            scored at its changed length.
        batch_size: edits at once; chosen from memory, and by trying, if not given.
        compile: whether to compute on compiled kernels: "auto" where they are at hand, or the job is long enough to pay
            for compiling them and there is a compiler; True or False to insist.
        keep: a folder in which scores are kept as they come. The same call, after an interruption or later, takes up
            what is there. While hooks are active nothing is kept.
        rc_average: whether to give the mean over both orientations, which the model may score differently. The result
            then carries each as its `orientations`, and what is between them as its `orientation_gap`.

    Returns:
        EditScores with `predictions` (n, T) in the units of the targets, in the order of `edits`.

    Raises:
        ValueError, TypeError: a bad sequence, edit (named by its index), target, model or option.
        MemoryError: a sequence too long for the memory at hand, with the estimate.
        RuntimeError: `compile=True` where that cannot be done; the message says why.

    Warns:
        OutsideTrainingWarning: the sequence is unlike what the model was trained on.
        UnstableModelWarning: the model gives one sequence different scores.
        ReuseWarning: the fast path was off, and everything was scored again by whole passes.
        KeepWarning: `keep` has no effect, because a part of the model cannot be hashed.

    Example:
        >>> r = score_edits("ACGTACGTAC", [Edit(2, 3, "T"), Edit(4, 8, ""), Edit(5, 5, "GATA")])
        >>> r.lengths.tolist(), r.window
        ([10, 6, 14], 'changed')
        >>> score_edits("ACGTACGTAC", [(4, 8, "")], flanks=("TTTTT", "GGGGG")).window
        'kept'
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequence = alphabet.normalize(seq)
    editor = Editor(sequence, flanks)
    checked = editor.check(edits)
    warn_outside_training(resolved, [sequence], level_of_caller())
    if editor.flanks is None:
        warn_of_lengths(resolved, len(sequence), [len(sequence) + edit.change for edit in checked], level_of_caller())
    if rc_average:
        with shown_elsewhere():  # it has been
            own, reverse = (
                score_edits(
                    sequence,
                    checked,
                    each,
                    target=index,
                    flanks=flanks,
                    batch_size=batch_size,
                    compile=compile,
                    keep=keep,
                )
                for each in (resolved, ReverseComplemented(resolved))
            )
        return averaged(own, reverse)
    run = run_edits(resolved, editor, checked, "score_edits", batch_size=batch_size, compile=compile, keep=keep)
    return EditScores(
        sequence=sequence,
        edits=tuple(checked),
        targets=tuple(resolved.targets),
        target=resolved.targets[index],
        reference=run.reference,
        predictions=run.predictions,
        lengths=run.lengths,
        flanks=editor.flanks,
        certificate=run.certificate,
    )


def run_edits(
    model: SequenceModel,
    editor: Editor,
    edits: list[Edit],
    method: str,
    *,
    batch_size: int | None,
    compile: Compile,
    keep: str | Path | None,
    reuse: bool = True,
) -> EditRun:
    """Score checked edits; arguments as in `score_edits`, `method` for the certificate, `reuse` where it can be had."""
    if compile != "auto" and not isinstance(compile, bool):
        raise ValueError(f"`compile` must be 'auto', True or False, but got {compile!r}.")
    length = len(editor.ids)
    longest = length + max((edit.change for edit in edits if editor.flanks is None), default=0)
    size = min(resolve_batch_size(model, max(length, longest), batch_size), max(1, len(edits)))
    require_memory(model, size, max(length, longest))
    with evaluation_mode(model) as evaluated:
        job = _Job(evaluated, editor, edits, method, batch_size, keep, reuse)
        return job.run(compile)


@dataclass
class _Job:
    model: SequenceModel
    editor: Editor
    edits: list[Edit]
    method: str
    batch_size: int | None
    keep: str | Path | None
    reuse: bool
    settings: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, float] = field(default_factory=dict)

    def run(self, compile: Compile) -> EditRun:
        size = resolve_batch_size(self.model, len(self.editor.ids), self.batch_size)
        self.checks |= stability(self.model, self.editor.ids, min(size, len(self.edits)))
        reference = score_ids(self.model, self.editor.ids[None])[0]
        predictions = np.empty((len(self.edits), len(reference)), dtype=reference.dtype)
        problem = self._reuse_problem()
        with self._accelerated(compile) as note:
            self.settings["compile"] = note
            self._fill(predictions, "reuse" if problem is None else "plain")
            exact = problem is not None or self._agrees(reference, predictions)
        if not exact:
            problem = "it was too far from the plain path"
            self.settings["compile"] = "no: the plain path alone is trusted here"
            self._fill(predictions, "trusted")
        path = "exact reuse of the reference" if problem is None else "one forward pass for each edit"
        self.settings |= {} if problem is None else {"reuse": f"no: {problem}"}
        lengths = np.full(len(self.edits), len(self.editor.ids))
        if self.editor.flanks is None:
            lengths += np.array([edit.change for edit in self.edits], dtype=lengths.dtype)
        certificate = certify(self.model, f"{self.method}, {path}", settings=self.settings, checks=self.checks)
        return EditRun(reference, predictions, lengths, certificate)

    def _reuse_problem(self) -> str | None:
        if not self.reuse:
            return "not asked for"
        ask = getattr(self.model, "reuse_problem", None)
        if ask is None:
            return f"{self.model.name} does not offer it"
        if len(self.edits) <= _FEW:
            return "it does not pay for so few edits"
        problem: str | None = ask()
        return problem

    def _accelerated(self, compile: Compile) -> AbstractContextManager[str]:
        offer: Callable[..., AbstractContextManager[str]] | None = getattr(self.model, "accelerated", None)
        if offer is None:
            if compile is True:
                raise RuntimeError(f"`compile`=True: {self.model.name} offers nothing to compile.")
            return nullcontext("no: the model does not offer it")
        operations: float = self.model.operations(len(self.editor.ids))  # type: ignore[attr-defined]
        return offer(compile, operations * len(self.edits))

    def _fill(self, predictions: np.ndarray, path: Literal["reuse", "plain", "trusted"]) -> None:
        """Write the score of every edit into its row: by reuse, or by whole passes, in the end without kernels."""
        reuse = path == "reuse"
        if self.keep is not None and (problem := self._keep_problem()) is not None:
            self.settings["keep"] = f"no: {problem}"
            self.keep = None
        with Kept.open(self.keep, self._key(path), predictions) as kept:
            todo = [index for index in range(len(self.edits)) if index not in kept.done]
            todo.sort(key=lambda i: (self.edits[i].change, self.edits[i].start, self.edits[i].end))
            score = self._scorer(reuse and bool(todo))
            pace = self._pace(reuse, len(todo))
            with progress(len(self.edits), self.method, "edit") as bar:
                bar.update(len(self.edits) - len(todo))

                def timed(batch: list[int]) -> tuple[np.ndarray, float]:
                    started = time.perf_counter()
                    scores = score(np.stack([self.editor.encoded(self.edits[index]) for index in batch]))
                    return scores, time.perf_counter() - started

                def receive(batch: list[int], result: tuple[np.ndarray, float]) -> None:
                    scores, seconds = result
                    pace.took(len(batch), seconds)
                    predictions[batch] = scores
                    kept.add(batch, scores)
                    bar.update(len(batch))

                batches = pace.batches(todo, lambda index: self._shape(self.edits[index]))
                for_each(batches, timed, receive, threads=self._threads(pace.size))
            self.settings["batch_size"] = pace.size

    def _shape(self, edit: Edit) -> int:
        """Edits of equal shape can be scored together."""
        return 0 if self.editor.flanks is not None else edit.change

    def _key(self, path: str) -> tuple[object, ...] | None:
        if self.keep is None:
            return None
        assert isinstance(self.model, nn.Module)
        edits = [(edit.start, edit.end, edit.string) for edit in self.edits]
        own = fingerprint(self.model)
        of_model = own.digest, own.libraries, tuple(self.model.targets), str(self.model.dtype)
        kernels = self.settings["compile"] == "CPU kernels"
        # Scores of other models may depend on what else is in a batch.
        size = None if runs_in_threads(self.model) else self.batch_size
        versions = VERSION, torch.__version__, torch.get_float32_matmul_precision()
        how = path, kernels, size, self.model.device.type, versions
        return *of_model, self.editor.sequence, self.editor.flanks, edits, how

    def _keep_problem(self) -> str | None:
        """Why scores cannot be kept, in words, or None."""
        assert isinstance(self.model, nn.Module)
        if hooked(self.model):
            return "hooks are active, and what they do is not part of what is kept"
        opaque = fingerprint(self.model).opaque
        if not opaque:
            return None
        problem = f"{', '.join(opaque[:3])} of {self.model.name} may change its scores and cannot be hashed"
        warnings.warn(f"`keep` keeps nothing: {problem}.", KeepWarning, stacklevel=level_of_caller())
        return problem

    def _scorer(self, reuse: bool) -> Callable[[np.ndarray], np.ndarray]:
        if not reuse:
            return lambda ids: score_ids(self.model, ids)
        scorer = self.model.reuse(self.editor.ids)  # type: ignore[attr-defined]

        def score(ids: np.ndarray) -> np.ndarray:
            scores = scorer.score(ids)
            scores = real_scores(scores, self.model.name)
            if not torch.isfinite(scores).all():
                raise ValueError(f"`model` {self.model.name} returned scores that are NaN or infinite.")
            result: np.ndarray = scores.cpu().numpy()
            return result

        return score

    def _threads(self, size: int) -> int:
        return threads_for(self.model, size, len(self.editor.ids))

    def _pace(self, reuse: bool, count: int) -> _Pace:
        length = len(self.editor.ids)
        if self.batch_size is not None:
            return _Pace(self.batch_size, [])
        if not reuse:
            return _Pace(resolve_batch_size(self.model, length, None), [])
        config = getattr(self.model, "config", None)
        block = min(length, getattr(config, "block_size", None) or length)
        fitting = _BATCH_MEMORY
        estimate = getattr(self.model, "memory_estimate", None)
        most = count
        if estimate is not None:
            threads = torch.get_num_threads() if runs_in_threads(self.model) else 1
            fitting = min(fitting, available_memory(self.model.device) // 2) // threads
            most = max(1, fitting // max(1, estimate(1, block)))
        usual = max(3, _REUSE_NUMBERS // (block * getattr(config, "d_model", 128)) // 3 * 3)
        tried = [min(size, most) for size in (usual, 2 * usual, max(3, usual // 2))]
        return _Pace(tried[0], tried * 2 if count >= 20 * usual else [])

    def _agrees(self, reference: np.ndarray, predictions: np.ndarray) -> bool:
        """Whether a sample of edits, and the reference, have the scores that the plain path gives them.

        On kernels, so does the plain path, but the reference was scored without: they are checked as well.
        """
        count = len(self.edits)
        by_place = sorted(range(count), key=lambda i: (self.edits[i].start, self.edits[i].end))
        inner = np.random.default_rng(0).permutation(by_place[1:-1])[: min(_CHECKED - 2, max(2, count // 250))]
        sample = sorted({by_place[0], by_place[-1], *inner.tolist()})
        edits = [Edit(0, 0, ""), *(self.edits[index] for index in sample)]
        scores = np.concatenate([reference[None], predictions[sample]])
        worst = 0.0
        size = resolve_batch_size(self.model, len(self.editor.ids), self.batch_size)

        def shape(at: int) -> int:
            return self._shape(edits[at])

        for batch in _Pace(size, []).batches(sorted(range(len(edits)), key=shape), shape):
            plain = score_ids(self.model, np.stack([self.editor.encoded(edits[at]) for at in batch]))
            worst = max(worst, float(np.abs(plain - scores[batch]).max()))
        largest = float(np.abs(predictions - reference).max())
        self.checks |= {"reuse_worst_difference": worst, "reuse_largest_effect": largest, "reuse_checked": len(sample)}
        relative, machine = (1e-3, 64 * 2.0**-23) if reference.dtype == np.float32 else (1e-10, 64 * 2.0**-52)
        allowed = relative * largest + machine * max(1.0, float(np.abs(predictions).max()))
        if worst <= allowed:
            return True
        warnings.warn(
            f"{self.method}: scores with reuse differ from those of whole forward passes by up to {worst:.2g}, more "
            f"than the {allowed:.2g} allowed. All edits are scored again by whole forward passes.",
            ReuseWarning,
            stacklevel=level_of_caller(),
        )
        return False


class _Pace:
    """Cuts work into batches, of a size that was given or that turns out to be the fastest of some."""

    def __init__(self, size: int, trials: Iterable[int]) -> None:
        self.size, self.trials = size, list(trials)
        self.best: dict[int, float] = {}
        self._tried = set(self.trials)

    def batches(self, order: list[int], shape: Callable[[int], int]) -> Iterator[list[int]]:
        for _, group in itertools.groupby(order, key=shape):
            rest = list(group)
            while rest:
                size = self.trials.pop(0) if self.trials else self.size
                batch, rest = rest[:size], rest[size:]
                yield batch

    def took(self, count: int, seconds: float) -> None:
        """A batch of so many edits took so long; the last of a group may be smaller than any that is tried."""
        if count not in self._tried:
            return
        self.best[count] = min(seconds / count, self.best.get(count, float("inf")))
        if not self.trials and len(self.best) > 1:
            self.size = min(self.best, key=self.best.__getitem__)
