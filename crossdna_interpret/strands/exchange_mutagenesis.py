"""The effect of every substitution on strand exchange."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Editor, substitutions
from crossdna_interpret.models.protocols import Compile, Exchange, ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.results import Certificate, ExchangeMutagenesis, Mutagenesis
from crossdna_interpret.scoring.runner import run_edits
from crossdna_interpret.scoring.targets import resolve_target
from crossdna_interpret.strands.exchange import exchange_of

__all__ = ["exchange_ism"]


def exchange_ism(
    seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    positions: bool = False,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
) -> ExchangeMutagenesis:
    """Predict every substitution with and without strand exchange. The difference is the effect through the exchange.

    Both predictions are exact mutagenesis as in `ism`. The second uses the same model without messages.

    Args:
        seq: one sequence of length L.
        model: a CrossDNA model with a bridge, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target. Optional if the model has one target.
        start, end: window of L' positions, 0-based half-open. The default is the whole sequence.
        positions: whether to compute the effect of the exchange at each position too. Each substitution then needs a
            full forward pass, and the result has L' x 4 x L values.
        batch_size, compile, cache: as in `score_edits`.

    Returns:
        ExchangeMutagenesis with `delta` (L', 4) in the units of the target, and with `positions` also `received`
        (L', 4, L).

    Raises:
        ValueError, TypeError: an invalid sequence, window, target or option, a model without a bridge, or active hooks.
        MemoryError: a sequence is too long for the available memory.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.

    Example:
        >>> r = exchange_ism("ACGTTGCAACGTTGCA", start=4, end=7, positions=True)
        >>> r.delta.shape, r.received.shape
        ((3, 4), (3, 4, 16))
    """
    resolved = resolve_model(model)
    exchange = exchange_of(resolved, "mutagenesis of exchange")
    index = resolve_target(resolved, target)
    sequence = alphabet.normalize(seq)
    both, without = (
        ism(sequence, each, target=index, start=start, end=end, batch_size=batch_size, compile=compile, cache=cache)
        for each in (resolved, exchange.without())
    )
    checks, received = {}, None
    if positions:
        received = _received(exchange, index, both, batch_size)
        change = both.delta - without.delta
        checks["worst_sum_over_positions"] = float(np.abs(received.sum(axis=2) - change).max())
    # The bridge of the model without messages has other weights. Its certificate must still name the original model.
    certificate_without = replace(without.certificate, model_hash=both.certificate.model_hash)
    certificate = Certificate.merge([both.certificate, certificate_without], method="exchange_ism", checks=checks)
    return ExchangeMutagenesis(both, without, received=received, certificate=certificate)


def _received(exchange: Exchange, target: int, of: Mutagenesis, batch_size: int | None) -> np.ndarray:
    """Change (L', 4, L) that each substitution causes in the contribution of the exchange at each position."""
    rows, bases, edits = substitutions(of.sequence, of.start, of.end)
    received_by = exchange.received(target, len(of.sequence))
    run = run_edits(
        received_by,
        Editor(of.sequence),
        edits,
        "exchange_ism",
        batch_size=batch_size,
        compile=False,
        cache=None,
        reuse=False,
        all_targets=True,  # the targets are positions here
    )
    received = np.zeros((of.end - of.start, 4, len(of.sequence)), dtype=run.predictions.dtype)
    received[rows, bases] = run.predictions - run.reference
    return received
