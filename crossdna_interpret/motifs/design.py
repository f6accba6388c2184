"""Sequence design by greedy or beam search over edits."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor, substitutions, window
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.protocols import Compile, ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.motifs.annotation import scan
from crossdna_interpret.motifs.collection import Motif, MotifsLike, find_motif, read_motifs
from crossdna_interpret.motifs.insertion import MotifLike, insert_motif, resolve_motif
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate, Design
from crossdna_interpret.scoring.edits import score_edits
from crossdna_interpret.scoring.forward import evaluation_mode, score_ids
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["design"]

_SITE = 1e-4  # largest p value of a site of a forbidden motif


def design(
    seq: str,
    model: ModelLike = None,
    *,
    goal: str | float = "increase",
    max_edits: int = 10,
    target: str | int | None = None,
    insert: Sequence[MotifLike] = (),
    substitute: bool = True,
    protect: Sequence[tuple[int, int]] = (),
    forbid: Sequence[MotifLike] = (),
    motifs: MotifsLike = "jaspar-vertebrates",
    beam: int = 1,
    batch_size: int | None = None,
    compile: Compile = "auto",
) -> Design:
    """Change a sequence edit by edit, to bring a model's prediction to a goal.

    Each step scores every substitution, and every motif at every position and in both orientations. The best edit is
    applied. With a beam, each step keeps several of the best sequences. The search stops when no edit improves the
    prediction.

    Args:
        seq: one sequence of length L.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        goal: "increase", "decrease", or a value of the target to approach.
        max_edits: largest number of edits. A motif is one edit.
        target: name or number of the target. Optional if the model has one target.
        insert: motifs that may be put in the place of what is there: DNA, Motif, or names of those in `motifs`.
        substitute: whether single bases may be changed too.
        protect: windows (start, end), 0-based half-open, that must not change, such as sites of interest.
        forbid: patterns that must not become more frequent than in `seq`, on both strands: DNA, such as a restriction
            site, in which N is any base, or motifs, with a match of p below 1e-4.
        motifs: collection for the names, as in `annotate`.
        beam: number of sequences kept after each step. 1 is a greedy search.
        batch_size, compile: as in `score_edits`.

    Returns:
        Design: the edits, with the prediction after each.

    Raises:
        ValueError, TypeError: an invalid sequence, goal, window, motif, model, target or option, or a motif longer than
            the sequence.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.

    Example:
        >>> path = design("ACGTTGCAACGTTGCAACGT", max_edits=2, protect=[(0, 5)], forbid=["GAATTC"])
        >>> path.sequence[:5], len(path.edits) <= 2, path.change >= 0
        ('ACGTT', True, True)
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequence = alphabet.normalize(seq)
    integer("max_edits", max_edits, 1)
    integer("beam", beam, 1)
    better = _distance_to(goal)
    protected = [window(len(sequence), *_window_of(at, each)) for at, each in enumerate(protect)]
    inserted = dict(resolve_motif(f"insert[{at}]", each, motifs) for at, each in enumerate(insert))
    for name, string in inserted.items():
        if len(string) > len(sequence):
            raise ValueError(f"`insert`: {name} has {len(string)} bases, and the sequence {len(sequence)}.")
    if not inserted and not substitute:
        raise ValueError("`substitute` is False and `insert` is empty: there is nothing to try.")
    allowed = _Forbidden.of(sequence, forbid, motifs)

    runs: list[Certificate] = []

    def nearer(path: _Path) -> Iterator[_Path]:
        """The paths after each allowed edit that improves the prediction, best first."""
        present = path.sequences[-1]
        options = list(_substitutions(present, protected)) if substitute else []
        options += _plantings(present, inserted, protected)
        if not options:
            return
        edits = [edit for edit, _ in options]
        result = score_edits(present, edits, resolved, target=index, batch_size=batch_size, compile=compile)
        runs.append(result.certificate)
        scores = result.predictions[:, index].astype(np.float64)
        for at in _best_first(scores, better, better(path.scores[-1])):
            made = path.with_edit(*options[at], float(scores[at]))
            if allowed(made.sequences[-1]):
                yield made

    with evaluation_mode(resolved) as evaluated, progress(max_edits, "design", "edit") as bar:
        first = float(score_ids(evaluated, alphabet.encode(sequence)[None])[0, index])
        best = _Path((sequence,), (), (), (first,))
        front, reason = [best], "max_edits was reached"
        for _ in range(max_edits):
            result = {made.sequences[-1]: made for path in front for made in itertools.islice(nearer(path), beam)}
            if not result:
                reason = "no allowed edit gets nearer to the goal"
                break
            front = sorted(result.values(), key=lambda path: better(path.scores[-1]))[:beam]
            best = min(best, front[0], key=lambda path: better(path.scores[-1]))
            bar.update(1)
    settings = {
        "goal": goal, "max_edits": max_edits, "beam": beam, "protect": protected, "insert": list(inserted),
        "forbid": [str(each) for each in forbid], "substitute": substitute,
    }  # fmt: skip
    return Design(
        sequences=best.sequences,
        edits=best.edits,
        labels=best.labels,
        target=resolved.targets[index],
        predictions=np.array(best.scores),
        goal=goal,
        reason=reason,
        certificate=Certificate.merge(
            [certify(resolved, "", settings={}, checks={}), *runs], method="design", settings=settings
        ),
    )


