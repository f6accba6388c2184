"""Compiling the C code of this folder: with what, for which sizes and which machine, and where the result is kept.

Nothing but the standard library is imported, since the build of the package runs this before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
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
POSIX = os.name == "posix"  # where the owner and the mode of a file say who may write to it
# The first set that the compiler takes is used: some compilers know no -march=native. Without OpenMP: PyTorch brings a
# runtime of its own, and two of them in a process would wait for each other's threads.
FLAGS = [["-O2", "-march=native"], ["-O2", "-mcpu=native"], ["-O2"]]
# Vectors wider than the machine's registers are passed between inlined functions alone, so that compilers need not warn
# that they would pass them in different ways (psabi).
ALWAYS = ["-std=gnu11", "-shared", "-fPIC", "-fno-math-errno", "-Wno-psabi"]


class CompileError(RuntimeError):
    """The kernels cannot be had here; the message says why."""


@dataclass(frozen=True)
class Sizes:
    """What shapes the loops of the kernels.

    Attributes:
        key, value: sizes of a Comba head.
        taps: of Comba's convolution, 0 for none.
        head: size of an attention head.
        double: whether numbers are float64, not float32.
    """

    key: int
    value: int
    taps: int
    head: int
    double: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], *, double: bool = False) -> Sizes:
        """Those of a model, from its config in our own format."""
        return cls(
            key=config["comba_head_dim"],
            value=int(config["comba_head_dim"] * config["expand_v"]),
            taps=config["conv_size"] or 0,
            head=config["d_model"] // config["attention_heads"],
            double=double,
        )

    def macros(self) -> list[str]:
        """Options of the compiler."""
        real = "double" if self.double else "float"
        values = {"KEY": self.key, "VALUE": self.value, "TAPS": self.taps, "HEAD": self.head}
        return [f"-DREAL={real}", f"-DIS_DOUBLE={int(self.double)}", *(f"-D{k}={v}" for k, v in values.items())]


RELEASED = Sizes(key=64, value=64, taps=4, head=16)  # the released CrossDNA configuration


def find_compiler() -> str | None:
    """The C compiler that `CC` names, or the first of cc, gcc and clang, or None."""
    named = os.environ.get("CC")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def sources() -> list[str]:
    """Paths of the files to compile; the others are included by them."""
    return [str(SOURCE / name) for name in FILES if name.endswith(".c")]


def _name(sizes: Sizes) -> str:
    """Name of the kernels for these sizes and this machine. A changed source has another."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    machine = platform.system(), platform.machine(), platform.libc_ver(), features
    sources = [(name, (SOURCE / name).read_text()) for name in FILES]
    made_of = [sources, sizes.macros(), machine, FLAGS, ALWAYS]
    return f"kernels-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]}.so"


def places(sizes: Sizes) -> Iterator[Path]:
    """Where the kernels for these sizes may be; the last is where they would be kept.

    In the folder that CROSSDNA_INTERPRET_CACHE names, or else where the package's build left them, and in the user's
    cache folder.
    """
    name, folder = _name(sizes), os.environ.get("CROSSDNA_INTERPRET_CACHE")
    if folder:
        yield Path(folder) / name
        return
    yield BUILT / name
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    yield Path(base) / "crossdna_interpret" / name


def _problem(path: Path, *, folder: bool = False) -> str | None:
    """Why a user other than this one may have changed a file, or what a folder holds; None if nobody can have.

    Raises:
        FileNotFoundError, NotADirectoryError: it is not there.
    """
    status = os.stat(path, follow_symlinks=folder)
    if not POSIX:
        return None
    if not folder and not stat.S_ISREG(status.st_mode):  # a link leads to a file in a folder that is not checked
        return f"{path} is not a regular file"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}, who runs this"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by other users (`chmod go-w` takes that from them)"
    return None


def _check_folder(folder: Path) -> None:
    """Loading a library runs its code, so none is loaded from a cache folder where another user can put one."""
    try:
        problem = _problem(folder, folder=True)
    except FileNotFoundError:
        return
    if problem:
        raise CompileError(f"kernels are not loaded from a folder that other users can change: {problem}")


def kept(sizes: Sizes) -> Path | None:
    """Where kernels for these sizes are already, or None.

    A file in a cache folder that belongs to another user, or that others can write to, is none. What the package's
    build left is not checked, since whoever can change it can change all of the package.
    """
    for place in places(sizes):
        try:
            if place.exists() if place.parent == BUILT else _problem(place) is None:
                return place
        except (FileNotFoundError, NotADirectoryError):
            pass
    return None


def kept_or_compiled(sizes: Sizes) -> Path:
    """Where kernels for these sizes are, which are compiled into the cache folder if they are nowhere yet.

    Raises:
        CompileError: as `compile_kernels`; or other users can change what is in the cache folder.
        OSError: the folder cannot be looked into or written.
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
    """Compile kernels into the package's own folder, as its build does; see `compile_kernels`."""
    target = folder / _name(sizes)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)  # for all who use the package
        compile_kernels(sizes, target)
    return target


def compile_kernels(sizes: Sizes, target: Path) -> None:
    """Compile kernels into a file, which is there whole or not at all, whoever else is compiling.

    Nobody but the user can write to the file, nor to its folder if that is new.

    Raises:
        CompileError: no compiler, or one that fails; the message says why.
        OSError: the folder cannot be written.
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
                out.replace(target)
                return
            problem = problem or result.stderr.strip()[-500:]
    raise CompileError(f"{compiler} failed: {problem}")
