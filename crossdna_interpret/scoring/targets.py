"""Which of a model's targets an argument means."""

from __future__ import annotations

import difflib

import numpy as np

from crossdna_interpret.models.protocols import SequenceModel

__all__ = ["resolve_target"]


def resolve_target(model: SequenceModel, target: str | int | None) -> int:
    """Index of a target given by name or number; None is the model's only target.

    Raises:
        ValueError: unknown (near matches are listed), or None where the model has several.
    """
    targets = list(model.targets)
    if target is None:
        if len(targets) > 1:
            raise ValueError(f"`target` must be given: {model.name} has {len(targets)}: {', '.join(targets[:20])}.")
        return 0
    if isinstance(target, str):
        if target in targets:
            return targets.index(target)
        near = difflib.get_close_matches(target, targets, cutoff=0.4) or targets[:20]
        raise ValueError(f"`target` {target!r} is unknown to {model.name}. Near matches: {', '.join(near)}.")
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if 0 <= target < len(targets):
            return int(target)
        raise ValueError(f"`target` must be from 0 to {len(targets) - 1}, but got {target}: {', '.join(targets[:20])}.")
    raise TypeError(f"`target` must be a name, a number or None, but got {type(target).__name__}.")
