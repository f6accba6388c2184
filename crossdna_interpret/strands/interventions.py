"""Ablation and patching of messages between strands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret._validation import integer, level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.protocols import ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import warn_outside_training
from crossdna_interpret.results import DIRECTIONS, Direction, ExchangeAblation, ExchangePatch
from crossdna_interpret.scoring.batches import in_one_thread, require_memory
from crossdna_interpret.scoring.forward import evaluation_mode
from crossdna_interpret.scoring.provenance import certify
from crossdna_interpret.scoring.targets import resolve_target
from crossdna_interpret.strands.exchange import exchange_of

__all__ = ["ablate_exchange", "patch_exchange"]

Replacement = Literal["zero", "mean", "shuffled"]
Side = Literal["receiver", "sender"]
_WHAT = "interventions on exchange"


def ablate_exchange(
    seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    direction: Direction = "both",
    positions: Sequence[int] | None = None,
    side: Side = "receiver",
    sources: str | Sequence[str] | None = None,
    replacement: Replacement = "zero",
    seed: int = 0,
) -> ExchangeAblation:
    """Predict a sequence without some of the messages between its strands, and with only these messages.

    Args:
        seq: one sequence of length L.
        model: a CrossDNA model with a bridge, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target. Optional if the model has one target.
        direction: "reverse_to_forward", "forward_to_reverse" or "both".
        positions: 0-based, such as ``range(60, 70)``. The default is all positions.
        side: whether `positions` are those that receive the messages ("receiver") or send them ("sender"). All
            computation after the messages treats each position separately. So for receivers, necessity and sufficiency
            are equal, except for models with several "mirrored" blocks. For senders they differ.
        sources: parts of the messages, by the names in `StrandExchange.sources`, and "bias". The default is all. The
            bias has no sending position, so it is unchanged if `side` is "sender".
        replacement: replacement values: "zero", the "mean" over the sequence, or the values of other positions
            ("shuffled"). They replace parts of messages for receivers, and states of the sending strand for senders.
        seed: seed of the shuffle.

    Returns:
        ExchangeAblation with `delta`, `necessity` and `sufficiency` in the units of the target.

    Raises:
        ValueError, TypeError: an invalid sequence, target or choice, a model without a bridge, or active hooks on the
            bridge or after it.
        MemoryError: a sequence is too long for the available memory.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.

    Example:
        >>> r = ablate_exchange("ACGTTGCAACGTTGCA", positions=range(4, 8))
        >>> r.necessity == r.reference - r.prediction
        True
    """
    if replacement not in get_args(Replacement):
        raise ValueError(f"`replacement` must be one of {get_args(Replacement)}, but got {replacement!r}.")
    integer("seed", seed)
    resolved = resolve_model(model)
    exchange_of(resolved, _WHAT)
    index = resolve_target(resolved, target)
    sequence = alphabet.normalize(seq)
    warn_outside_training(resolved, [sequence], level_of_caller())
    require_memory(resolved, 1, len(sequence))
    with evaluation_mode(resolved) as evaluated:
        result = in_one_thread(
            evaluated, lambda: exchange_of(evaluated, _WHAT).messages(alphabet.encode(sequence), index)
        )
    choice = _Choice.of(result, len(sequence), direction, positions, side, sources)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(sequence)))

    def replaced(values: Tensor) -> Tensor:
        if replacement == "zero":
            return torch.zeros_like(values)
        # Copy the mean: a sum over an expanded tensor has another order and differs in the last bit.
        other = values.mean(-2, keepdim=True).expand_as(values) if replacement == "mean" else values[..., order, :]
        return other.contiguous()

    if side == "receiver":
        everything = changed = replaced(result.parts)
        alone = result.parts
    else:
        here, elsewhere = choice.at[:, None], replaced(result.states)
        everything = result.messages(elsewhere)
        changed = result.messages(torch.where(here, elsewhere, result.states))
        alone = result.messages(torch.where(here, result.states, elsewhere))
    return ExchangeAblation(
        sequence=sequence,
        target=resolved.targets[index],
        **choice.described,
        reference=_score(result, result.parts),
        prediction=_score(result, torch.where(choice.mask, changed, result.parts)),
        replacement=replacement,
        only=_score(result, torch.where(choice.mask, alone, everything)),
        none=_score(result, everything),
        certificate=certify(
            resolved,
            "ablate_exchange, after the branches in float64",
            settings={"replacement": replacement, "seed": seed},
            checks={},
        ),
    )


def patch_exchange(
    source_seq: str,
    target_seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    direction: Direction = "both",
    positions: Sequence[int] | None = None,
    side: Side = "receiver",
    sources: str | Sequence[str] | None = None,
) -> ExchangePatch:
    """Predict one sequence with messages from another sequence.

    This answers, for example, whether the message of a motif restores the activity of a sequence without this motif.
    Gates and each strand's own states remain those of `target_seq`.

    Args:
        source_seq: the sequence that the messages come from, of length L.
        target_seq: the sequence that receives them, of length L.
        model, target, direction, positions, side, sources: as in `ablate_exchange`, for the replaced messages. If
            `side` is "sender", the states of the senders are those of `source_seq`.

    Returns:
        ExchangePatch with `delta` in the units of the target, and the fraction of the difference that it recovers.

    Raises:
        ValueError, TypeError: invalid sequences or different lengths, an invalid target or choice, a model without a
            bridge, or active hooks on the bridge or after it.
        MemoryError: a sequence is too long for the available memory.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.

    Example:
        >>> r = patch_exchange("ACGTTGCAACGTTGCA", "ACGTTGCAACGTTTTA")
        >>> r.delta == r.prediction - r.reference
        True
    """
    resolved = resolve_model(model)
    exchange_of(resolved, _WHAT)
    index = resolve_target(resolved, target)
    sender = alphabet.normalize(source_seq, name="source_seq")
    sequence = alphabet.normalize(target_seq, name="target_seq")
    if len(sender) != len(sequence):
        raise ValueError(
            f"`source_seq` and `target_seq` must be of one length, but have {len(sender)} and {len(sequence)} bases."
        )
    warn_outside_training(resolved, [sender, sequence], level_of_caller())
    require_memory(resolved, 1, len(sequence))
    with evaluation_mode(resolved) as evaluated:
        source, result = in_one_thread(
            evaluated,
            lambda: [exchange_of(evaluated, _WHAT).messages(alphabet.encode(seq), index) for seq in (sender, sequence)],
        )
    choice = _Choice.of(result, len(sequence), direction, positions, side, sources)
    changed = source.parts
    if side == "sender":
        changed = result.messages(torch.where(choice.at[:, None], source.states, result.states))
    return ExchangePatch(
        sequence=sequence,
        target=resolved.targets[index],
        **choice.described,
        reference=_score(result, result.parts),
        prediction=_score(result, torch.where(choice.mask, changed, result.parts)),
        source_sequence=sender,
        source_prediction=_score(source, source.parts),
        certificate=certify(resolved, "patch_exchange, after the branches in float64", settings={}, checks={}),
    )


def _score(result: Any, parts: Tensor) -> float:
    score: float = result.score(parts.sum(1))
    return score


@dataclass(frozen=True)
class _Choice:
    """The selected messages.

    at           (L,) bool, the selected positions
    mask         (2, S, L, 1) bool, the parts of messages that may change
    described    description for the result
    """

    at: Tensor
    mask: Tensor
    described: dict[str, Any]

    @classmethod
    def of(
        cls,
        exchange: Any,
        length: int,
        direction: Direction,
        positions: Sequence[int] | None,
        side: Side,
        sources: str | Sequence[str] | None,
    ) -> _Choice:
        if direction not in get_args(Direction):
            raise ValueError(f"`direction` must be one of {get_args(Direction)}, but got {direction!r}.")
        if side not in get_args(Side):
            raise ValueError(f"`side` must be one of {get_args(Side)}, but got {side!r}.")
        places = list(range(length)) if positions is None else _places(positions, length)
        names = list(exchange.sources) if sources is None else _named(sources, list(exchange.sources))
        at = torch.zeros(length, dtype=torch.bool, device="cpu")
        at[places] = True
        ways = torch.tensor([direction in (name, "both") for name in DIRECTIONS], device="cpu")
        parts = torch.tensor([name in names for name in exchange.sources], device="cpu")
        receivers = at if side == "receiver" else torch.ones_like(at)
        mask = ways[:, None, None, None] & parts[:, None, None] & receivers[:, None]
        described = {"direction": direction, "positions": tuple(places), "side": side, "sources": tuple(names)}
        return cls(at, mask, described)


def _places(positions: Sequence[int], length: int) -> list[int]:
    if not isinstance(positions, Iterable) or isinstance(positions, str):
        raise TypeError(f"`positions` must be a list of integers, but got {positions!r}.")
    places = list(positions)
    for place in places:
        if not isinstance(place, (int, np.integer)) or isinstance(place, bool):
            raise TypeError(f"`positions` must be integers, but got {place!r}.")
        if not 0 <= place < length:
            raise ValueError(f"`positions` must be from 0 to {length - 1}, but got {place}.")
    return sorted({int(place) for place in places})


def _named(sources: str | Sequence[str], known: list[str]) -> list[str]:
    names = [sources] if isinstance(sources, str) else list(sources)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, cutoff=0.4) or known
            raise ValueError(f"`sources` has no {name!r}. Near matches: {', '.join(near)}.")
    return [name for name in known if name in names]
