"""Named hook points in a model. Inside a ``with``, `capture` reads their values and `intervene` replaces them.

This module does not depend on DNA. A model passes each value through a `HookPoint`, with a description of the value.
Hooks receive both.
"""

from __future__ import annotations

import difflib
import fnmatch
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

__all__ = [
    "Activation",
    "Activations",
    "HookPoint",
    "capture",
    "changing_hooks",
    "content_of",
    "hook_names",
    "hooked",
    "hooks_for_all",
    "hooks_of",
    "intervene",
]

_PREFIX = "hook_"
_FOR_ALL = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


class HookPoint(nn.Module):
    """Identity with a name. Assign it as ``self.hook_<name>``. Its public name has no ``hook_``.

    ``self.hook_out = HookPoint()`` inside ``bridge`` is the hook point ``bridge.out``.
    """

    def forward(self, value: Tensor, where: Any = None) -> Tensor:
        return value


@dataclass(frozen=True, eq=False)
class Activation:
    """One value that passed a hook point.

    Attributes:
        name: the hook point.
        value: the tensor itself, not a copy, still attached to the graph if there is one.
        where: the span of the value (a `spans.Locus` in CrossDNA), or None.
    """

    name: str
    value: Tensor
    where: Any


class Activations(Mapping[str, list[Activation]]):
    """Activations from `capture`: for each hook name, a list in the order of computation.

    Several blocks or batches give several activations under one name. A hook that did not run gives an empty list.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._seen: dict[str, list[Activation]] = {name: [] for name in names}

    def __getitem__(self, name: str) -> list[Activation]:
        if name not in self._seen:
            raise KeyError(_unknown(name, list(self._seen), "captured hook"))
        return self._seen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)


def _unknown(pattern: str, names: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4)
    hint = f"Near matches: {', '.join(near)}." if near else f"There are {len(names)}, such as {', '.join(names[:5])}."
    return f"No {what} matches {pattern!r}. {hint}"


def _points(model: nn.Module) -> dict[str, nn.Module]:
    """Hook points by public name. For a module without hook points, these are the outputs of its submodules."""
    declared: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, HookPoint):
            parent, _, own = path.rpartition(".")
            name = own.removeprefix(_PREFIX)
            declared[f"{parent}.{name}" if parent else name] = module
    if declared:
        return declared
    return {path: module for path, module in model.named_modules() if path}


class _Hook:
    """A forward hook of `capture` or `intervene`. It acts only in its own thread, as others may use the same model.

    Raises:
        RuntimeError: another thread computes a part of the same forward pass, as in `torch.nn.DataParallel`.
    """

    def __init__(
        self, function: Callable[[nn.Module, tuple[Any, ...], Any], Any], *, changes: bool, content: object = None
    ) -> None:
        self.function, self.changes, self.content, self.thread = function, changes, content, threading.get_ident()

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if threading.get_ident() == self.thread:
            return self.function(module, inputs, output)
        if getattr(module, "_is_replica", False):
            raise RuntimeError(
                "`capture` and `intervene` belong to one thread, and torch.nn.DataParallel computes in several. Use "
                "the model inside of it (its `module`)."
            )
        return None


def hooks_of(module: nn.Module) -> list[Any]:
    """Hooks of any kind on one module. Those of `capture` and `intervene` count only in their own thread."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    if not (kinds[0] or kinds[1] or kinds[2] or kinds[3]):
        return []
    hooks = [hook for kind in kinds for hook in kind.values()]
    return [hook for hook in hooks if not isinstance(hook, _Hook) or hook.thread == threading.get_ident()]


def changing_hooks(module: nn.Module) -> list[Any]:
    """Hooks on one module that may change its output: all except those of `capture`."""
    return [hook for hook in hooks_of(module) if not isinstance(hook, _Hook) or hook.changes]


def content_of(hook: Any) -> Any:
    """The function of a hook. For a hook of `intervene`, this is the user's function."""
    return hook.content if isinstance(hook, _Hook) else hook


def hooks_for_all() -> bool:
    """Whether a hook for all modules of the process is active."""
    return any(getattr(torch_module, name) for name in _FOR_ALL)


