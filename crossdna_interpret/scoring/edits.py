"""Scores of edited sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import Compile, ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import shown_elsewhere, warn_of_lengths, warn_outside_training
from crossdna_interpret.results import EditScores
from crossdna_interpret.results.averaged import average_orientations
from crossdna_interpret.scoring.many import run_edits_of_many
from crossdna_interpret.scoring.runner import EditRun, run_edits
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["score_edits"]

Edits = Sequence[Edit | tuple[int, int, str]]
Flanks = tuple[str, str]


@overload
def score_edits(
    seq: str,
    edits: Edits,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    flanks: Flanks | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> EditScores: ...
@overload
def score_edits(
    seq: Sequence[str],
    edits: Sequence[Edits],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    flanks: Flanks | Sequence[Flanks] | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> list[EditScores]: ...
def score_edits(
    seq: str | Sequence[str],
    edits: Edits | Sequence[Edits],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    flanks: Flanks | Sequence[Flanks] | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> EditScores | list[EditScores]:
    """Predict each of a list of edited sequences: substitutions, deletions, insertions, or any mixture.

    A list of sequences with a list of edits for each, such as many variants with a sequence of their own, is scored in
    batches across sequences; the results share one certificate. A sequence with more than three edits is scored by
    itself, as follows.

    A CrossDNA scores them exactly without computing again what they share with the sequence; other models score each
    by a whole forward pass. On a random sample of edits, the first and the last among them, both are compared; the
    certificate holds the worst difference, and where it is too large, everything is scored by the plain path.

    Args:
        seq: one sequence of length L, or a list of them.
        edits: n `Edit`, or tuples (start, end, string); for a list of sequences a list of such lists.
        model: a model, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target that `delta` is about; may be left out when there is one.
        flanks: bases (left, right) of `seq`, 5' to 3'. Where they are given, an edit that changes the length keeps the
            window: bases are pulled in or pushed out at the nearer end (see `edits.Editor`). Otherwise the sequence is
            scored at its changed length. For a list of sequences one pair for all, or a list of pairs.
        batch_size: edits at once; chosen from memory, and by trying, if not given.
        compile: whether to compute on compiled kernels: "auto" where they are at hand, or the job is long enough to pay
            for compiling them and there is a compiler; True or False to insist.
        cache: a folder in which scores are kept as they come. The same call, after an interruption or later, takes up
            what is there. While hooks are active nothing is kept.
        rc_average: whether to give the mean over both orientations, which the model may score differently. The result
            then carries each as its `orientations`, and what is between them as its `orientation_gap`.

    Returns:
        EditScores with `predictions` (n, T) in the units of the targets, in the order of `edits`; a list for a list.

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
    single = alphabet.is_single(seq)
    sequences = [alphabet.normalize(seq)] if single else alphabet.normalize_many(seq, name="seq")
    of_each: Any = [edits] if single else _of_each("edits", edits, len(sequences))
    around = (
        [flanks] * len(sequences)
        if single or not isinstance(flanks, list)
        else _of_each("flanks", flanks, len(sequences))
    )
    editors = [Editor(sequence, each) for sequence, each in zip(sequences, around, strict=True)]
    checked = [
        _checked(editor, each, None if single else at)
        for at, (editor, each) in enumerate(zip(editors, of_each, strict=True))
    ]
    warn_outside_training(resolved, sequences, level_of_caller())
    edited: dict[int, list[int]] = {}  # lengths after edits, by the length before
    for editor, own in zip(editors, checked, strict=True):
        if editor.flanks is None:
            length = len(editor.ids)
            edited.setdefault(length, []).extend(length + edit.change for edit in own)
    for length, lengths in edited.items():
        warn_of_lengths(resolved, length, lengths, level_of_caller())
    options: dict[str, Any] = {"batch_size": batch_size, "compile": compile, "cache": cache}
    models: list[SequenceModel] = [resolved, ReverseComplemented(resolved)] if rc_average else [resolved]
    with shown_elsewhere():  # it has been
        if single:
            runs = [[run_edits(each, editors[0], checked[0], "score_edits", **options)] for each in models]
        else:
            runs = [run_edits_of_many(each, editors, checked, "score_edits", **options) for each in models]
    results = []
    for at, (editor, own) in enumerate(zip(editors, checked, strict=True)):
        by_model = [_scores(resolved, index, editor, own, run[at]) for run in runs]
        results.append(average_orientations(*by_model) if rc_average else by_model[0])
    return results[0] if single else results


def _scores(model: SequenceModel, target: int, editor: Editor, edits: list[Edit], run: EditRun) -> EditScores:
    return EditScores(
        sequence=editor.sequence,
        edits=tuple(edits),
        targets=tuple(model.targets),
        target=model.targets[target],
        reference=run.reference,
        predictions=run.predictions,
        lengths=run.lengths,
        flanks=editor.flanks,
        certificate=run.certificate,
    )


def _of_each(name: str, values: Any, count: int) -> list[Any]:
    """A value for each sequence."""
    if isinstance(values, (str, Edit)) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a list with an entry for each sequence, but got {type(values).__name__}.")
    listed = list(values)
    if len(listed) != count:
        raise ValueError(f"`{name}` must have an entry for each of the {count} sequences, but has {len(listed)}.")
    return listed


def _checked(editor: Editor, edits: Any, at: int | None) -> list[Edit]:
    try:
        return editor.check(edits)
    except (TypeError, ValueError) as error:
        if at is None:
            raise
        raise type(error)(f"`edits[{at}]`: {error}") from None