@dataclass(frozen=True)
class _Path:
    sequences: tuple[str, ...]
    edits: tuple[Edit, ...]
    labels: tuple[str, ...]
    scores: tuple[float, ...]

    def with_edit(self, edit: Edit, label: str, score: float) -> _Path:
        made = Editor(self.sequences[-1])(edit)
        return _Path((*self.sequences, made), (*self.edits, edit), (*self.labels, label), (*self.scores, score))


def _distance_to(goal: str | float) -> Callable[[float], float]:
    """Distance of a score from the goal. Smaller is better."""
    if goal == "increase":
        return lambda score: -score
    if goal == "decrease":
        return lambda score: score
    if isinstance(goal, (int, float, np.number)) and not isinstance(goal, bool) and math.isfinite(goal):
        wanted = float(goal)
        return lambda score: abs(score - wanted)
    raise ValueError(f"`goal` must be 'increase', 'decrease' or a number, but got {goal!r}.")


def _window_of(at: int, value: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`protect[{at}]` must be a window (start, end), but got {value!r}.")
    return value[0], value[1]


def _substitutions(sequence: str, protected: list[tuple[int, int]]) -> Iterator[tuple[Edit, str]]:
    for edit in substitutions(sequence, 0, len(sequence))[2]:
        if not _touches(edit, protected):
            yield edit, f"{sequence[edit.start]}{edit.start}{edit.string}"


def _plantings(
    sequence: str, inserted: Mapping[str, str], protected: list[tuple[int, int]]
) -> Iterator[tuple[Edit, str]]:
    for name, string in inserted.items():
        ways = {"+": string, "-": reverse_complement(string)}
        for strand, way in ways.items():
            if strand == "-" and way == string:
                continue
            for start in range(len(sequence) - len(string) + 1):
                end = start + len(string)
                edit = Edit(start, end, insert_motif(sequence, start, way)[start:end])
                if edit.string != sequence[start:end] and not _touches(edit, protected):
                    yield edit, f"{name} at {start}, {strand} strand"


def _touches(edit: Edit, protected: list[tuple[int, int]]) -> bool:
    return any(edit.start < end and edit.end > start for start, end in protected)


def _best_first(scores: np.ndarray, better: Callable[[float], float], than: float) -> list[int]:
    """Indices of the scores that are nearer to the goal, nearest first."""
    distance = np.array([better(float(score)) for score in scores])
    order = np.argsort(distance, kind="stable")
    nearer: list[int] = order[distance[order] < than].tolist()
    return nearer


@dataclass(frozen=True)
class _Forbidden:
    """Patterns that must not become more frequent."""

    strings: dict[str, int]
    motifs: list[Motif]
    sites: int

    @classmethod
    def of(cls, sequence: str, forbid: Sequence[MotifLike], motifs: MotifsLike) -> _Forbidden:
        strings, result = {}, []
        for at, each in enumerate(forbid):
            if isinstance(each, str) and each and set(each.upper()) <= set("ACGTUN"):
                string = resolve_motif(f"forbid[{at}]", each)[1]
                strings[string] = _count(sequence, string)
            else:
                result.append(_motif_of(at, each, motifs))
        return cls(strings, result, _sites(sequence, result))

    def __call__(self, sequence: str) -> bool:
        if any(_count(sequence, string) > before for string, before in self.strings.items()):
            return False
        return not self.motifs or _sites(sequence, self.motifs) <= self.sites


def _motif_of(at: int, value: MotifLike, motifs: MotifsLike) -> Motif:
    if isinstance(value, Motif):
        return value
    if not isinstance(value, str):
        raise TypeError(f"`forbid[{at}]` must be DNA, a name or a Motif, but got {type(value).__name__}.")
    try:
        return find_motif(value, read_motifs(motifs))
    except ValueError as error:
        raise ValueError(f"`forbid[{at}]`: {error}") from None


def _count(sequence: str, string: str) -> int:
    """Number of occurrences on both strands, with overlaps. An N in the string is any base."""
    ways = {string, reverse_complement(string)}
    return sum(len(re.findall(f"(?={way.replace('N', '.')})", sequence)) for way in ways)


def _sites(sequence: str, motifs: list[Motif]) -> int:
    return len(scan(sequence, motifs, p=_SITE)) if motifs else 0
