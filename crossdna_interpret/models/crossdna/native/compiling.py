"""Compile the C code of this folder: the compiler, the sizes, the machine, and the location of the result.

This module imports only the standard library, because the build of the package runs it before dependencies are
installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "RELEASED",
    "CompileError",
    "Sizes",
    "built",
    "compile_kernels",
    "find_compiler",
    "kept",
    "kept_or_compiled",
    "places",
]

SOURCE = Path(__file__).parent
FILES = ("vector.h", "attention.c", "comba.c", "elementwise.c")
BUILT = Path(__file__).with_name("built")
SEALED = sys.platform.startswith("linux")
_SEAL = b"crossdna_interpret kernels"
POSIX = os.name == "posix"  # here, owner and mode of a file control write access
# The first set that the compiler accepts is used, as some compilers do not support -march=native. There is no OpenMP:
# PyTorch has its own OpenMP runtime, and two runtimes in a process would wait for each other's threads.
FLAGS = [["-O2", "-march=native"], ["-O2", "-mcpu=native"], ["-O2"]]
# Compilers differ in how they pass vectors wider than the registers, and warn of it (psabi). Here only inlined
# functions take such vectors, so the warning does not apply.
ALWAYS = ["-std=gnu11", "-shared", "-fPIC", "-fno-math-errno", "-Wno-psabi"]


class CompileError(RuntimeError):
    """The kernels are not available here. The message says why."""


@dataclass(frozen=True)
class Sizes:
    """Sizes that are compiled into the kernels.

    Attributes:
        key, value: key and value size of a Comba head.
        taps: taps of Comba's convolution, or 0 without convolution.
        head: size of an attention head.
        double: float64 if true, float32 otherwise.
    """

    key: int
    value: int
    taps: int
    head: int
    double: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], *, double: bool = False) -> Sizes:
        """Sizes of a model, from its config in the format of this package."""
        return cls(
            key=config["comba_head_dim"],
            value=int(config["comba_head_dim"] * config["expand_v"]),
            taps=config["conv_size"] or 0,
            head=config["d_model"] // config["attention_heads"],
            double=double,
        )

    def macros(self) -> list[str]:
        """Compiler options that define the sizes."""
        real = "double" if self.double else "float"
        values = {"KEY": self.key, "VALUE": self.value, "TAPS": self.taps, "HEAD": self.head}
        return [f"-DREAL={real}", f"-DIS_DOUBLE={int(self.double)}", *(f"-D{k}={v}" for k, v in values.items())]


RELEASED = Sizes(key=64, value=64, taps=4, head=16)  # the released CrossDNA configuration


def find_compiler() -> str | None:
    """The C compiler: `CC` if it is set, otherwise the first of cc, gcc and clang, or None."""
    named = os.environ.get("CC")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def sources() -> list[str]:
    """Paths of the files to compile. They include the other files."""
    return [str(SOURCE / name) for name in FILES if name.endswith(".c")]


def _name(sizes: Sizes) -> str:
    """File name of the kernels for these sizes and this machine. It changes with the source code."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    machine = platform.system(), platform.machine(), platform.libc_ver(), features
    sources = [(name, (SOURCE / name).read_text()) for name in FILES]
    made_of = [sources, sizes.macros(), machine, FLAGS, ALWAYS]
    return f"kernels-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]}.so"


def places(sizes: Sizes) -> Iterator[Path]:
    """Possible paths of the kernels for these sizes. New kernels are written to the last one.

    If CROSSDNA_INTERPRET_CACHE is set, this is its folder. Otherwise these are the folder of the package's build and
    the user's cache folder.
    """
    name, folder = _name(sizes), os.environ.get("CROSSDNA_INTERPRET_CACHE")
    if folder:
        yield Path(folder) / name
        return
    yield BUILT / name
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    yield Path(base) / "crossdna_interpret" / name


def _problem(path: Path, *, folder: bool = False) -> str | None:
    """Reason why another user may have changed a file or folder, or None if only this user can.

    Raises:
        FileNotFoundError, NotADirectoryError: the path does not exist.
    """
    status = os.stat(path, follow_symlinks=folder)
    if not POSIX:
        return None
    if not folder and not stat.S_ISREG(status.st_mode):  # the folder behind a link is not checked
        return f"{path} is not a regular file"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}, the current user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by other users (`chmod go-w` prevents it)"
    return None


def _check_folder(folder: Path) -> None:
    """Refuse a cache folder that other users can write to, because loading a library runs its code."""
    try:
        problem = _problem(folder, folder=True)
    except FileNotFoundError:
        return
    if problem:
        raise CompileError(f"kernels are not loaded from a folder that other users can change: {problem}")


def _seal(path: Path) -> None:
    """Append the hash of a file to it. Loaders on Linux ignore what follows the library's own content."""
    if SEALED:
        with path.open("rb+") as file:
            digest = hashlib.sha256(file.read()).digest()
            file.write(_SEAL + digest)


def _is_whole(path: Path) -> bool:
    """Whether a file is as it was written. To load half of a library would end the process."""
    if not SEALED:
        return True
    content = path.read_bytes()
    end = len(content) - len(_SEAL) - hashlib.sha256().digest_size
    return content[end:] == _SEAL + hashlib.sha256(content[: max(0, end)]).digest()


def kept(sizes: Sizes) -> Path | None:
    """Path of existing kernels for these sizes, or None.

    A file in a cache folder is ignored if it is damaged, if it belongs to another user or if others can write to it.
    Kernels from the package's build are not checked, because a user who can change them can change the whole package.
    """
    for place in places(sizes):
        try:
            if place.exists() if place.parent == BUILT else _problem(place) is None and _is_whole(place):
                return place
        except (FileNotFoundError, NotADirectoryError):
            pass
    return None


def kept_or_compiled(sizes: Sizes) -> Path:
    """Path of the kernels for these sizes. If there are none, they are compiled into the cache folder.

    Raises:
        CompileError: as for `compile_kernels`, or other users can change the cache folder.
        OSError: the folder cannot be read or written.
    """
    path = kept(sizes)
    if path is None:
        *_, path = places(sizes)
        _check_folder(path.parent)
        compile_kernels(sizes, path)
    if path.parent != BUILT:
        _check_folder(path.parent)
    return path


def built(sizes: Sizes, folder: Path = BUILT) -> Path:
    """Compile kernels into the folder of the package, as its build does. See `compile_kernels`."""
    target = folder / _name(sizes)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)  # readable by all users of the package
        compile_kernels(sizes, target)
    return target


def compile_kernels(sizes: Sizes, target: Path) -> None:
    """Compile kernels into a file. The file appears complete, even if several processes compile at once.

    Only the user can write to the file, and to its folder if that is new.

    Raises:
        CompileError: there is no compiler or it fails. The message says why.
        OSError: the folder is not writable.
    """
    compiler = find_compiler()
    if compiler is None:
        named = os.environ.get("CC")
        problem = f"`CC` names {named!r}, which is not" if named else "none of cc, gcc and clang is"
        raise CompileError(f"there is no C compiler: {problem} on the path")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    problem = ""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        out = Path(folder) / target.name
        for flags in FLAGS:
            command = [compiler, *flags, *ALWAYS, *sizes.macros(), "-o", str(out), *sources(), "-lm"]
            result = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if result.returncode == 0:
                out.chmod(out.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))
                _seal(out)
                out.replace(target)
                return
            problem = problem or result.stderr.strip()[-500:]
    raise CompileError(f"{compiler} failed: {problem}")
