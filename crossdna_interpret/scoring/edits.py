"""Scores of edited sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import Compile, ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import shown_elsewhere, warn_of_lengths, warn_outside_training
from crossdna_interpret.results import EditScores
from crossdna_interpret.results.averaged import averaged
from crossdna_interpret.scoring.runner import run_edits
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["score_edits"]


def score_edits(
    seq: str,
    edits: Sequence[Edit | tuple[int, int, str]],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    flanks: tuple[str, str] | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
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
        cache: a folder in which scores are kept as they come. The same call, after an interruption or later, takes up
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
        CacheWarning: `cache` has no effect, because a part of the model cannot be hashed.

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
                    cache=cache,
                )
                for each in (resolved, ReverseComplemented(resolved))
            )
        return averaged(own, reverse)
    run = run_edits(resolved, editor, checked, "score_edits", batch_size=batch_size, compile=compile, cache=cache)
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