def hooked(model: nn.Module) -> bool:
    """Whether any submodule has an active hook, from `capture`, `intervene` or elsewhere."""
    return hooks_for_all() or any(hooks_of(module) for module in model.modules())


def hook_names(model: nn.Module) -> list[str]:
    """Every name that `capture` and `intervene` accept for this model, in the order of its modules.

    Example:
        >>> hook_names(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        ['0', '1']
    """
    return list(_points(model))


def _match(pattern: str, points: Mapping[str, nn.Module]) -> list[str]:
    if not isinstance(pattern, str):
        raise TypeError(f"A hook pattern must be a string such as 'bridge.*', but got {type(pattern).__name__}.")
    matches = [name for name in points if fnmatch.fnmatchcase(name, pattern)]
    if not matches:
        raise ValueError(_unknown(pattern, list(points), "hook"))
    return matches


def _where(inputs: tuple[Any, ...], module: nn.Module) -> Any:
    return inputs[1] if isinstance(module, HookPoint) and len(inputs) > 1 else None


@contextmanager
def capture(model: nn.Module, *patterns: str) -> Iterator[Activations]:
    """Record the values at hook points while the body runs, in this thread.

    Args:
        model: any module. Without `HookPoint`s, the hook points are the outputs of its submodules, named by path.
        patterns: names or shell patterns such as ``"bridge.*"``. Without patterns, all points.

    Yields:
        Activations: a mapping from each matching name to the list of its activations.

    Raises:
        ValueError: a pattern matches nothing. The message lists near matches.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with capture(net, "1") as acts:
        ...     y = net(torch.ones(1, 2))
        >>> acts["1"][0].value is y
        True
    """
    points = _points(model)
    names = list(dict.fromkeys(name for pattern in patterns or ("*",) for name in _match(pattern, points)))
    seen = Activations(names)

    def recorder(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            seen[name].append(Activation(name, output, _where(inputs, module)))

        return record

    with ExitStack() as stack:
        for name in names:
            stack.callback(points[name].register_forward_hook(_Hook(recorder(name), changes=False)).remove)
        yield seen


@contextmanager
def intervene(model: nn.Module, edits: Mapping[str, Callable[[Tensor, Any], Tensor]]) -> Iterator[None]:
    """Replace values at hook points while the body runs, in this thread.

    Args:
        model: any module, as for `capture`.
        edits: maps a name or pattern to a function ``fn(value, where) -> Tensor`` that returns the new value, of the
            same shape. Edits of one point apply in the order of this mapping. A `capture` inside this ``with``
            records the edited value. A `capture` around it records the original value.

    Raises:
        ValueError: a pattern matches nothing (the message lists near matches), or an edit returned another shape.
        TypeError: an edit is not callable, or did not return a tensor.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> with intervene(net, {"0": lambda value, where: -value}):
        ...     net(torch.tensor([1.0, -2.0]))
        tensor([0., 2.])
    """
    points = _points(model)
    plan: list[tuple[str, Callable[[Tensor, Any], Tensor]]] = []
    for pattern, fn in edits.items():
        if not callable(fn):
            raise TypeError(f"`edits[{pattern!r}]` must be a function of (value, where), got {type(fn).__name__}.")
        plan += [(name, fn) for name in _match(pattern, points)]

    def replacer(name: str, fn: Callable[[Tensor, Any], Tensor]) -> Callable[..., Tensor]:
        def apply(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            new = fn(output, _where(inputs, module))
            if not isinstance(new, Tensor):
                raise TypeError(f"The edit of {name!r} must return a tensor, but returned {type(new).__name__}.")
            if new.shape != output.shape:
                raise ValueError(
                    f"The edit of {name!r} must keep the shape {tuple(output.shape)}, but returned {tuple(new.shape)}."
                )
            return new

        return apply

    with ExitStack() as stack:
        for name, fn in plan:
            stack.callback(
                points[name].register_forward_hook(_Hook(replacer(name, fn), changes=True, content=fn)).remove
            )
        yield
