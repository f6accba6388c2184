"""The card of a trained model, filled from its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["finetuning_card", "pretraining_card"]

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

{options[epochs]} epochs at most, {steps:,} steps of {options[batch]} rows, {minutes:.1f} minutes, seed {options[seed]}, torch {torch}{revision}.
Settings: {settings}.

## Limits
It knows sequences like those it was trained on. An explanation is about the model; where the model is wrong, so is its
explanation.
"""  # noqa: E501


def finetuning_card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown for the `README.md` beside the weights.

    Args:
        name: of the model.
        facts: what `run.fit` returns, with command, task, targets, table, parameters, settings, train and valid.
    """
    held = f"{facts['valid']:,} for validation" if facts["valid"] else "none for validation"
    data = f"{facts['train']:,} training rows of `{facts['table']}`, and {held}."
    return _filled(name, facts, what=f"fine-tuned for {facts['task']} of {', '.join(facts['targets'])}", data=data)


def pretraining_card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown for the `README.md` beside the weights.

    Args:
        name: of the model.
        facts: what `run.fit` returns, with command, fasta, bed, length, parameters, settings, train and valid.
    """
    source = f"`{facts['fasta']}`" + (f", in the intervals of `{facts['bed']}`" if facts["bed"] else "")
    held = f"{facts['valid']:,} for validation" if facts["valid"] else "none for validation"
    data = f"{facts['train']:,} training windows of {facts['length']:,} bases from {source}, and {held}."
    return _filled(name, facts, what="pre-trained to tell masked bases", data=data)


def _filled(name: str, facts: Mapping[str, Any], *, what: str, data: str) -> str:
    measured = [
        f"| {key.removeprefix('valid_')} | {value:.3f} |" for key, value in facts.items() if key.startswith("valid_")
    ]
    return _CARD.format(
        **{key: facts[key] for key in ("parameters", "command", "options", "steps", "minutes")},
        name=name,
        what=what,
        data=data,
        measures="\n".join(["| | |", "|---|---|", *measured]) if measured else "Nothing was held out.",
        torch=facts["versions"]["torch"],
        revision=f", revision {facts['revision']}" if facts.get("revision") else "",
        settings=", ".join(f"{key} {value}" for key, value in facts["settings"].items()),
    )
