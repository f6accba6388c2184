"""Interactions between the motif sites of a sequence."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from crossdna_interpret._validation import integer
from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.models.protocols import Compile, ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.motifs.annotation import annotate
from crossdna_interpret.motifs.collection import MotifsLike
from crossdna_interpret.motifs.effects import certificate_of_sites, shuffled_edits
from crossdna_interpret.motifs.seqlets import AttributionLike, find_seqlets
from crossdna_interpret.results import MotifInteractions, MotifSites
from crossdna_interpret.scoring.edits import score_edits
from crossdna_interpret.scoring.provenance import model_hash
from crossdna_interpret.scoring.targets import resolve_target
from crossdna_interpret.strands.exchange import exchange_of, has_exchange

__all__ = ["motif_interactions"]


def motif_interactions(
    result: MotifSites | AttributionLike,
    model: ModelLike = None,
    *,
    example: int = 0,
    target: str | int | None = None,
    motifs: MotifsLike = "jaspar-vertebrates",
    shuffles: int = 16,
    seed: int = 0,
    tolerance: float = 0.1,
    batch_size: int | None = None,
    compile: Compile = "auto",
) -> MotifInteractions:
    """Predict a sequence without each of its motif sites and without each pair, to measure interactions.

    A site is replaced by the same span of dinucleotide shuffles of the sequence. The results are means over the
    shuffles. For a model with a bridge, the predictions are repeated without messages between the strands. This shows
    which part of an interaction goes through the messages.

    Args:
        result: sites from `annotate` or `scan`, or an attribution result such as that of `ism`. For the latter, sites
            are found with `find_seqlets` and `annotate`, with their default settings.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        example: index of the sequence, if `result` has several.
        target: name or number of the target. The default is the target of the sites.
        motifs: motifs for `annotate`, if `result` does not have sites yet.
        shuffles: number of shuffles that replace a site, at least 2.
        seed: seed of the shuffles. The global random state is not used.
        tolerance: limit for additive pairs, as a fraction of their effects (see `MotifInteractions.kinds`).
        batch_size, compile: as in `score_edits`.

    Returns:
        MotifInteractions of all pairs of sites without overlap, with `interaction` (P,) in the units of the target, and
        `kinds`.

    Raises:
        ValueError, TypeError: invalid sites, model, target or option.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        ShuffleWarning: the only dinucleotide shuffle of a sequence is itself.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.

    Example:
        >>> import crossdna_interpret as cdi
        >>> sites = cdi.scan(cdi.example().sequence, {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T}, p=1e-3)
        >>> result = cdi.motif_interactions(sites, shuffles=4)
        >>> len(result.kinds) == len(result.pairs) > 0
        True
    """
    resolved = resolve_model(model)
    integer("shuffles", shuffles, 2)
    integer("seed", seed)
    if not 0 <= tolerance < 1:
        raise ValueError(f"`tolerance` must be at least 0 and below 1, but got {tolerance!r}.")
    sites = result if isinstance(result, MotifSites) else annotate(find_seqlets(result), motifs)
    integer("example", example)
    sites = sites.of(example)
    index = resolve_target(resolved, target if target is not None else sites.target or None)
    sequence = sites.sequences[0]
    spans = list(zip(sites.table["start"].tolist(), sites.table["end"].tolist(), strict=True))
    pairs = [
        (one, other)
        for one, other in itertools.combinations(range(len(spans)), 2)
        if spans[one][1] <= spans[other][0] or spans[other][1] <= spans[one][0]
    ]
    drawn = dinucleotide_shuffles(sequence, shuffles, seed)
    alone = [shuffled_edits(drawn, span) for span in spans]
    edits = [edit for of_site in alone for edit in of_site]
    edits += [_together(sequence, *two) for one, other in pairs for two in zip(alone[one], alone[other], strict=True)]

    runs, own_hash = [], model_hash(resolved)

    def scored(models: SequenceModel) -> tuple[float, np.ndarray, np.ndarray]:
        computed = score_edits(sequence, edits, models, target=index, batch_size=batch_size, compile=compile)
        # The bridge of the model without messages has other weights. Its certificate must name the original model.
        runs.append(replace(computed.certificate, model_hash=own_hash))
        scores = computed.predictions[:, index].astype(np.float64)
        cut = len(spans) * shuffles
        return (
            float(computed.reference[index]),
            scores[:cut].reshape(len(spans), shuffles),
            scores[cut:].reshape(len(pairs), shuffles),
        )

    reference, without, without_both = scored(resolved)
    without_exchange = scored(exchange_of(resolved, "interactions").without()) if has_exchange(resolved) else None
    settings = {"shuffles": shuffles, "seed": seed, "tolerance": tolerance}
    return MotifInteractions(
        sites=replace(sites, target=resolved.targets[index]),
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        reference=reference,
        without=without,
        without_both=without_both,
        without_exchange=without_exchange,
        tolerance=tolerance,
        certificate=certificate_of_sites("motif interactions", resolved, sites, runs, settings),
    )


def _together(sequence: str, one: Edit, other: Edit) -> Edit:
    """Combine two edits that keep the length into one."""
    first, second = sorted((one, other), key=lambda edit: edit.start)
    return Edit(first.start, second.end, first.string + sequence[first.end : second.start] + second.string)
