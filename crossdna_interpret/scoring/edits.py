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

Edits = Sequence[Edit | tuple[int, int, str] | str]
Flanks = tuple[str, str]


@overload
def score_edits(  # type: ignore[overload-overlap]
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
    """Score edited sequences. An edit is a substitution, a deletion or an insertion.

    CrossDNA models compute only what an edit changes and reuse the rest exactly. Other models score each edit by a
    full forward pass. A random sample of edits, with the first and the last, is scored both ways. The certificate
    holds the largest difference. If it is too large, all edits are scored by full forward passes.

    With a list of sequences, each needs its own list of edits. They are scored in batches across sequences, and the
    results share one certificate. A sequence with more than three edits is scored by itself, as above.

    Args:
        seq: one sequence of length L, or a list of sequences.
        edits: n `Edit` objects, tuples (start, end, string), or substitutions as text: "T125G" is T to G at position
            125, counted from 0. For a list of sequences, a list of such lists.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target for `delta`. Optional if the model has one target.
        flanks: bases (left, right) beside `seq`, 5' to 3'. With flanks, an edit that changes the length keeps the
            window: bases enter or leave it at the nearer end (see `edits.Editor`). Without flanks, the length of the
            scored sequence changes. For a list of sequences, one pair for all or a list of pairs.
        batch_size: edits in a batch. By default it is chosen from the available memory and from timings.
        compile: whether to use compiled kernels. "auto" uses them if they are already compiled, or if there is a
            compiler and the job is long enough to repay compilation. True requires them, False never uses them.
        cache: a folder where scores are saved during the computation. The same call later continues from the saved
            scores. While hooks are active, nothing is saved.
        rc_average: whether to average over both orientations, which the model may score differently. The result then
            has the score of each in `orientations` and their difference in `orientation_gap`.

    Returns:
        EditScores with `predictions` (n, T) in the units of the targets, in the order of `edits`. A list of them for
        a list of sequences.

    Raises:
        ValueError, TypeError: an invalid sequence, edit (the message has its index), target, model or option.
        MemoryError: the sequence is too long for the available memory. The message has the estimate.
        RuntimeError: `compile=True`, but compilation is impossible. The message says why.

    Warns:
        OutsideTrainingWarning: the sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.
        CacheWarning: `cache` has no effect, because a part of the model cannot be hashed.

    Example:
        >>> score_edits("ACGTACGTAC", ["G2T"]).edits
        (Edit(start=2, end=3, string='T'),)
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
    edited: dict[int, list[int]] = {}  # length before the edits -> lengths after
    for editor, own in zip(editors, checked, strict=True):
        if editor.flanks is None:
            length = len(editor.ids)
            edited.setdefault(length, []).extend(length + edit.change for edit in own)
    for length, lengths in edited.items():
        warn_of_lengths(resolved, length, lengths, level_of_caller())
    options: dict[str, Any] = {"batch_size": batch_size, "compile": compile, "cache": cache}
    models: list[SequenceModel] = [resolved, ReverseComplemented(resolved)] if rc_average else [resolved]
    with shown_elsewhere():  # the warnings were already shown above
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
    """Check that there is one value for each sequence."""
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
