"""The effect of a motif in background sequences."""

from __future__ import annotations

from collections.abc import Sequence

from crossdna_interpret._validation import integer
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.protocols import ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.motifs.collection import MotifsLike
from crossdna_interpret.motifs.insertion import MotifLike, backgrounds_of, insert_motif, resolve_motif
from crossdna_interpret.results import Marginalization
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["marginalize"]


def marginalize(
    motif: MotifLike,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    backgrounds: str | Sequence[str] | None = None,
    start: int | None = None,
    motifs: MotifsLike = "jaspar-vertebrates",
    seed: int = 0,
    batch_size: int | None = None,
) -> Marginalization:
    """Predict backgrounds without and with a motif, in both orientations. The difference is the effect of the motif.

    This is the same experiment as `marginalize` of tangermeme.

    Args:
        motif: DNA, in which N keeps the base of the background; a Motif, which is replaced by its consensus; or the
            name or id of a motif in `motifs`.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target for `delta`. Optional if the model has one target.
        backgrounds: N sequences of one length. The default is dinucleotide shuffles of the example enhancers.
        start: position of the first base of the motif. The default is in the middle.
        motifs: collection for a name, as in `annotate`.
        seed: seed of the shuffles.
        batch_size: sequences in a batch. By default it is chosen from their length.

    Returns:
        Marginalization with `delta` (2, N) by strand, in the units of the target.

    Raises:
        ValueError, TypeError: an unknown name, a motif that does not fit in the backgrounds, or invalid backgrounds,
            model or target.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        ShuffleWarning: the only dinucleotide shuffle of a sequence is itself.
        UnstableModelWarning: the model scores the same sequence differently in different calls.

    Example:
        >>> marginalize("TAATCC").delta.shape
        (2, 48)
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    integer("seed", seed)
    name, string = resolve_motif("motif", motif, motifs)
    result = backgrounds_of(backgrounds, seed)
    first = len(result[0]) // 2 - len(string) // 2 if start is None else integer("start", start)
    made = [insert_motif(each, first, way) for way in (string, reverse_complement(string)) for each in result]
    scores = predict([*result, *made], resolved, batch_size=batch_size)
    before, after = scores[: len(result)], scores[len(result) :]
    settings = {"backgrounds": "given" if backgrounds is not None else "shuffles of the examples", "seed": seed}
    return Marginalization(
        motif=name,
        string=string,
        start=first,
        backgrounds=tuple(result),
        targets=tuple(resolved.targets),
        target=resolved.targets[index],
        before=before,
        after=after.reshape(2, len(result), -1),
        certificate=certify(
            resolved, "marginalization, one forward pass for each sequence", settings=settings, checks={}
        ),
    )
