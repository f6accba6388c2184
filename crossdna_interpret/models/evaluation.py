"""Evaluation mode on a copy, so that the model itself does not change."""

from __future__ import annotations

import contextlib
import copy
import functools
import types
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["in_evaluation_mode", "is_exported", "separate"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # includes hooks: the caller owns them, and they may use the original
Model = TypeVar("Model", bound=nn.Module)


def in_evaluation_mode(model: Model) -> Model:
    """Return the model itself if all its submodules are in evaluation mode, and otherwise a copy that is.

    The copy has its own modules, but shares weights, buffers and hooks with the model. So the model does not change,
    and other threads may train or use it during an analysis. If a module overrides `train` or `eval`, the override
    may change weights. Then the copy shares nothing. A program of `torch.export` has only the mode in which it was
    exported, and is returned as it is.

    Args:
        model: any module.

    Raises:
        RuntimeError: the model is in training mode, and it cannot be copied or a copy could still use the original. Or
            a part is in training mode, and `eval()` does not reach it: an exported program, or a module in a list.
    """
    exported = [path for path, module in model.named_modules() if is_exported(module)]
    if not any(
        getattr(module, "training", False)
        for path, module in model.named_modules()
        if not any(path == each or path.startswith(f"{each}." if each else "") for each in exported)
    ):
        _require_hidden_modules_evaluate(model)
        return model
    if exported:
        raise _not_copied(model, f"its part {exported[0] or 'itself'} is exported, so it cannot be copied")
    _require_hidden_modules_evaluate(model)
    return _copied(model, hooks=True)


def is_exported(module: nn.Module) -> bool:
    """Whether a module is a program of `torch.export`. Its `train` and `eval` only raise an error.

    Raises:
        RuntimeError: it was exported in training mode.
    """
    if not isinstance(module, torch.fx.GraphModule) or not {"train", "eval"} <= vars(module).keys():
        return False
    for node in module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        named = zip((each.name for each in schema.arguments) if schema else (), node.args, strict=False)
        for name, value in [*named, *node.kwargs.items()]:
            if name in ("train", "training") and value is True:
                raise RuntimeError(
                    f"`model` was exported in training mode ({node.name} trains), and an exported program keeps its "
                    "mode. Call the `eval()` of the module before `torch.export`."
                )
    return True


def _require_hidden_modules_evaluate(model: nn.Module) -> None:
    """Check that modules which a model holds without registering them, such as in a list, are in evaluation mode.

    Raises:
        RuntimeError: one is in training mode.
    """
    registered = {id(module) for module in model.modules()}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in _OF_EVERY_MODULE:
                continue
            for hidden in _modules_in(value, registered):
                if any(each.training for each in hidden.modules() if id(each) not in registered):
                    raise RuntimeError(
                        f"`model` {getattr(model, 'name', type(model).__name__)} holds a {type(hidden).__name__} in "
                        f"training mode in its attribute `{f'{path}.{name}'.lstrip('.')}`, and no `eval()` reaches it "
                        "there. Call its own `eval()`, or hold it in a torch.nn.ModuleList."
                    )


def _modules_in(value: Any, registered: set[int], depth: int = 3) -> Iterator[nn.Module]:
    """Modules in an attribute and in its lists, tuples and dicts, without registered ones."""
    if isinstance(value, nn.Module):
        if id(value) not in registered and not isinstance(value, torch.jit.ScriptModule):
            yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _modules_in(each, registered, depth - 1)


def separate(model: Model) -> Model:
    """Copy a model, in evaluation mode, with its own modules and if possible with shared weights.

    Two threads may use the model and the copy at the same time, even if modules store values between calls. If the
    weights cannot be shared, the copy has its own weights.

    Args:
        model: any module.
    """
    try:
        return _copied(model, hooks=False)
    except RuntimeError:
        return copy.deepcopy(model).eval()


def _copied(model: Model, *, hooks: bool) -> Model:
    """Copy a model with its own modules. If `hooks`, hooks added to the model later also act on the copy."""
    for name, module in model.named_modules():
        if "forward" in vars(module) and not isinstance(
            module, torch.jit.ScriptModule
        ):  # this function may refer to the original
            raise _not_copied(model, f"{name or 'it'} has a `forward` of its own")
    modules = {id(module) for module in model.modules()}
    seen: set[int] = set()
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in _OF_EVERY_MODULE and _reaches(value, modules, seen):
                where = f"{name}.{attribute}".lstrip(".")
                raise _not_copied(model, f"the function {where} uses a part of it")
    apart = any(_has_own_modes(module) for module in model.modules())
    try:
        copied = copy.deepcopy(model, {} if apart else _shared(model, hooks))
    except Exception as error:  # for example locks, open files and non-leaf tensors
        raise _not_copied(model, f"it cannot be copied ({type(error).__name__}: {error})") from error
    if apart:
        return copied.eval()
    for module in copied.modules():
        module.training = False
    return copied


def _reaches(value: Any, modules: set[int], seen: set[int]) -> bool:
    """Whether a function refers to one of some modules. It would still use the original after a copy.

    Args:
        value: an attribute of a module.
        modules: ids of the modules.
        seen: ids of values that were already examined. This ends recursion, as a function may refer to itself.
    """
    if id(value) in seen:
        return False
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif isinstance(value, types.FunctionType):
        parts = [*_contents(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        if any(id(getattr(each, "__self__", each)) in modules for each in parts):
            return True
    else:
        return False
    seen.add(id(value))
    return any(_reaches(each, modules, seen) for each in parts)


def _contents(function: types.FunctionType) -> Iterator[Any]:
    """Values in the closure of a function."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty cell
            yield cell.cell_contents


def _has_own_modes(module: nn.Module) -> bool:
    kind = type(module)
    own = kind.train is not nn.Module.train or kind.eval is not nn.Module.eval
    return own or isinstance(module, torch.jit.ScriptModule)


def _shared(model: nn.Module, with_hooks: bool) -> dict[int, Any]:
    """Memo for `deepcopy`: the objects that the copy shares with the model."""
    tensors = [*model.parameters(), *model.buffers()]
    hooks = [
        vars(module)[name]
        for module in model.modules()
        for name in vars(module)
        if with_hooks and name.endswith(("hooks", "hooks_with_kwargs"))
    ]
    return {id(each): each for each in [*tensors, *hooks]}


def _not_copied(model: nn.Module, why: str) -> RuntimeError:
    name = getattr(model, "name", type(model).__name__)
    return RuntimeError(f"`model` {name} is in training mode, and {why}. Call its `eval()` first.")
