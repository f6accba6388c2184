"""Compilation, storage and use of the CPU kernels."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import crossdna_interpret
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native import bindings as kernels
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.models.crossdna.native.bindings import (
    CompileError,
    Kernels,
    active_kernels,
    compiled,
    load_kernels,
    use_kernels,
)
from crossdna_interpret.models.crossdna.native.compiling import RELEASED, Sizes, find_compiler

pytestmark = pytest.mark.usefixtures("kernel_cache")

Load = Callable[[torch.dtype], Kernels]

SCRIPT = Path(compiling.__file__)
ROOT = Path(__file__).resolve().parents[2]

# The sizes of the `model` fixture's heads, so that it can compute on these kernels.
CONFIG = CrossDNAConfig(d_model=6, attention_heads=1, comba_heads=1, comba_head_dim=4, expand_v=2.0, conv_size=4)


@pytest.fixture(scope="module")
def load(kernel_cache: Path) -> Load:
    """Kernels for `CONFIG`, compiled once."""
    if find_compiler() is None:
        pytest.skip("there is no C compiler here")
    # Now, in the module's folder: later a test may have a folder of its own.
    return {dtype: load_kernels(CONFIG, dtype) for dtype in (torch.float32, torch.float64)}.__getitem__


# When they are used


def state(model: nn.Module) -> list[list[str]]:
    """The names of what modules hold."""
    return [sorted(vars(module)) for module in model.modules()]


def test_kernels_are_active_in_the_body_alone(load: Load, model: CrossDNA) -> None:
    outer, inner, before, x = load(torch.float32), load(torch.float32), state(model), torch.zeros(1)
    with torch.no_grad():
        assert active_kernels(x) is None
        with use_kernels(outer):
            assert active_kernels(x) is outer
            with use_kernels(inner):
                assert active_kernels(x) is inner
            with use_kernels(None):
                assert active_kernels(x) is None
            assert active_kernels(x) is outer
            assert active_kernels(x.double()) is None
            assert state(model) == before
        assert active_kernels(x) is None
        with pytest.raises(ZeroDivisionError), use_kernels(outer):
            raise ZeroDivisionError
        assert active_kernels(x) is None


def test_kernels_are_not_active_in_other_threads(load: Load) -> None:
    with use_kernels(load(torch.float32)), ThreadPoolExecutor(1) as pool, torch.no_grad():
        assert pool.submit(active_kernels, torch.zeros(1)).result() is None


def test_kernels_of_other_sizes_are_passed_by(load: Load, make_model: Callable) -> None:
    other = make_model(d_model=6, attention_heads=3, comba_heads=3, comba_head_dim=2, expand_v=1.0, conv_size=3)
    x = other.one_hot("ACGTTGCAACGT")
    with torch.no_grad():
        expected = other(x)
        with use_kernels(load(torch.float32)):
            torch.testing.assert_close(other(x), expected)


# How they are compiled and kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a shell script the compiler; $out is what it is to write. Each run leaves a line in the file returned."""

    def make(script: str) -> Path:
        path, log = tmp_path / "compiler", tmp_path / "runs"
        find_out = 'for word in "$@"; do [ "$last" = -o ] && out=$word; last=$word; done'
        path.write_text(f"#!/bin/sh\necho \"$@\" >> '{log}'\n{find_out}\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))
        return log

    return make


@pytest.fixture
def library(load: Load) -> str:
    """The library that compiling for `CONFIG` in float32 gives, for compilers that hand out a ready one."""
    return load(torch.float32).library._name


def fails(match: str, dtype: torch.dtype = torch.float32) -> None:
    with pytest.raises(CompileError, match=match):
        load_kernels(CONFIG, dtype)


def test_other_types_have_no_kernels() -> None:
    fails("float32 and float64, not for bfloat16", torch.bfloat16)
    assert not compiled(CONFIG, torch.bfloat16)


def test_a_compiler_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    fails("no-such-compiler")
    assert not compiled(CONFIG, torch.float32)
    assert not folder.exists()


def test_no_compiler_on_the_path_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    fails("there is no C compiler: none of cc, gcc and clang")
    assert not folder.exists()


def test_the_compiler_is_the_one_named_or_the_first_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(name: str) -> str:
        (tmp_path / name).touch(0o755)
        return str(tmp_path / name)

    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    for name in ("clang", "gcc", "cc"):  # each goes before the ones that are there
        assert add(name) == find_compiler()
    other = add("other")
    monkeypatch.setenv("CC", "other")
    assert find_compiler() == other
    monkeypatch.setenv("CC", other)
    assert find_compiler() == other


@pytest.mark.parametrize("leaves", ["", 'echo half > "$out";'], ids=["nothing", "half a file"])
def test_a_compiler_that_fails_is_an_error_with_its_reason_and_leaves_nothing(
    folder: Path, compiler: Callable[[str], Path], leaves: str
) -> None:
    compiler(f"{leaves} echo 'comba.c:7: no room for a vector' >&2; exit 1")
    fails("compiler failed: comba.c:7: no room for a vector")
    assert not compiled(CONFIG, torch.float32)
    assert list(folder.iterdir()) == []


def test_a_compiler_may_fail_in_any_encoding(folder: Path, compiler: Callable[[str], Path]) -> None:
    compiler("printf 'na\\357ve reason' >&2; exit 1")
    fails("ve reason")


def test_a_compiler_that_makes_nothing_is_an_error(folder: Path, compiler: Callable[[str], Path]) -> None:
    compiler("exit 0")
    fails("cannot be kept or loaded")
    assert list(folder.iterdir()) == []


def test_a_compiler_that_cannot_be_run_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    fails("cannot be kept or loaded.*/broken")
    assert list(folder.iterdir()) == []


def test_options_that_a_compiler_does_not_know_are_left_out(
    load: Load, folder: Path, compiler: Callable[[str], Path]
) -> None:
    real = find_compiler()
    log = compiler(f'case "$*" in *-march=native*) echo what is -march? >&2; exit 1;; esac; exec "{real}" "$@"')
    plain = load_kernels(CONFIG, torch.float32)
    runs = log.read_text().splitlines()
    assert "-march=native" in runs[0]
    assert "-march=native" not in runs[-1]
    x = torch.randn(3, 40, 20, generator=torch.Generator().manual_seed(0))
    expected = load(torch.float32).rms_norm(x, x[0, 0], 1e-5, 1.0)
    torch.testing.assert_close(plain.rms_norm(x, x[0, 0], 1e-5, 1.0), expected)


def test_what_is_compiled_is_kept(
    folder: Path, compiler: Callable[[str], Path], library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = compiler(f'cp "{library}" "$out"')
    assert not compiled(CONFIG, torch.float32)
    load_kernels(CONFIG, torch.float32)
    assert compiled(CONFIG, torch.float32)
    assert len(log.read_text().splitlines()) == 1
    kernels._load.cache_clear()  # as in another process
    load_kernels(CONFIG, torch.float32)
    assert len(log.read_text().splitlines()) == 1
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setenv("CC", "no-such-compiler")  # which is not looked for
    load_kernels(CONFIG, torch.float32)


@pytest.mark.parametrize(
    "change",
    [{"comba_head_dim": 5}, {"expand_v": 1.0}, {"conv_size": 3}, {"conv_size": None}, {"d_model": 8}],
    ids=str,
)
def test_other_sizes_are_compiled_apart(
    folder: Path, compiler: Callable[[str], Path], library: str, change: dict[str, object]
) -> None:
    compiler(f'cp "{library}" "$out"')
    load_kernels(CONFIG, torch.float32)
    assert not compiled(dataclasses.replace(CONFIG, **change), torch.float32)
    assert not compiled(CONFIG, torch.float64)
    same = {"depth": 9, "comba_heads": 7, "window_size": 3, "d_model": 12, "attention_heads": 2}
    assert compiled(dataclasses.replace(CONFIG, **same), torch.float32)


def test_all_c_files_are_known() -> None:
    assert {path.name for path in compiling.SOURCE.glob("*.[ch]")} == set(compiling.FILES)


@pytest.mark.parametrize("changed", compiling.FILES)
def test_another_source_is_compiled_apart(
    folder: Path, compiler: Callable[[str], Path], library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:  # fmt: skip
    compiler(f'cp "{library}" "$out"')
    load_kernels(CONFIG, torch.float32)
    shutil.copytree(compiling.SOURCE, tmp_path / "native", ignore=shutil.ignore_patterns("built"))
    monkeypatch.setattr(compiling, "SOURCE", tmp_path / "native")
    assert compiled(CONFIG, torch.float32)
    with (tmp_path / "native" / changed).open("a") as file:
        file.write("\n")
    assert not compiled(CONFIG, torch.float32)


def test_several_may_compile_at_once(folder: Path, compiler: Callable[[str], Path], library: str) -> None:
    log = compiler(f'sleep 0.2; cp "{library}" "$out"')
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_kernels(CONFIG, torch.float32), range(4)))
    assert len(log.read_text().splitlines()) > 1
    assert [path.suffix for path in folder.iterdir()] == [".so"]
    x = torch.ones(1, 2, 20)
    assert all(torch.equal(each.rms_norm(x, x[0, 0], 0.0, 1.0), x) for each in found)


def test_the_cache_is_in_the_users_cache_folder(
    compiler: Callable[[str], Path], library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(f'cp "{library}" "$out"')
    monkeypatch.delenv("CROSSDNA_INTERPRET_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_kernels(CONFIG, torch.float32)
    assert len(list((tmp_path / "home" / ".cache" / "crossdna_interpret").glob("*.so"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    load_kernels(CONFIG, torch.float32)
    assert len(list((tmp_path / "other" / "crossdna_interpret").glob("*.so"))) == 1


def test_a_folder_that_cannot_be_written_is_an_error(
    compiler: Callable[[str], Path], library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(f'cp "{library}" "$out"')
    (tmp_path / "file").touch()
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "file" / "below"))
    assert not compiled(CONFIG, torch.float32)
    fails("cannot be kept or loaded.*file/below")


def test_a_folder_that_cannot_be_looked_into_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A name too long, since root, who may run this, can look into anything else.
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / ("x" * 300)))
    fails("cannot be kept or loaded.*x{300}")
    assert not compiled(CONFIG, torch.float32)


def test_a_user_without_a_home_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("CROSSDNA_INTERPRET_CACHE")
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    fails("home")
    assert not compiled(CONFIG, torch.float32)


def test_a_damaged_library_is_an_error_that_names_it(
    folder: Path, compiler: Callable[[str], Path], tmp_path: Path
) -> None:
    compiler('echo nonsense > "$out"')
    fails(rf"cannot be kept or loaded.*{tmp_path}.*\.so")


def test_what_the_build_of_the_package_left_is_found(
    load: Load, compiler: Callable[[str], Path], library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = compiler(f'cp "{library}" "$out"')
    monkeypatch.delenv("CROSSDNA_INTERPRET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(compiling, "BUILT", tmp_path / "built")
    assert not compiled(CONFIG, torch.float32)
    path = compiling.built(Sizes.of(CONFIG.to_dict()), tmp_path / "built")
    assert compiling.built(Sizes.of(CONFIG.to_dict()), tmp_path / "built") == path  # which is there
    assert compiled(CONFIG, torch.float32)
    load_kernels(CONFIG, torch.float32)
    assert len(log.read_text().splitlines()) == 1
    assert not (tmp_path / "user").exists()
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "named"))  # and no other
    assert not compiled(CONFIG, torch.float32)


# Whose they are


posix = pytest.mark.skipif(not compiling.POSIX, reason="owners and modes say who may write on POSIX alone")


@pytest.fixture
def runs(load: Load, folder: Path, compiler: Callable[[str], Path], library: str) -> Callable[[], int]:
    """Kernels in the cache, and how often the compiler has run; the next loading is as in another process."""
    log = compiler(f'cp "{library}" "$out"; chmod 777 "$out"')
    load_kernels(CONFIG, torch.float32)
    kernels._load.cache_clear()
    return lambda: len(log.read_text().splitlines())


def others_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def stat(queried: Any, **options: Any) -> os.stat_result:
        result = real(queried, **options)
        return os.stat_result([*result[:4], os.geteuid() + 1, *result[5:]]) if Path(queried) == path else result

    monkeypatch.setattr(os, "stat", stat)


@posix
def test_the_folder_is_the_users_alone_and_nobody_else_writes_to_the_file(
    runs: Callable[[], int], folder: Path
) -> None:
    (library,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert library.stat().st_mode & 0o777 == 0o755  # of 0o777


@posix
def test_a_umask_that_lets_the_group_write_does_not_count(
    load: Load, folder: Path, compiler: Callable[[str], Path], library: str
) -> None:
    log = compiler(f'cp "{library}" "$out"; chmod 775 "$out"')
    before = os.umask(0o002)
    try:
        for _ in range(2):
            load_kernels(CONFIG, torch.float32)
            kernels._load.cache_clear()
    finally:
        os.umask(before)
    assert len(log.read_text().splitlines()) == 1


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777], ids=oct)
def test_a_file_that_others_can_write_to_is_compiled_anew(runs: Callable[[], int], folder: Path, mode: int) -> None:
    (library,) = folder.iterdir()
    library.unlink()  # not written over, since this process has it in its memory
    library.write_text("what another user put there")
    library.chmod(mode)
    assert not compiled(CONFIG, torch.float32)
    load_kernels(CONFIG, torch.float32)
    assert runs() == 2
    assert library.stat().st_mode & 0o022 == 0
    kernels._load.cache_clear()
    load_kernels(CONFIG, torch.float32)
    assert runs() == 2


@posix
def test_a_file_of_another_user_is_compiled_anew(
    runs: Callable[[], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (library,) = folder.iterdir()
    others_own(library, monkeypatch)
    assert not compiled(CONFIG, torch.float32)
    load_kernels(CONFIG, torch.float32)
    assert runs() == 2


@posix
def test_a_link_is_compiled_anew(runs: Callable[[], int], folder: Path, tmp_path: Path) -> None:
    (library,) = folder.iterdir()
    library.rename(tmp_path / "elsewhere.so")
    library.symlink_to(tmp_path / "elsewhere.so")
    load_kernels(CONFIG, torch.float32)
    assert runs() == 2
    assert not library.is_symlink()


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777], ids=oct)
@pytest.mark.parametrize("empty", [False, True], ids=["with kernels", "empty"])
def test_a_folder_that_others_can_write_to_is_not_used(
    runs: Callable[[], int], folder: Path, mode: int, empty: bool
) -> None:
    (library,) = folder.iterdir()
    if empty:
        library.unlink()
    folder.chmod(mode)
    fails(f"other users can change: {folder} can be written by other users .*chmod go-w")
    assert runs() == 1
    assert list(folder.iterdir()) == ([] if empty else [library])
    folder.chmod(0o755)
    load_kernels(CONFIG, torch.float32)
    assert runs() == 1 + empty


@posix
def test_a_folder_of_another_user_is_not_used(
    runs: Callable[[], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_own(folder, monkeypatch)
    fails(f"other users can change: {folder} belongs to user {os.geteuid() + 1}, not to user {os.geteuid()}")
    assert runs() == 1


@posix
def test_a_certificate_says_why_kernels_are_not_used(runs: Callable[[], int], folder: Path, model: CrossDNA) -> None:
    folder.chmod(0o777)
    edits = [crossdna_interpret.Edit(i, i + 1, "") for i in range(3)]
    result = crossdna_interpret.score_edits("GATTACA" * 5, edits, model)
    assert f"no: kernels are not loaded from a folder that other users can change: {folder}" in str(
        result.certificate.settings["compile"]
    )


def test_where_modes_say_nothing_they_are_not_looked_at(
    runs: Callable[[], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_own(folder, monkeypatch)
    monkeypatch.setattr(compiling, "POSIX", False)
    assert compiling.kept_or_compiled(Sizes.of(CONFIG.to_dict())).parent == folder
    assert runs() == 1


# The build of the package


def test_the_released_sizes_are_those_of_the_default_config() -> None:
    assert Sizes.of(CrossDNAConfig().to_dict()) == RELEASED


@pytest.mark.parametrize("module", [kernels, compiling])
def test_public_names_exist(module: ModuleType) -> None:
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.skipif(not compiling.SEALED, reason="files are sealed on Linux")
def test_half_a_file_is_compiled_again(folder: Path, compiler: Callable[[str], Path], library: str) -> None:
    log = compiler(f'cp "{library}" "$out"')
    load_kernels(CONFIG, torch.float32)
    (path,), whole = folder.iterdir(), next(folder.iterdir()).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1], b"", whole[:100] + b"x" + whole[101:]):
        path.unlink()  # the process still uses the file
        path.write_bytes(damaged)
        assert not compiled(CONFIG, torch.float32)
        kernels._load.cache_clear()
        load_kernels(CONFIG, torch.float32)
        assert path.read_bytes() == whole
    assert len(log.read_text().splitlines()) == 5
