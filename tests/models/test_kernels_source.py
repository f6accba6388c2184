"""The C code of the kernels under a compiler's warnings and sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.models.crossdna.native.compiling import CompileError, Sizes, compile_kernels, find_compiler
from tests.models.kernel_sizes import SANITIZED_SOURCE, SIZES, VECTOR_BYTES, config_of

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")

ROOT = Path(__file__).resolve().parents[2]
LARGE = {"key": 512, "value": 1024, "taps": 40, "head": 4096}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the C files, which is what is compiled."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in compiling.FILES:
        shutil.copy(compiling.SOURCE / name, folder)
    monkeypatch.setattr(compiling, "SOURCE", folder)
    return folder


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors."""
    monkeypatch.setattr(compiling, "FLAGS", [["-O2"]])
    monkeypatch.setattr(compiling, "ALWAYS", [*compiling.ALWAYS, "-Wall", "-Wextra", "-Werror"])


@pytest.fixture(scope="session")
def knows_the_machine(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether the compiler has an option for the machine's own vectors."""
    folder, compiler = tmp_path_factory.mktemp("empty"), find_compiler()
    assert compiler is not None
    (folder / "empty.c").touch()
    command = [compiler, "-march=native", "-c", str(folder / "empty.c"), "-o", str(folder / "empty.o")]
    return subprocess.run(command, capture_output=True).returncode == 0


some_slow = pytest.mark.parametrize(
    "size", [size if size == "released" else pytest.param(size, marks=pytest.mark.slow) for size in SIZES]
)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("flags", ["-O2", "-O2 -march=native", "-O3 -march=native"])
@pytest.mark.parametrize("double", [False, True], ids=["float", "double"])
@some_slow
def test_the_source_compiles_without_a_warning(
    size: str, double: bool, flags: str, knows_the_machine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "-march=native" in flags and not knows_the_machine:
        pytest.skip("this compiler does not know -march=native")
    monkeypatch.setattr(compiling, "FLAGS", [flags.split()])
    if size in VECTOR_BYTES:
        monkeypatch.setattr(compiling, "ALWAYS", [*compiling.ALWAYS, f"-DBYTES={VECTOR_BYTES[size]}"])
    compile_kernels(Sizes.of(config_of(size).to_dict(), double=double), tmp_path / "kernels.so")


@pytest.mark.usefixtures("strict")
def test_the_stack_does_not_grow_with_the_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "ALWAYS", [*compiling.ALWAYS, "-Wframe-larger-than=8192"])
    for double in (False, True):
        compile_kernels(Sizes(**LARGE, double=double), tmp_path / "kernels.so")


@pytest.mark.usefixtures("strict")
def test_a_variable_that_is_not_used_is_an_error_then(source: Path, tmp_path: Path) -> None:
    replace(
        source / "comba.c",
        "const int rows = h->rows, live = h->live;",
        "const int rows = h->rows, live = h->live, unused = 1;",
    )
    with pytest.raises(CompileError, match="unused variable"):
        compile_kernels(compiling.RELEASED, tmp_path / "kernels.so")


@pytest.fixture(scope="session")
def sanitizer() -> str:
    """The library of the address sanitizer."""
    compiler = find_compiler()
    assert compiler is not None
    command = [compiler, "-print-file-name=libasan.so"]
    path = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not Path(path).is_absolute() or not Path(path).exists():
        pytest.skip(f"{compiler} has no libasan.so")
    return path


def run_sanitized(sanitizer: str, source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Tests of the kernels in a process where these C files are compiled with sanitizers."""
    environment = os.environ | {
        SANITIZED_SOURCE: str(source),
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_sanitizers_have_nothing_to_report(sanitizer: str) -> None:
    files = [f"tests/models/{name}.py" for name in ("test_kernels", "test_kernels_resumed")]
    result = run_sanitized(sanitizer, compiling.SOURCE, "-m", "", *files)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("correct", "wrong", "report"),
    [
        (
            "for (int c = 0; c < width; c += LANES) /*",
            "to[width] = 0; for (int c = 0; c < width; c += LANES) /*",
            "WRITE of size",
        ),
        ("+ (size_t)t * 2 * width, *up", "+ (size_t)t * 2 * width + (0 & (width << 30)), *up", "left shift of"),
    ],
    ids=["a write behind the end", "a shift that overflows"],
)
def test_sanitizers_report_what_is_wrong(sanitizer: str, source: Path, correct: str, wrong: str, report: str) -> None:
    test = "tests/models/test_kernels.py::test_beyond_that_the_sigmoid_stays_within_its_limits"
    replace(source / "elementwise.c", correct, wrong)
    result = run_sanitized(sanitizer, source, test)
    assert result.returncode != 0
    assert report in result.stderr + result.stdout
