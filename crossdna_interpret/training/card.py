"""The model card of a trained model, filled with the facts of its run."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from typing import Any

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.training_range import TrainingRange

__all__ = ["described", "filled", "finetuning_card", "pretraining_card"]

_CARD = """# {name}

A CrossDNA of {parameters:,} parameters, {what}.

## Data
{data}

## Measured on what was held out
{measures}

These figures are of the last epoch, with averaged weights where the run averaged them. No checkpoint was picked on
validation, unless the run was stopped early by it.

## How it was made
`{command}`

{options[epochs]} epochs at most, {steps:,} steps of at most {options[batch]} rows{processes}, {minutes:.1f} minutes, seed {options[seed]}, torch {torch}{revision}.
Settings: {settings}.

## Limits
It knows sequences like those it was trained on: {trained_on}. Analyses warn of a sequence outside of this range.
An explanation is about the model; where the model is wrong, so is its explanation.
"""  # noqa: E501


def finetuning_card(model: CrossDNA, facts: Mapping[str, Any]) -> str:
    """Markdown for the `README.md` beside the weights.

    Args:
        model: a model with a training range.
        facts: result of `run.fit`, with command, task, targets, table, parameters, settings, train (number of training
            rows), left_out (number of rows with weight 0) and valid.
    """
    left_out = f" ({facts['left_out']:,} more have the weight 0 and were left out)" if facts["left_out"] else ""
    held = f"{facts['valid']:,} for validation" if facts["valid"] else "none for validation"
    data = f"{facts['train']:,} training rows of `{facts['table']}`{left_out}, and {held}."
    return _filled(model, facts, what=f"fine-tuned for {facts['task']} of {', '.join(facts['targets'])}", data=data)


def pretraining_card(model: CrossDNA, facts: Mapping[str, Any]) -> str:
    """Markdown for the `README.md` beside the weights.

    Args:
        model: a model with a training range.
        facts: result of `run.fit`, with command, fasta, bed, length, parameters, settings, train and valid.
    """
    source = f"`{facts['fasta']}`" + (f", in the intervals of `{facts['bed']}`" if facts["bed"] else "")
    held = f"{facts['valid']:,} for validation" if facts["valid"] else "none for validation"
    data = f"{facts['train']:,} training windows of {facts['length']:,} bases from {source}, and {held}."
    return _filled(model, facts, what="pre-trained to tell masked bases", data=data)


def described(known: TrainingRange) -> str:
    """A training range in words.

    Example:
        >>> described(TrainingRange(100, 164, "ACGT", (0.25, 0.7), 2.5))
        '100 to 164 bases, 25 to 70 % G and C, no N, dinucleotides of at least 2.5 bits'
    """
    lengths = " to ".join(f"{each:,}" for each in sorted({known.shortest, known.longest}))
    unknown = "some N" if "N" in known.alphabet else "no N"
    return (
        f"{lengths} bases, {100 * known.gc[0]:.0f} to {100 * known.gc[1]:.0f} % G and C, {unknown}, dinucleotides of "
        f"at least {known.dinucleotide_bits:.1f} bits"
    )


def filled(template: str, facts: Mapping[str, Any]) -> str:
    """The text of a card. Missing facts become "not measured"."""
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    missing = {name: _NotMeasured() for name in names - facts.keys()}
    return template.format(**facts, **missing)


class _NotMeasured:
    def __format__(self, how: str) -> str:
        return "not measured"


def _filled(model: CrossDNA, facts: Mapping[str, Any], *, what: str, data: str) -> str:
    assert model.training_range is not None
    measured = [
        f"| {key.removeprefix('valid_')} | {f'{value:.3f}' if math.isfinite(value) else 'cannot be measured'} |"
        for key, value in facts.items()
        if key.startswith("valid_") and isinstance(value, float)
    ]
    return _CARD.format(
        **{key: facts[key] for key in ("parameters", "command", "options", "steps", "minutes")},
        name=model.name,
        what=what,
        data=data,
        measures="\n".join(["| | |", "|---|---|", *measured]) if measured else "Nothing was held out.",
        torch=facts["versions"]["torch"],
        revision=f", revision {facts['revision']}" if facts.get("revision") else "",
        trained_on=described(model.training_range),
        processes=f" on each of {facts['processes']} devices" if facts["processes"] > 1 else "",
        settings=", ".join(f"{key} {value}" for key, value in facts["settings"].items()),
    )
