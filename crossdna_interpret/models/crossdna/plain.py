"""Whether submodules are unchanged, without adapters and hooks, so that a faster path may replace them.

Adapters replace a layer by another module, and hooks see or change what passes a layer. Where a fast way would use a
layer's weights without calling it, both would be passed by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from crossdna_interpret.models.hooks import hooks_for_all, hooks_of

__all__ = ["is_plain", "plain_problem"]


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of exactly this class, computes as the class does, and has no hooks."""
    return _is_plain(module, kind) and not hooks_for_all()


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    return type(module) is kind and "forward" not in vars(module) and not hooks_of(module)


def plain_problem(model: nn.Module, expected: Mapping[str, type[nn.Module]], parts: Collection[str] = ()) -> str | None:
    """The first thing about a model's modules that only their own `forward` honours, in words; None if there is none.

    Args:
        model: the model.
        expected: its submodules' classes by name.
        parts: children to look at; all if there are none.
    """
    if hooks_for_all():
        return "hooks for all modules are active"
    seen: set[str] = set()
    children = [(name, child) for name, child in model._modules.items() if not parts or name in parts]
    rest: list[tuple[str, nn.Module | None]] = [*([] if parts else [("", model)]), *children]
    while rest:  # by hand: `named_modules` takes several times as long, and this runs for every batch
        name, module = rest.pop()
        if module is None:
            continue
        seen.add(name)
        kind = expected.get(name)
        if type(module) is not kind:
            return f"{name} is a {type(module).__name__}{'' if kind is None else f', not a {kind.__name__}'}"
        if not _is_plain(module, kind):
            if "forward" in vars(module):
                return f"{name or 'the model'} has a `forward` of its own"
            return f"hooks are active on {name or 'the model'}, and what they see or change must be computed in full"
        if name:
            rest += [(f"{name}.{own}", child) for own, child in module._modules.items()]
    missing = [name for name in expected if name not in seen and (not parts or name.split(".")[0] in parts)]
    return f"{missing[0]} is missing" if missing else None
