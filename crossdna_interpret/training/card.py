"""The card of a model that was fine-tuned, filled from its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["finetuning_card"]

_CARD = """# {name}

A CrossDNA of {parameters:,} parameters, fine-tuned for {task} of {targets}.

## Data
{train:,} training rows of `{table}`{validated}.

## Measured on the validation rows
{measures}

These figures are of the last epoch, with averaged weights where the run averaged them. No checkpoint was picked on
validation, unless the run was stopped early by it.

## How it was made
`{command}`

{settings}

## Limits
It knows sequences like those it was trained on. An explanation is about the model; where the model is wrong, so is its
explanation.
"""


def finetuning_card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown for the `README.md` beside the weights.

    Args:
        name: of the model.
        facts: what `run.fit` returns, with command, task, targets, table, parameters, train and valid.
    """
    measured = {key: value for key, value in facts.items() if key.startswith("valid_")}
    lines = [
        "| | |",
        "|---|---|",
        *(f"| {key.removeprefix('valid_')} | {value:.3f} |" for key, value in measured.items()),
    ]
    options = facts["options"]
    revision = f", revision {facts['revision']}" if facts.get("revision") else ""
    settings = [
        f"{options['epochs']} epochs at most, {facts['steps']:,} steps of {options['batch']} rows, "
        f"{facts['minutes']:.1f} minutes, seed {options['seed']}, torch {facts['versions']['torch']}{revision}.",
        f"Settings: {', '.join(f'{key} {value}' for key, value in facts['settings'].items())}.",
    ]
    return _CARD.format(
        name=name,
        parameters=facts["parameters"],
        task=facts["task"],
        targets=", ".join(facts["targets"]),
        train=facts["train"],
        table=facts["table"],
        validated=f", and {facts['valid']:,} for validation" if facts["valid"] else ", none for validation",
        measures="\n".join(lines) if measured else "Nothing was held out.",
        command=facts["command"],
        settings="\n".join(settings),
    )
