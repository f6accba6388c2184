"""A model in evaluation mode, without a change to the model itself."""

from __future__ import annotations

import copy
import functools
import types
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["in_evaluation_mode"]

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
    for name, module in model.named_modules():
        if "forward" in vars(module) and not isinstance(
            module, torch.jit.ScriptModule
        ):  # a function, which may hold on to the original
            raise _not_copied(model, f"{name or 'it'} has a `forward` of its own")
    modules = {id(module) for module in model.modules()}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in _OF_EVERY_MODULE and _reaches(value, modules):
                where = f"{name}.{attribute}".lstrip(".")
                raise _not_copied(model, f"the function {where} uses a part of it")
    apart = any(_has_own_modes(module) for module in model.modules())
    try:
        copied = copy.deepcopy(model, {} if apart else _shared(model))
    except Exception as error:  # of locks, open files, tensors within a graph
        raise _not_copied(model, f"it cannot be copied ({type(error).__name__}: {error})") from error
    if apart:
        return copied.eval()
    for module in copied.modules():
        module.training = False
    return copied


def _reaches(value: Any, modules: set[int]) -> bool:
    """Whether a function uses one of some modules, which it would still do if they were copied."""
    if isinstance(value, functools.partial):
        return any(_reaches(each, modules) for each in (value.func, *value.args, *value.keywords.values()))
    if isinstance(value, dict):
        return any(_reaches(each, modules) for each in value.values())
    if isinstance(value, (list, tuple)):
        return any(_reaches(each, modules) for each in value)
    if not isinstance(value, types.FunctionType):
        return False
    for cell in value.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        owner = getattr(content, "__self__", content)
        if id(owner) in modules or _reaches(content, modules):
            return True
    return any(_reaches(each, modules) or id(each) in modules for each in value.__defaults__ or ())


def _has_own_modes(module: nn.Module) -> bool:
    kind = type(module)
    own = kind.train is not nn.Module.train or kind.eval is not nn.Module.eval
    return own or isinstance(module, torch.jit.ScriptModule)


def _shared(model: nn.Module) -> dict[int, Any]:
    """What a deep copy takes as it is."""
    tensors = [*model.parameters(), *model.buffers()]
    hooks = [
        vars(module)[name]
        for module in model.modules()
        for name in vars(module)
        if name.endswith(("hooks", "hooks_with_kwargs"))
    ]
    return {id(each): each for each in [*tensors, *hooks]}


def _not_copied(model: nn.Module, why: str) -> RuntimeError:
    name = getattr(model, "name", type(model).__name__)
    return RuntimeError(f"`model` {name} is in training mode, and {why}. Call its `eval()` first.")
