"""Selection of targets, and the limit on the memory for their scores."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import ModelLike, SequenceModel, capability
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.selected import Selected, TargetGroups

__all__ = ["require_room", "resolve_target", "select_targets"]

# Largest size of the scores of an analysis, in bytes, unless targets are selected.
_HELD = 1 << 29


def resolve_target(model: SequenceModel, target: str | int | None, *, argument: str = "target") -> int:
    """Index of a target from its name or number. None means the model's only target.

    Error messages name the `argument`.

    Raises:
        ValueError: an unknown target (the message lists near matches), or None for a model with several targets.
        TypeError: not a name, a number or None.
    """
    targets = list(model.targets)
    if target is None:
        if len(targets) > 1:
            raise ValueError(f"`{argument}` must be given: {model.name} has {len(targets)}: {', '.join(targets[:20])}.")
        return 0
    if isinstance(target, str):
        if target in targets:
            return targets.index(target)
        near = difflib.get_close_matches(target, targets, cutoff=0.4) or targets[:20]
        raise ValueError(f"`{argument}` {target!r} is unknown to {model.name}. Near matches: {', '.join(near)}.")
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if 0 <= target < len(targets):
            return int(target)
        raise ValueError(
            f"`{argument}` must be from 0 to {len(targets) - 1}, but got {target}: {', '.join(targets[:20])}."
        )
    raise TypeError(f"`{argument}` must be a name, a number or None, but got {type(target).__name__}.")


def select_targets(model: ModelLike, targets: str | int | Sequence[str | int]) -> Selected:
    """Restrict a model to some of its targets. Pass the result as `model=` to any analysis.

    Only the scores of these targets are kept in memory.

    Args:
        model: a model, a name or path for `load_model`, or None for the bundled model.
        targets: one or several of: a name, a number, a pattern such as "*CTCF*", or the name of a target group of the
            model. In a pattern, "*" is any text and "?" any character, and upper and lower case are equal. "*" selects
            all.

    Returns:
        The model with the selected `targets` in the selected order, without duplicates.

    Raises:
        ValueError: nothing matches. The message lists near matches.
        TypeError: a target is neither a name nor a number.

    Example:
        >>> import crossdna_interpret as cdi
        >>> cdi.predict("ACGT" * 41, select_targets(None, "*activity")).shape
        (1, 1)
    """
    resolved = resolve_model(model)
    if not isinstance(targets, (int, np.integer)) and (
        isinstance(targets, (bytes, Mapping)) or not isinstance(targets, Iterable)
    ):
        raise TypeError(f"`targets` must be names and numbers of targets, but got {type(targets).__name__}.")
    wanted = [targets] if isinstance(targets, (str, int, np.integer)) else list(targets)
    if not wanted:
        raise ValueError("`targets` must name at least one target, but is empty.")
    chosen: dict[int, None] = {}
    names = list(resolved.targets)
    declared = capability(resolved, TargetGroups)
    groups = {} if declared is None else declared.groups()
    numbers = {name: number for number, name in enumerate(names)}
    for each in wanted:
        if isinstance(each, str) and each not in numbers:
            if each in groups:
                if unknown := [name for name in groups[each] if name not in numbers]:
                    raise ValueError(
                        f"`targets` {each!r} is a group of {resolved.name}, but the group names targets that the model "
                        f"does not have: {', '.join(map(str, unknown[:5]))}."
                    )
                result = [numbers[name] for name in groups[each]]
            else:
                pattern = each.lower().replace("[", "[[]")  # names of targets often have brackets
                result = [number for number, name in enumerate(names) if fnmatch.fnmatchcase(name.lower(), pattern)]
            if not result:
                near = difflib.get_close_matches(each, [*names, *groups], cutoff=0.4) or [*groups, *names][:20]
                raise ValueError(f"`targets` {each!r} matches none of {resolved.name}. Near: {', '.join(near)}.")
            chosen |= dict.fromkeys(result)
        else:
            chosen[resolve_target(resolved, each, argument="targets")] = None
    return Selected(resolved, tuple(chosen))


def require_room(model: SequenceModel, rows: int) -> None:
    """Check that the scores of all rows and targets are not too large. Models with selected targets always pass.

    Raises:
        MemoryError: too large. The message states the size and how many targets would fit.
    """
    count, size = len(model.targets), max(4, model.dtype.itemsize)
    chosen = isinstance(model.model if isinstance(model, ReverseComplemented) else model, Selected)
    if chosen or count * rows * size <= _HELD:
        return
    raise MemoryError(
        f"Scores of {rows:,} sequences for the {count:,} targets of {model.name} take {count * rows * size / 1e9:.1f} "
        f"GB, more than the {_HELD / 1e9:.1f} GB that are kept in memory at once. Choose targets first, for example "
        f"`select_targets(model, {model.targets[0]!r})`; about {_HELD // (rows * size):,} would fit. "
        "`select_targets(model, '*')` selects all."
    )
