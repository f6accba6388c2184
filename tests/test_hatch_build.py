"""The build hook: kernels in a wheel, if requested."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import crossdna_interpret
from crossdna_interpret import load_model
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.native import compiling
from crossdna_interpret.models.crossdna.native.bindings import compiled

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(compiling.__file__)


class Hook:
    """What hatchling gives to a build hook."""

    def __init__(self, root: Path) -> None:
        self.root, self.app, self.warnings = str(root), self, []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[list[str], dict[str, Any]]]:
    """Runs the build hook on a copy of what it needs; its warnings, and what it tells the build."""
    here = Path(crossdna_interpret.__file__).parent
    sources = [compiling.SOURCE / name for name in compiling.FILES]
    for path in (*sources, SCRIPT, here / "assets/models/retina-enhancer/config.json"):
        target = tmp_path / "crossdna_interpret" / path.relative_to(here)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    interface = ModuleType("interface")
    interface.BuildHookInterface = Hook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin.interface", interface)
    monkeypatch.setitem(sys.modules, "compiling", interface)  # so that what the hook puts there does not stay
    spec = importlib.util.spec_from_file_location("build_hook", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(wanted: str = "1") -> tuple[list[str], dict[str, Any]]:
        monkeypatch.setenv("CROSSDNA_INTERPRET_BUILD_KERNELS", wanted)
        hook, build_data = module.KernelsHook(tmp_path), {"artifacts": []}
        hook.initialize("standard", build_data)
        return hook.warnings, build_data

    return run


@pytest.mark.skipif(compiling.find_compiler() is None, reason="there is no C compiler here")
def test_the_build_leaves_kernels_for_the_bundled_and_the_released_model(
    build: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "crossdna_interpret/models/crossdna/native/built"
    left.mkdir(parents=True)
    (left / "kernels-of-an-earlier-source.so").touch()
    warnings, build_data = build()
    assert warnings == []
    assert build_data == {
        "artifacts": ["crossdna_interpret/models/crossdna/native/built/*.so"], "pure_python": False, "infer_tag": True
    }  # fmt: skip
    monkeypatch.delenv("CROSSDNA_INTERPRET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(compiling, "BUILT", left)
    bundled = load_model().config
    assert bundled.comba_head_dim != CrossDNAConfig().comba_head_dim
    assert compiled(bundled, torch.float32)
    assert compiled(CrossDNAConfig(), torch.float32)
    assert len(list(left.iterdir())) == 2


def test_a_wheel_is_pure_python_unless_kernels_are_wanted(build: Callable, tmp_path: Path) -> None:
    assert build("0") == ([], {"artifacts": []})
    assert list(tmp_path.rglob("*.so")) == []


def test_a_build_without_a_compiler_warns_and_goes_on(build: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    warnings, build_data = build()
    assert len(warnings) == 1
    assert "no-such-compiler" in warnings[0]
    assert build_data == {"artifacts": []}
