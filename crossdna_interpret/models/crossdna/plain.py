"""Check that submodules are unchanged, without adapters and hooks, so that a faster path may replace them.

Adapters replace a layer by another module. Hooks read or change the output of a layer. A fast path uses the weights of
a layer without calling it, so it would ignore both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from crossdna_interpret.models.hooks import hooks_for_all, hooks_of

__all__ = ["is_plain", "plain_problem"]


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is exactly of this class, has no overridden methods and no hooks."""
    return _is_plain(module, kind) and not hooks_for_all()


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    return type(module) is kind and "forward" not in vars(module) and not hooks_of(module)


def plain_problem(model: nn.Module, expected: Mapping[str, type[nn.Module]], parts: Collection[str] = ()) -> str | None:
    """First reason why a faster path cannot replace a model's `forward`, as text, or None.

    Args:
        model: the model.
        expected: classes of its submodules by name.
        parts: children to check. The default is all.
    """
    if hooks_for_all():
        return "hooks for all modules are active"
    seen: set[str] = set()
    children = [(name, child) for name, child in model._modules.items() if not parts or name in parts]
    rest: list[tuple[str, nn.Module | None]] = [*([] if parts else [("", model)]), *children]
    while rest:  # this runs for every batch, and `named_modules` is several times slower
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
