"""A model in evaluation mode, without a change to the model itself."""

from __future__ import annotations

import contextlib
import copy
import functools
import types
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["in_evaluation_mode", "separate"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # hooks among them, which are the caller's and may look at the original
Model = TypeVar("Model", bound=nn.Module)


def in_evaluation_mode(model: Model) -> Model:
    """The model itself where every submodule is in evaluation mode, or else a copy of it that is.

    The copy shares weights, buffers and hooks with the model, and has modules of its own. So the model stays as it is
    also while an analysis runs, and other threads may train it or use it. Where a module has a `train` or `eval` of its
    own, which may change weights, nothing is shared.

    Args:
        model: any module.

    Raises:
        RuntimeError: a model in training mode that cannot be copied, or of which a copy could still reach the original.
    """
    if not any(getattr(module, "training", False) for module in model.modules()):
        return model
    return _copied(model, hooks=True)


def separate(model: Model) -> Model:
    """A copy of a model in evaluation mode, with modules of its own, that shares the model's weights where it can.

    Two threads may use the model and the copy at once, also where modules keep something between calls. Where modules
    cannot be told apart from the weights, the copy has weights of its own.

    Args:
        model: any module.
    """
    try:
        return _copied(model, hooks=False)
    except RuntimeError:
        return copy.deepcopy(model).eval()


def _copied(model: Model, *, hooks: bool) -> Model:
    """A copy with modules of its own; `hooks` says whether those that are added to the model later reach it."""
    for name, module in model.named_modules():
        if "forward" in vars(module) and not isinstance(
            module, torch.jit.ScriptModule
        ):  # a function, which may hold on to the original
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
    except Exception as error:  # of locks, open files, tensors within a graph
        raise _not_copied(model, f"it cannot be copied ({type(error).__name__}: {error})") from error
    if apart:
        return copied.eval()
    for module in copied.modules():
        module.training = False
    return copied


def _reaches(value: Any, modules: set[int], seen: set[int]) -> bool:
    """Whether a function uses one of some modules, which it would still do if they were copied.

    Args:
        value: an attribute of a module.
        modules: ids of the modules.
        seen: ids of what has been looked at; a function may use itself.
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
    """What a function takes from the one that it was made in."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a name without a value so far
            yield cell.cell_contents


def _has_own_modes(module: nn.Module) -> bool:
    kind = type(module)
    own = kind.train is not nn.Module.train or kind.eval is not nn.Module.eval
    return own or isinstance(module, torch.jit.ScriptModule)


def _shared(model: nn.Module, with_hooks: bool) -> dict[int, Any]:
    """What a deep copy takes as it is."""
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
