"""What makes a model give the scores that it gives, as one hash: weights, and everything that changes what it computes.

Weights are hashed once. Afterwards a checksum of each tells whether they have changed, also where the change passed
PyTorch by, as through `.data` or numpy.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Fingerprint", "fingerprint"]

_COLUMNS = 4093  # of the checksum, a prime: so that whole rows that change places do not stand in the same column
_LIBRARIES = frozenset(
    ["builtins", "collections", "copyreg", "crossdna_interpret", "functools", "math", "numpy", "torch", "typing"]
)
# What every module has, and what says nothing about its scores.
_PLUMBING = frozenset(vars(nn.Module())) | {"training", "name", "training_range"}


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """A model's hash, and what could not be looked into.

    Attributes:
        digest: SHA-256, hexadecimal.
        opaque: attributes of its modules whose content may change scores and cannot be hashed, such as
            "module.tokenizer".
    """

    digest: str
    opaque: tuple[str, ...]


def fingerprint(model: nn.Module) -> Fingerprint:
    """The hash of a model's weights, of its modules and their attributes, and of code that is not PyTorch's or ours.

    Whether it is in training mode, what it is called, and where it is make no difference; its dtype does.

    Example:
        >>> first, second = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> fingerprint(first) == fingerprint(first), fingerprint(first) == fingerprint(second)
        (True, False)
    """
    writer = _Writer()
    for path, module in model.named_modules():
        writer.module(path, module)
    digest = hashlib.sha256(writer.digest() + _weights(model))
    return Fingerprint(digest.hexdigest(), tuple(writer.opaque))


_hashed = WeakTensorKeyDictionary()  # tensor -> (where it lies and its checksum, its hash)


def _weights(model: nn.Module) -> bytes:
    total = hashlib.sha256()
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    for name, tensor in sorted(tensors, key=lambda each: each[0]):
        total.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        total.update(_of_tensor(tensor))
    return total.digest()


def _of_tensor(tensor: Tensor) -> bytes:
    with torch.no_grad():
        plain = tensor.detach()
        if plain.device.type == "meta":
            return b"meta"
        if plain.layout != torch.strided or plain.is_quantized:
            plain = plain.to_dense() if not plain.is_quantized else plain.dequantize()
        plain = plain.resolve_conj().resolve_neg().contiguous()
        state = plain.data_ptr(), _checksum(plain)
        known = _hashed.get(tensor)
        if known is not None and known[0] == state:
            return known[1]
        digest: bytes = hashlib.sha256(plain.cpu().reshape(-1).view(torch.uint8).numpy().data).digest()
        _hashed[tensor] = state, digest
        return digest


def _checksum(x: Tensor) -> bytes:
    """Changes with every element, and with the order of nearly all; much faster than a hash."""
    flat = x.reshape(-1).view(torch.uint8)
    whole = len(flat) // 8
    words = flat[: 8 * whole].clone().view(torch.int64) if flat.data_ptr() % 8 else flat[: 8 * whole].view(torch.int64)
    rows = whole // _COLUMNS
    sums = words[: rows * _COLUMNS].view(rows, _COLUMNS).sum(0)
    rest = flat[8 * rows * _COLUMNS :]
    return sums.cpu().numpy().tobytes() + rest.cpu().numpy().tobytes()


class _Writer:
    """Puts values into a hash, each with its type, so that different ones cannot look alike."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.opaque: list[str] = []
        self._open: set[int] = set()

    def digest(self) -> bytes:
        return self._hash.digest()

    def put(self, *parts: str | bytes) -> None:
        for part in parts:
            content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            self._hash.update(f"{type(part).__name__}{len(content)}:".encode() + content)

    def module(self, path: str, module: nn.Module) -> None:
        kind = type(module)
        self.put("module", path, f"{kind.__module__}.{kind.__qualname__}")
        for each in kind.__mro__:
            if not _library(each.__module__):
                self.put(_code_of_class(each))
        for name, value in sorted(vars(module).items()):
            if name not in _PLUMBING and not isinstance(value, nn.Module):
                self.put(name)
                self.value(f"{path}.{name}".lstrip("."), value)
        for hook in _hooks(module):
            self.value(f"{path}.hooks".lstrip("."), hook)

    def value(self, path: str, value: Any) -> None:
        if id(value) in self._open:  # a container that holds itself
            return
        self._open.add(id(value))
        try:
            self._value(path, value)
        finally:
            self._open.discard(id(value))

    def _value(self, path: str, value: Any) -> None:
        kind = type(value)
        self.put(f"{kind.__module__}.{kind.__qualname__}")
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.Size)):
            self.put(repr(value))
        elif isinstance(value, torch.device):
            return  # where a model is makes no difference
        elif isinstance(value, enum.Enum):
            self.put(value.name)
        elif isinstance(value, (np.ndarray, np.generic)):
            self._array(path, np.asarray(value))
        elif isinstance(value, Tensor):
            self.put(str(value.dtype), repr(tuple(value.shape)), _of_tensor(value))
        elif isinstance(value, Mapping):
            for key, each in value.items():
                self.value(path, key)
                self.value(f"{path}[{key!r}]", each)
        elif isinstance(value, Set):
            self.put(*sorted(repr(each) for each in value))
        elif isinstance(value, (list, tuple)):
            for at, each in enumerate(value):
                self.value(f"{path}[{at}]", each)
        elif isinstance(value, nn.Module):
            for inner, module in value.named_modules():
                self.module(f"{path}.{inner}", module)
            self.put(_weights(value))
        elif isinstance(value, type):
            self.put(f"{value.__module__}.{value.__qualname__}")
            if not _library(value.__module__):
                self.put(_code_of_class(value))
        elif isinstance(value, types.ModuleType):
            self.put(value.__name__)
        elif callable(value):
            self._callable(path, value)
        else:
            self._object(path, value)

    def _array(self, path: str, array: np.ndarray) -> None:
        self.put(array.dtype.str, repr(array.shape))
        if array.dtype.hasobject:
            for at, each in enumerate(array.ravel()):
                self.value(f"{path}[{at}]", each)
        else:
            self.put(array.tobytes())

    def _callable(self, path: str, value: Any) -> None:
        if isinstance(value, functools.partial):
            for each in (value.func, value.args, value.keywords):
                self.value(path, each)
        elif isinstance(value, types.MethodType):
            self.put(value.__func__.__qualname__)
            self.value(path, value.__func__)
            if not isinstance(value.__self__, nn.Module):  # whose attributes are looked at where it stands
                self.value(path, value.__self__)
        elif isinstance(value, types.FunctionType):
            self._function(path, value)
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, np.ufunc)) or _library(
            type(value).__module__
        ):
            self.put(getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or repr(type(value)))
        else:
            self._object(path, value)

    def _function(self, path: str, function: types.FunctionType) -> None:
        self.put(function.__module__ or "", function.__qualname__)
        if _library(function.__module__ or ""):
            return
        self.put(_code(function.__code__))
        self.value(path, function.__defaults__)
        self.value(path, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            self.value(path, content)
        for name in function.__code__.co_names:
            if name in function.__globals__:
                self.put(name)
                content = function.__globals__[name]
                if not _library(getattr(content, "__module__", None) or ""):
                    self.value(f"{path}: {name}", content)

    def _object(self, path: str, value: Any) -> None:
        """Whatever pickling would keep of it."""
        if not _library(type(value).__module__):
            self.put(_code_of_class(type(value)))
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # such as of a lock, or of an object whose content is not Python's
            self.opaque.append(path)
            return
        if isinstance(reduced, str):
            self.put(reduced)
            return
        rebuild, arguments, *rest = reduced
        self.value(path, rebuild)
        self.value(path, arguments)
        for part in rest:
            self.value(path, list(part) if isinstance(part, Iterator) else part)


def _library(module: str) -> bool:
    """Whether code is PyTorch's, Python's or ours, which versions tell apart."""
    return module.split(".")[0] in _LIBRARIES


def _code_of_class(kind: type) -> bytes:
    """Hash of the code of all methods, and of plain values."""
    total = hashlib.sha256()
    for name, value in sorted(vars(kind).items()):
        function = inspect.unwrap(value.fget) if isinstance(value, property) and value.fget else value
        function = function.__func__ if isinstance(function, (staticmethod, classmethod)) else function
        if isinstance(function, types.FunctionType):
            total.update(name.encode() + _code(inspect.unwrap(function).__code__))
        elif not name.startswith("__") and isinstance(value, (bool, int, float, str, bytes, tuple, type(None))):
            total.update(f"{name}={value!r}".encode())
    return total.digest()


def _code(code: types.CodeType) -> bytes:
    """Hash of what a function does; where it stands in its file makes no difference."""
    total = hashlib.sha256(code.co_code)
    total.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        total.update(_code(constant) if isinstance(constant, types.CodeType) else repr(constant).encode())
    return total.digest()


def _hooks(module: nn.Module) -> list[Any]:
    """Those that may change values: not those of `capture`."""
    kinds = (module._forward_hooks, module._forward_pre_hooks)
    return [hook for kind in kinds for hook in kind.values() if getattr(hook, "changes", True)]
