"""A model in evaluation mode, without a change to the model itself."""

from __future__ import annotations

import copy
import types
from typing import TypeVar

import torch
from torch import nn

__all__ = ["in_evaluation_mode"]

Model = TypeVar("Model", bound=nn.Module)


def in_evaluation_mode(model: Model) -> Model:
    """The model itself where every submodule is in evaluation mode, or else a view of it that is.

    The view shares weights, buffers and hooks with the model, and has modules of its own. So the model stays as it is
    also while an analysis runs, and other threads may train it or use it.

    Args:
        model: any module. A scripted one has no view and is copied.

    Raises:
        RuntimeError: a scripted module in training mode that cannot be copied.
    """
    if not any(getattr(module, "training", False) for module in model.modules()):
        return model
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return copy.deepcopy(model).eval()
    views: dict[int, nn.Module] = {}
    view = _view(model, views)
    for module in views.values():
        for name, value in vars(module).items():
            if isinstance(value, types.MethodType) and id(value.__self__) in views:
                vars(module)[name] = types.MethodType(value.__func__, views[id(value.__self__)])
    return view


def _view(module: Model, views: dict[int, nn.Module]) -> Model:
    """`views` keeps a module that occurs twice one module."""
    known = views.get(id(module))
    if known is not None:
        return known  # type: ignore[return-value]
    view = module.__new__(type(module))
    views[id(module)] = view
    view.__dict__.update(module.__dict__)
    view.__dict__["_modules"] = {
        name: None if child is None else _view(child, views) for name, child in module._modules.items()
    }
    view.__dict__["training"] = False
    return view
