"""Intervals of the effects of substitutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossdna_interpret._validation import integer, level_of_caller
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import substitutions
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.protocols import ModelLike, SequenceModel, SubNetworks, capability
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import shown_elsewhere, warn_outside_training
from crossdna_interpret.results import Certificate, MutationIntervals
from crossdna_interpret.scoring.provenance import model_hash
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

    The intervals come from the errors of the model's predictions of measured changes. For bundled models, these are
    changes in families that they were not trained on. They are wider for large effects, and where variants of the model
    disagree. They hold for sequences like the measured ones. `truth_report` finds the errors, and says what fraction of
    measured changes the intervals contain.

    Args:
        seq: one sequence of length L.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. Optional if the model has one target.
        start, end: window, 0-based half-open. The default is the whole sequence.
        level: level of the intervals: 0.5, 0.8, 0.9 or 0.95.
        draws: number of copies of the model with some channels removed, for the spread, if there are no `members`.
        members: an ensemble for the spread: models trained with other seeds. Use the draws or members of the truth
            report.
        errors: `errors` of a truth report. The default is from the model.

    Returns:
        MutationIntervals.

    Raises:
        ValueError, TypeError: an invalid sequence, window, target or level, the model has no errors for this target, or
            `errors` are of another model, another target or other variants.

    Example:
        >>> import crossdna_interpret as cdi
        >>> from crossdna_interpret.models.change_errors import ChangeErrors
        >>> errors = ChangeErrors(0.5, 1.0, 0.1, {0.9: 2.0}, pairs=100)
        >>> cdi.mutation_intervals("ACGT" * 41, end=3, draws=2, errors=errors).low.shape
        (3, 4)
    """
    sequence = alphabet.normalize(seq)
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    integer("draws", draws, 0)
    if errors is None:
        known: Mapping[str, ChangeErrors] = getattr(resolved, "change_errors", {})
        if resolved.targets[index] not in known:
            raise ValueError(
                f"`errors` must be given: {resolved.name} has no errors of changes in {resolved.targets[index]}. "
                "`truth_report(...).errors` has them."
            )
        errors = known[resolved.targets[index]]
    own = errors if isinstance(errors, ChangeErrors) else ChangeErrors.from_dict(errors)
    others, described = variants_of(resolved, draws, members)
    name = resolved.targets[index]
    _require_same(own, {"target": name, "model_hash": model_hash(resolved), "variants": described})
    warn_outside_training(resolved, [sequence], level_of_caller())
    with shown_elsewhere():
        result = ism(sequence, resolved, target=index, start=start, end=end)
        variants = [ism(sequence, each, target=name, start=start, end=end) for each in others]
    delta = result.delta.astype(np.float64)
    spread = np.std([each.delta for each in variants], axis=0, dtype=np.float64) if variants else np.zeros_like(delta)
    half_width = own.half_width(delta, spread, level)
    rows, bases, _ = substitutions(sequence, result.start, result.end)
    substituted = np.zeros(delta.shape, dtype=bool)
    substituted[rows, bases] = True
    half_width = np.where(substituted, half_width, 0)
    return MutationIntervals(
        mutagenesis=result,
        spread=spread,
        low=delta - half_width,
        high=delta + half_width,
        level=level,
        certificate=Certificate.merge(
            [result.certificate, *(_of_variant(each.certificate, result.certificate) for each in variants)],
            method="intervals of mutagenesis",
            settings={"level": level, "spread": described, "pairs": own.pairs},
        ),
    )


def _of_variant(certificate: Certificate, own: Certificate) -> Certificate:
    """The certificate of a variant's run as one of the model itself, so that its checks count."""
    return dataclasses.replace(certificate, model=own.model, model_hash=own.model_hash)


def _require_same(errors: ChangeErrors, own: Mapping[str, str]) -> None:
    """Check that errors are of this model and target, with these variants, as far as they say.

    Raises:
        ValueError: they are not.
    """
    for name, value in own.items():
        known = getattr(errors, name)
        if known and known != value:
            what = {"target": "another target", "model_hash": "another model", "variants": "other variants"}[name]
            raise ValueError(f"`errors` are of {what}: {name} was {known!r}, and is {value!r} here.")


def variants_of(model: SequenceModel, draws: int, members: Sequence[ModelLike]) -> tuple[list[SequenceModel], str]:
    """The members, or sub-networks of a model if it declares them, and a description of them."""
    if isinstance(members, (str, Path)) or not isinstance(members, Sequence):
        raise TypeError(f"`members` must be a list of models, but got {type(members).__name__}.")
    if members:
        models = [resolve_model(each) for each in members]
        return models, f"members {', '.join(sorted(model_hash(each)[:8] for each in models))}"
    offered = capability(model, SubNetworks)
    networks = [] if offered is None else [offered.draw(number) for number in range(draws)]
    return networks, f"{len(networks)} sub-networks"
