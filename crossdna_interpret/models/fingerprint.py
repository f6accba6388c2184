"""A hash of everything that determines a model's scores: weights, configuration and code.

Weights are hashed once. After that, a checksum of each tensor detects changes. It also detects those that PyTorch does
not notice, such as changes through `.data` or numpy.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import sys
import types
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossdna_interpret.models.hooks import changing_hooks, content_of
from crossdna_interpret.models.inputs import Inputs
from crossdna_interpret.models.libraries import code_of_library, is_library, version_of
from crossdna_interpret.models.protocols import declared
from crossdna_interpret.models.tensor_hash import hash_of

__all__ = ["Fingerprint", "attributes_of", "fingerprint", "note_what_changes"]

_MOST = 100_000  # largest total number of values to examine
# Attributes that every module has and that do not determine its scores.
_PLUMBING = frozenset(vars(nn.Module())) | {"training", "_flat_weights", "_flat_weight_refs"}
_SIMPLE = (bool, int, float, complex, str, bytes, type(None), Tensor, np.ndarray, np.generic)
_PLAIN = (dict, list, tuple, set, frozenset)  # containers without other state than their elements
_NO_EFFECT = frozenset(
    ["name", "training_range", "change_errors"]
)  # attributes of the root module that do not affect scores
_NO_CODE = frozenset(
    ["__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__parameters__",
     "__orig_bases__", "__abstractmethods__", "_abc_impl", "__match_args__", "__dataclass_params__",
     "__dataclass_fields__", "__hash__", "__slots__", "__jit_unused_properties__",
     "__slotnames__", "__static_attributes__", "__firstlineno__"]  # attributes that Python creates
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """A model's hash, and the parts that cannot be hashed.

    Attributes:
        digest: SHA-256, hexadecimal.
        opaque: attributes of its modules that may change scores but cannot be hashed, such as "module.tokenizer".
        libraries: names and versions of the installed packages that contain its code.
    """

    digest: str
    opaque: tuple[str, ...]
    libraries: tuple[tuple[str, str], ...]


def fingerprint(model: nn.Module) -> Fingerprint:
    """Hash of a model's weights, of its modules and their attributes, and of code outside installed libraries.

    The training mode, the name and the device do not change the hash. The dtype does. Some attributes and buffers,
    such as a counter, change in a forward pass. After `note_what_changes` they are opaque, and the hash uses their old
    values. The hash does not cover what a model reads from files, from the environment or through names that it
    creates at run time.

    Example:
        >>> first, second = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> fingerprint(first) == fingerprint(first), fingerprint(first) == fingerprint(second)
        (True, False)
    """
    writer = _Writer(model)
    for path, module in model.named_modules():
        writer.module(path, module)
        writer.declared(path, module)
    digest = hashlib.sha256(writer.digest() + _weights(model))
    libraries = {root: version_of(root) for root in writer.libraries}
    return Fingerprint(digest.hexdigest(), tuple(writer.opaque), tuple(sorted(libraries.items())))


# Attributes that a forward pass changed, with the hash of the old value. A model in training mode does not need this:
# each analysis uses its own copy.
_written: weakref.WeakKeyDictionary[nn.Module, dict[str, bytes]] = weakref.WeakKeyDictionary()

Attributes = dict[tuple[nn.Module, str], bytes]


def attributes_of(model: nn.Module) -> Attributes:
    """Hash of each attribute and buffer of each module, for `note_what_changes`."""
    result: Attributes = {}
    registered = {id(module) for module in model.modules()}
    for module in model.modules():
        for name, value in [*_own_attributes(module).items(), *module._buffers.items()]:
            if name not in _PLUMBING:
                writer = _Writer(model, registered)
                writer.value(name, value)
                result[module, name] = writer.digest()
    return result


def note_what_changes(model: nn.Module, before: Sequence[Attributes]) -> None:
    """Record the attributes that a forward pass changed. From now on they are opaque and hashed by their old value.

    Args:
        model: the model after the pass.
        before: two results of `attributes_of` from before the pass. Attributes for which they differ have no stable
            hash and are ignored.
    """
    first, second = before
    for key, digest in attributes_of(model).items():
        known = second.get(key)
        if known == first.get(key) and known != digest:
            module, name = key
            _written.setdefault(module, {}).setdefault(name, known or b"")


def _weights(model: nn.Module) -> bytes:
    total = hashlib.sha256()
    tensors = [
        (f"{path}.{name}", tensor)
        for path, module in model.named_modules(remove_duplicate=False)
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]
        if tensor is not None and name not in _written.get(module, ())
    ]
    for name, tensor in sorted(tensors, key=lambda each: each[0]):
        total.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        total.update(hash_of(tensor))
    return total.digest()


class _Writer:
    """Adds values to a hash, each with its type, so that values of different types get different hashes."""

    def __init__(self, model: nn.Module, registered: set[int] | None = None) -> None:
        self._hash = hashlib.sha256()
        self.opaque: list[str] = []
        self.libraries: set[str] = set()
        # Values already in the hash: id -> (number, value). The reference to the value keeps its id from being reused.
        self._known: dict[int, tuple[int, Any]] = {}
        self._classes: set[type] = set()
        self._left = _MOST
        self._registered = {id(module) for module in model.modules()} if registered is None else registered

    def digest(self) -> bytes:
        return self._hash.digest()

    def put(self, *parts: str | bytes) -> None:
        for part in parts:
            content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            self._hash.update(f"{type(part).__name__}{len(content)}:".encode() + content)

    def declared(self, path: str, module: nn.Module) -> None:
        """Add the capabilities that the class of a module declares, and what they say of its input."""
        for kind, make in sorted(declared(module).items(), key=lambda each: each[0].__qualname__):
            self.put(kind.__qualname__)
            self.value(f"{path}.{kind.__name__}".lstrip("."), make)
            offered = make(module) if kind is Inputs else None
            if offered is not None:
                self.classes_of(path, type(offered))
                if dataclasses.is_dataclass(offered):
                    compared = [each.name for each in dataclasses.fields(offered) if each.compare]
                    self.value(f"{path}.inputs".lstrip("."), {name: getattr(offered, name) for name in compared})
                else:
                    self.value(f"{path}.inputs".lstrip("."), offered)

    def module(self, path: str, module: nn.Module) -> None:
        kind = type(module)
        self.put("module", path, f"{kind.__module__}.{kind.__qualname__}")
        self.classes_of(path, kind)
        written = _written.get(module, {})
        for name, before in sorted(written.items()):
            self.put(name, before)
            self.opaque.append(f"{path}.{name}".lstrip("."))
        for name, value in sorted(_own_attributes(module).items()):
            if name not in _PLUMBING and name not in written and not (path == "" and name in _NO_EFFECT):
                self.put(name)
                self.value(f"{path}.{name}".lstrip("."), value)
        if isinstance(module, torch.jit.ScriptModule):
            self._compiled_code(path, module)
        for hook in changing_hooks(module):
            self.value(f"{path}.hooks".lstrip("."), content_of(hook))

    def _compiled_code(self, path: str, module: torch.jit.ScriptModule) -> None:
        """Add the code of a TorchScript module, and the constants that tracing or freezing has put into it."""
        try:
            code, constants = module.code_with_constants
        except (AttributeError, RuntimeError):  # a submodule without a `forward`
            return
        self.put(code)
        self.value(f"{path}.code".lstrip("."), dict(sorted(constants.const_mapping.items())))

    def value(self, path: str, value: Any) -> None:
        simple = isinstance(value, (*_SIMPLE, tuple, torch.dtype, torch.Size, torch.device, enum.Enum))
        if not simple and id(value) in self._known:  # a shared value, or a container that contains itself
            self.put(f"as before {self._known[id(value)][0]}")
            return
        self._left -= 1
        if self._left < 0:
            self.opaque = self.opaque or [path]
            return
        if not simple:
            self._known[id(value)] = len(self._known), value
        self._value(path, value)

    def _value(self, path: str, value: Any) -> None:
        kind = type(value)
        self.put(f"{kind.__module__}.{kind.__qualname__}")
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.Size)):
            self.put(repr(value))
        elif isinstance(value, torch.device):
            return  # the device does not change the hash
        elif isinstance(value, enum.Enum):
            self.put(value.name)
            self.value(path, value.value)
        elif isinstance(value, (np.ndarray, np.generic)):
            self._array(path, np.asarray(value))
        elif isinstance(value, Tensor):
            self.put(str(value.dtype), repr(tuple(value.shape)), hash_of(value))
        elif isinstance(value, (Mapping, Set, list, tuple)):
            self._container(path, value)
        elif isinstance(value, nn.Module):
            if id(value) not in self._registered:  # registered modules are hashed at their own path
                for inner, module in value.named_modules():
                    self.module(f"{path}.{inner}", module)
                self.put(_weights(value))
        elif isinstance(value, type):
            self.put(f"{value.__module__}.{value.__qualname__}")
            self.classes_of(path, value)
        elif isinstance(value, types.ModuleType):
            self._user_module(path, value, ())
        elif isinstance(value, (weakref.ref, types.CodeType)):
            self.put(_code(value) if isinstance(value, types.CodeType) else "reference")
        elif callable(value):
            self._callable(path, value)
        else:
            self._object(path, value)

    def _container(self, path: str, value: Any) -> None:
        self.put(str(len(value)))
        if isinstance(value, Mapping):
            for key, each in value.items():
                self.value(path, key)
                self.value(f"{path}[{key!r}]", each)
        elif isinstance(value, Set):
            self.put(*sorted(repr(each) for each in value))
        else:
            for at, each in enumerate(value):
                self.value(f"{path}[{at}]", each)
        if type(value) not in _PLAIN:  # a subclass may have methods, attributes and a `default_factory`
            self.classes_of(path, type(value))
            self.value(path, {**_own_attributes(value), "": getattr(value, "default_factory", None)})

    def _user_module(self, path: str, module: types.ModuleType, names: Collection[str]) -> None:
        """Add the objects of `names` in a user's module, or all objects if `names` is empty.

        For a module of a library, only the version counts.
        """
        self.put(module.__name__)
        if self._known_library(module.__name__):
            return
        content = vars(module)
        for name in sorted(names & content.keys() if names else content.keys()):
            if name.startswith("__"):
                continue
            each = content[name]
            self.put(name)
            if isinstance(each, types.ModuleType):
                if id(each) not in self._known:
                    self._known[id(each)] = len(self._known), each
                    self._user_module(f"{path}.{name}", each, names)
            else:
                self.value(f"{path}.{name}", each)

    def _known_library(self, module: str) -> bool:
        """Whether a module is of a library. If so, record its package."""
        result = is_library(module)
        if result and module.split(".")[0] not in sys.stdlib_module_names:
            self.libraries.add(module.split(".")[0])
        return result

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
            self.value(path, value.__self__)
        elif isinstance(value, types.FunctionType):
            self._function(path, value)
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)):
            self.put(value.__qualname__)
            owner: Any = getattr(value, "__self__", None)
            owner_name = getattr(owner, "__name__", "") if isinstance(owner, (types.ModuleType, type)) else owner
            self.value(path, owner_name)
        elif isinstance(value, np.ufunc) and getattr(np, name := str(getattr(value, "__name__", "")), None) is value:
            self.put(name)
        else:
            if hasattr(value, "__wrapped__"):
                self.value(path, value.__wrapped__)
            self._object(path, value)

    def _function(self, path: str, function: types.FunctionType) -> None:
        self.put(function.__module__ or "", function.__qualname__)
        # The module name alone is not enough: `functools.wraps` copies it from the wrapped function.
        if self._known_library(function.__module__ or "") and code_of_library(function.__code__):
            return
        self.put(_code(function.__code__))
        self.value(path, function.__defaults__)
        self.value(path, function.__kwdefaults__)
        names = set(_names(function.__code__))
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            self._used(path, content, names)
        for name in sorted(names & function.__globals__.keys()):
            self.put(name)
            self._used(f"{path}: {name}", function.__globals__[name], names)

    def _used(self, path: str, value: Any, names: Collection[str]) -> None:
        """Add a global or closure value of a function. For a module, add only the objects in `names`."""
        if isinstance(value, types.ModuleType):
            self._user_module(path, value, names)
        elif isinstance(value, types.FunctionType) or not (
            isinstance(value, type) and self._known_library(value.__module__)
        ):
            self.value(path, value)

    def classes_of(self, path: str, kind: type) -> None:
        """Add the class and its bases."""
        for each in kind.__mro__:
            self.put(each.__qualname__)
            self.code_of(path, each)

    def code_of(self, path: str, kind: type) -> None:
        """Add the methods and attributes of a class, once, unless the class is of a library."""
        if self._known_library(kind.__module__):
            return
        if kind in self._classes:
            return
        self._classes.add(kind)
        for name, value in sorted(vars(kind).items()):
            if name in _NO_CODE:
                continue
            self.put(name)
            if isinstance(value, property):
                value = [value.fget, value.fset]
            elif isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            elif isinstance(value, functools.cached_property):
                value = value.func
            self.value(f"{path}.{name}".lstrip("."), value)

    def _object(self, path: str, value: Any) -> None:
        """Add an object: its class, its attributes and the rest of its pickled state."""
        self.classes_of(path, type(value))
        if not is_library(type(value).__module__):
            self.value(path, _own_attributes(value))
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # for example a lock, or an object of a C extension
            self.opaque.append(path)
            return
        if isinstance(reduced, str):  # the name of a global. For a library, the name is enough
            self.put(reduced)
            if not hasattr(value, "__wrapped__") and not is_library(getattr(value, "__module__", None) or ""):
                self.opaque.append(path)
            return
        rebuild, arguments, *rest = reduced
        self.value(path, rebuild)
        self.value(path, arguments)
        for part in rest:
            self.value(path, list(part) if isinstance(part, Iterator) else part)


def _own_attributes(value: object) -> dict[str, Any]:
    """Attributes of an object, in its `__dict__` and in its slots."""
    if isinstance(value, torch.fx.GraphModule):
        return _graph_attributes(value)
    slots = [
        name
        for kind in type(value).__mro__
        for name, member in vars(kind).items()
        if isinstance(member, types.MemberDescriptorType) and not is_library(kind.__module__) and hasattr(value, name)
    ]
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


def _graph_attributes(module: torch.fx.GraphModule) -> dict[str, Any]:
    """The code of a traced or exported module, and the constants and functions that it uses.

    The other attributes describe how it was traced.
    """
    result: dict[str, Any] = {"code": module.code}
    for node in module.graph.nodes:
        if node.op == "get_attr" and (name := str(node.target)) in vars(module):
            result[name] = vars(module)[name]
        elif isinstance(node.target, types.FunctionType):
            result[f"function {node.target.__qualname__}"] = node.target
    return result


def _code(code: types.CodeType) -> bytes:
    """Hash of the code of a function. Its position in the file does not matter."""
    total = hashlib.sha256(code.co_code)
    total.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            total.update(_code(constant))
        else:  # sort sets, because their order differs between processes
            total.update(repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode())
    return total.digest()


def _names(code: types.CodeType) -> Iterator[str]:
    """Names of globals and attributes in a function and in its inner functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
