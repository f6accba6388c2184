"""Attribution of the effect of strand exchange to messages, by direction, receiver, sender and source."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.protocols import Exchange, ModelLike, SequenceModel, capability
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import warn_outside_training
from crossdna_interpret.results import CompletenessWarning, ExchangeEffects, StrandExchange
from crossdna_interpret.results.averaged import average_orientations
from crossdna_interpret.scoring.batches import available_memory, in_one_thread, require_memory
from crossdna_interpret.scoring.forward import evaluation_mode, score_ids
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["exchange_of", "has_exchange", "strand_exchange"]

_STEPS, _MOST_STEPS = 8, 512
_TOLERANCE = 1e-10  # relative to the changes at all positions. On a smooth path, doubling the steps squares the error


def has_exchange(model: SequenceModel) -> bool:
    """Whether the strands of a model exchange messages."""
    offered = capability(model, Exchange)
    return offered is not None and offered.problem() is None


def exchange_of(model: SequenceModel, what: str) -> Exchange:
    """The `Exchange` capability of a model.

    Args:
        model: the model, in the mode in which it is used.
        what: name of the analysis, for the error message.

    Raises:
        TypeError: the model does not have two strands with a bridge.
    """
    offered = capability(model, Exchange)
    if offered is None:
        raise TypeError(f"`model` {model.name} has no {what}: it has no two strands with a bridge.")
    return offered


@overload
def strand_exchange(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type system
    seq: str, model: ModelLike = None, *, target: str | int | None = None, rc_average: bool = False
) -> StrandExchange: ...
@overload
def strand_exchange(
    seq: Sequence[str], model: ModelLike = None, *, target: str | int | None = None, rc_average: bool = False
) -> list[StrandExchange]: ...
def strand_exchange(
    seq: str | Sequence[str], model: ModelLike = None, *, target: str | int | None = None, rc_average: bool = False
) -> StrandExchange | list[StrandExchange]:
    """Attribute the effect of strand exchange to the messages, by direction, receiver, sender and source.

    For a fixed sequence, a message is linear in the states of the other strand, and its gate does not depend on it. All
    messages are scaled from 0 to 1. The integrated gradient along this path gives each term of each message its part of
    f(with messages) - f(without). The states are computed in the model's dtype, and everything after them in float64.
    The quadrature is refined until it is exact to about ten digits.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a CrossDNA model with a bridge, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target. Optional if the model has one target.
        rc_average: whether to explain the mean of the predictions for both orientations. The result then has both in
            `orientations`, in coordinates of `seq`.

    Returns:
        StrandExchange with `contributions` (2, L, L) in the units of the target. A list for a list of sequences.

    Raises:
        ValueError, TypeError: an invalid sequence or target, a model without a bridge, or active hooks on the bridge
            or after it.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        CompletenessWarning: the sum of the contributions differs from the effect of the exchange.
        OutsideTrainingWarning: a sequence is unlike the training data of the model.

    Example:
        >>> x = strand_exchange("ACGTTGCAACGTTGCA")
        >>> x.contributions.shape, x.completeness_error < 1e-5
        ((2, 16, 16), True)
    """
    resolved = resolve_model(model)
    exchange_of(resolved, "strand exchange")
    index = resolve_target(resolved, target)
    sequences = alphabet.normalize_many(seq, name="seq")
    warn_outside_training(resolved, sequences, level_of_caller())
    for sequence in sequences:  # check all before any work
        require_memory(resolved, 1, len(sequence))
        _require_memory_of_map(len(sequence), resolved.dtype)
    with evaluation_mode(resolved) as evaluated:
        results = [_share_out(sequence, evaluated, index) for sequence in sequences]
        if rc_average:
            reverse = [_share_out(strand.reverse_complement(sequence), evaluated, index) for sequence in sequences]
            results = [average_orientations(one, _mirrored(other)) for one, other in zip(results, reverse, strict=True)]
    return results[0] if alphabet.is_single(seq) else results


def _mirrored(x: StrandExchange) -> StrandExchange:
    """Convert the result for a reverse complement to coordinates and strands of the sequence."""
    effects = x.effects
    return replace(
        x,
        sequence=strand.reverse_complement(x.sequence),
        by_source=x.by_source[:, ::-1, ::-1, ::-1],
        bias=x.bias[::-1, ::-1],
        gate_channels=x.gate_channels[::-1, ::-1],
        fusion_gate=1 - x.fusion_gate[::-1],
        effects=replace(
            effects,
            reverse_to_forward=effects.forward_to_reverse,
            forward_to_reverse=effects.reverse_to_forward,
        ),
    )


def _require_memory_of_map(length: int, dtype: torch.dtype) -> None:
    need, have = 2 * 8 * length**2 * dtype.itemsize, available_memory(torch.device("cpu"))
    if need > have:
        raise MemoryError(
            f"The exchange map of {length:,} bases takes {need / 1e9:.1f} GB, and {have / 1e9:.1f} GB is available. "
            f"About {int(length * (have / need) ** 0.5):,} bases would fit."
        )


def _effects(result: Any, whole: Tensor, one_way: list[Tensor]) -> tuple[ExchangeEffects, Tensor]:
    """Scores with all messages, with one direction, and without messages, and the change at each position."""
    none = torch.zeros_like(whole)
    effects = ExchangeEffects(*(result.score(messages) for messages in (whole, *one_way, none)))
    with torch.no_grad():
        return effects, (result.position_scores(whole[None]) - result.position_scores(none[None]))[0]


def _share_out(sequence: str, model: SequenceModel, target: int) -> StrandExchange:
    result = in_one_thread(
        model, lambda: exchange_of(model, "strand exchange").messages(alphabet.encode(sequence), target)
    )
    whole = result.parts.sum(1)
    one_way = [whole * whole.new_tensor(kept)[:, None, None] for kept in ((1, 0), (0, 1))]
    effects, changes = in_one_thread(model, lambda: _effects(result, whole, one_way))
    steps, allowed = _STEPS, _TOLERANCE * float(changes.abs().sum()) + 1e-14
    while True:
        gradient = result.path_gradient(whole, steps)
        by_receiver = (gradient * whole).sum(-1)
        error = float((by_receiver[0] + by_receiver[1, result.partner] - changes).abs().sum())
        if error <= allowed or steps >= _MOST_STEPS:
            break
        steps *= 2
    if error > allowed:
        warnings.warn(
            f"Strand exchange with {steps} steps: contributions miss the effect at single positions by {error:.2g} "
            f"in all, of changes of {float(changes.abs().sum()):.2g}.",
            CompletenessWarning,
            stacklevel=level_of_caller(),
        )
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    by_source, bias = in_one_thread(model, lambda: result.shares(gradient, dtype))
    plain = float(score_ids(model, alphabet.encode(sequence)[None])[0, target])
    return StrandExchange(
        sequence=sequence,
        target=model.targets[target],
        sources=result.sources[:-1],
        by_source=by_source,
        bias=bias,
        gate_channels=result.gates.numpy().astype(dtype),
        fusion_gate=result.fusion_gate().mean(-1).numpy().astype(dtype),
        partner=result.partner,
        effects=effects,
        certificate=certify(
            model,
            "strand exchange, integrated over the messages in float64",
            settings={"steps": steps},
            checks={"worst_position_error": error, "difference_from_prediction": abs(effects.both - plain)},
        ),
    )
