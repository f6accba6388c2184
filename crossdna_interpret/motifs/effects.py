"""Necessity and sufficiency of motif sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.models.protocols import Compile, ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.results import Certificate, MotifSites
from crossdna_interpret.scoring.edits import score_edits
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["certificate_of_sites", "shuffled_edits", "site_effects"]


def site_effects(
    sites: MotifSites,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    shuffles: int = 16,
    seed: int = 0,
    batch_size: int | None = None,
    compile: Compile = "auto",
) -> MotifSites:
    """Measure how necessary and how sufficient each motif site is.

    Necessity is f(sequence) - f(sequence with the site replaced). The replacement is the same span of a dinucleotide
    shuffle of the sequence. Sufficiency is f(shuffle with the site) - f(shuffle), with the site at its original
    position. Both are means over the same shuffles, with standard errors.

    Args:
        sites: from `annotate` or `scan`.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. The default is the target of the sites.
        shuffles: number of shuffles of each sequence, at least 2.
        seed: seed of the shuffles. The global random state is not used.
        batch_size, compile: as in `score_edits`.

    Returns:
        The same sites, with necessity, sufficiency and their errors, in the units of the target.

    Raises:
        ValueError, TypeError: invalid sites, model, target, `shuffles` or `seed`.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        ShuffleWarning: the only dinucleotide shuffle of a sequence is itself.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.

    Example:
        >>> import crossdna_interpret as cdi
        >>> sites = cdi.scan(cdi.example().sequence, {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T}, p=1e-3)
        >>> bool(cdi.site_effects(sites, shuffles=4).measured)
        True
    """
    if not isinstance(sites, MotifSites):
        raise TypeError(f"`sites` must be MotifSites, as annotate and scan give, but got {type(sites).__name__}.")
    resolved = resolve_model(model)
    index = resolve_target(resolved, target if target is not None else sites.target or None)
    integer("shuffles", shuffles, 2)
    integer("seed", seed)
    table = sites.to_dataframe()
    runs = []
    for _, group in table.groupby("example"):
        sequence = sites.sequences[group["example"].iloc[0]]
        spans = list(zip(group["start"].tolist(), group["end"].tolist(), strict=True))
        drawn = dinucleotide_shuffles(sequence, shuffles, seed)
        edits = [edit for span in spans for edit in shuffled_edits(drawn, span)]
        result = score_edits(sequence, edits, resolved, target=index, batch_size=batch_size, compile=compile)
        runs.append(result.certificate)
        lost = -result.delta.astype(np.float64).reshape(len(spans), shuffles)
        gained = _gained(sequence, drawn, spans, resolved, index, batch_size)
        for name, values in (("necessity", lost), ("sufficiency", gained)):
            table.loc[group.index, name] = values.mean(axis=1)
            table.loc[group.index, f"{name}_error"] = values.std(axis=1, ddof=1) / np.sqrt(shuffles)
    settings = {"shuffles": shuffles, "seed": seed}
    certificate = certificate_of_sites("necessity and sufficiency", resolved, sites, runs, settings)
    return replace(sites, table=table, target=resolved.targets[index], certificate=certificate)


def certificate_of_sites(
    method: str, model: SequenceModel, sites: MotifSites, runs: list[Certificate], settings: Mapping[str, Any]
) -> Certificate:
    """Certificate of the effects of sites. Its settings include the method that found the sites.

    Checks of the attributions behind the sites are included if they are from the same model.
    """
    models = certify(model, method, settings={}, checks={})
    result = sites.certificate
    of_sites = {"method": result.method, "model": result.model, "model_hash": result.model_hash, **result.settings}
    parts = [models, *runs]
    if (result.model, result.model_hash) == (models.model, models.model_hash):
        parts.append(replace(result, settings={}))
    return Certificate.merge(parts, method=method, settings={**settings, "sites": of_sites})


def shuffled_edits(shuffles: np.ndarray, span: tuple[int, int]) -> list[Edit]:
    """Edits that replace a span by the same span of each of (K, L) shuffles."""
    start, end = span
    return [Edit(start, end, alphabet.decode(ids[start:end])) for ids in shuffles]


def _gained(
    sequence: str, drawn: np.ndarray, spans: list[tuple[int, int]], model: ModelLike, target: int, batch: int | None
) -> np.ndarray:
    """Effect (sites, K) of each site in each shuffle."""
    own = alphabet.encode(sequence)
    made = np.repeat(drawn[None], len(spans) + 1, axis=0)
    for row, (start, end) in enumerate(spans, start=1):
        made[row, :, start:end] = own[start:end]
    strings = [alphabet.decode(ids) for ids in made.reshape(-1, len(own))]
    scores = predict(strings, model, batch_size=batch)[:, target].astype(np.float64).reshape(made.shape[:2])
    return scores[1:] - scores[0]
