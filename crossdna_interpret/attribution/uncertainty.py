"""Intervals of the effects of substitutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossdna_interpret._validation import integer, level_of_caller
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.protocols import ModelLike, SequenceModel, SubNetworks, capability
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import shown_elsewhere, warn_outside_training
from crossdna_interpret.results import Certificate, MutationIntervals
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["mutation_intervals", "variants_of"]


def mutation_intervals(
    seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    level: float = 0.9,
    draws: int = 8,
    members: Sequence[ModelLike] = (),
    errors: ChangeErrors | Mapping[str, Any] | None = None,
) -> MutationIntervals:
    """Predict every single-base substitution, with an interval of the effect that a laboratory would measure.

    The intervals come from the errors of the model's predictions of measured changes, in families that it was not
    trained on. They are wider for large effects, and where variants of the model disagree. They hold for sequences
    like the measured ones. `truth_report` finds the errors, and says what fraction of measured changes the intervals
    hold.

    Args:
        seq: one sequence of length L.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. Optional if the model has one target.
        start, end: window, 0-based half-open. The default is the whole sequence.
        level: level of the intervals: 0.5, 0.8, 0.9 or 0.95.
        draws: number of sub-networks for the spread, if there are no `members`. Use the number with which the errors
            were found.
        members: models trained with other seeds, for the spread.
        errors: `errors` of a truth report. The default is from the model.

    Returns:
        MutationIntervals.

    Raises:
        ValueError: an invalid sequence, window, target or level, or the model has no errors for this target.

    Example:
        >>> import crossdna_interpret as cdi
        >>> from crossdna_interpret.models.change_errors import ChangeErrors
        >>> errors = ChangeErrors(0.5, 1.0, 0.1, {0.9: 2.0}, pairs=100)
        >>> cdi.mutation_intervals("ACGT" * 41, end=3, draws=2, errors=errors).low.shape
        (3, 4)
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    integer("draws", draws, 0)
    if errors is None:
        known: Mapping[str, ChangeErrors] = getattr(resolved, "change_errors", {})
        if resolved.targets[index] not in known:
            raise ValueError(
                f"`errors` must be given: {resolved.name} has no errors of changes in {resolved.targets[index]}. "
                "`truth_report` finds them from measured changes."
            )
        errors = known[resolved.targets[index]]
    own = errors if isinstance(errors, ChangeErrors) else ChangeErrors.from_dict(errors)
    warn_outside_training(resolved, [seq], level_of_caller())
    with shown_elsewhere():
        result = ism(seq, resolved, target=index, start=start, end=end)
        others = [resolve_model(each) for each in members] or variants_of(resolved, draws)
        name = resolved.targets[index]
        variants = [ism(seq, each, target=name, start=start, end=end) for each in others]
    delta = result.delta.astype(np.float64)
    spread = np.std([each.delta for each in variants], axis=0, dtype=np.float64) if variants else np.zeros_like(delta)
    half_width = own.half_width(delta, spread, level)
    bases = np.array(list("ACGT"))
    is_substitution = np.array(list(result.sequence[result.start : result.end]))[:, None] != bases
    half_width = np.where(is_substitution, half_width, 0)
    return MutationIntervals(
        mutagenesis=result,
        spread=spread,
        low=delta - half_width,
        high=delta + half_width,
        level=level,
        certificate=Certificate.merge(
            [result.certificate, *(_of_variant(each.certificate, result.certificate) for each in variants)],
            method="intervals of mutagenesis",
            settings={
                "level": level,
                "spread": f"{len(members)} members" if members else f"{len(others)} sub-networks",
                "pairs": own.pairs,
            },
        ),
    )


def _of_variant(certificate: Certificate, own: Certificate) -> Certificate:
    """The certificate of a variant's run as one of the model itself, so that its checks count."""
    return dataclasses.replace(certificate, model=own.model, model_hash=own.model_hash)


def variants_of(model: SequenceModel, draws: int) -> list[SequenceModel]:
    """Sub-networks of a model, or nothing if it does not declare them."""
    offered = capability(model, SubNetworks)
    return [] if offered is None else [offered.draw(number) for number in range(draws)]
