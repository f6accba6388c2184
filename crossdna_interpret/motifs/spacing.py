"""The effect of two motifs by distance, order and orientation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crossdna_interpret._validation import integer
from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.protocols import Compile, ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.motifs.collection import MotifsLike
from crossdna_interpret.motifs.insertion import MotifLike, backgrounds_of, insert_motif, resolve_motif
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Certificate, Spacing
from crossdna_interpret.scoring.edits import score_edits
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["spacing"]

Places = tuple[tuple[int, str], ...]  # (position, string) of each insertion


@dataclass(frozen=True)
class _Arrangement:
    """The insertions for one distance, sorted by order of the motifs and then by strand of b."""

    both: list[Places]
    only_a: list[Places]
    only_b: list[Places]

    @classmethod
    def of(cls, a: str, b: str, length: int, distance: int) -> _Arrangement:
        start = length // 2 - (len(a) + len(b) + distance) // 2
        ways = b, reverse_complement(b)
        at_a = start, start + len(b) + distance  # a first, b first
        at_b = start + len(a) + distance, start
        return cls(
            both=[((one, a), (other, way)) for one, other in zip(at_a, at_b, strict=True) for way in ways],
            only_a=[((one, a),) for one in at_a],
            only_b=[((other, way),) for other in at_b for way in ways],
        )


def spacing(
    motif_a: MotifLike,
    motif_b: MotifLike,
    model: ModelLike = None,
    *,
    distances: Iterable[int] = range(0, 41, 2),
    target: str | int | None = None,
    backgrounds: str | Sequence[str] | None = None,
    motifs: MotifsLike = "jaspar-vertebrates",
    seed: int = 0,
    batch_size: int | None = None,
    compile: Compile = "auto",
) -> Spacing:
    """Predict two motifs at each distance, in both orders and relative orientations, and each motif alone.

    The pair is in the middle of the background, as in `space` of tangermeme. A single motif is at its position in the
    pair, so that an effect of its position does not count as an interaction.

    Args:
        motif_a, motif_b: DNA, a Motif, or the name or id of a motif in `motifs`. The first is always on the "+" strand.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        distances: numbers of bases between the two motifs.
        target: name or number of the target. Optional if the model has one target.
        backgrounds: N sequences of one length. The default is dinucleotide shuffles of the example enhancers.
        motifs, seed: as in `marginalize`.
        batch_size, compile: as in `score_edits`.

    Returns:
        Spacing with `delta` and `interaction` (2, 2, D, N), in the units of the target.

    Raises:
        ValueError, TypeError: an unknown name, a pair that does not fit in the backgrounds, or an invalid argument.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        ShuffleWarning: the only dinucleotide shuffle of a sequence is itself.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.

    Example:
        >>> result = spacing("TAATCC", "CAGATGG", distances=[0, 10], backgrounds=["ACGT" * 20] * 2)
        >>> result.interaction.shape
        (2, 2, 2, 2)
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    integer("seed", seed)
    (name_a, a), (name_b, b) = resolve_motif("motif_a", motif_a, motifs), resolve_motif("motif_b", motif_b, motifs)
    apart = sorted({integer("distances", distance) for distance in distances})
    if not apart:
        raise ValueError("`distances` is empty.")
    result = backgrounds_of(backgrounds, seed)
    length, longest = len(result[0]), len(a) + len(b) + apart[-1]
    if longest > length:
        raise ValueError(
            f"`distances`: both motifs at {apart[-1]} need {longest} bases, more than the {length} of the backgrounds."
        )
    wanted = [_Arrangement.of(a, b, length, distance) for distance in apart]
    made = list(dict.fromkeys(places for each in wanted for places in (*each.both, *each.only_a, *each.only_b)))
    reference, predictions, runs = [], [], []
    with progress(len(result), "spacing", "background") as bar:
        for each in result:
            edits = [_as_edit(each, places) for places in made]
            scored = score_edits(each, edits, resolved, target=index, batch_size=batch_size, compile=compile)
            reference.append(scored.reference[index])
            predictions.append(scored.predictions[:, index])
            runs.append(scored.certificate)
            bar.update(1)
    scores = dict(zip(made, np.array(predictions, dtype=np.float64).T, strict=True))
    both, only_a, only_b = (
        np.stack([[scores[places] for places in getattr(each, kind)] for each in wanted], axis=1)
        for kind in ("both", "only_a", "only_b")
    )
    many = len(result)
    settings = {"backgrounds": "given" if backgrounds is not None else "shuffles of the examples", "seed": seed}
    return Spacing(
        motifs=(name_a, name_b),
        strings=(a, b),
        distances=np.array(apart),
        backgrounds=tuple(result),
        target=resolved.targets[index],
        background=np.array(reference, dtype=np.float64),
        both=both.reshape(2, 2, len(apart), many),
        only_a=only_a,
        only_b=only_b.reshape(2, 2, len(apart), many),
        certificate=Certificate.merge(runs, method="spacing", settings=settings),
    )


def _as_edit(background: str, places: Places) -> Edit:
    """Combine the insertions into one edit, from the first to the last changed base."""
    made = background
    for start, string in places:
        made = insert_motif(made, start, string)
    first = min(start for start, _ in places)
    last = max(start + len(string) for start, string in places)
    return Edit(first, last, made[first:last])
